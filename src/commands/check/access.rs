//! Under which names the daemon answers, to which pages, and whom it believes.

use super::report::Report;
use crate::address::{AllowedOrigin, HostName};
use crate::config::{AccessRules, Config, Listen, TrustedProxy};

/// Reports under which names the daemon answers, to which pages, and whom it believes.
pub(super) fn look(config: &Config, report: &mut Report) {
    let rules = &config.access;
    hosts(config, report);
    if rules.origins.contains(&AllowedOrigin::Any) {
        report.warn(
            "origins",
            "pages of every origin may read everything, under any name of this machine",
            &[
                "name the origins of your own pages: origins = [\"https://console.example.com\"]"
                    .to_owned(),
            ],
        );
    } else {
        let origins = list(rules.origins.iter().map(AllowedOrigin::to_string));
        report.ok("origins", format!("same origin and loopback{origins}"));
    }
    proxies(rules, report);
}

fn hosts(config: &Config, report: &mut Report) {
    const LABEL: &str = "hosts";
    let rules = &config.access;
    let of_origin = |origin: &AllowedOrigin| match origin {
        AllowedOrigin::Any => None,
        AllowedOrigin::Only(origin) => Some(origin.host().clone()),
    };
    let mut names: Vec<HostName> = rules.hosts.clone();
    for name in rules.origins.iter().filter_map(of_origin) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let beyond = |listen: &Listen| match listen {
        Listen::Tcp(address) => !address.ip().to_canonical().is_loopback(),
        Listen::Unix(_) => false,
    };
    let known = format!(
        "answers to IP addresses and localhost{}",
        list(names.iter().map(HostName::to_string))
    );
    if names.is_empty() && config.listen.iter().any(beyond) {
        let remedy = "if it is reached by a name, add that: hosts = [\"console.example.com\"]";
        report.note(LABEL, format!("{known} only; {remedy}"));
    } else {
        report.ok(LABEL, known);
    }
}

fn proxies(rules: &AccessRules, report: &mut Report) {
    const LABEL: &str = "proxies";
    let everything = |proxy: &TrustedProxy| match proxy {
        TrustedProxy::Network(network) => network.is_everything(),
        TrustedProxy::Unix => false,
    };
    match &*rules.trusted_proxies {
        [] => {}
        proxies if proxies.iter().any(everything) => report.warn(
            LABEL,
            "trusted_proxies names every address there is, so any client may claim to be another",
            &["name the addresses of the proxies: trusted_proxies = [\"127.0.0.1\"]".to_owned()],
        ),
        proxies => {
            let names: Vec<String> = proxies.iter().map(TrustedProxy::to_string).collect();
            report.ok(
                LABEL,
                format!("{} tell the addresses of clients", names.join(", ")),
            );
        }
    }
}

/// `, and A, B`, or nothing.
fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    match &*names {
        [] => String::new(),
        names => format!(", and {}", names.join(", ")),
    }
}

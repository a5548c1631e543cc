//! Whether TLS can be spoken, and for how long with these certificates.

use std::time::{Duration, SystemTime};

use super::report::Report;
use crate::access::{Owners, client_count, shown_time};
use crate::address::{AllowedOrigin, HostName};
use crate::config::{AccessRules, Config, MtlsRules};
use crate::net::tls_server::{Certificate, read_authorities};

/// Renewal tools renew a month before the end: one that has less than half of that left was not renewed.
const LATE: Duration = Duration::from_secs(14 * DAY);
/// Seconds.
const DAY: u64 = 24 * 60 * 60;

const LABEL: &str = "tls";

/// Reports every certificate of the configuration.
pub(super) fn look(config: &Config, report: &mut Report) {
    let now = SystemTime::now();
    for (cert, key) in config.tls.cert.iter().zip(&config.tls.key) {
        match Certificate::read(cert, key, (Owners::Administered, now)) {
            Ok(certificate) => {
                time(&certificate, now, report);
                names(&certificate, &config.access, report);
            }
            Err(error) => report.problem(LABEL, error.to_string(), &[]),
        }
    }
    if let Some(rules) = &config.auth.mtls {
        clients(rules, report);
    }
}

fn clients(rules: &MtlsRules, report: &mut Report) {
    let label = "auth.mtls";
    match read_authorities(&rules.ca, Owners::Administered) {
        Ok(authorities) => {
            let (count, file) = (authorities.len(), rules.ca.display());
            report.ok(label, format!("{count} authorities of clients in {file}"));
        }
        Err(error) => report.problem(label, error.to_string(), &[]),
    }
    match client_count(&rules.clients, Owners::Administered) {
        Ok(count) => {
            let file = rules.clients.display();
            report.ok(label, format!("{count} clients are known by {file}"));
        }
        Err(error) => report.problem(label, format!("auth.mtls.clients: {error}"), &[]),
    }
}

fn time(certificate: &Certificate, now: SystemTime, report: &mut Report) {
    let left = certificate.ends().duration_since(now).unwrap_or_default();
    let found = format!("{certificate}: {} days left", left.as_secs() / DAY);
    if certificate.begins() > now {
        let begins = shown_time(certificate.begins());
        report.warn(
            LABEL,
            format!("{found}, but it is good only from {begins} on"),
            &["see whether the clock of this machine is right: date -u".to_owned()],
        );
    } else if left < LATE {
        let remedy =
            "see why it was not renewed: certbot renew --dry-run, or the log of what renews it";
        report.warn(LABEL, found, &[remedy.to_owned()]);
    } else {
        report.ok(LABEL, found);
    }
}

/// What a certificate is for, clients ask for.
fn names(certificate: &Certificate, rules: &AccessRules, report: &mut Report) {
    let is_known = |name: &HostName| {
        let of_origin = |allowed: &AllowedOrigin| match allowed {
            AllowedOrigin::Any => true,
            AllowedOrigin::Only(origin) => origin.host() == name,
        };
        matches!(name, HostName::Ip(_))
            || name.is_loopback()
            || rules.hosts.contains(name)
            || rules.origins.iter().any(of_origin)
    };
    // One with a `*` is no name of a host.
    let names = certificate.names().iter();
    let names = names.filter_map(|name| HostName::parse(name));
    let unknown: Vec<String> = names
        .filter(|name| !is_known(name))
        .map(|name| name.to_string())
        .collect();
    if !unknown.is_empty() {
        let quoted: Vec<String> = unknown.iter().map(|name| format!("{name:?}")).collect();
        report.warn(
            LABEL,
            format!(
                "whoever asks for {} is refused (421): the certificate is for it, but `hosts` does not name it",
                unknown.join(" or ")
            ),
            &[format!("hosts = [{}]", quoted.join(", "))],
        );
    }
}

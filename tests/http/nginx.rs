//! nginx in front, configured as the manual says.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::common::http::{self, Response, UPGRADE};
use crate::common::nginx::Nginx;
use crate::common::{Daemon, PATIENCE, STOCK_EVENTS, STOCK_FEED, directory, wait_until};

/// Where a page of the site comes from.
const ORIGIN: &str = "https://console.example.com:8443";
const HOST: &str = "console.example.com:8443";

struct Site {
    _nginx: Nginx,
    socket: PathBuf,
}

impl Site {
    /// Runs the manual's configuration before the daemon, but on a socket of its own; `None` where there is no nginx.
    fn before(walcast: &Daemon, directory: &Path) -> Option<Site> {
        let manual = include_str!("../../docs/proxies.md");
        let (_, rest) = manual.split_once("```nginx\n").expect("the manual has it");
        let (site, _) = rest.split_once("```").expect("it ends");
        let socket = directory.join("nginx.sock");
        let site = site
            .replace("127.0.0.1:8010", &walcast.address().to_string())
            .replace("443 ssl", &format!("unix:{}", socket.display()));
        let site = Site {
            _nginx: Nginx::start(directory, &site)?,
            socket,
        };
        wait_until("nginx listens", || {
            UnixStream::connect(&site.socket).is_ok()
        });
        Some(site)
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut stream = UnixStream::connect(&self.socket).expect("nginx accepts");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket takes a time limit");
        let head = http::head(method, path, HOST, headers);
        stream.write_all(head.as_bytes()).expect("nginx reads");
        http::read_response(&mut stream)
    }
}

#[test]
fn the_manuals_configuration_serves_the_sites_own_pages_and_no_others() {
    let directory = directory();
    let walcast = Daemon::on_new_file()
        .option("--allow-host", "console.example.com")
        .option("--trusted-proxy", "127.0.0.1")
        .start();
    let Some(nginx) = Site::before(&walcast, directory.path()) else {
        return;
    };
    for path in [
        "/",
        "/dashboard/app.js",
        "/api/feeds",
        STOCK_EVENTS,
        "/healthz",
    ] {
        let answer = nginx.ask("GET", path, &[("Origin", ORIGIN)]);
        assert_eq!(answer.status, 200, "{path}");
    }
    let upgrade = |origin| {
        nginx.ask(
            "GET",
            STOCK_FEED,
            &[&UPGRADE[..], &[("Origin", origin)]].concat(),
        )
    };
    assert_eq!(upgrade(ORIGIN).status, 101);
    for origin in [
        "https://console.example.com",
        "https://evil.example",
        "http://localhost:5173",
    ] {
        assert_eq!(upgrade(origin).status, 403, "{origin}");
    }
}

#[test]
fn what_the_proxy_denies_is_denied_under_every_spelling() {
    let directory = directory();
    let walcast = Daemon::on_new_file()
        .option("--allow-host", "console.example.com")
        .start();
    let Some(nginx) = Site::before(&walcast, directory.path()) else {
        return;
    };
    for path in [
        "/metrics",
        "/metrics?x",
        "/metrics/",
        "//metrics",
        "///metrics",
        "/%6detrics",
        "/%2fmetrics",
        "/./metrics",
        "/x/../metrics",
        "/metrics/.",
        "/metrics;x",
        "/metrics%20",
        "/METRICS",
        "/metrics#x",
    ] {
        let answer = nginx.ask("GET", path, &[]);
        assert!(
            matches!(answer.status, 400 | 403 | 404),
            "{path}: {}",
            answer.status
        );
        assert!(!answer.text().contains("walcast_"), "{path}");
    }
}

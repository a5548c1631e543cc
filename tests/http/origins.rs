//! Which pages browsers may ask from.

use crate::common::http::get_as;
use crate::common::{Daemon, STOCK_EVENTS, STOCK_HISTORY, STOCK_SSE};

#[test]
fn a_browser_on_another_loopback_port_may_send_its_own_headers() {
    let walcast = Daemon::start_new();
    let origin = ("Origin", "http://localhost:5173");
    let preflight = walcast.request(
        "OPTIONS",
        STOCK_HISTORY,
        &[
            origin,
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "x-user-roles"),
        ],
        b"",
    );
    assert!(
        matches!(preflight.status, 200 | 204),
        "{}",
        preflight.status
    );
    assert_eq!(
        preflight.header("Access-Control-Allow-Origin"),
        Some(origin.1)
    );
    let allows = |name: &str, value: &str| {
        let header = preflight.header(name).unwrap_or_default();
        header
            .split(',')
            .any(|part| part.trim().eq_ignore_ascii_case(value))
    };
    assert!(allows("Access-Control-Allow-Headers", "x-user-roles"));
    assert!(allows("Access-Control-Allow-Methods", "GET"));
    let history = walcast.request(
        "GET",
        STOCK_HISTORY,
        &[origin, ("X-User-Roles", "admin")],
        b"",
    );
    assert_eq!(history.status, 200);
    assert_eq!(
        history.header("Access-Control-Allow-Origin"),
        Some(origin.1)
    );
    assert_eq!(
        walcast
            .get(STOCK_HISTORY)
            .header("Access-Control-Allow-Origin"),
        None
    );
}

#[test]
fn a_foreign_origin_is_refused_on_every_route() {
    let walcast = Daemon::start_new();
    let origin = ("Origin", "https://evil.example");
    for (method, path) in [
        ("GET", STOCK_HISTORY),
        ("GET", "/api/feeds"),
        ("GET", STOCK_SSE),
        ("POST", STOCK_EVENTS),
    ] {
        let response = walcast.request(method, path, &[origin], b"");
        assert_eq!(response.status, 403, "{method} {path}");
        assert_eq!(response.header("Access-Control-Allow-Origin"), None);
    }
    let preflight = [origin, ("Access-Control-Request-Method", "GET")];
    let response = walcast.request("OPTIONS", STOCK_HISTORY, &preflight, b"");
    assert_eq!(response.status, 403);
}

/// The names a preflight asks for are repeated in the answer's head; bytes that no name has are not.
#[test]
fn a_preflight_repeats_nothing_that_is_no_header_name() {
    let walcast = Daemon::start_new();
    let preflight = [
        ("Origin", "http://localhost:5173"),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "x-r\u{f4}les"),
    ];
    let response = walcast.request("OPTIONS", STOCK_HISTORY, &preflight, b"");
    assert_eq!(response.status, 204);
    assert_eq!(response.header("Access-Control-Allow-Headers"), None);
}

/// A page on the visitor's own machine is nobody's friend elsewhere.
#[test]
fn loopback_pages_come_in_only_where_the_daemon_is_asked_for_on_the_loopback() {
    let walcast = Daemon::on_new_file()
        .option("--allow-host", "console.example.com")
        .start();
    let status = |host: &str, origin: &str| {
        let origin = [("Origin", origin)];
        get_as(walcast.address(), host, "/api/feeds", &origin).status
    };
    for origin in [
        "http://localhost:5173",
        "http://127.0.0.1:5173",
        "http://[::1]:5173",
        "https://app.localhost",
    ] {
        for host in [
            "localhost:8010",
            "127.0.0.1:8010",
            "[::1]:8010",
            "a.localhost",
        ] {
            assert_eq!(status(host, origin), 200, "{origin} at {host}");
        }
        for host in ["console.example.com", "192.0.2.1:8010", "[2001:db8::1]"] {
            assert_eq!(status(host, origin), 403, "{origin} at {host}");
        }
    }
    for origin in [
        "ftp://localhost",
        "http://localhost:5173/",
        "http://localhost:x@evil.com",
        "http://[::1].evil.com",
        "http://127.0.0.1:80@evil.com",
        "localhost",
        "null",
        "",
    ] {
        assert_eq!(status("localhost", origin), 403, "{origin}");
    }
}

#[test]
fn what_a_browser_calls_cross_site_needs_an_allowed_origin() {
    let walcast = Daemon::on_new_file()
        .option("--origin", "https://console.example.com")
        .start();
    let cross = ("Sec-Fetch-Site", "cross-site");
    let get = |path: &str, headers: &[(&str, &str)]| walcast.request("GET", path, headers, b"");
    for path in [
        "/api/feeds",
        STOCK_HISTORY,
        STOCK_SSE,
        "/metrics",
        "/healthz",
        "/dashboard/app.js",
        "/walcast.js",
    ] {
        for more in [
            &[][..],
            &[
                ("Sec-Fetch-Mode", "navigate"),
                ("Sec-Fetch-Dest", "document"),
            ],
            &[("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")],
        ] {
            let headers = [&[cross], more].concat();
            assert_eq!(get(path, &headers).status, 403, "{path} {more:?}");
        }
    }
    assert_eq!(get("/", &[cross]).status, 200);
    let link = [
        cross,
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "iframe"),
    ];
    assert_eq!(get("/", &link).status, 200);
    let listed = [cross, ("Origin", "https://console.example.com")];
    assert_eq!(get("/api/feeds", &listed).status, 200);
    let development = [cross, ("Origin", "http://localhost:5173")];
    assert_eq!(get("/api/feeds", &development).status, 200);
    for site in ["same-origin", "same-site", "none"] {
        assert_eq!(
            get("/api/feeds", &[("Sec-Fetch-Site", site)]).status,
            200,
            "{site}"
        );
    }
}

#[test]
fn only_listed_origins_may_send_credentials() {
    let walcast = Daemon::on_new_file()
        .option("--origin", "HTTPS://Console.example.com:443")
        .start();
    let allowed = |method: &str, origin: &str| {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "GET")];
        let response = walcast.request(method, "/api/feeds", &headers, b"");
        assert_eq!(response.header("Access-Control-Allow-Origin"), Some(origin));
        assert!(response.head().contains("vary: origin\n"));
        let header = response.header("Access-Control-Allow-Credentials");
        header.map(str::to_owned)
    };
    for method in ["GET", "OPTIONS"] {
        let listed = allowed(method, "https://console.example.com");
        assert_eq!(listed.as_deref(), Some("true"), "{method}");
        assert_eq!(allowed(method, "http://localhost:5173"), None, "{method}");
    }
    let open = Daemon::on_new_file().option("--origin", "*").start();
    let origin = [("Origin", "https://anywhere.example")];
    let response = open.request("GET", "/api/feeds", &origin, b"");
    assert_eq!(
        response.header("Access-Control-Allow-Origin"),
        Some(origin[0].1)
    );
    assert_eq!(response.header("Access-Control-Allow-Credentials"), None);
}

#[test]
fn the_dashboard_may_be_framed_by_pages_that_are_named() {
    let policy = |walcast: &Daemon| {
        let response = walcast.get("/");
        let policy = response
            .header("Content-Security-Policy")
            .expect("a policy");
        let (_, framing) = policy
            .split_once("frame-ancestors")
            .expect("who may frame it");
        framing.trim().to_owned()
    };
    assert_eq!(policy(&Daemon::start_new()), "'none'");
    let toml =
        r#"frame_ancestors = ["https://console.example.com", "http://grafana.example.com:3000"]"#;
    let walcast = Daemon::on_new_file().toml(toml).start();
    assert_eq!(
        policy(&walcast),
        "https://console.example.com http://grafana.example.com:3000"
    );
}

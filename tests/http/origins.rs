//! Which pages browsers may ask from.

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

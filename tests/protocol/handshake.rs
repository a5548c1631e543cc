//! The upgrade to WebSocket, and who is refused it.

use crate::common::database::STOCK_COLUMNS;
use crate::common::http;
use crate::common::{Daemon, STOCK_FEED};

#[test]
fn bad_parameters_are_refused_before_the_upgrade_and_named() {
    let walcast = Daemon::start_new();
    for (query, name) in [
        ("since", "since"),
        ("since=", "since"),
        ("since=abc", "since"),
        ("since=1.5", "since"),
        ("since=%2B1", "since"),
        ("since=0x10", "since"),
        ("since=9223372036854775808", "since"),
        ("since=1&since=2", "since"),
        ("since=1&last=2", "last"),
        ("last=0", "last"),
        ("last=10001", "last"),
        ("last=-1", "last"),
        ("last=all", "last"),
        ("last=1&last=1", "last"),
        ("limit=5", "limit"),
        ("before=5", "before"),
        ("after=5", "after"),
        ("tenant", "tenant"),
        ("tenant=%ff", "%ff"),
        ("nope=1", "nope"),
        ("Tenant=acme", "Tenant"),
    ] {
        let path = format!("/ws/remediation?{query}");
        let refused = walcast.refused_upgrade(&path);
        assert_eq!(refused.status, 400, "{query}");
        let message = refused.error_message();
        assert!(message.contains(name), "{query}: {message}");
        let sse = walcast.get(&format!("/sse/remediation?{query}"));
        assert_eq!(sse.status, 400, "SSE: {query}");
    }
    let unknown = walcast.refused_upgrade("/ws/remediation?nope=1").json();
    assert_eq!(unknown["error"]["code"], "unknown_column");
    let message = unknown["error"]["message"].as_str().expect("a message");
    for column in STOCK_COLUMNS {
        assert!(message.contains(column), "{message} lacks {column}");
    }
}

#[test]
fn the_subprotocol_is_echoed_where_it_is_offered() {
    let walcast = Daemon::start_new();
    for (offered, chosen) in [
        (None, None),
        (Some("walcast.v1"), Some("walcast.v1")),
        (Some("chat, walcast.v1"), Some("walcast.v1")),
        (Some("walcast.v2"), None),
    ] {
        let header = offered.map(|value| ("Sec-WebSocket-Protocol", value));
        let response = walcast.upgrade(STOCK_FEED, header.as_slice());
        assert_eq!(response.status, 101);
        assert_eq!(response.header("Sec-WebSocket-Protocol"), chosen);
        assert_eq!(
            response.header("Sec-WebSocket-Accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "the example of RFC 6455"
        );
    }
}

#[test]
fn what_is_no_websocket_handshake_is_told_to_upgrade() {
    let walcast = Daemon::start_new();
    let response = walcast.get(STOCK_FEED);
    assert_eq!(response.status, 426);
    assert_eq!(response.header("Upgrade"), Some("websocket"));
    assert_eq!(response.error_code(), "upgrade_required");
    let how = response.error_message();
    for path in ["/sse/remediation", "/api/feeds/remediation/events"] {
        assert!(how.contains(path), "{how}");
        let head = http::head("GET", path, "localhost", &[]);
        let mut stream = walcast.connect();
        std::io::Write::write_all(&mut stream, head.as_bytes()).expect("walcast reads");
        let mut line = [0; 12];
        std::io::Read::read_exact(&mut stream, &mut line).expect("an answer");
        assert_eq!(&line, b"HTTP/1.1 200", "{path}");
    }
    let version = http::UPGRADE.map(|(name, value)| match name {
        "Sec-WebSocket-Version" => (name, "8"),
        _ => (name, value),
    });
    let response = walcast.request("GET", STOCK_FEED, &version, b"");
    assert_eq!(response.status, 426);
    assert_eq!(response.header("Sec-WebSocket-Version"), Some("13"));
    assert_eq!(walcast.get("/ws/nope").status, 404);
    assert_eq!(walcast.get("/ws/remediation/").status, 404);
}

#[test]
fn a_bad_key_is_refused() {
    let walcast = Daemon::start_new();
    let ask = |keys: &[&str], more: &[(&str, &str)]| {
        let keys = keys.iter().map(|key| ("Sec-WebSocket-Key", *key));
        let headers = http::UPGRADE[..3].iter().copied().chain(keys);
        let headers: Vec<_> = headers.chain(more.iter().copied()).collect();
        walcast.request("GET", STOCK_FEED, &headers, b"")
    };
    let good = http::UPGRADE[3].1;
    let bad: [&[&str]; 7] = [
        &[],
        &[""],
        &["x"],
        &["dGhlIHNhbXBsZSBub25jZQ"],
        &["dGhlIHNhbXBsZSBub25jZSE="],
        &["not base64, 24 letters !"],
        &[good, good],
    ];
    for keys in bad {
        let refused = ask(keys, &[]);
        assert_eq!(refused.status, 400, "{keys:?}");
        assert_eq!(refused.error_code(), "bad_handshake");
        assert!(refused.error_message().contains("Sec-WebSocket-Key"));
    }
    for body in [("Content-Length", "4"), ("Transfer-Encoding", "chunked")] {
        assert_eq!(ask(&[good], &[body]).status, 400, "{body:?}");
    }
    assert_eq!(ask(&[good], &[("Content-Length", "0")]).status, 101);
    let example_of_the_standard = "AQIDBAUGBwgJCgsMDQ4PEC==";
    assert_eq!(ask(&[example_of_the_standard], &[]).status, 101);
}

#[test]
fn browsers_come_in_from_the_same_origin_from_loopback_and_from_listed_origins() {
    let walcast = Daemon::on_new_file()
        .option("--origin", "https://console.example.com")
        .start();
    let same = format!("http://{}", walcast.address());
    let allowed = [
        &*same,
        "http://localhost:5173",
        "https://127.0.0.1",
        "http://[::1]:3000",
        "https://console.example.com",
    ];
    for origin in allowed {
        assert_eq!(
            walcast.upgrade(STOCK_FEED, &[("Origin", origin)]).status,
            101,
            "{origin}"
        );
    }
    let refused = [
        "null",
        "https://evil.example",
        "http://console.example.com",
        "https://console.example.com:8443",
        "https://console.example.com.evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "file://",
        "http://localhost:x@evil.example",
        "http://127.0.0.1:80@evil.example",
        "http://[::1].evil.example",
    ];
    for origin in refused {
        let response = walcast.upgrade(STOCK_FEED, &[("Origin", origin)]);
        assert_eq!(response.status, 403, "{origin}");
        assert_eq!(response.error_code(), "origin_not_allowed");
    }
    assert_eq!(walcast.connection_errors("origin"), refused.len() as f64);
}

#[test]
fn a_site_behind_a_proxy_is_of_the_same_origin_as_its_host() {
    let walcast = Daemon::on_new_file()
        .option("--allow-host", "walcast.example.com")
        .start();
    let ask = |host: &str, origin: &str| {
        let headers = [&http::UPGRADE[..], &[("Origin", origin)]].concat();
        let head = http::head("GET", STOCK_FEED, host, &headers);
        http::exchange(walcast.address(), head.as_bytes()).status
    };
    assert_eq!(
        ask("walcast.example.com", "https://walcast.example.com"),
        101
    );
    assert_eq!(
        ask("walcast.example.com:443", "https://walcast.example.com"),
        101
    );
    assert_eq!(
        ask("walcast.example.com:8443", "https://walcast.example.com"),
        403
    );
    assert_eq!(ask("walcast.example.com", "https://evil.example"), 403);
}

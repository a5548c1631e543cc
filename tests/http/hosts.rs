//! Names that the daemon is asked for by. A page can have its own name point at any address (DNS rebinding): then it is of
//! the same origin as what answers there.

use serde_json::json;

use crate::common::http::{self, UPGRADE, get_as};
use crate::common::{Daemon, STOCK_EVENTS, STOCK_FEED, STOCK_HISTORY, STOCK_SSE, directory};

const EVERYTHING: [&str; 11] = [
    "/",
    "/dashboard/app.js",
    "/walcast.js",
    "/api/feeds",
    STOCK_EVENTS,
    STOCK_HISTORY,
    STOCK_SSE,
    STOCK_FEED,
    "/healthz",
    "/readyz",
    "/metrics",
];

#[test]
fn a_page_whose_name_was_pointed_here_gets_nothing() {
    let walcast = Daemon::on_new_file().stock_feed("ingest = true").start();
    let address = walcast.address();
    let host = format!("evil.example:{}", address.port());
    let origin = format!("http://{host}");
    for path in EVERYTHING {
        for headers in [&[][..], &[("Origin", &*origin)]] {
            let response = get_as(address, &host, path, headers);
            assert_eq!(response.status, 421, "{path}");
            assert_eq!(response.error_code(), "host_not_allowed");
            let message = response.error_message();
            assert!(
                message.contains("`hosts`") && message.contains("evil.example"),
                "{message}"
            );
            assert_eq!(response.header("Access-Control-Allow-Origin"), None);
        }
    }
    let upgrade = [&UPGRADE[..], &[("Origin", &*origin)]].concat();
    assert_eq!(get_as(address, &host, STOCK_FEED, &upgrade).status, 421);
    let body = json!({"ts": "rebound"}).to_string();
    let length = body.len().to_string();
    let headers = [
        http::JSON,
        ("Origin", &*origin),
        ("Content-Length", &*length),
    ];
    let post = http::head("POST", STOCK_EVENTS, &host, &headers) + &body;
    assert_eq!(http::exchange(address, post.as_bytes()).status, 421);
    let asked = [
        ("Origin", &*origin),
        ("Access-Control-Request-Method", "POST"),
    ];
    let preflight = http::head("OPTIONS", STOCK_EVENTS, &host, &asked);
    assert_eq!(http::exchange(address, preflight.as_bytes()).status, 421);
    assert!(walcast.database().rows().is_empty());
}

#[test]
fn addresses_localhost_and_named_hosts_are_known() {
    let walcast = Daemon::on_new_file()
        .option("--allow-host", "Walcast,console.example.com")
        .option("--origin", "https://page.example.com:8443")
        .start();
    let status = |host: &str| get_as(walcast.address(), host, "/api/feeds", &[]).status;
    for host in [
        "127.0.0.1",
        "127.0.0.1:1",
        "192.0.2.7:8010",
        "[::1]:8010",
        "[2001:db8::1]",
        "localhost",
        "LocalHost:99",
        "localhost.",
        "a.localhost:8010",
        "walcast:8010",
        "console.example.com",
        "Console.Example.Com.:443",
        "page.example.com",
    ] {
        assert_eq!(status(host), 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evilconsole.example.com",
        "a.console.example.com",
        "notlocalhost",
        "xlocalhost:80",
        "example.com",
    ] {
        assert_eq!(status(host), 421, "{host}");
    }
    for host in [
        "",
        "a b",
        "localhost:x",
        "localhost:x@evil.example",
        "user@localhost",
        "[::1].evil.example",
        "::1",
        "localhost/x",
        "localhost:99999",
        "localhost, evil.example",
        "l\u{f6}calhost",
    ] {
        assert_eq!(status(host), 400, "{host}");
    }
}

#[test]
fn a_request_has_one_host_and_one_origin_at_most() {
    let walcast = Daemon::start_new();
    let status = |head: &str| http::exchange(walcast.address(), head.as_bytes()).status;
    let line = "GET /api/feeds HTTP/1.1\r\n";
    assert_eq!(status(&format!("{line}\r\n")), 400, "none");
    for two in [
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
        "Host: localhost\r\nOrigin: http://localhost\r\nOrigin: https://evil.example\r\n",
        "Host: localhost\r\nOrigin: https://evil.example\r\nOrigin: http://localhost\r\n",
    ] {
        assert_eq!(status(&format!("{line}{two}\r\n")), 400, "{two}");
    }
    // Before 1.1 there was no such header, and no browser that keeps to a page's origin.
    assert_eq!(status("GET /api/feeds HTTP/1.0\r\n\r\n"), 200);
    assert_eq!(
        status("GET /api/feeds HTTP/1.0\r\nHost: evil.example\r\n\r\n"),
        421
    );
}

#[test]
fn a_host_in_the_request_line_is_checked_like_the_header() {
    let walcast = Daemon::start_new();
    let status = |target: &str, host: &str| {
        let head = http::head("GET", target, host, &[]);
        http::exchange(walcast.address(), head.as_bytes()).status
    };
    assert_eq!(
        status("http://localhost:8010/api/feeds", "localhost:8010"),
        200
    );
    assert_eq!(status("http://evil.example/api/feeds", "localhost"), 421);
    assert_eq!(status("http://localhost/api/feeds", "evil.example"), 421);
    assert_eq!(
        status("http://localhost@evil.example/api/feeds", "localhost"),
        400
    );
}

/// Who speaks for others through a socket file passes their hosts on.
#[test]
fn a_unix_socket_knows_the_same_hosts() {
    let dir = directory();
    let socket = dir.path().join("walcast.sock");
    let _walcast = Daemon::on(dir.path())
        .option("--listen", format!("unix:{}", socket.display()))
        .option("--allow-host", "console.example.com")
        .start();
    for (host, status) in [
        ("localhost", 200),
        ("console.example.com", 200),
        ("evil.example", 421),
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("walcast accepts");
        let head = http::head("GET", "/api/feeds", host, &[]);
        std::io::Write::write_all(&mut stream, head.as_bytes()).expect("walcast reads");
        assert_eq!(http::read_response(&mut stream).status, status, "{host}");
    }
}

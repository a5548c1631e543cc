//! Whatever stands in the first line of a request, it is answered.

use crate::common::http::{self, head};
use crate::common::{Daemon, STOCK_EVENTS, STOCK_FEED, STOCK_HISTORY, STOCK_SSE, wait_until};

#[test]
fn every_request_line_is_answered_and_none_makes_noise() {
    let walcast = Daemon::start_new();
    let before = walcast.log().len();
    for (line, status) in [
        ("CONNECT a:1 HTTP/1.1", 400),
        ("CONNECT localhost:80 HTTP/1.1", 400),
        ("CONNECT /healthz HTTP/1.1", 405),
        ("GET healthz HTTP/1.1", 400),
        ("GET a:1 HTTP/1.1", 400),
        ("GET * HTTP/1.1", 400),
        ("OPTIONS * HTTP/1.1", 204),
        ("GET http://localhost HTTP/1.1", 200),
        ("GET http://localhost?q HTTP/1.1", 200),
        ("GET HTTP://localhost/healthz HTTP/1.1", 200),
        ("GET ftp://localhost/healthz HTTP/1.1", 400),
        ("GET ?healthz HTTP/1.1", 400),
        ("GET # HTTP/1.1", 400),
        ("GET  HTTP/1.1", 400),
        ("GET http:///healthz HTTP/1.1", 400),
        ("GET / HTTP/1.2", 400),
        ("GET / HTTP/2.0", 400),
        ("GET / HTTP/9", 400),
        ("GET /", 400),
        ("\u{1}\u{2}\u{3}", 400),
        ("GE\u{0}T / HTTP/1.1", 400),
        ("BREW /api/feeds HTTP/1.1", 405),
        ("get /api/feeds HTTP/1.1", 405),
        ("GET /%00 HTTP/1.1", 404),
        ("GET /\u{e9} HTTP/1.1", 404),
        ("GET /a b HTTP/1.1", 400),
    ] {
        let bytes = format!("{line}\r\nHost: localhost\r\n\r\n");
        let answer = http::exchange(walcast.address(), bytes.as_bytes());
        assert_eq!(answer.status, status, "{line:?}");
    }
    for bytes in [
        &b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ] {
        let answer = http::exchange(walcast.address(), bytes);
        assert!(
            matches!(answer.status, 400 | 404),
            "{bytes:?}: {}",
            answer.status
        );
    }
    for _ in 0..200 {
        let answer = http::exchange(
            walcast.address(),
            b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        );
        assert_eq!(answer.status, 400);
        assert_eq!(answer.error_code(), "bad_request");
    }
    assert_eq!(walcast.log().len(), before, "{}", walcast.log());
}

#[test]
fn a_request_head_of_more_than_16_kib_is_refused() {
    let walcast = Daemon::start_new();
    let asked = |bytes: usize| {
        let filler = "x".repeat(bytes);
        let head = head("GET", "/healthz", "localhost", &[("X-Filler", &filler)]);
        http::exchange(walcast.address(), head.as_bytes()).status
    };
    assert_eq!(asked(15 * 1024), 200);
    assert_eq!(asked(17 * 1024), 431);
    assert_eq!(asked(100 * 1024), 431);
    let long = format!("/healthz?_={}", "x".repeat(20 * 1024));
    let status = http::exchange(
        walcast.address(),
        head("GET", &long, "localhost", &[]).as_bytes(),
    )
    .status;
    assert!(matches!(status, 414 | 431), "{status}");
}

/// A proxy that denies a path must not be passed by with another spelling of it.
#[test]
fn a_path_has_one_spelling() {
    let walcast = Daemon::start_new();
    for path in [
        "/metrics",
        "/healthz",
        "/api/feeds",
        STOCK_EVENTS,
        STOCK_HISTORY,
        STOCK_SSE,
        STOCK_FEED,
        "/dashboard/app.js",
        "/walcast.js",
    ] {
        let others = [
            format!("{path}/"),
            format!("{path}//"),
            format!("/.{path}"),
            format!("/x/..{path}"),
            format!("/%2f{}", &path[1..]),
            format!("/%{:02x}{}", path.as_bytes()[1], &path[2..]),
            format!("{path};x"),
            format!("{path}%20"),
            format!("///{}", &path[1..]),
            path.to_uppercase(),
        ];
        for other in &others {
            assert_eq!(walcast.get(other).status, 404, "{other}");
        }
    }
    assert_eq!(walcast.get("/api//feeds").status, 404);
}

/// What nginx makes of a `location` without a slash at its end and a `proxy_pass` with one.
#[test]
fn a_leading_double_slash_counts_as_one() {
    let walcast = Daemon::start_new();
    for path in [
        "//",
        "//api/feeds",
        "//healthz",
        "//ops/remediate/history?limit=5",
    ] {
        assert_eq!(walcast.get(path).status, 200, "{path}");
    }
    assert_eq!(
        walcast.upgrade("//ws/remediation?since=now", &[]).status,
        101
    );
}

#[test]
fn a_method_that_a_path_does_not_take_is_refused_with_those_it_takes() {
    let walcast = Daemon::on_new_file().stock_feed("ingest = true").start();
    const READ: &str = "GET, HEAD, OPTIONS";
    for (path, allow) in [
        ("/", READ),
        ("/dashboard/app.js", READ),
        ("/walcast.js", READ),
        ("/api/feeds", READ),
        (STOCK_EVENTS, "GET, HEAD, POST, OPTIONS"),
        (STOCK_HISTORY, READ),
        (STOCK_SSE, READ),
        (STOCK_FEED, READ),
        ("/healthz", READ),
        ("/readyz", READ),
        ("/metrics", READ),
    ] {
        for method in ["DELETE", "PUT", "PATCH", "TRACE", "X"] {
            let response = walcast.request(method, path, &[], b"");
            assert_eq!(response.status, 405, "{method} {path}");
            assert_eq!(response.header("Allow"), Some(allow), "{method} {path}");
            assert_eq!(response.error_code(), "method_not_allowed");
        }
        let options = walcast.request("OPTIONS", path, &[], b"");
        assert_eq!(
            (options.status, options.header("Allow")),
            (204, Some(allow)),
            "{path}"
        );
    }
    assert_eq!(walcast.request("POST", "/api/feeds", &[], b"").status, 405);
}

#[test]
fn head_is_taken_wherever_get_is() {
    let walcast = Daemon::start_new();
    for (path, status) in [
        ("/", 200),
        ("/dashboard/style.css", 200),
        ("/walcast.js", 200),
        (STOCK_EVENTS, 200),
        ("/readyz", 200),
        (STOCK_SSE, 200),
        ("/sse/remediation?since=0", 200),
        (STOCK_FEED, 426),
        ("/sse/nope", 404),
    ] {
        let upgrade = [&http::UPGRADE[1..], &[("Connection", "close, Upgrade")]].concat();
        let head = head("HEAD", path, "localhost", &upgrade);
        let mut stream = walcast.connect();
        std::io::Write::write_all(&mut stream, head.as_bytes()).expect("walcast reads");
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("an answer");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {answer}"
        );
        assert!(answer.ends_with("\r\n\r\n"), "{path}: {answer}");
    }
    wait_until("no stream is left", || {
        walcast.metric("walcast_sse_connections_active") == 0.0
    });
}

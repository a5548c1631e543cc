//! What every answer has in common.

use std::io::{Read, Write};

use crate::common::http;
use crate::common::{Daemon, STOCK_EVENTS, STOCK_HISTORY};

#[test]
fn errors_are_json_with_a_code_and_a_message() {
    let walcast = Daemon::start_new();
    for (method, path, status) in [
        ("GET", "/nope", 404),
        ("GET", "/api/feeds/nope/events", 404),
        ("GET", "/sse/nope", 404),
        ("DELETE", "/api/feeds", 405),
        ("POST", STOCK_HISTORY, 405),
    ] {
        let response = walcast.request(method, path, &[], b"");
        assert_eq!(response.status, status, "{method} {path}");
        let error = response.json()["error"].take();
        assert!(
            error["code"].is_string() && error["message"].is_string(),
            "{error}"
        );
    }
}

#[test]
fn an_unknown_path_is_404_whatever_the_method() {
    let walcast = Daemon::start_new();
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let response = walcast.request(method, "/nope", &[], b"");
        assert_eq!(response.status, 404, "{method}");
    }
}

#[test]
fn head_requests_get_the_head_of_the_answer_alone() {
    let walcast = Daemon::start_new();
    for path in ["/api/feeds", STOCK_HISTORY, "/healthz", "/metrics", "/"] {
        let mut stream = walcast.connect();
        let head = http::head("HEAD", path, "localhost", &[("Connection", "close")]);
        stream.write_all(head.as_bytes()).expect("walcast reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("walcast answers");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{path}: {answer}");
    }
}

#[test]
fn answers_are_json_that_no_cache_keeps() {
    let walcast = Daemon::start_new();
    for path in [
        "/api/feeds",
        STOCK_EVENTS,
        STOCK_HISTORY,
        "/healthz",
        "/readyz",
        "/nope",
    ] {
        let response = walcast.get(path);
        assert_eq!(
            response.header("Content-Type"),
            Some("application/json"),
            "{path}"
        );
        assert_eq!(response.header("Cache-Control"), Some("no-store"), "{path}");
        let sniffing = response.header("X-Content-Type-Options");
        assert_eq!(sniffing, Some("nosniff"), "{path}");
        response.json();
    }
}

//! A proxy that authenticates: whom it asks for is believed, and nobody else is.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use serde_json::json;

use super::office::Office;
use crate::common::http::{self, Response};
use crate::common::settings::Settings;
use crate::common::{Daemon, Subscriber, directory, ids};

const EVENTS: &str = "/api/feeds/parcels/events";
const TABLES: &str = "CREATE TABLE parcels(id INTEGER PRIMARY KEY, customer TEXT, branch INTEGER)";
const AUTH: &str = r#"
[auth.proxy]
user = "X-Auth-User"
[feeds.parcels]
scope = { customer = "header:X-Tenant", branch = "header:X-Branch" }
exclude = ["customer"]
"#;

/// A daemon behind a proxy; `top` are keys of the configuration.
fn behind_proxy(top: &str) -> Settings {
    Settings::on_new_file()
        .with_tables(TABLES)
        .toml(format!("{top}\n{AUTH}"))
}

fn trusting() -> Daemon {
    behind_proxy("trusted_proxies = [\"127.0.0.1\"]").start()
}

const ACME: [(&str, &str); 3] = [
    ("X-Auth-User", "alice"),
    ("X-Tenant", "acme"),
    ("X-Branch", "5"),
];

fn get(daemon: &Daemon, path: &str, headers: &[(&str, &str)]) -> Response {
    daemon.request("GET", path, headers, b"")
}

fn fill(daemon: &Daemon) {
    daemon.database().execute(
        "INSERT INTO parcels(customer, branch) VALUES ('acme', 5), ('acme', 6), ('globex', 5), ('acme', '5x')",
    );
}

#[test]
fn whoever_a_proxy_asks_for_reads_the_rows_of_its_headers() {
    let daemon = trusting();
    let mut live = Subscriber::connect_with(daemon.address(), "/ws/parcels", "", &ACME);
    fill(&daemon);
    assert_eq!(ids(&live.next_rows(1)), [1]);
    live.expect_nothing();
    assert_eq!(get(&daemon, EVENTS, &ACME).json()["total"], 1);
    let mut events = daemon.event_source("/sse/parcels?since=earliest", &ACME);
    events.expect("hello");
    assert_eq!(events.next_row(), 1);
    let globex = [ACME[0], ("X-Tenant", "globex"), ACME[2]];
    let items = get(&daemon, EVENTS, &globex).json();
    assert_eq!(items["items"], json!([{"id": 3, "branch": 5}]));
}

#[test]
fn a_proxy_that_does_not_say_everything_gets_nothing() {
    let daemon = trusting();
    fill(&daemon);
    for (headers, status, code) in [
        (vec![], 401, "token_missing"),
        (vec![ACME[0]], 401, "claim_missing"),
        (vec![ACME[0], ACME[1]], 401, "claim_missing"),
        (vec![ACME[1], ACME[2]], 401, "token_invalid"),
        (
            vec![("X-Auth-User", ""), ACME[1], ACME[2]],
            401,
            "token_invalid",
        ),
        (
            vec![ACME[0], ACME[0], ACME[1], ACME[2]],
            400,
            "credentials_differ",
        ),
        (
            vec![ACME[0], ACME[1], ("x-tenant", "globex"), ACME[2]],
            400,
            "credentials_differ",
        ),
        (
            vec![ACME[0], ACME[1], ACME[2], ("Authorization", "Bearer x")],
            400,
            "credentials_differ",
        ),
    ] {
        let answer = get(&daemon, EVENTS, &headers);
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (status, code),
            "{headers:?}"
        );
    }
}

#[test]
fn headers_from_elsewhere_are_refused_and_said() {
    let daemon = behind_proxy("trusted_proxies = [\"192.0.2.1\"]").start();
    fill(&daemon);
    for header in ACME {
        let refused = get(&daemon, EVENTS, &[header]);
        assert_eq!(
            (refused.status, refused.error_code()),
            (403, "proxy_header_refused".into())
        );
        let said = refused.error_message();
        assert!(
            said.contains(header.0) && said.contains("trusted_proxies"),
            "{said}"
        );
        let lower = header.0.to_lowercase();
        assert_eq!(get(&daemon, EVENTS, &[(&lower, header.1)]).status, 403);
    }
    assert_eq!(get(&daemon, EVENTS, &[]).status, 401);
    assert_eq!(
        get(&daemon, "/healthz", &ACME).status,
        200,
        "nobody is asked there"
    );
}

#[test]
fn peers_of_a_unix_socket_are_proxies() {
    let directory = directory();
    let socket = directory.path().join("walcast.sock");
    let daemon = behind_proxy("")
        .option("--listen", format!("unix:{}", socket.display()))
        .start();
    fill(&daemon);
    let mut stream = UnixStream::connect(&socket).expect("walcast accepts");
    let head = http::head("GET", EVENTS, "localhost", &ACME);
    stream.write_all(head.as_bytes()).expect("it can be asked");
    let answer = http::read_response(&mut stream);
    assert_eq!(answer.json()["total"], 1);
    assert_eq!(
        get(&daemon, EVENTS, &ACME).status,
        403,
        "over TCP they are not"
    );
}

#[test]
fn a_token_reads_a_feed_whose_scope_is_said_by_headers() {
    let office = Office::open_with("[auth.proxy]\nuser = \"X-Auth-User\"\n");
    let acme = office.customer("acme");
    assert_eq!(
        office.get("/api/feeds/orders/events", Some(&acme)).status,
        200
    );
    // By its claims, that is; a proxy says nothing of them.
    let both = [("Authorization", "Bearer x"), ("X-Auth-User", "alice")];
    assert_eq!(
        office
            .daemon
            .request("GET", "/api/feeds", &both, b"")
            .status,
        403
    );
}

#[test]
fn a_scope_by_headers_that_nobody_sends_keeps_the_daemon_from_starting() {
    let directory = directory();
    for (text, says) in [
        (
            AUTH.replace("[auth.proxy]", "")
                .replace("user = \"X-Auth-User\"", ""),
            "[auth.proxy]",
        ),
        (AUTH.replace("X-Auth-User", "X Auth"), "auth.proxy.user"),
        (
            AUTH.replace("X-Auth-User", "Authorization"),
            "meaning of its own",
        ),
        (AUTH.replace("header:X-Tenant", "header:"), "customer"),
        (AUTH.replace("header:X-Tenant", "head:X"), "names no claim"),
    ] {
        let failed = Settings::on(directory.path()).toml(text).try_start();
        let failed = failed.err().expect("it must not start");
        assert_eq!(failed.status.code(), Some(2), "{}", failed.stderr);
        assert!(failed.stderr.contains(says), "{says}: {}", failed.stderr);
    }
}

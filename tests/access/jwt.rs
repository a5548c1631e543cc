//! JWTs: what they read, how long, and what is not let in.

use std::fs;

use serde_json::json;

use super::issuer::{Issuer, now, revoke};
use super::office::{Office, settings};
use crate::common::subscriber::{Received, row_of};
use crate::common::{Subscriber, directory, id, ids, wait_until};

const EVENTS: &str = "/api/feeds/orders/events";

/// A daemon that takes the tokens of this issuer.
fn office(issuer: &Issuer, further: &str) -> Office {
    let directory = directory();
    let auth = further.to_owned() + &issuer.settle(directory.path());
    Office::open_in(directory, &auth)
}

fn order(office: &Office, customer: &str) {
    let sql = format!("INSERT INTO orders(customer) VALUES ('{customer}')");
    office.daemon.database().execute(&sql);
}

#[test]
fn a_jwt_reads_the_rows_that_its_claim_names_and_no_others() {
    let issuer = Issuer::new();
    let office = office(&issuer, "cookie = \"walcast\"\n");
    let acme = issuer.customer("acme");
    for customer in ["acme", "globex", "initech", "acme"] {
        order(&office, customer);
    }
    let mut page = office.subscribe_from_page("/ws/orders", "since=earliest", Some(&acme));
    page.expect("hello");
    assert_eq!(page.rows_until("live").0, [1, 4]);
    let mut events = office.event_source("/sse/orders?since=earliest", &acme);
    events.expect("hello");
    assert_eq!([events.next_row(), events.next_row()], [1, 4]);
    let answer = office.get(EVENTS, Some(&acme)).json();
    assert_eq!(answer["total"], 2);
    let cookie = format!("walcast={acme}");
    let by_cookie = office
        .daemon
        .request("GET", EVENTS, &[("Cookie", &cookie)], b"");
    assert_eq!(by_cookie.json()["total"], 2);
    let several = issuer.token(json!({"customer": ["globex", "initech"]}));
    assert_eq!(office.get(EVENTS, Some(&several)).json()["total"], 2);
    let none = issuer.token(json!({"customer": []}));
    assert_eq!(office.get(EVENTS, Some(&none)).json()["total"], 0);
    order(&office, "globex");
    order(&office, "acme");
    assert_eq!(ids(&page.next_rows(1)), [6]);
    // Of a feed whose scope says nothing only a token knows that names it.
    let listed = office.get("/api/feeds", Some(&acme)).json();
    let names: Vec<_> = listed["feeds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|feed| &feed["name"])
        .collect();
    assert_eq!(names, ["orders"]);
    assert_eq!(
        office.get("/api/feeds/news/events", Some(&acme)).status,
        404
    );
    let written = office.post(EVENTS, &acme, &json!({"item": "x"}));
    assert_eq!(written.error_code(), "ingest_not_granted");
    assert_eq!(
        office.get("/metrics", Some(&acme)).error_code(),
        "metrics_not_granted"
    );
}

#[test]
fn what_is_no_good_jwt_is_refused_and_its_reason_is_in_the_log_alone() {
    let issuer = Issuer::new();
    let office = office(&issuer, "");
    let unsigned = "eyJhbGciOiJub25lIn0.eyJjdXN0b21lciI6ImFjbWUifQ.";
    for (token, status, code) in [
        (unsigned.to_owned(), 401, "token_invalid"),
        (Issuer::new().customer("acme"), 401, "token_invalid"),
        (
            issuer.token(json!({"customer": "acme", "exp": null})),
            401,
            "token_invalid",
        ),
        (
            issuer.token(json!({"customer": "acme", "aud": "other"})),
            401,
            "token_invalid",
        ),
        (
            issuer.token(json!({"customer": "acme", "exp": now() - 5})),
            401,
            "token_expired",
        ),
        (issuer.token(json!({})), 401, "claim_missing"),
        (
            issuer.token(json!({"customer": {"$ne": ""}})),
            401,
            "claim_missing",
        ),
    ] {
        let refused = office.get(EVENTS, Some(&token));
        assert_eq!(
            (refused.status, refused.error_code().as_str()),
            (status, code)
        );
        assert!(!refused.text().contains("signature"), "{}", refused.text());
    }
    office
        .daemon
        .wait_for_log("detail=\"its signature is not good\"");
    office
        .daemon
        .wait_for_log("detail=\"its aud is not auth.jwt.audience\"");
    office
        .daemon
        .wait_for_log("reason=\"token_expired\" credential=\"alice\"");
    let stranger = Issuer::new().customer("acme");
    office
        .subscribe_from_page("/ws/orders", "", Some(&stranger))
        .expect_close(4501);
    office
        .subscribe_from_page("/ws/orders", "", Some(&issuer.token(json!({}))))
        .expect_close(4501);
}

#[test]
fn an_expired_jwt_ends_its_connections_and_a_fresh_one_resumes() {
    let issuer = Issuer::new();
    let office = office(&issuer, "");
    let short = issuer.token(json!({"customer": "acme", "exp": now() + 3}));
    let mut client = office.subscribe("/ws/orders", "since=earliest", &short);
    let mut events = office.event_source("/sse/orders", &short);
    client.expect("hello");
    client.expect("live");
    order(&office, "acme");
    assert_eq!(ids(&client.next_rows(1)), [1]);
    assert_eq!(events.next_row(), 1);
    client.expect_close(4401);
    assert_eq!(events.expect("goodbye")["code"], 4401);
    order(&office, "globex");
    order(&office, "acme");
    let mut client = office.subscribe("/ws/orders", "since=1", &issuer.customer("acme"));
    client.expect("hello");
    assert_eq!(client.rows_until("live").0, [3]);
}

#[test]
fn a_revoked_jwt_ends_its_connections_and_no_others() {
    let issuer = Issuer::new();
    let office = office(&issuer, "");
    let token = |jti: &str, sub: &str| {
        issuer.token(json!({"customer": "acme", "jti": jti, "sub": sub, "iat": now() - 60}))
    };
    let (one, of_eve, stays) = (
        token("one", "alice"),
        token("two", "eve"),
        token("three", "bob"),
    );
    let mut first = office.subscribe("/ws/orders", "", &one);
    let mut second = office.subscribe("/ws/orders", "", &of_eve);
    let mut events = office.event_source("/sse/orders", &one);
    let mut other = office.subscribe("/ws/orders", "", &stays);
    let place = office.daemon.directory();
    revoke(place, "jti = [\"one\"]");
    first.expect_close(4501);
    events.expect_position();
    assert_eq!(events.expect("goodbye")["code"], 4501);
    assert_eq!(office.get(EVENTS, Some(&one)).error_code(), "token_invalid");
    assert_eq!(office.get(EVENTS, Some(&of_eve)).status, 200);
    let text = "jti = [\"one\"]\n[[sub]]\nsub = \"eve\"\nissued_before = 2100-01-01T00:00:00Z\n";
    revoke(place, text);
    second.expect_close(4501);
    assert_eq!(office.get(EVENTS, Some(&of_eve)).status, 401);
    // What is broken changes nothing.
    revoke(place, "jti = \"three\"");
    office
        .daemon
        .wait_for_log("the revoked JWTs stay as they were");
    assert_eq!(office.get(EVENTS, Some(&one)).status, 401);
    order(&office, "acme");
    assert_eq!(ids(&other.next_rows(1)), [1]);
}

#[test]
fn another_key_has_clients_come_back_with_tokens_by_it() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let office = office(&old, "");
    let mut client = office.subscribe("/ws/orders", "since=earliest", &old.customer("acme"));
    client.expect("hello");
    client.expect("live");
    let place = office.daemon.directory();
    fs::write(place.join("jwt.pem"), "nonsense").unwrap();
    office
        .daemon
        .wait_for_log("the keys of JWTs stay as they were");
    assert_eq!(office.get(EVENTS, Some(&old.customer("acme"))).status, 200);
    new.publish(place);
    client.expect_close(4401);
    let mut client = office.subscribe("/ws/orders", "since=0", &new.customer("acme"));
    client.expect("hello");
    assert_eq!(office.get(EVENTS, Some(&old.customer("acme"))).status, 401);
}

#[test]
fn a_reload_reads_the_files_again() {
    let issuer = Issuer::new();
    let office = office(&issuer, "");
    office.daemon.signal(libc::SIGHUP);
    wait_until("all are read again", || {
        let log = office.daemon.log();
        [
            "tokens read again",
            "keys of JWTs read again",
            "revoked JWTs read again",
        ]
        .iter()
        .all(|said| log.contains(said))
    });
    assert_eq!(
        office.get(EVENTS, Some(&issuer.customer("acme"))).status,
        200
    );
}

#[test]
fn jwts_that_could_never_be_good_keep_the_daemon_from_starting() {
    let directory = directory();
    let good = Issuer::new().settle(directory.path());
    super::office::command(
        &directory.path().join("tokens.toml"),
        &["add", "one", "--metrics"],
    )
    .unwrap();
    for (jwt, says) in [
        (good.replace("EdDSA", "RS256"), "auth.jwt.key_file"),
        (good.replace("EdDSA", "HS256"), "0600 or 0640"),
        (
            good.replace("\"EdDSA\"", "\"RS256\", \"HS256\""),
            "several families",
        ),
        (good.replace("EdDSA", "none"), "no algorithm"),
        (good.replace("jwt.pem", "missing.pem"), "missing.pem"),
        (
            good.replace("revoked.toml", "missing.toml"),
            "auth.jwt.revoked_file",
        ),
        (good.replace("audience = ", "audiences = "), "audience"),
        (
            good.replace("issuer = ", "#"),
            "auth.jwt.issuer: is missing",
        ),
        (good.replace("key_file", "#"), "names no keys"),
        (good.replace("leeway = 0", "leeway = \"1h\""), "at most 10m"),
    ] {
        let failed = settings(directory.path(), &jwt).try_start();
        let failed = failed
            .err()
            .unwrap_or_else(|| panic!("it must not start with {jwt}"));
        assert_eq!(failed.status.code(), Some(2), "{}", failed.stderr);
        assert!(failed.stderr.contains(says), "{says}: {}", failed.stderr);
    }
}

#[test]
fn a_jwt_that_expires_in_the_middle_of_a_replay_costs_no_row_and_doubles_none() {
    let issuer = Issuer::new();
    let directory = directory();
    let auth = format!(
        "query_token = true\n{}[log]\nlevel = \"info,[connection]=debug\"\n",
        issuer.settle(directory.path())
    );
    let office = Office::open_in(directory, &auth);
    office.daemon.database().execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
         INSERT INTO orders(customer, item) SELECT iif(i % 2, 'acme', 'globex'), printf('%0500d', i) FROM n",
    );
    let short = issuer.token(json!({"customer": "acme", "exp": now() + 3}));
    let query = format!("since=earliest&token={short}");
    let address = office.daemon.address();
    let mut slow = Subscriber::connect_with_small_buffer(address, "/ws/orders", &query, &[]);
    slow.expect("hello");
    // Nothing is read before the daemon ends it: who reads on when it expires might have had all rows by then.
    wait_until("it has expired", || {
        office.daemon.log().contains("closing code=4401")
    });
    // What is on its way has to be taken before the daemon gives up on the close.
    slow.enlarge_buffer();
    assert_eq!(office.get(EVENTS, Some(&short)).status, 401);
    let mut got = Vec::new();
    let code = loop {
        match slow.receive() {
            Received::Text(text) => {
                let frame = serde_json::from_str(&text).unwrap();
                got.push(id(&row_of(&frame).expect("rows alone")));
            }
            Received::Closed(code) => break code,
        }
    };
    assert_eq!(code, Some(4401));
    assert!(
        !got.is_empty() && got.len() < 20_000,
        "{} rows came in time",
        got.len()
    );
    let last = got.last().unwrap();
    let fresh = issuer.customer("acme");
    let mut client = office.subscribe("/ws/orders", &format!("since={last}"), &fresh);
    client.expect("hello");
    got.extend(client.rows_until("live").0);
    let own: Vec<i64> = (0..20_000).map(|n| 2 * n + 1).collect();
    assert!(got == own, "{} rows, not {}", got.len(), own.len());
}

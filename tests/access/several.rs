//! A WebSocket with several subscriptions: what its token allows holds for each of them, and its end for all.

use serde_json::{Value, json};

use super::office::{Office, with_another_secret};
use crate::common::multi::{MULTI, Multi};
use crate::common::{ids, wait_until};

const READ: &[&str] = &["--feed", "news"];

fn orders(office: &Office) {
    office.daemon.database().execute(
        "INSERT INTO orders(customer, item, branch) VALUES ('acme', 'a', 1), ('globex', 'b', 1), ('acme', 'c', 2)",
    );
}

fn news(office: &Office) {
    office
        .daemon
        .database()
        .execute("INSERT INTO news(title) VALUES ('a'), ('b')");
}

#[track_caller]
fn subscribed(multi: &mut Multi, id: &str, feed: &str, more: Value) -> Vec<i64> {
    multi.subscribe(id, feed, more);
    multi.expect(id, "hello");
    multi.rows_until(id, "live").0
}

#[test]
fn each_subscription_gives_the_rows_of_its_customer_and_no_others() {
    let office = Office::open();
    orders(&office);
    let token = office.customer("acme");
    let mut multi = Multi::connect_with_token(&office.daemon, &token);
    let all = subscribed(&mut multi, "a", "orders", json!({"since": 0}));
    assert_eq!(all, [1, 3]);
    let some = json!({"last": 10, "filters": {"branch": 2}});
    assert_eq!(subscribed(&mut multi, "b", "orders", some), [3]);
    orders(&office);
    assert_eq!(ids(&[multi.next_row("a"), multi.next_row("a")]), [4, 6]);
    assert_eq!(multi.next_row("b")["id"], 6);
    multi.subscribe(
        "hidden",
        "orders",
        json!({"since": 0, "filters": {"customer": "globex"}}),
    );
    assert_eq!(multi.expect_error("hidden"), ("unknown_column".into(), 400));
    // What is not granted looks like what is not there.
    let mut refused = ["news", "nowhere"].map(|feed| {
        multi.subscribe(feed, feed, json!({"since": 0}));
        multi.expect(feed, "error")
    });
    for frame in &mut refused {
        let name = frame["id"].as_str().expect("a name").to_owned();
        let text = frame.to_string().replace(&name, "X");
        *frame = serde_json::from_str(&text).expect("JSON");
    }
    assert_eq!(refused[0], refused[1]);
    assert_eq!(refused[0]["status"], 404);
    multi.expect_nothing();
}

#[test]
fn a_revoked_token_ends_the_socket_and_no_other() {
    let office = Office::open();
    let (gone, stays) = (office.token("gone", READ), office.token("stays", READ));
    let mut ends = Multi::connect_with_token(&office.daemon, &gone);
    let mut idle = Multi::connect_with_token(&office.daemon, &gone);
    let mut other = Multi::connect_with_token(&office.daemon, &stays);
    for client in [&mut ends, &mut other] {
        for id in ["a", "b"] {
            subscribed(client, id, "news", json!({"since": 0}));
        }
    }
    idle.expect_nothing();
    office.command(&["revoke", "gone"]);
    ends.socket.expect_close(4501);
    idle.socket.expect_close(4501);
    news(&office);
    assert_eq!(ids(&[other.next_row("a"), other.next_row("a")]), [1, 2]);
    Multi::connect_with_token(&office.daemon, &gone)
        .socket
        .expect_close(4501);
    let refused = office.daemon.upgrade("/ws", &[MULTI]);
    assert_eq!(refused.status, 401);
    let wrong = with_another_secret(&stays);
    Multi::connect_with_token(&office.daemon, &wrong)
        .socket
        .expect_close(4501);
}

#[test]
fn a_changed_grant_has_the_client_come_back_and_what_was_taken_away_is_told() {
    let office = Office::open();
    let token = office.token("reader", READ);
    let mut multi = Multi::connect_with_token(&office.daemon, &token);
    subscribed(&mut multi, "n", "news", json!({"since": 0}));
    office.command(&["set", "reader", "--feed", "news", "--where", "public=1"]);
    multi.socket.expect_close(4401);
    let mut multi = Multi::connect_with_token(&office.daemon, &token);
    subscribed(&mut multi, "n", "news", json!({"since": 0}));
    office.command(&[
        "set",
        "reader",
        "--feed",
        "orders",
        "--where",
        "customer=globex",
    ]);
    assert_eq!(multi.expect_closed("n"), 4504);
    multi.socket.expect_close(4401);
    let mut multi = Multi::connect_with_token(&office.daemon, &token);
    multi.subscribe("n", "news", json!({"since": 0}));
    assert_eq!(multi.expect_error("n").1, 404);
    orders(&office);
    let rows = subscribed(&mut multi, "o", "orders", json!({"since": 0}));
    assert_eq!(rows, [2]);
}

#[test]
fn an_expired_token_ends_the_socket_with_4401_and_another_resumes() {
    let office = Office::open();
    let token = office.token("short", &[READ, &["--expires", "3s"]].concat());
    let mut idle = Multi::connect_with_token(&office.daemon, &token);
    let mut multi = Multi::connect_with_token(&office.daemon, &token);
    subscribed(&mut multi, "n", "news", json!({"since": 0}));
    news(&office);
    assert_eq!(ids(&[multi.next_row("n"), multi.next_row("n")]), [1, 2]);
    multi.socket.expect_close(4401);
    idle.socket.expect_close(4401);
    drop((multi, idle));
    wait_until("nobody is left", || {
        office.daemon.metric("walcast_ws_connections_active") == 0.0
    });
    Multi::connect_with_token(&office.daemon, &token)
        .socket
        .expect_close(4401);
    news(&office);
    let fresh = office.token("fresh", READ);
    let mut multi = Multi::connect_with_token(&office.daemon, &fresh);
    let rows = subscribed(&mut multi, "n", "news", json!({"since": 2}));
    assert_eq!(rows, [3, 4]);
}

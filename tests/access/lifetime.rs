//! How long a grant holds: what becomes of connections when it ends.

use std::fs;

use super::office::Office;
use crate::common::{ids, wait_until};

const READ: &[&str] = &["--feed", "news"];

fn write_news(office: &Office, title: &str) {
    let sql = format!("INSERT INTO news(title) VALUES ('{title}')");
    office.daemon.database().execute(&sql);
}

#[test]
fn a_revoked_token_ends_its_connections_and_no_others() {
    let office = Office::open();
    let (gone, stays) = (office.token("gone", READ), office.token("stays", READ));
    let mut plain = office.subscribe("/ws/news", "", &gone);
    let mut resumable = office.subscribe("/ws/news", "since=now", &gone);
    let mut events = office.event_source("/sse/news", &gone);
    let mut other = office.subscribe("/ws/news", "", &stays);
    resumable.expect("hello");
    resumable.expect("live");
    office.command(&["revoke", "gone"]);
    plain.expect_close(4501);
    resumable.expect_close(4501);
    events.expect_position();
    assert_eq!(events.expect("goodbye")["code"], 4501);
    assert_eq!(events.next(), None);
    assert_eq!(
        office.get("/api/feeds", Some(&gone)).error_code(),
        "token_invalid"
    );
    write_news(&office, "a");
    assert_eq!(ids(&other.next_rows(1)), [1]);
}

#[test]
fn a_changed_grant_has_clients_come_back_and_a_feed_taken_away_ends_them() {
    let office = Office::open();
    let token = office.token("reader", READ);
    let mut client = office.subscribe("/ws/news", "since=earliest", &token);
    client.expect("hello");
    client.expect("live");
    office.command(&["set", "reader", "--feed", "news", "--where", "public=1"]);
    client.expect_close(4401);
    let mut client = office.subscribe("/ws/news", "since=earliest", &token);
    client.expect("hello");
    client.expect("live");
    office.command(&[
        "set",
        "reader",
        "--feed",
        "orders",
        "--where",
        "customer=acme",
    ]);
    client.expect_close(4504);
    office
        .subscribe_from_page("/ws/news", "", Some(&token))
        .expect_close(4504);
}

#[test]
fn an_expired_grant_ends_its_connections_and_the_client_resumes_with_another() {
    let office = Office::open();
    let short = office.token("short", &["--feed", "news", "--expires", "3s"]);
    let mut client = office.subscribe("/ws/news", "since=earliest", &short);
    let mut events = office.event_source("/sse/news", &short);
    client.expect("hello");
    client.expect("live");
    write_news(&office, "a");
    assert_eq!(ids(&client.next_rows(1)), [1]);
    assert_eq!(events.next_row(), 1);
    client.expect_close(4401);
    assert_eq!(events.expect("goodbye")["code"], 4401);
    assert_eq!(events.next(), None);
    let late = office.get("/api/feeds", Some(&short));
    assert_eq!(
        (late.status, late.error_code()),
        (401, "token_expired".into())
    );
    office
        .subscribe_from_page("/ws/news", "", Some(&short))
        .expect_close(4401);
    // The log names whose it was.
    office.daemon.wait_for_log("credential=\"short\"");
    write_news(&office, "b");
    let fresh = office.token("fresh", READ);
    let mut client = office.subscribe("/ws/news", "since=1", &fresh);
    client.expect("hello");
    assert_eq!(client.rows_until("live").0, [2]);
}

#[test]
fn tokens_that_cannot_be_read_stay_as_they_were_until_they_can() {
    let office = Office::open();
    let token = office.token("reader", READ);
    let good = fs::read_to_string(office.tokens()).unwrap();
    let mut client = office.subscribe("/ws/news", "", &token);
    fs::write(office.tokens(), "[[token]]\nid = 5\n").unwrap();
    office.daemon.wait_for_log("the tokens stay as they were");
    assert_eq!(office.get("/api/feeds", Some(&token)).status, 200);
    let before = office.times_read();
    fs::write(office.tokens(), good).unwrap();
    wait_until("the tokens are read again", || office.times_read() > before);
    write_news(&office, "a");
    assert_eq!(ids(&client.next_rows(1)), [1]);
    fs::write(office.tokens(), "").unwrap();
    client.expect_close(4501);
    wait_until("it is refused", || {
        office.get("/api/feeds", Some(&token)).status == 401
    });
}

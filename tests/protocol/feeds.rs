//! Names and ids as the configuration and the table have them.

use serde_json::json;

use crate::common::Daemon;

#[test]
fn ids_beyond_what_a_number_holds_are_strings_everywhere() {
    const ID: &str = "9007199254740993";
    let walcast = Daemon::start_new();
    let mut plain = walcast.subscribe("");
    walcast.database().execute(&format!(
        "INSERT INTO remediation_events(id, ts) VALUES ({ID}, 'x')"
    ));
    assert_eq!(plain.next_row()["id"], ID);
    let (mut resumable, hello) = walcast.resume("since=9007199254740992");
    assert_eq!(
        (&hello["head"], &hello["earliest"], &hello["since"]),
        (&json!(ID), &json!(ID), &json!("9007199254740992"))
    );
    assert_eq!(hello["recovered"], true);
    assert_eq!(resumable.next_row()["id"], ID);
    assert_eq!(
        resumable.next_text(),
        format!(r#"{{"type":"live","id":"{ID}"}}"#)
    );
}

const JOBS: &str = r#"CREATE TABLE jobs(
    number INTEGER PRIMARY KEY AUTOINCREMENT, last TEXT, "limit" INTEGER)"#;

const JOBS_FEEDS: &str = r#"
[feeds.jobs]

[feeds.more]
table = "jobs"
ws = ["/a", "/b/c"]
message = { type = "t", body = "row" }
"#;

#[test]
fn feeds_of_their_own_have_their_names_in_the_frames() {
    let walcast = Daemon::on_new_file()
        .with_tables(JOBS)
        .toml(JOBS_FEEDS)
        .start();
    let database = walcast.database();
    let mut own = walcast.subscribe_to("/ws/jobs", "since=now");
    let hello = own.expect("hello");
    assert_eq!(
        (&hello["feed"], &hello["key"]),
        (&json!("jobs"), &json!("number"))
    );
    own.expect("live");
    let mut more = ["/a", "/b/c"].map(|path| walcast.subscribe_to(path, ""));
    database.execute("INSERT INTO jobs(last, \"limit\") VALUES ('x', 2)");
    assert_eq!(
        own.next_text(),
        r#"{"type":"jobs_event","event":{"number":1,"last":"x","limit":2}}"#
    );
    for subscriber in &mut more {
        assert_eq!(
            subscriber.next_text(),
            r#"{"type":"t","row":{"number":1,"last":"x","limit":2}}"#
        );
    }

    // Reserved words win over columns of the same name.
    database.execute("INSERT INTO jobs(last) VALUES ('1'), ('y')");
    let mut last = walcast.subscribe_to("/ws/jobs", "last=1");
    assert_eq!(last.expect("hello")["since"], 2);
    let refused = walcast.refused_upgrade("/ws/jobs?last=x");
    assert_eq!(refused.status, 400);
    let refused = walcast.refused_upgrade("/ws/jobs?limit=2");
    assert_eq!(refused.status, 400);
}

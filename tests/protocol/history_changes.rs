//! Histories that are replaced, and columns that go.

use serde_json::json;

use crate::common::Daemon;

#[test]
fn a_replaced_history_closes_plain_subscribers_and_resets_resumable_ones() {
    let walcast = Daemon::start_new();
    walcast.database().insert_many(9);
    let old = walcast.epoch();
    let mut plain = walcast.subscribe("");
    let mut filtered = walcast.subscribe("tenant=acme");
    let queries = [
        ("since=8", vec![1, 2, 3]),
        ("since=earliest", vec![1, 2, 3]),
        ("since=now", vec![1, 2, 3]),
        ("last=2", vec![2, 3]),
        ("last=2&tenant=globex", vec![1, 3]),
        ("since=8&tenant=nobody", vec![]),
    ];
    let mut resumable = queries.map(|(query, rows)| {
        let (mut subscriber, _) = walcast.resume(query);
        subscriber.replay();
        (query, subscriber, rows)
    });
    walcast.database().replace_with(|new| {
        for tenant in ["globex", "acme", "globex"] {
            new.insert_for(tenant, "of another history");
        }
    });
    plain.expect_close(1012);
    filtered.expect_close(1012);
    for (query, subscriber, rows) in &mut resumable {
        let mut text = subscriber.next_text();
        while text.starts_with(r#"{"type":"waiting""#) {
            text = subscriber.next_text();
        }
        let new = walcast.epoch();
        assert_ne!(new, old);
        assert_eq!(
            text,
            format!(
                r#"{{"type":"reset","epoch":"{new}","reason":"database_replaced","head":3,"earliest":1}}"#
            ),
            "{query}"
        );
        assert_eq!(subscriber.replay(), (rows.clone(), 3), "{query}");
    }
    let (mut returning, hello) = walcast.resume(&format!("since=2&epoch={old}"));
    assert_eq!(
        (&hello["recovered"], &hello["since"]),
        (&json!(false), &json!(0))
    );
    assert_eq!(returning.replay(), (vec![1, 2, 3], 3));
    let next = walcast.database().insert("next");
    assert_eq!(next, 4);
    assert_eq!(returning.next_row()["id"], 4);
    assert_eq!(
        walcast.metric(r#"walcast_epoch_changes_total{feed="remediation"}"#),
        1.0
    );
}

#[test]
fn a_dropped_column_closes_those_who_filter_on_it_and_nobody_else() {
    let walcast = Daemon::start_new();
    let before = walcast.epoch();
    let mut filtered = walcast.subscribe("tenant=acme");
    let (mut resumable, _) = walcast.resume("since=now&tenant=acme");
    resumable.expect("live");
    let mut other = walcast.subscribe("status=success");
    let mut plain = walcast.subscribe("");
    walcast
        .database()
        .execute("ALTER TABLE remediation_events DROP COLUMN tenant");
    filtered.expect_close(1012);
    resumable.expect_close(1012);
    walcast
        .database()
        .execute("INSERT INTO remediation_events(ts, status) VALUES ('x', 'success')");
    let row = json!({"id": 1, "ts": "x", "alertname": null, "action": null, "status": "success", "details": null});
    assert_eq!(plain.next_row(), row);
    assert_eq!(other.next_row(), row);
    assert_eq!(walcast.epoch(), before);
    let again = walcast.refused_upgrade("/ws/remediation?tenant=acme");
    assert_eq!(again.status, 400);
}

#[test]
fn a_filter_accepted_before_the_table_is_closed_when_the_table_lacks_its_column() {
    let walcast = Daemon::on_new_file()
        .toml("[feeds.jobs]\ntable = \"jobs\"\n")
        .start();
    let mut wrong = walcast.subscribe_to("/ws/jobs", "nope=1");
    let mut right = walcast.subscribe_to("/ws/jobs", "name=a");
    walcast.database().execute(
        "CREATE TABLE jobs(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO jobs(name) VALUES ('b'), ('a')",
    );
    assert_eq!(right.next_row()["id"], 2);
    wrong.expect_close(1012);
}

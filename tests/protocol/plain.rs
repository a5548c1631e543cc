//! Plain subscriptions: rows, and nothing else.

use crate::common::{Daemon, STOCK_HISTORY, ids};

#[test]
fn a_plain_subscription_gets_rows_word_for_word_and_nothing_else() {
    let walcast = Daemon::start_new();
    walcast.database().insert("before the subscription");
    let mut plain = walcast.subscribe("");
    walcast.database().execute(
        "INSERT INTO remediation_events VALUES (103, '2026-01-02T03:04:05Z', 'HighCPU', 'acme', 'restart', 'success', 'say \"é\"\n');
         INSERT INTO remediation_events(ts) VALUES ('x')",
    );
    assert_eq!(
        plain.next_text(),
        r#"{"type":"remediation_event","event":{"id":103,"ts":"2026-01-02T03:04:05Z","alertname":"HighCPU","tenant":"acme","action":"restart","status":"success","details":"say \"é\"\n"}}"#
    );
    assert_eq!(
        plain.next_text(),
        r#"{"type":"remediation_event","event":{"id":104,"ts":"x","alertname":null,"tenant":null,"action":null,"status":null,"details":null}}"#
    );
    plain.expect_nothing();
}

#[test]
fn an_epoch_alone_leaves_a_subscription_plain() {
    let walcast = Daemon::start_new();
    let mut plain = walcast.subscribe("epoch=whatever");
    plain.expect_nothing();
}

#[test]
fn a_plain_subscription_with_filters_gets_what_matches() {
    let walcast = Daemon::start_new();
    let mut either = walcast.subscribe("tenant=acme&tenant=a%26b+c");
    let mut both = walcast.subscribe("tenant=acme&details=yes");
    for (tenant, details) in [
        ("other", "no"),
        ("acme", "no"),
        ("a&b c", "no"),
        ("acme", "yes"),
    ] {
        walcast.database().insert_for(tenant, details);
    }
    assert_eq!(ids(&either.next_rows(3)), [2, 3, 4]);
    assert_eq!(both.next_row()["id"], 4);
    either.expect_nothing();
    both.expect_nothing();
}

#[test]
fn details_are_cut_after_500_code_points_and_filtered_whole() {
    let walcast = Daemon::start_new();
    let kept = format!("{}𝄞", "é".repeat(499));
    let stored = format!("{kept}tail");
    let filter = percent_encoding::utf8_percent_encode(&stored, percent_encoding::NON_ALPHANUMERIC);
    let mut plain = walcast.subscribe("");
    let mut filtered = walcast.subscribe(&format!("details={filter}"));
    walcast.database().insert(&stored);
    assert_eq!(plain.next_row()["details"], kept);
    assert_eq!(filtered.next_row()["details"], kept);
    let history = walcast.get(STOCK_HISTORY).json();
    assert_eq!(history["items"][0]["details"], kept);
}

#[test]
fn a_plain_subscriber_who_came_before_the_table_gets_all_of_it() {
    let walcast = Daemon::on_new_file().stock_feed("create = false").start();
    let mut plain = walcast.subscribe("");
    let mut filtered = walcast.subscribe("tenant=acme");
    let mut writer = walcast.database().python();
    assert_eq!(writer.insert(3), [1, 2, 3]);
    for subscriber in [&mut plain, &mut filtered] {
        assert_eq!(ids(&subscriber.next_rows(3)), [1, 2, 3]);
    }
}

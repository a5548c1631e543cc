//! What a database may hold and how it may be laid out, and yet no row is late, no feed is down and no memory is lost.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::database::STOCK_SCHEMA;
use common::{Daemon, Database, directory, ids, wait_until};
use serde_json::{Value, json};

#[test]
fn a_link_whose_target_is_made_later_is_watched() {
    let dir = directory();
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    for target in ["real.db", "elsewhere/real.db"] {
        let link = dir.path().join(target.replace('/', "-") + ".link");
        symlink(target, &link).unwrap();
        let walcast = Daemon::on(dir.path())
            .database(&link)
            .without_poll()
            .stock_feed("create = false")
            .start();
        let mut plain = walcast.subscribe("");
        let mut python = Database::at(dir.path().join(target)).python();
        for id in 1..=3 {
            assert_eq!(python.insert(1), [id]);
            assert_eq!(plain.next_row()["id"], id);
        }
    }
}

#[test]
fn a_link_pointed_elsewhere_in_its_directory_is_followed() {
    let dir = directory();
    let link = dir.path().join("walcast.db");
    let [first, second] = ["first.db", "second.db"].map(|name| {
        let database = Database::at(dir.path().join(name));
        database.execute(STOCK_SCHEMA);
        database
    });
    second.insert_many(5);
    point(&link, "first.db");
    let walcast = Daemon::on(dir.path()).without_poll().start();
    let mut resumable = walcast.subscribe_live();
    assert_eq!(first.insert("of the first"), 1);
    assert_eq!(resumable.next_row()["id"], 1);
    point(&link, "second.db");
    assert_eq!(resumable.expect("reset")["head"], 5);
    assert_eq!(resumable.replay(), ((1..=5).collect(), 5));
    for id in 6..=8 {
        let wakes = || walcast.metric(r#"walcast_wakes_total{source="wal"}"#);
        let before = wakes();
        assert_eq!(second.insert("of the second"), id);
        assert_eq!(resumable.next_row()["id"], id);
        // The daemon goes on looking for a while after a file event; the row must have made one of its own.
        wait_until("the write was noticed by its file event", || {
            wakes() > before
        });
    }
}

/// Makes the link or points it elsewhere, in one step.
fn point(link: &Path, target: &str) {
    let beside = link.with_extension("new");
    symlink(target, &beside).unwrap();
    fs::rename(beside, link).unwrap();
}

#[test]
fn rows_whose_key_is_no_integer_are_none_of_the_feeds() {
    for table in [
        "CREATE TABLE things(name TEXT PRIMARY KEY, seq INTEGER UNIQUE)",
        "CREATE TABLE things(name TEXT PRIMARY KEY, seq INTEGER UNIQUE) WITHOUT ROWID",
    ] {
        let dir = directory();
        Database::with_stock_table(dir.path()).execute(table);
        let database = Database::within(dir.path());
        let insert = |name: &str, seq: &str| {
            database.execute(&format!("INSERT INTO things VALUES ('{name}', {seq})"));
        };
        let odd = ["'abc'", "NULL", "1.5", "x'00'", "9e99", "-9e99", "NULL"];
        insert("before", "'before'");
        let settings = Daemon::on(dir.path())
            .toml("[feeds.remediation]\n[feeds.things]\nkey = \"seq\"\ningest = true\n");
        let walcast = settings.start();
        let mut things = walcast.subscribe_to("/ws/things", "");
        let mut stock = walcast.subscribe("");
        insert("first", "1");
        for (number, seq) in odd.iter().enumerate() {
            insert(&format!("odd {number}"), seq);
        }
        insert("second", "2");
        insert("seventh", "7");
        let row = |name: &str, seq: i64| json!({"name": name, "seq": seq});
        let rows = [row("first", 1), row("second", 2), row("seventh", 7)];
        assert_eq!(things.next_rows(3), rows);
        database.insert("the other feed goes on");
        assert_eq!(stock.next_row()["id"], 1);

        let mut replay = walcast.subscribe_to("/ws/things", "since=0");
        let hello = replay.expect("hello");
        assert_eq!((&hello["earliest"], &hello["head"]), (&json!(1), &json!(7)));
        assert_eq!(replay.next_rows(3), rows);
        let mut last = walcast.subscribe_to("/ws/things", "last=2&name=second&name=seventh");
        last.expect("hello");
        assert_eq!(last.next_rows(2), rows[1..]);
        let history = walcast.get("/api/feeds/things/events").json();
        assert_eq!(
            (&history["items"][0], &history["total"]),
            (&rows[2], &json!(3))
        );

        // A row that could never be sent is refused rather than stored.
        let answer = walcast.post("/api/feeds/things/events", &json!({"name": "ingested"}));
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains("seq"), "{}", answer.text());
        assert_eq!(
            database.number("SELECT count(*) FROM things WHERE name = 'ingested'"),
            0
        );

        drop((things, stock, replay, last));
        let walcast = walcast.restart();
        assert_eq!(walcast.get("/readyz").status, 200);
        let mut resumed = walcast.subscribe_to("/ws/things", "since=2");
        assert_eq!(resumed.expect("hello")["epoch"], hello["epoch"]);
        assert_eq!(resumed.next_row(), rows[2]);
    }
}

#[test]
fn a_huge_row_is_cut_without_being_held_many_times_over() {
    const MEGABYTE: usize = 1 << 20;
    const ROW: usize = 64 * MEGABYTE;
    let walcast = Daemon::start_new();
    let mut plain = walcast.subscribe("");
    walcast.database().insert("so that all is warm");
    plain.next_row();
    let before = walcast.memory("VmRSS");
    // A control character takes six bytes in JSON.
    let connection = walcast.database().connect();
    let huge = "\u{1}".repeat(ROW);
    connection
        .execute(
            "INSERT INTO remediation_events(ts, action) VALUES ('now', ?1)",
            [&huge],
        )
        .unwrap();
    let frame: Value = plain.next_frame();
    assert_eq!(frame["truncated"], json!(["action"]));
    let action = frame["event"]["action"].as_str().unwrap();
    assert!(
        (100_000..=MEGABYTE / 6).contains(&action.len()),
        "{}",
        action.len()
    );
    for _ in 0..3 {
        common::database::insert(&connection, "acme", "after it");
        plain.next_row();
    }
    // SQLite itself holds the row once; a frame of it and its copies are of the size of the limit.
    let peak = walcast.memory("VmHWM") - before;
    assert!(peak < 2 * ROW, "{} MB", peak / MEGABYTE);
    wait_until("the memory is given back", || {
        walcast.memory("VmRSS") < before + ROW / 2
    });
}

#[test]
fn a_rare_filter_finds_its_rows_in_a_large_table() {
    let dir = directory();
    let database = Database::with_stock_table(dir.path());
    database.execute(
        "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 100000)
         INSERT INTO remediation_events(ts, tenant)
         SELECT 'then', iif(n IN (7, 30000, 30001, 99000), 'rare', 'common') FROM s",
    );
    let walcast = Daemon::start(dir.path());
    let mut all = walcast.subscribe("since=0&tenant=rare");
    assert_eq!(all.expect("hello")["recovered"], true);
    assert_eq!(ids(&all.next_rows(4)), [7, 30000, 30001, 99000]);
    assert_eq!(all.expect("live")["id"], 100_000);
    let mut last = walcast.subscribe("last=3&tenant=rare");
    assert_eq!(last.expect("hello")["since"], 29_999);
    assert_eq!(ids(&last.next_rows(3)), [30000, 30001, 99000]);
    last.expect("live");
    let mut none = walcast.subscribe("last=3&tenant=nobody");
    assert_eq!(none.expect("hello")["since"], 100_000);
    none.expect("live");
    assert_eq!(database.insert_for("rare", "live"), 100_001);
    assert_eq!(all.next_row()["id"], 100_001);

    let history = |query: &str| {
        let path = format!("/api/feeds/remediation/events?tenant=rare{query}");
        let page = walcast.get(&path).json();
        assert_eq!(page["total"], 5);
        ids(page["items"].as_array().unwrap())
    };
    assert_eq!(history(""), [100_001, 99000, 30001, 30000, 7]);
    assert_eq!(history("&limit=2&before=99000"), [30001, 30000]);
    assert_eq!(history("&limit=2&after=7"), [30001, 30000]);
    assert_eq!(history("&after=7&before=30001"), [30000]);
}

//! Filters that look alike, look odd, or are many: what they take, live and from the table, and what they cost others.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::wait::pause;
use crate::common::{Daemon, StopAtEnd, Subscriber, database, id, ids, wait_until};
use crate::scale::sized;

/// The ids that a live subscriber, one that replays and the history take.
#[track_caller]
fn taken_in_every_way(walcast: &Daemon, live: &mut Subscriber, query: &str) -> Vec<i64> {
    let mut replay = walcast.subscribe_to("/ws/t", &format!("since=earliest&{query}"));
    replay.expect("hello");
    let (replayed, _) = replay.replay();
    let history = walcast.get(&format!("/api/feeds/t/events?limit=500&{query}"));
    let items = history.json()["items"].take();
    let mut items = ids(items.as_array().expect("items"));
    items.reverse();
    assert_eq!(items, replayed, "history, {query}");
    assert_eq!(
        ids(&live.next_rows(replayed.len())),
        replayed,
        "live, {query}"
    );
    live.expect_nothing();
    replayed
}

const VALUES: &str =
    "('123'), (123), (123.0), ('0123'), ('acme'), ('ACME'), ('acme '), (x'69c7a6'), (NULL), ('')";

#[test]
fn columns_of_every_kind_are_filtered_alike_live_and_from_the_table() {
    for (columns, queries) in [
        ("v ANY) STRICT", &["v=123", "v=0123", "v=acme", "v="][..]),
        ("v TEXT COLLATE NOCASE)", &["v=123", "v=acme", "v=acme+"]),
        ("v INTEGER)", &["v=123", "v=0123", "v=acme"]),
        ("v)", &["v=123", "v=acme", "v=123.0"]),
        ("v BLOB)", &["v=123", "v=acme"]),
        ("v, w INTEGER AS (v))", &["w=123", "w=acme", "v=123&w=123"]),
    ] {
        let walcast = Daemon::on_new_file()
            .with_tables(&format!(
                "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, {columns}; CREATE INDEX t_v ON t(v);"
            ))
            .toml("[feeds.t]\ntable = \"t\"\n")
            .start();
        let mut live: Vec<_> = queries
            .iter()
            .map(|query| walcast.subscribe_to("/ws/t", query))
            .collect();
        let database = walcast.database();
        database.execute(&format!("INSERT INTO t(v) VALUES {VALUES}"));
        for (query, live) in queries.iter().zip(&mut live) {
            let taken = taken_in_every_way(&walcast, live, query);
            assert!(
                !taken.is_empty() || query.contains('&'),
                "{columns}: {query}"
            );
        }
    }
}

/// A collation that the writer alone has: whoever compares by it can't read the column at all.
#[test]
fn a_column_with_a_collation_of_its_writer_is_filtered_like_others() {
    let walcast = Daemon::on_new_file()
        .with_tables(
            "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT COLLATE BINARY, n INTEGER COLLATE BINARY);
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = replace(sql, 'COLLATE BINARY', 'COLLATE mine');",
        )
        .toml("[feeds.t]\ntable = \"t\"\n")
        .start();
    let queries = [
        "name=acme",
        "name=acm",
        "n=1",
        "name=acme&name=acm",
        "name=acme&n=1",
    ];
    let mut live = queries.map(|query| walcast.subscribe_to("/ws/t", query));
    walcast
        .database()
        .execute("INSERT INTO t(name, n) VALUES ('acme', 1), ('acm', 2), ('Acme', 3)");
    for (query, live) in queries.iter().zip(&mut live) {
        assert!(
            !taken_in_every_way(&walcast, live, query).is_empty(),
            "{query}"
        );
    }
}

/// Seconds of CPU that the daemon has used.
fn cpu_seconds(walcast: &Daemon) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", walcast.id()));
    let stat = stat.expect("a running process has a stat");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || -> f64 {
        fields
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number")
    };
    // USER_HZ, which is 100 wherever Linux runs.
    (ticks() + ticks()) / 100.0
}

/// Seconds of CPU until one who gets them has all rows of a transaction.
fn cost_of_rows(walcast: &Daemon, rows: usize) -> f64 {
    let mut good = walcast.subscribe("");
    let connection = walcast.database().connect();
    let before = cpu_seconds(walcast);
    connection
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?1)
             INSERT INTO remediation_events(ts, tenant, action) SELECT i, 'shared', 'none asks for it' FROM n",
            [rows as i64],
        )
        .expect("rows are inserted");
    good.next_rows(rows);
    cpu_seconds(walcast) - before
}

/// Each asks for a tenant that all have or one of its own, and for values that no row has: a filter that can be found by
/// what it shares with all others alone.
#[test]
fn filters_that_share_nearly_all_their_values_cost_those_who_get_rows_nothing() {
    let (sockets, rows) = sized((100, 2_000), (1_000, 5_000));
    let walcast = Daemon::start_new();
    let shared: String = (0..98).map(|n| format!("&action=restart{n:04}")).collect();
    let alone = cost_of_rows(&walcast, rows);
    let _others: Vec<_> = (0..sockets)
        .map(|n| walcast.subscribe(&format!("tenant=shared&tenant=own{n}{shared}")))
        .collect();
    let beside = cost_of_rows(&walcast, rows);
    // Compared one by one, 1,000 filters took a hundred times as long as without them.
    assert!(
        beside < alone * 3.0 + 0.5,
        "{beside} s of CPU, {alone} s without"
    );
}

/// Half the filters have the row's tenant, half its action, hardly any both.
#[test]
fn filters_that_match_by_halves_find_exactly_their_rows() {
    let walcast = Daemon::start_new();
    let mut wanted: Vec<(Subscriber, i64)> = (0..100)
        .map(|n| {
            let (own, other) = (n / 10, n % 10);
            let query = format!("tenant=t{own}&tenant=always&action=a{other}&action=never");
            (walcast.subscribe(&query), n)
        })
        .collect();
    let connection = walcast.database().connect();
    for n in 0..100 {
        connection
            .execute(
                "INSERT INTO remediation_events(ts, tenant, action) VALUES ('x', ?1, ?2)",
                [format!("t{}", n / 10), format!("a{}", n % 10)],
            )
            .expect("a row is inserted");
    }
    for (subscriber, n) in &mut wanted {
        assert_eq!(subscriber.next_row()["id"], *n + 1);
        subscriber.expect_nothing();
    }
}

/// Filters come and go while rows are written: none costs anybody a row, and a later one under the same values none either.
#[test]
fn filters_that_come_and_go_at_speed_cost_nobody_a_row() {
    const LAST: &str = "the last";
    let connects = sized(300, 3_000);
    let walcast = Daemon::start_new();
    let mut stays = walcast.subscribe("tenant=acme");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let file = walcast.database();
        let stays = scope.spawn(move || {
            let mut rows = vec![stays.next_row()];
            while rows.last().is_some_and(|row| row["details"] != LAST) {
                rows.push(stays.next_row());
            }
            rows
        });
        let writer = scope.spawn(move || {
            let connection = file.connect();
            connection
                .pragma_update(None, "synchronous", "OFF")
                .expect("a pragma");
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    database::insert(&connection, "acme", "while others come and go");
                }
                // Not faster than a client on a busy machine can read.
                pause();
            }
            database::insert(&connection, "acme", LAST)
        });
        let _stop_at_end = StopAtEnd(stop);
        for n in 0..connects {
            let mut passing =
                walcast.subscribe(&format!("tenant=acme&tenant=own{n}&action=restart_service"));
            if n % 10 == 0 {
                let first = passing.next_row();
                let next = passing.next_row();
                assert_eq!(id(&next), id(&first) + 1);
            }
        }
        stop.store(true, Ordering::Relaxed);
        let written = writer.join().expect("the writer wrote");
        let rows = stays.join().expect("every row came");
        assert_eq!(ids(&rows), (1..=written).collect::<Vec<i64>>());
    });
}

#[test]
fn values_are_bounded_by_filter_and_by_feed() {
    let walcast = Daemon::start_new();
    let most: String = (0..1_000).map(|n| format!("&id={n}")).collect();
    let refused = walcast.refused_upgrade(&format!("/ws/remediation?{most}&id=1000"));
    assert_eq!(refused.status, 400);
    let message = refused.error_message();
    assert!(
        message.contains("1001") && message.contains("1000"),
        "{message}"
    );
    let mut held: Vec<_> = (0..100).map(|_| walcast.subscribe(&most[1..])).collect();
    for path in ["/ws/remediation", "/sse/remediation"] {
        let refused = walcast.refused_upgrade(&format!("{path}?tenant=acme"));
        assert_eq!(refused.status, 503, "{path}");
        assert!(refused.header("retry-after").is_some());
    }
    let mut unfiltered = walcast.subscribe("");
    held.pop();
    wait_until("there is room again", || {
        walcast.upgrade("/ws/remediation?tenant=acme", &[]).status == 101
    });
    let mut filtered = walcast.subscribe("tenant=acme");
    let row = walcast.database().insert_for("acme", "");
    assert_eq!(filtered.next_row()["id"], row);
    assert_eq!(unfiltered.next_row()["id"], row);
    assert_eq!(held[0].next_row()["id"], row);
}

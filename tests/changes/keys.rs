//! Where the log names keys, and rows are read as they are.

use serde_json::json;
use walcast::config::CaptureMode::Keys;

use crate::common::Daemon;
use crate::scenes::{Held, ORDERS, captured, follow, follow_live, next_change, orders, settings};

fn write(walcast: &Daemon, sql: &str) {
    walcast.database().python().run(sql);
}

#[test]
fn updates_and_deletes_of_a_python_writer_reach_a_subscriber() {
    let walcast = orders(Keys, &[]);
    let mut plain = walcast.subscribe_to("/ws/orders", "");
    write(&walcast, "INSERT INTO orders VALUES (1, 'acme', 5, NULL)");
    let row = json!({"id": 1, "tenant": "acme", "total": 5.0, "note": null});
    let created = json!({"op": "c", "key": {"id": 1}, "after": row});
    assert_eq!(next_change(&mut plain), created);
    write(&walcast, "UPDATE orders SET total = 6, note = 'x'");
    let row = json!({"id": 1, "tenant": "acme", "total": 6.0, "note": "x"});
    let updated = json!({"op": "u", "key": {"id": 1}, "after": row});
    assert_eq!(next_change(&mut plain), updated);
    write(&walcast, "UPDATE orders SET id = 7");
    let row = json!({"id": 7, "tenant": "acme", "total": 6.0, "note": "x"});
    let moved = json!({"op": "u", "key": {"id": 7}, "old_key": {"id": 1}, "after": row});
    assert_eq!(next_change(&mut plain), moved);
    write(&walcast, "DELETE FROM orders");
    assert_eq!(
        next_change(&mut plain),
        json!({"op": "d", "key": {"id": 7}})
    );
    plain.expect_nothing();
}

#[test]
fn messages_are_named_after_the_feed_and_hello_tells_what_it_is() {
    let walcast = orders(Keys, &[]);
    let (mut subscriber, hello) = follow(&walcast, "since=now");
    assert_eq!(
        (&hello["kind"], &hello["key"]),
        (&json!("changes"), &json!("seq"))
    );
    assert_eq!(hello.get("snapshot"), None);
    subscriber.expect("live");
    write(&walcast, "INSERT INTO orders VALUES (1, 'acme', 5, NULL)");
    let frame = subscriber.next_frame();
    assert_eq!(frame["type"], "orders_change");
    assert_eq!(frame["change"]["seq"], 1);
}

#[test]
fn tables_without_an_integer_key_are_feeds() {
    for (declared, key) in [
        ("a TEXT PRIMARY KEY, b INT, n INT", &["a"][..]),
        ("a TEXT, b INT, n INT, PRIMARY KEY(b, a)", &["b", "a"]),
        (
            "a TEXT, b INT, n INT, PRIMARY KEY(a DESC, b) ) WITHOUT ROWID --",
            &["a", "b"],
        ),
        ("a TEXT COLLATE NOCASE PRIMARY KEY, b INT, n INT", &["a"]),
    ] {
        let table = format!("CREATE TABLE t({declared}\n)");
        let table = table.replace("--\n)", "");
        let walcast = captured(&table, "t", Keys, &[], "");
        let database = walcast.database();
        database.execute("INSERT INTO t VALUES ('x', 1, 1), ('y', 1, 2), ('z', 2, 3)");
        let (mut subscriber, mut held) = follow_live(&walcast, "since=earliest");
        let now = || Held::of(&database, "SELECT * FROM t", key);
        assert_eq!(held, now(), "{table}");
        database.execute(
            "UPDATE t SET n = 9 WHERE a = 'x'; UPDATE t SET a = 'X' WHERE a = 'x'; DELETE FROM t WHERE a = 'y'",
        );
        (0..3).for_each(|_| drop(held.take(&mut subscriber)));
        assert_eq!(held, now(), "{table}");
    }
}

#[test]
fn a_row_without_a_key_is_none_of_the_feeds() {
    let walcast = captured(
        "CREATE TABLE t(k TEXT PRIMARY KEY, n INT)",
        "t",
        Keys,
        &[],
        "",
    );
    let database = walcast.database();
    database.execute("INSERT INTO t VALUES (NULL, 1), ('a', 2)");
    let (mut subscriber, mut held) = follow_live(&walcast, "since=earliest");
    let now = || Held::of(&database, "SELECT * FROM t WHERE k IS NOT NULL", &["k"]);
    assert_eq!(held, now());
    database.execute("UPDATE t SET k = NULL WHERE k = 'a'");
    held.take(&mut subscriber);
    assert_eq!(held, now());
    database.execute("INSERT INTO t VALUES (NULL, 3); UPDATE t SET k = 'b' WHERE n = 3");
    held.take(&mut subscriber);
    assert_eq!(held, now());
    subscriber.expect_nothing();
}

#[test]
fn rows_that_clients_send_go_into_the_table() {
    let settings = settings(ORDERS, "orders", Keys, &["tenant"], "ingest = true");
    let walcast = settings.start();
    let mut plain = walcast.subscribe_to("/ws/orders", "");
    let posted = walcast.post(
        "/api/feeds/orders/events",
        &json!({"tenant": "acme", "total": 5}),
    );
    assert_eq!((posted.status, posted.json()), (201, json!({"ids": [1]})));
    assert_eq!(next_change(&mut plain)["after"]["tenant"], "acme");
}

#[test]
fn keys_that_a_columns_own_collation_takes_for_the_same_are_all_in_a_snapshot() {
    for (declared, key) in [
        (
            "k TEXT COLLATE NOCASE, n INT, PRIMARY KEY(k COLLATE BINARY)",
            &["k"][..],
        ),
        (
            "k TEXT COLLATE NOCASE, n INT, PRIMARY KEY(k COLLATE BINARY, n)",
            &["k", "n"],
        ),
        (
            "n INT, k TEXT COLLATE NOCASE, PRIMARY KEY(n, k COLLATE BINARY)",
            &["n", "k"],
        ),
    ] {
        let walcast = captured(
            &format!("CREATE TABLE orders({declared})"),
            "orders",
            Keys,
            &[],
            "",
        );
        let database = walcast.database();
        // One before the pairs, so that a page ends within one.
        database.execute(
            "INSERT INTO orders(k, n) VALUES ('!', 0);
             INSERT INTO orders(k, n) WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i LIMIT 3000)
                 SELECT format('k%05d', i), 1 FROM i UNION ALL SELECT format('K%05d', i), 1 FROM i",
        );
        let (_, held) = follow_live(&walcast, "since=earliest");
        let all = Held::of(&database, "SELECT * FROM orders", key);
        assert_eq!(held.0.len(), all.0.len(), "{declared}");
        assert!(held == all, "{declared}: {:?}", all.without(&held));
    }
}

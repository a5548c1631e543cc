//! Feeds of changes at an edge: who comes there gets what they would get at the origin.

use std::fs;

use serde_json::{Value, json};
use walcast::config::CaptureMode::{self, Full, Keys};

use crate::common::secrets::add_token;
use crate::common::{Daemon, Database, Settings, Subscriber, wait_until};
use crate::scenes::{Held, ORDERS, capture, captured, follow, follow_live, orders, settings};

/// An edge of this daemon, in a directory of its own, that has what is there.
#[track_caller]
pub fn edge_of(origin: &Daemon) -> Daemon {
    let edge = Settings::on_new_file().edge_of(format!("ws://{}", origin.address()));
    let edge = edge.start();
    edge.wait_until_ready();
    edge
}

/// The feed as it is listed, but for who subscribes: an edge is a subscriber itself.
fn listed(daemon: &Daemon) -> Value {
    let mut feeds = daemon.get("/api/feeds").json()["feeds"].clone();
    feeds[0]["subscribers"] = json!(null);
    feeds
}

/// What is sent up to `live`, as it is sent.
#[track_caller]
fn texts(daemon: &Daemon, query: &str) -> Vec<String> {
    let mut subscriber = daemon.subscribe_to("/ws/orders", query);
    let mut texts: Vec<String> = Vec::new();
    while !texts.last().is_some_and(|text| text.contains("\"live\"")) {
        texts.push(subscriber.next_text());
    }
    texts
}

fn wait_for_head(daemon: &Daemon, seq: i64) {
    wait_until("the head is listed", || {
        daemon.get("/api/feeds").json()["feeds"][0]["head"] == seq
    });
}

const WRITES: &str = "INSERT INTO orders VALUES (1, 'acme', 5, 'a'), (2, 'globex', 0.1, x'00ff'), (3, 'acme', 9e999, NULL);
     UPDATE orders SET total = 6 WHERE id = 1; UPDATE orders SET tenant = 'globex' WHERE id = 3;
     UPDATE orders SET id = 7 WHERE id = 2; DELETE FROM orders WHERE id = 3;
     INSERT INTO orders VALUES (4, NULL, 9007199254740993, CAST(x'61ff' AS TEXT))";

#[test]
fn what_an_edge_sends_of_changes_is_what_its_origin_does() {
    for mode in [Keys, Full] {
        let keys =
            "exclude = [\"tenant\"]\ntruncate = { note = 3 }\nws = [\"/ws/orders\", \"/live\"]";
        for keys in ["", keys] {
            let origin = captured(ORDERS, "orders", mode, &["tenant"], keys);
            let database = origin.database();
            database.execute(WRITES);
            let edge = edge_of(&origin);
            assert_eq!(listed(&edge), listed(&origin));
            let queries = [
                "since=earliest",
                "since=0",
                "since=3",
                "since=8",
                "last=4",
                "since=99",
            ];
            for query in queries {
                for filter in ["", "&id=7", "&tenant=acme", "&tenant=globex&tenant=acme"] {
                    if keys.is_empty() || !filter.contains("tenant") {
                        let query = format!("{query}{filter}");
                        assert_eq!(texts(&edge, &query), texts(&origin, &query), "{query}");
                    }
                }
            }
            let mut both = [&edge, &origin].map(|daemon| follow(daemon, "since=now").0);
            for subscriber in &mut both {
                subscriber.expect("live");
            }
            for sql in [
                "UPDATE orders SET note = 'longer' WHERE id = 1",
                "UPDATE orders SET id = 5, tenant = 'acme' WHERE id = 7",
                "INSERT OR REPLACE INTO orders VALUES (5, 'acme', 1, 'b')",
                "DELETE FROM orders WHERE id = 4",
            ] {
                database.execute(sql);
                let [at_edge, at_origin] = both.each_mut().map(Subscriber::next_text);
                assert_eq!(at_edge, at_origin, "{sql}");
            }
            wait_for_head(
                &edge,
                database.number("SELECT max(seq) FROM _walcast_orders"),
            );
            assert_eq!(texts(&edge, "since=0"), texts(&origin, "since=0"));
            let history = "/api/feeds/orders/events?id=5";
            assert_eq!(edge.get(history).json(), origin.get(history).json());
            assert_eq!(
                edge.get("/api/feeds/orders/events?note=x").status,
                if mode == Keys { 400 } else { 200 }
            );
        }
    }
}

#[test]
fn a_table_that_has_other_columns_when_an_edge_comes_back_is_all_there() {
    let origin = orders(Keys, &[]);
    let database = origin.database();
    database.execute(
        "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 300)
         INSERT INTO orders SELECT n, 'acme', n, NULL FROM s",
    );
    let mut edge = edge_of(&origin);
    for turn in 0..4 {
        let settings = edge.stop();
        database.execute(&format!(
            "ALTER TABLE orders ADD COLUMN more{turn} INTEGER DEFAULT 5; UPDATE orders SET total = -1 WHERE id = {turn}"
        ));
        let head = database.number("SELECT max(seq) FROM _walcast_orders");
        wait_for_head(&origin, head);
        edge = settings.start();
        wait_for_head(&edge, head);
        let held = follow_live(&edge, "since=earliest").1;
        assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
    }
}

#[test]
fn a_position_of_the_origin_holds_at_an_edge_and_at_an_edge_of_it() {
    let origin = orders(Keys, &[]);
    let database = origin.database();
    database.execute(WRITES);
    let first = edge_of(&origin);
    let second = edge_of(&first);
    let epoch = origin.epoch();
    let mut held = Held::default();
    let (mut position, daemons) = (0, [&origin, &first, &second]);
    for turn in 0..30 {
        database.execute(&format!(
            "INSERT OR REPLACE INTO orders VALUES ({0}, 'acme', {turn}, NULL); DELETE FROM orders WHERE id = {0} - 3",
            turn % 7
        ));
        let daemon = daemons[turn % 3];
        let (mut subscriber, hello) = follow(daemon, &format!("since={position}&epoch={epoch}"));
        assert_eq!(hello["recovered"], true, "{hello}");
        assert_eq!(hello.get("snapshot").is_some(), position == 0);
        let live = held.take_until_live(&mut subscriber);
        position = live["id"].as_i64().expect("a position");
    }
    let (mut subscriber, _) = follow(&second, &format!("since={position}&epoch={epoch}"));
    let head = database.number("SELECT max(seq) FROM _walcast_orders");
    wait_for_head(&second, head);
    while position < head {
        if held.take(&mut subscriber).is_none() {
            position = subscriber.ledger().last().expect("a change came")["seq"]
                .as_i64()
                .expect("a number");
        }
    }
    assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
}

#[test]
fn keys_of_every_kind_arrive() {
    for (declared, rows) in [
        (
            "id TEXT COLLATE NOCASE PRIMARY KEY, n",
            "('a', 1), ('B', 2), ('c', 3)",
        ),
        (
            "id PRIMARY KEY, n",
            "(1, 1), ('1', 2), (x'01', 3), (2.5, 4)",
        ),
        ("id INTEGER PRIMARY KEY DESC, n", "('x', 1), (7, 2)"),
        (
            "id INT, n, m TEXT, PRIMARY KEY(m DESC, id)",
            "(1, 2, 'a'), (1, 3, 'b'), (NULL, 4, 'c')",
        ),
        (
            "id ANY PRIMARY KEY, n ANY) STRICT; CREATE TABLE other(id INTEGER PRIMARY KEY",
            "('1', '01'), (1, 1)",
        ),
        (
            "id INTEGER NOT NULL, n INT AS (id + 1), m, PRIMARY KEY(id)) WITHOUT ROWID; CREATE TABLE other(id INTEGER PRIMARY KEY",
            "(1, 'a'), (2, 'b')",
        ),
    ] {
        let origin = captured(
            &format!("CREATE TABLE orders({declared})"),
            "orders",
            Keys,
            &[],
            "",
        );
        let database = origin.database();
        database.execute(&format!("INSERT INTO orders VALUES {rows}"));
        let edge = edge_of(&origin);
        assert_eq!(
            texts(&edge, "since=0"),
            texts(&origin, "since=0"),
            "{declared}"
        );
        database.execute(
            "UPDATE OR REPLACE orders SET id = upper(id) WHERE typeof(id) = 'text'; DELETE FROM orders WHERE id = 1",
        );
        wait_for_head(
            &edge,
            database.number("SELECT max(seq) FROM _walcast_orders"),
        );
        assert_eq!(
            texts(&edge, "since=0"),
            texts(&origin, "since=0"),
            "{declared}"
        );
        assert_eq!(
            texts(&edge, "since=1"),
            texts(&origin, "since=1"),
            "{declared}"
        );
    }
}

#[test]
fn a_subscriber_of_an_edge_is_told_of_no_more_than_happened() {
    let origin = orders(Keys, &["tenant"]);
    let database = origin.database();
    database.execute(WRITES);
    let mut edge = edge_of(&origin);
    let (mut subscriber, mut held) = follow_live(&edge, "since=earliest");
    for suffix in ["", "-wal", "-shm"] {
        let path = edge.settings().database_path();
        let _ = fs::remove_file(format!("{}{suffix}", path.display()));
    }
    edge.wait_for_log("is not there any more");
    database.execute("UPDATE orders SET total = 1; DELETE FROM orders WHERE id = 7");
    let wanted = Held::of(&database, "SELECT * FROM orders", &["id"]);
    while held != wanted {
        if let Some(frame) = held.take(&mut subscriber) {
            let kind = frame["type"].as_str().unwrap_or_default();
            assert!(["waiting", "hello", "live"].contains(&kind), "{frame}");
            assert_ne!(frame["recovered"], false, "{frame}");
        }
    }
    // Killed, it goes on where its spool ends.
    let head = database.number("SELECT max(seq) FROM _walcast_orders");
    for turn in 0..3 {
        let settings = edge.kill();
        database.execute(&format!("UPDATE orders SET total = {turn}"));
        edge = settings.start();
        edge.wait_until_ready();
    }
    assert!(!edge.log().contains("from the first on"), "{}", edge.log());
    let epoch = origin.epoch();
    let (mut subscriber, hello) = follow(&edge, &format!("since={head}&epoch={epoch}"));
    assert_eq!(
        (&hello["recovered"], hello.get("snapshot")),
        (&json!(true), None)
    );
    held.take_until_live(&mut subscriber);
    wait_for_head(
        &edge,
        database.number("SELECT max(seq) FROM _walcast_orders"),
    );
    let (mut subscriber, _) = follow(&edge, &format!("since={head}&epoch={epoch}"));
    held.take_until_live(&mut subscriber);
    assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
}

#[test]
fn a_capture_that_was_interrupted_is_told_at_an_edge_once() {
    let origin = orders(Keys, &[]);
    let database = origin.database();
    database.execute(WRITES);
    let edge = edge_of(&origin);
    let (mut subscriber, mut held) = follow_live(&edge, "since=earliest");
    let mut plain = edge.subscribe_to("/ws/orders", "");
    plain.expect_nothing();
    database.execute("DROP TRIGGER _walcast_orders_update; UPDATE orders SET total = 9");
    capture(&database, "orders", Keys, &[]);
    let reset = subscriber.expect("reset");
    assert_eq!(
        (&reset["reason"], &reset["snapshot"]),
        (&json!("capture_interrupted"), &json!(true))
    );
    held.0.clear();
    held.take_until_live(&mut subscriber);
    assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
    plain.expect_close(1012);
    assert_eq!(edge.epoch(), origin.epoch());
    database.execute("DELETE FROM orders WHERE id = 1");
    assert_eq!(subscriber.next_row()["op"], "d");
}

#[test]
fn what_was_pruned_at_the_origin_before_it_came_is_told_at_an_edge() {
    let origin = orders(Full, &[]);
    let database = origin.database();
    database.execute(WRITES);
    let edge = edge_of(&origin);
    let epoch = origin.epoch();
    let stopped = edge.stop();
    database.execute(
        "UPDATE orders SET total = 9; UPDATE orders SET total = 10; DELETE FROM _walcast_orders WHERE seq < 12",
    );
    let edge = stopped.start();
    edge.wait_until_ready();
    wait_for_head(
        &edge,
        database.number("SELECT max(seq) FROM _walcast_orders"),
    );
    let (mut subscriber, hello) = follow(&edge, &format!("since=8&epoch={epoch}"));
    assert_eq!(
        (&hello["recovered"], &hello["snapshot"]),
        (&json!(false), &json!(true))
    );
    let mut held = Held::default();
    held.take_until_live(&mut subscriber);
    assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
}

#[test]
fn a_column_that_comes_is_in_every_row_of_an_edge() {
    let origin = orders(Keys, &[]);
    let database = origin.database();
    database.execute(WRITES);
    let edge = edge_of(&origin);
    let (mut subscriber, _) = follow_live(&edge, "since=now");
    database.execute("ALTER TABLE orders ADD COLUMN size INTEGER DEFAULT 7; UPDATE orders SET total = 1 WHERE id = 1");
    let row = loop {
        if subscriber.next_row_or_frame().is_none() {
            break subscriber.ledger().last().expect("it came").clone();
        }
    };
    assert_eq!(row["after"]["size"], 7);
    let (_, held) = follow_live(&edge, "since=earliest");
    assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
}

#[test]
fn a_feed_that_becomes_one_of_changes_is_one_at_an_edge() {
    let origin = Settings::on_new_file()
        .with_tables(ORDERS)
        .toml("feeds = \"*\"\n")
        .start();
    let database = origin.database();
    database.execute(WRITES);
    let mut edge = edge_of(&origin);
    let (mut subscriber, hello) = follow(&edge, "since=earliest");
    assert_eq!(hello.get("kind"), None);
    subscriber.rows_until("live");
    capture(&database, "orders", Keys, &["tenant"]);
    // As the service does by itself.
    assert_eq!(edge.wait_for_exit().code(), Some(1));
    let edge = edge.settings().clone().start();
    edge.wait_until_ready();
    let (mut subscriber, hello) = follow(&edge, "since=earliest&tenant=acme");
    assert_eq!(
        (&hello["kind"], &hello["key"]),
        (&json!("changes"), &json!("seq"))
    );
    let mut held = Held::default();
    held.take_until_live(&mut subscriber);
    assert_eq!(
        held,
        Held::of(
            &database,
            "SELECT * FROM orders WHERE tenant = 'acme'",
            &["id"]
        )
    );
}

#[test]
fn whoever_is_kept_to_their_own_rows_is_so_at_an_edge() {
    for mode in [Keys, Full] {
        kept_to_their_own(mode);
    }
}

fn kept_to_their_own(mode: CaptureMode) {
    let directory = crate::common::directory();
    let tokens = directory.path().join("tokens.toml");
    let token = |args: &[&str]| add_token(&tokens, &[args, &["--feed", "orders"]].concat());
    let acme = token(&["acme", "--where", "tenant=acme"]);
    let fed = token(&["edge", "--edge"]);
    let part = token(&["part", "--edge", "--where", "tenant=acme"]);
    let auth = format!("[auth]\ntokens = {tokens:?}\n");
    let keys = format!("exclude = [\"tenant\"]\nscope = {{ tenant = \"claim:tenant\" }}\n{auth}");
    let origin = settings(ORDERS, "orders", mode, &["tenant"], &keys).start();
    let database = origin.database();
    database.execute(WRITES);
    let subprotocol = ("Sec-WebSocket-Protocol", "walcast.edge.v1");
    let bearer = format!("Bearer {part}");
    let refused = origin.upgrade(
        "/ws/orders?since=0",
        &[subprotocol, ("Authorization", &bearer)],
    );
    assert_eq!(
        (refused.status, &*refused.error_code()),
        (400, "feed_of_changes")
    );
    let token_file = directory.path().join("upstream.token");
    fs::write(&token_file, fed).expect("a token can be written");
    let edge = Settings::on_new_file()
        .edge_of(format!("ws://{}", origin.address()))
        .option("--token-file", &token_file)
        .toml(auth)
        .start();
    edge.wait_until_ready();
    let bearer = format!("Bearer {acme}");
    let headers = [("Authorization", &*bearer)];
    let mut both = [&edge, &origin].map(|daemon| {
        Subscriber::connect_with(daemon.address(), "/ws/orders", "since=0", &headers)
    });
    database.execute("UPDATE orders SET tenant = 'acme', id = 8 WHERE id = 7");
    database.execute("UPDATE orders SET tenant = NULL, id = 9 WHERE id = 8");
    database.execute("UPDATE orders SET note = 'seen' WHERE id = 1");
    let held = both.each_mut().map(|subscriber| {
        let mut held = Held::default();
        while held
            .0
            .get("{\"id\":1}")
            .is_none_or(|row| row["note"] != "seen")
            || held.0.len() > 1
        {
            held.take(subscriber);
        }
        held
    });
    assert_eq!(held[0], held[1]);
    assert!(!json!(both[0].ledger()).to_string().contains("globex"));
}

#[test]
fn a_table_larger_than_a_page_and_its_changes_arrive_while_it_is_written_to() {
    for mode in [Keys, Full] {
        let origin = orders(mode, &[]);
        let database = origin.database();
        database.execute(
            "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 20000)
             INSERT INTO orders SELECT n, 'acme', n, hex(randomblob(50)) FROM s",
        );
        let settings = Settings::on_new_file().edge_of(format!("ws://{}", origin.address()));
        let edge = settings.start();
        let connection = database.connect();
        for id in 1..400 {
            let sql = format!(
                "UPDATE orders SET total = -1 WHERE id = {id} * 40; DELETE FROM orders WHERE id = {id} * 41"
            );
            connection.execute_batch(&sql).expect("it can be written");
        }
        drop(connection);
        edge.wait_until_ready();
        wait_for_head(
            &edge,
            database.number("SELECT max(seq) FROM _walcast_orders"),
        );
        let (_, held) = follow_live(&edge, "since=earliest");
        assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
        let spool = Database::at(edge.settings().database_path());
        let changes = "SELECT count(*) FROM _walcast_changes_orders";
        assert_eq!(
            spool.number(changes),
            database.number("SELECT count(*) FROM _walcast_orders")
        );
    }
}

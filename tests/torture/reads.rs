//! Reads beside the feed loop: nobody who asks for much makes others wait, and nothing is read for who has gone.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

use crate::common::database::{self, STOCK_SCHEMA};
use crate::common::{
    Daemon, PATIENCE, STOCK_EVENTS, STOCK_HISTORY, Settings, Subscriber, http, ids, wait_until,
};
use crate::scale::sized;

/// Looks for nothing, a long time.
const NOTHING: &str = "tenant=nobody";
const WAITING: &str = "walcast_reads_waiting";
const HISTORIES: &str = "walcast_histories_waiting";

/// The stock table with so many rows of a hundred tenants.
fn filled(settings: Settings, rows: usize) -> Settings {
    settings.with_tables(&format!(
        "PRAGMA journal_mode = WAL; {STOCK_SCHEMA};
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO remediation_events(ts, tenant, details)
         SELECT '2026-01-01T00:00:00Z', 't' || (i % 100), 'some details of row number ' || i FROM n"
    ))
}

/// A daemon on so many rows that a search through them takes a while.
fn large() -> Daemon {
    filled(Daemon::on_new_file(), sized(400_000, 3_000_000)).start()
}

fn series(daemon: &Daemon, series: &str) -> usize {
    daemon.metric(series) as usize
}

#[test]
fn searches_for_the_last_rows_let_others_pass_and_end_with_their_clients() {
    let walcast = large();
    let searching: Vec<Subscriber> = (0..sized(16, 200))
        .map(|n| walcast.subscribe(&format!("last=10000&tenant=nobody{n}")))
        .collect();
    let (_live, hello) = walcast.resume("since=now");
    assert!(hello["head"].as_i64() > Some(0));
    assert_eq!(
        walcast.get(&format!("{STOCK_HISTORY}?limit=10")).status,
        200
    );
    assert!(series(&walcast, WAITING) > 0, "those who search still do");
    drop(searching);
    wait_until("nothing is read for those who have gone", || {
        series(&walcast, WAITING) == 0
    });
}

#[test]
fn replays_that_match_nothing_keep_nobody_from_catching_up() {
    let walcast = large();
    let head = walcast.feed()["head"].as_i64().expect("a head");
    let storm: Vec<Subscriber> = (0..sized(60, 300))
        .map(|n| walcast.subscribe(&format!("since=earliest&tenant=nobody{n}")))
        .collect();
    let back = sized(20_000, 50_000);
    let (mut good, _) = walcast.resume(&format!("since={}", head - back));
    let (rows, _) = good.replay();
    assert_eq!(rows, (head - back + 1..=head).collect::<Vec<_>>());
    assert_eq!(
        walcast.get(&format!("{STOCK_HISTORY}?limit=10")).status,
        200
    );
    let row = walcast.database().insert("live");
    assert_eq!(ids(&[good.next_row()]), [row]);
    assert!(series(&walcast, WAITING) > 0, "the storm is not over");
    drop(storm);
    wait_until("the storm is over", || series(&walcast, WAITING) == 0);
}

#[test]
fn an_index_answers_at_once_where_there_is_one() {
    let walcast = large();
    let database = walcast.database();
    database.execute("UPDATE remediation_events SET tenant = 'rare' WHERE id IN (7, 200000)");
    database.execute("CREATE INDEX by_tenant ON remediation_events(tenant)");
    let reads = || walcast.metric(r#"walcast_catchup_reads_total{feed="remediation"}"#);
    wait_until("the index is known", || {
        let before = reads();
        let (mut rare, _) = walcast.resume("since=earliest&tenant=rare");
        let (rows, _) = rare.replay();
        assert_eq!(rows, [7, 200_000]);
        reads() - before <= 2.0
    });
    let history = walcast.get(&format!("{STOCK_HISTORY}?tenant=rare")).json();
    let items = history["items"].as_array().expect("items");
    assert_eq!(ids(items), [200_000, 7]);
    assert_eq!(history["total"], 2);
}

#[test]
fn a_history_without_a_filter_that_takes_too_long_names_no_index() {
    // So large that they are read in several turns.
    let walcast = Daemon::on_new_file()
        .toml("[history]\ntime = \"1ms\"\n")
        .start();
    walcast.wait_until_ready();
    walcast.database().execute(
        "INSERT INTO remediation_events(ts, details)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
         SELECT 'now', hex(randomblob(100000)) FROM n",
    );
    let refused = walcast.get(&format!("{STOCK_EVENTS}?limit=500"));
    assert_eq!(refused.error_code(), "search_too_long");
    let message = refused.error_message();
    assert!(message.contains("is busy"), "{message}");
    assert!(!message.contains("INDEX"), "{message}");
}

#[test]
fn a_history_that_takes_too_long_names_the_index_that_would_help() {
    let walcast = filled(Daemon::on_new_file(), sized(400_000, 3_000_000))
        .toml("[history]\ntime = \"10ms\"\n")
        .start();
    let path = format!("{STOCK_EVENTS}?tenant=nobody&status=failed");
    let refused = walcast.get(&path);
    assert_eq!(refused.status, 503);
    assert_eq!(refused.error_code(), "search_too_long");
    assert!(refused.header("Retry-After").is_some());
    let message = refused.error_message();
    let start = message.find("CREATE INDEX").expect("a statement");
    let end = start + message[start..].find(", or").expect("its end");
    walcast.database().execute(&message[start..end]);
    wait_until("the index answers", || walcast.get(&path).status == 200);
    assert_eq!(walcast.get(&path).json()["total"], 0);
    assert!(walcast.metric(r#"walcast_histories_refused_total{reason="time"}"#) >= 1.0);
}

/// A table through which no search comes to its end: each row takes a millisecond, and there are hundreds of thousands.
const ENDLESS: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE endless(id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)
    INSERT INTO endless(x) SELECT 'x' FROM n;
    ALTER TABLE endless ADD COLUMN slow AS (substr(replace(hex(zeroblob(100000 + length(x))), '0', 'x'), 1, 1))";

#[test]
fn what_a_client_asked_for_ends_with_it_also_behind_a_further_request() {
    let walcast = Daemon::on_new_file()
        .with_tables(ENDLESS)
        .toml("[history]\ntime = \"1h\"\n[feeds.endless]\n")
        .start();
    let searches: Vec<TcpStream> = (0..sized(8, 50) / 2)
        .map(|n| {
            let mut stream = walcast.connect();
            let path = format!("/api/feeds/endless/events?slow=nobody{n}");
            http::ask(&mut stream, &path);
            http::ask(&mut stream, "/healthz");
            stream
        })
        .collect();
    wait_until("they are asked", || series(&walcast, HISTORIES) >= 3);
    let streams: Vec<TcpStream> = (0..4)
        .map(|n| {
            let mut stream = walcast.connect();
            let path = format!("/sse/endless?since=earliest&slow=nobody{n}");
            http::ask(&mut stream, &path);
            http::ask(&mut stream, "/healthz");
            stream
        })
        .collect();
    drop((searches, streams));
    wait_until("nothing is read any more", || {
        series(&walcast, HISTORIES) + series(&walcast, WAITING) == 0
    });
}

/// Asks for so many histories that match nothing, each over a connection of its own.
fn begin_searches(walcast: &Daemon, count: usize) -> Vec<TcpStream> {
    let search = |n| {
        let mut stream = walcast.connect();
        http::ask(&mut stream, &format!("{STOCK_EVENTS}?tenant=nobody{n}"));
        stream
    };
    (0..count).map(search).collect()
}

#[test]
fn more_requests_for_history_than_may_wait_are_told_to_come_back() {
    let walcast = filled(Daemon::on_new_file(), sized(400_000, 3_000_000))
        .toml("[history]\ntime = \"1h\"\nwaiting = 2\n")
        .start();
    let _searches = begin_searches(&walcast, 2);
    // A search may end before the other one has come; then there is room, and no harm.
    wait_until("both wait", || series(&walcast, HISTORIES) == 2);
    let refused = walcast.get(STOCK_HISTORY);
    assert_eq!(refused.status, 503);
    assert_eq!(refused.error_code(), "at_capacity");
    assert!(refused.header("Retry-After").is_some());
    wait_until("there is room again", || {
        walcast.get(STOCK_HISTORY).status == 200
    });
}

#[test]
fn searches_leave_room_for_pages_that_are_found_at_once() {
    let walcast = filled(Daemon::on_new_file(), sized(400_000, 3_000_000))
        .toml("[history]\ntime = \"1h\"\nwaiting = 4\n")
        .start();
    let _searches = begin_searches(&walcast, 8);
    wait_until("searches wait", || series(&walcast, HISTORIES) > 0);
    while series(&walcast, HISTORIES) > 0 {
        assert_eq!(walcast.get(STOCK_HISTORY).status, 200);
    }
}

/// Asks for a page and takes nothing of it yet.
fn ask_and_wait(walcast: &Daemon, path: &str) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .expect("a socket can be made");
    socket
        .set_recv_buffer_size(2048)
        .expect("a buffer can be small");
    socket
        .connect(&walcast.address().into())
        .expect("walcast accepts");
    let mut stream = TcpStream::from(socket);
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket takes a time limit");
    http::ask(&mut stream, path);
    stream
}

#[test]
fn answers_that_nobody_takes_are_bounded_and_leave_room_for_small_ones() {
    let settings = Daemon::on_new_file()
        .with_tables(STOCK_SCHEMA)
        .toml("[history]\nanswers = 8000000\n[feeds.remediation]\ntruncate = {}\n");
    let walcast = settings.start();
    let details = "x".repeat(20_000);
    let database = walcast.database();
    for _ in 0..100 {
        database.insert(&details);
    }
    walcast.wait_for_head(100);
    // Two megabytes each.
    let path = format!("{STOCK_EVENTS}?limit=100");
    let mut held = vec![];
    let mut refused = 0;
    for _ in 0..sized(10, 100) {
        let mut stream = ask_and_wait(&walcast, &path);
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer begins");
        match &status {
            b"HTTP/1.1 200" => held.push(stream),
            b"HTTP/1.1 503" => refused += 1,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    assert!((1..=4).contains(&held.len()), "{} are held", held.len());
    let counted = r#"walcast_histories_refused_total{reason="answers"}"#;
    assert_eq!(series(&walcast, counted), refused);
    let answers = || series(&walcast, "walcast_answers_held_bytes");
    assert!((1..=8_000_000).contains(&answers()), "{}", answers());
    assert_eq!(walcast.get(&format!("{STOCK_EVENTS}?limit=1")).status, 200);
    assert_eq!(walcast.get(&path).status, 503);
    drop(held);
    wait_until("their answers are let go of", || answers() == 0);
    assert_eq!(walcast.get(&path).status, 200);
}

#[test]
fn an_answer_that_is_taken_too_slowly_is_cut_and_one_a_little_faster_is_not() {
    let settings = Daemon::on_new_file()
        .with_tables(STOCK_SCHEMA)
        .stock_feed("truncate = {}")
        .option("--write-timeout", "1s");
    let walcast = settings.start();
    let details = "x".repeat(20_000);
    let database = walcast.database();
    for _ in 0..100 {
        database.insert(&details);
    }
    walcast.wait_for_head(100);
    let path = format!("{STOCK_EVENTS}?limit=100");
    let mut slow = ask_and_wait(&walcast, &path);
    let mut fast = ask_and_wait(&walcast, &path);
    let cut = || walcast.connection_errors("write_timeout");
    let (mut little, mut more) = ([0; 8], [0; 2048]);
    // A few bytes each time: never none for the write timeout, and far too few.
    wait_until("the slow one is cut", || {
        let _ = slow.read(&mut little);
        let _ = fast.read(&mut more);
        cut() >= 1.0
    });
    assert_eq!(cut(), 1.0);
    // The other one was under way at a pace that is good enough.
    for _ in 0..100 {
        assert!(fast.read(&mut more).expect("it goes on") > 0);
    }
}

#[test]
fn rows_of_which_little_leaves_are_read_a_few_at_a_time() {
    let rows = sized(40, 300);
    let walcast = Daemon::on_new_file()
        .with_tables("PRAGMA journal_mode = WAL; CREATE TABLE large(id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT)")
        .toml("[feeds.large]\ntable = \"large\"\ntruncate = { x = 500 }\n")
        .start();
    let mut live = walcast.subscribe_to("/ws/large", "");
    let mut writer = walcast.database().connect();
    writer
        .execute_batch("PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0")
        .expect("pragmas");
    let transaction = writer.transaction().expect("a transaction");
    for _ in 0..rows {
        transaction
            .execute(
                "INSERT INTO large(x) VALUES (printf('%.4000000c', 'x'))",
                [],
            )
            .expect("a row");
    }
    transaction.commit().expect("a commit");
    for id in 1..=rows {
        let row = live.next_row();
        assert_eq!(row["id"], id);
        assert_eq!(row["x"].as_str().map(str::len), Some(500));
    }
    // Read all at once they would come all at once, after a silence.
    let sent = || walcast.metric("walcast_broadcast_seconds_count");
    wait_until("they were sent a few at a time", || {
        sent() >= (rows / 4) as f64
    });
    let mut behind = walcast.subscribe_to("/ws/large", "since=earliest");
    behind.expect("hello");
    assert_eq!(behind.replay().0, (1..=rows).collect::<Vec<i64>>());
}

/// Writes as fast as it can for a while; gives the largest size the WAL had, in bytes.
fn write_at_full_speed(walcast: &Daemon, time: Duration) -> u64 {
    let connection: Connection = walcast.database().connect();
    connection
        .execute_batch("PRAGMA synchronous = NORMAL")
        .expect("a pragma");
    let mut wal = walcast.database().path().as_os_str().to_owned();
    wal.push("-wal");
    let begun = Instant::now();
    let mut largest = 0;
    while begun.elapsed() < time {
        for _ in 0..100 {
            database::insert(&connection, "acme", "as fast as it goes");
        }
        let size = std::fs::metadata(&wal).map_or(0, |meta| meta.len());
        largest = largest.max(size);
    }
    largest
}

#[test]
fn replays_leave_a_busy_writer_moments_to_start_its_wal_over() {
    let time = Duration::from_secs(sized(2, 20));
    let alone = {
        let walcast = large();
        let _live = walcast.subscribe("");
        write_at_full_speed(&walcast, time)
    };
    let walcast = large();
    let _live = walcast.subscribe("");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let beside =
        std::thread::scope(|scope| {
            for n in 0..4 {
                let (walcast, stop) = (&walcast, &stop);
                scope.spawn(move || {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let query = format!("since=earliest&{NOTHING}{n}");
                        let mut replay = walcast.subscribe(&query);
                        while !stop.load(std::sync::atomic::Ordering::Relaxed)
                            && replay.receive_within(Duration::from_millis(20)).is_none_or(
                                |received| !format!("{received:?}").contains("\\\"live\\\""),
                            )
                        {}
                    }
                });
            }
            let largest = write_at_full_speed(&walcast, time);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            largest
        });
    // Checkpoints keep it at 4 MiB; a loaded machine lets it grow by what is written in some time slices.
    let usual = alone.max(16 << 20);
    assert!(
        beside <= 4 * usual,
        "{beside} bytes beside replays, {alone} without"
    );
}

#[test]
fn live_rows_and_pings_pass_a_large_filtered_history() {
    let walcast = large();
    let mut live = walcast.subscribe("");
    let mut stream = walcast.connect();
    http::ask(&mut stream, &format!("{STOCK_EVENTS}?{NOTHING}"));
    let row = walcast.database().insert("live");
    assert_eq!(ids(&[live.next_row()]), [row]);
    live.expect_nothing();
    let history: Value = http::read_response(&mut stream).json();
    assert!(history["total"] == 0 || history["error"]["code"] == "search_too_long");
}

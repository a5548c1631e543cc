//! Where `walcast tail` begins, what it says of that, and which feed it takes where none is named.

use std::process::Command;

use crate::common::wait::pause;
use crate::common::{Daemon, directory};
use crate::program::{Running, database, execute, refusal, text, walcast};
use crate::terminal::OnTerminal;

const TWO_TABLES: &str = "
    CREATE TABLE orders(id INTEGER PRIMARY KEY, what TEXT);
    CREATE TABLE notes(id INTEGER PRIMARY KEY, what TEXT);
    INSERT INTO orders(what) VALUES ('tea'), ('milk');";

fn tail(source: &str, more: &[&str]) -> Command {
    let mut command = walcast();
    command.args(["tail", source]).args(more);
    command
}

/// The first column of a line, which is the id.
fn id(line: &str) -> i64 {
    let first = line.split_whitespace().next();
    first
        .unwrap_or_default()
        .parse()
        .unwrap_or_else(|_| panic!("{line:?} is no row"))
}

fn stock_url(daemon: &Daemon) -> String {
    format!("ws://{}/ws/remediation", daemon.address())
}

#[test]
fn on_a_terminal_the_newest_ten_rows_come_first() {
    let daemon = Daemon::start_new();
    let database = daemon.database();
    database.insert_many(15);
    let file = database.path().display().to_string();
    for source in [stock_url(&daemon), file] {
        let tail_of = |more: &[&str]| OnTerminal::start(&mut tail(&source, more));
        let unasked = tail_of(&[]);
        let json = tail_of(&["--json"]);
        let now = tail_of(&["--since", "now"]);
        let two = tail_of(&["--last", "2"]);
        let header = unasked.line();
        assert!(header.starts_with("id"), "{source}: {header:?}");
        let first = id(&unasked.line());
        for next in first + 1..first + 10 {
            assert_eq!(id(&unasked.line()), next, "{source}");
        }
        assert!(
            json.line().starts_with(&format!("{{\"id\":{first},")),
            "{source}"
        );
        assert!(two.line().starts_with("id"));
        assert_eq!(id(&two.line()), first + 8);
        let seen = first + 9;
        while now.is_blank() {
            database.insert("new");
            pause();
        }
        assert!(now.line().starts_with("id"));
        assert!(id(&now.line()) > seen, "{source}");
        assert_eq!(id(&unasked.line()), seen + 1, "{source}");
    }
}

#[test]
fn tail_says_where_it_begins_although_nothing_comes() {
    let daemon = Daemon::start_new();
    let database = daemon.database();
    let file = database.path().display().to_string();
    let url = stock_url(&daemon);
    let begins = [format!("connected to {url}, "), format!("reading {file}, ")];
    let says = |place: usize, more: &[&str], expected: &str| {
        let source = [&url, &file][place];
        let mut tail = Running::start(&mut tail(source, more));
        let line = tail.says("after id");
        assert!(
            line.ends_with(expected) && line.contains(&begins[place]),
            "{line}"
        );
        tail
    };
    for place in [0, 1] {
        says(place, &[], "feed remediation after id 0; waiting for rows");
    }
    database.insert_many(3);
    daemon.wait_for_head(3);
    for place in [0, 1] {
        says(place, &[], "feed remediation after id 3; waiting for rows");
        says(place, &["--last", "1"], "feed remediation after id 2");
        says(place, &["--since", "1"], "feed remediation after id 1");
        let none = ["--since", "earliest", "--filter", "tenant=nobody"];
        let mut tail = Running::start(&mut tail([&url, &file][place], &none));
        tail.says("no row up to id 3 is asked for; waiting for rows");
    }
}

#[test]
fn the_only_feed_of_an_address_is_followed() {
    let daemon = Daemon::on_new_file().start();
    for address in [
        format!("http://{}", daemon.address()),
        format!("ws://{}/", daemon.address()),
    ] {
        let tail = Running::tail(&[&address, "--since", "earliest"]);
        let id = daemon.database().insert("for all");
        assert_eq!(tail.ids(id as usize), (1..=id).collect::<Vec<_>>());
    }
}

#[track_caller]
fn refused_with_2(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let why = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{why}");
    assert_eq!(text(&output.stdout), "", "rows and nothing else");
    why
}

#[test]
fn of_several_feeds_each_is_named_with_its_command() {
    let daemon = Daemon::on_new_file()
        .with_tables(TWO_TABLES)
        .toml("[feeds.orders]\n[feeds.notes]\nws = [\"/live/notes\"]\n")
        .start();
    let address = format!("http://{}", daemon.address());
    let each = ["/ws/orders", "/live/notes"]
        .map(|path| format!("\n  walcast tail ws://{}{path}\n", daemon.address()));
    let why = refused_with_2(&mut tail(&address, &[]));
    assert!(
        each.iter().all(|line| why.contains(line.trim_end())),
        "{why}"
    );
    let why = refused_with_2(&mut tail(&address, &["--feed", "order"]));
    assert!(why.contains("did you mean \"orders\"?"), "{why}");
    let named = format!("{address}/ws/orders");
    let why = refused_with_2(&mut tail(&named, &["--feed", "notes"]));
    assert!(why.contains("leave one of them out"), "{why}");
    let tail = Running::tail(&[&address, "--feed", "orders", "--last", "1"]);
    assert_eq!(tail.ids(1), [2]);
}

#[test]
fn of_several_tables_each_is_named_with_its_command() {
    let dir = directory();
    let file = database(&dir, TWO_TABLES).display().to_string();
    let why = refused_with_2(&mut tail(&file, &[]));
    for feed in ["orders", "notes"] {
        let line = format!("\n  walcast tail {file} --feed {feed}");
        assert!(why.contains(&line), "{why}");
    }
}

#[test]
fn a_feed_that_a_file_has_not_is_refused_and_waited_for_only_where_that_was_said() {
    let dir = directory();
    let path = database(&dir, TWO_TABLES);
    let file = path.display().to_string();
    for (typed, near) in [("order", " (did you mean \"orders\"?)"), ("x", "")] {
        let why = refused_with_2(&mut tail(&file, &["--feed", typed]));
        let said = format!("{file} has no feed {typed}{near}; name one:");
        assert!(why.contains(&said), "{why}");
        for line in [
            format!("\n  walcast tail {file} --feed notes"),
            format!("\n  walcast tail --db {file} --feed {typed}\n"),
        ] {
            assert!(why.contains(&line), "{why}");
        }
    }
    let mut waits = Running::tail(&["--db", &file, "--feed", "ordered"]);
    let said = waits.says("waiting for a table of that name");
    assert!(said.contains("there is no feed ordered yet"), "{said}");
    assert!(said.contains("did you mean \"orders\"?"), "{said}");
    let table = "CREATE TABLE ordered(id INTEGER PRIMARY KEY); INSERT INTO ordered VALUES (7)";
    execute(&path, table);
    assert_eq!(waits.ids(1), [7]);
}

#[test]
fn of_many_feeds_the_first_are_listed_and_where_the_others_are() {
    let dir = directory();
    let tables = (0..40).map(|n| format!("CREATE TABLE t{n}(id INTEGER PRIMARY KEY);"));
    let file = database(&dir, &tables.collect::<String>())
        .display()
        .to_string();
    let why = refused_with_2(&mut tail(&file, &[]));
    assert!(why.contains("--feed t0\n"), "{why}");
    let rest = format!("  and 24 more: walcast feeds {file}\n");
    assert!(why.ends_with(&rest), "{why}");
}

#[test]
fn a_file_without_any_table_may_get_the_one_that_was_named() {
    let dir = directory();
    let path = database(&dir, "PRAGMA user_version = 1");
    let file = path.display().to_string();
    let mut waits = Running::tail(&[&file, "--feed", "orders"]);
    waits.says("there is no feed orders yet; waiting for a table of that name");
    execute(&path, TWO_TABLES);
    assert_eq!(waits.ids(2), [1, 2]);
}

#[test]
fn a_table_that_can_be_no_feed_is_told_why_with_a_command_to_paste() {
    let dir = directory();
    let words =
        "CREATE TABLE words(word TEXT PRIMARY KEY); CREATE TABLE notes(id INTEGER PRIMARY KEY)";
    let file = database(&dir, words).display().to_string();
    let why = refusal(&mut tail(&file, &["--feed", "words"]));
    let command = format!("walcast capture install --db {file} words");
    assert!(why.contains(&command), "{why}");
}

//! Names, values and requests made to move a terminal's cursor, turn its lines around or forge lines of a log.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use crate::common::settings::program;
use crate::common::{Daemon, http, wait_until};

/// A title set, a colour, a line that journald would take for an emergency, a C1 sequence, and lines turned around.
const EVIL: &str = "\u{1b}]0;PWNED\u{7}\u{1b}[31mred\r\n<0>fake\u{9b}2J\u{85}\u{7f}\u{202e}\u{2067}\u{200f}\u{61c}\u{2028}x";

fn is_harmful(c: char) -> bool {
    c.is_control() && c != '\n'
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[track_caller]
fn assert_harmless(what: &str, text: &str) {
    assert!(!text.contains(is_harmful), "{what}: {text:?}");
    assert!(
        !text.lines().any(|line| line.starts_with("<0>")),
        "{what}: {text:?}"
    );
    assert!(text.contains("red"), "{what} does not tell of it: {text:?}");
}

fn said(command: &mut Command) -> String {
    let Output { stdout, stderr, .. } = command.output().expect("walcast can be run");
    let both = [stdout, stderr].concat();
    String::from_utf8(both).expect("walcast writes UTF-8")
}

fn tables() -> String {
    format!(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, \"{EVIL}\" TEXT);
         CREATE TABLE \"{EVIL}\"(\"{EVIL}\" TEXT);
         INSERT INTO t VALUES (1, '{EVIL}');"
    )
}

#[test]
fn tail_shows_what_could_do_harm_as_escapes() {
    let walcast = Daemon::on_new_file()
        .with_tables(&tables())
        .toml("[feeds.t]\n")
        .start();
    let url = format!("ws://{}/ws/t", walcast.address());
    let refused = said(program().args(["tail", &url, "--filter", "nope=1"]));
    assert_harmless("a refusal", &refused);
    let file = walcast.database().path().display().to_string();
    for source in [&[url.as_str()][..], &["--db", &file, "--feed", "t"]] {
        let mut tail = program()
            .args([&["tail"], source, &["--last", "1"]].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("walcast can be run");
        let mut line = String::new();
        let stdout = tail.stdout.take().expect("stdout is piped");
        let read = BufReader::new(stdout).read_line(&mut line);
        tail.kill().expect("it runs until it is told");
        tail.wait().expect("a killed child can be waited for");
        read.expect("tail writes UTF-8");
        assert_harmless("a row", &line);
        let row: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(row[EVIL], EVIL, "it stays what it says");
    }
}

#[test]
fn check_and_a_refused_start_show_what_could_do_harm_as_escapes() {
    let directory = tempfile::tempdir().expect("a directory");
    let database = crate::common::Database::at(directory.path().join("evil.db"));
    database
        .connect()
        .execute_batch(&tables())
        .expect("the tables are made");
    let toml = directory.path().join("walcast.toml");
    let name = serde_json::to_string(EVIL)
        .expect("a string")
        .replace('\u{7f}', "\\u007f");
    for feed in [
        format!("table = {name}\nkey = \"nokey\"\n"),
        "table = \"t\"\nkey = \"nokey\"\n".to_owned(),
        "table = \"t\"\nexclude = [\"nocolumn\"]\n".to_owned(),
    ] {
        let text = format!(
            "database = \"evil.db\"\nstate_dir = \"state\"\nlisten = [\"127.0.0.1:0\"]\n[feeds.f]\n{feed}"
        );
        fs::write(&toml, text).expect("the configuration can be written");
        let checked = said(
            program()
                .args(["check", "--config", "walcast.toml"])
                .current_dir(directory.path()),
        );
        assert_harmless("check", &checked);
        // Whether it starts without this feed or not at all, it says why.
        let mut serve = program()
            .args(["serve", "--config", "walcast.toml"])
            .env("JOURNAL_STREAM", "1:1")
            .current_dir(directory.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("walcast can be run");
        let stderr = BufReader::new(serve.stderr.take().expect("stderr is piped"));
        let mut log = String::new();
        for line in stderr.lines() {
            log += &line.expect("walcast writes UTF-8");
            log.push('\n');
            if log.contains("red") {
                break;
            }
        }
        // It may have ended.
        let _ = serve.kill();
        serve.wait().expect("a killed child can be waited for");
        assert_harmless("serve", &log);
    }
}

#[test]
fn no_log_can_be_forged() {
    let path = format!("/api/feeds/red{}/events", "%1b%0a%3C0%3Efake%E2%80%AE");
    for (format, journal) in [("text", false), ("auto", true), ("json", false)] {
        let mut settings = Daemon::on_new_file()
            .with_tables(&tables())
            .toml("[feeds.late]\nkey = \"nokey\"\n[feeds.t]\n")
            .option("--log-format", format)
            .option("--log-level", "trace");
        if journal {
            settings = settings.variable("JOURNAL_STREAM", "1:1");
        }
        let walcast = settings.start();
        let late = format!("CREATE TABLE late(id INTEGER PRIMARY KEY, \"{EVIL}\" TEXT)");
        walcast.database().execute(&late);
        wait_until("the log tells of the table", || {
            walcast.log().contains("nokey")
        });
        for target in [&*path, &format!("/ws/t?{path}=1"), "/red\u{9b}\u{202e}"] {
            for header in [
                "Origin: http://red\u{9b}.example",
                "Last-Event-ID: red\u{202e}",
            ] {
                let request = format!(
                    "GET {target} HTTP/1.1\r\nHost: {}\r\n{header}\r\nConnection: close\r\n\r\n",
                    walcast.address()
                );
                http::exchange(walcast.address(), request.as_bytes());
            }
        }
        let log = walcast.log();
        assert_harmless(format, &log);
        if format == "json" {
            for line in log.lines() {
                serde_json::from_str::<serde_json::Value>(line).expect("a line is JSON");
            }
        }
    }
}

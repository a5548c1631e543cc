//! Configurations of sinks that can't be, and what `walcast check` says of sinks.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use crate::common::database::STOCK_SCHEMA;
use crate::common::settings::program;
use crate::common::{Database, directory};
use crate::setup::{SECRET, write_secret};

/// A directory with a database, a secret, and this configuration.
fn place(toml: &str) -> TempDir {
    let directory = directory();
    Database::within(directory.path()).execute(STOCK_SCHEMA);
    write_secret(&directory.path().join("secret"), SECRET);
    fs::write(directory.path().join("walcast.toml"), toml).expect("a configuration can be written");
    directory
}

fn run(directory: &Path, command: &str) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program()
        .args([
            command,
            "--config",
            "walcast.toml",
            "--db",
            "walcast.db",
            "--listen",
            "127.0.0.1:0",
            "--state-dir",
            "state",
        ])
        .current_dir(directory)
        .output()
        .expect("walcast can be run");
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code().expect("an exit code"), text)
}

const GOOD: &str = "[feeds.remediation]\n[sinks.billing]\nfeed = \"remediation\"\nsecret_file = \"secret\"\nwebhook = \"https://hooks.example.com/in?key=hunter2\"\n";

#[test]
fn a_good_sink_is_found_good_and_nothing_is_posted() {
    let directory = place(&format!(
        "{GOOD}where = {{ tenant = \"acme\", status = [\"success\", \"failed\"] }}\n"
    ));
    let (code, text) = run(directory.path(), "check");
    assert_eq!(code, 0, "{text}");
    let told =
        "rows chosen by status, tenant of remediation go to https://hooks.example.com, signed";
    assert!(text.contains(told), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn what_can_t_be_a_sink_names_the_line_and_the_remedy() {
    let without = |key: &str| {
        let lines = GOOD.lines().filter(|line| !line.starts_with(key));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let with = |key: &str, value: &str| format!("{}{key} = {value}\n", without(key));
    for (toml, line, problem) in [
        (
            without("feed"),
            2,
            "sinks.billing.feed: is missing; write feed =",
        ),
        (
            without("webhook"),
            2,
            "sinks.billing.webhook: is missing; write webhook =",
        ),
        (
            without("secret_file"),
            2,
            "sinks.billing.secret_file: is missing; write secret_file =",
        ),
        (
            with("feed", "\"remidiation\""),
            5,
            "is not a feed (did you mean \"remediation\"?); there are remediation",
        ),
        (
            with("webhook", "\"http://hooks.example.com/\""),
            5,
            "is plain http to another machine",
        ),
        (
            with("webhook", "\"hooks.example.com\""),
            5,
            "is not the address of a webhook; write https://",
        ),
        (
            format!("{GOOD}since = \"yesterday\"\n"),
            6,
            "is not where a sink can begin",
        ),
        (
            format!("{GOOD}where = \"tenant=acme\"\n"),
            6,
            "is not a table of columns",
        ),
        (
            format!("{GOOD}where = {{ tenant = [] }}\n"),
            6,
            "tenant names no value",
        ),
        (
            format!("{GOOD}where = {{ tenant = true }}\n"),
            6,
            "tenant = true is not text",
        ),
        (
            format!("{GOOD}url = \"https://x\"\n"),
            6,
            "unknown key \"sinks.billing.url\"; known here: feed, webhook,",
        ),
        (
            GOOD.replace("sinks.billing", "sinks.Billing"),
            2,
            "[sinks.Billing]: is not a name for a sink; use a-z",
        ),
        ("sinks = 5\n".to_owned(), 1, "is not a table"),
    ] {
        let directory = place(&toml);
        for command in ["serve", "check"] {
            let (code, text) = run(directory.path(), command);
            assert_eq!(code, 2, "{toml}{text}");
            let told = text.lines().find(|told| told.contains(problem));
            let told = told.unwrap_or_else(|| panic!("{problem:?} is not in {text}"));
            assert!(told.contains(&format!("walcast.toml:{line}: ")), "{told}");
        }
    }
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let directory = place(GOOD);
    let secret = directory.path().join("secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("a mode can be set");
    for (command, code) in [("serve", 2), ("check", 1)] {
        let (found, text) = run(directory.path(), command);
        assert_eq!(found, code, "{text}");
        assert!(
            text.contains("sinks.billing.secret_file: secret: its mode is 0644"),
            "{text}"
        );
    }
    write_secret(&secret, "hunter2");
    let (code, text) = run(directory.path(), "check");
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("line 1 does not begin with whsec_; make one:") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn authorities_that_are_none_are_refused() {
    let directory = place(&format!("{GOOD}ca = \"secret\"\n"));
    let (code, text) = run(directory.path(), "serve");
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("sinks.billing.ca: secret: holds no certificate"),
        "{text}"
    );
}

#[test]
fn check_finds_columns_that_are_not_there() {
    let directory = place(&format!("{GOOD}where = {{ tennant = \"acme\" }}\n"));
    let (code, text) = run(directory.path(), "check");
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("`where` compares the column tennant, which feed remediation does not show"),
        "{text}"
    );
    assert!(text.contains("did you mean \"tenant\""), "{text}");
}

#[test]
fn check_finds_columns_whose_changes_are_not_recorded() {
    let capture = "[feeds.remediation]\ncapture = \"keys\"\ncapture_filters = [\"status\"]\n";
    let toml = GOOD.replace("[feeds.remediation]\n", capture);
    let directory = place(&format!("{toml}where = {{ tenant = \"acme\" }}\n"));
    let mut install = program();
    install.args([
        "capture",
        "install",
        "--db",
        "walcast.db",
        "--filter",
        "status",
    ]);
    let installed = install
        .arg("remediation_events")
        .current_dir(&directory)
        .status();
    assert!(installed.expect("walcast can be run").success());
    let (_, text) = run(directory.path(), "check");
    for said in [
        "compares the column tenant, and the capture of table remediation_events does not record",
        "it records id, status; add it to `capture_filters` of feeds.remediation",
        "walcast capture install --db walcast.db --filter status --filter tenant remediation_events",
    ] {
        assert!(text.contains(said), "lacks {said}: {text}");
    }
}

#[test]
fn what_was_configured_is_printed_so_that_it_loads_again() {
    let directory = place(&format!(
        "{GOOD}where = {{ tenant = \"acme\" }}\nsince = 7\n"
    ));
    let (code, text) = run(directory.path(), "config");
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("[sinks.billing]") && text.contains("since = 7  # file, line 7"),
        "{text}"
    );
    fs::write(directory.path().join("walcast.toml"), &text)
        .expect("a configuration can be written");
    let (code, again) = run(directory.path(), "config");
    assert_eq!(code, 0, "{again}");
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().skip_while(|line| *line != "[sinks.billing]");
        lines
            .map(|line| line.split("  #").next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(values(&again), values(&text));
}

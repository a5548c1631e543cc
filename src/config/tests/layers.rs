//! What wins, and from where it is told.

use std::ffi::OsString;
use std::time::Duration;

use super::*;

#[test]
fn flag_wins_over_variable_over_file_over_default() {
    let file = "write_timeout = 5\ndrain_timeout = \"1m\"\nreplays = 2\n";
    let mut args = ServeArgs::default();
    args.say_by_flag("write_timeout", "write-timeout", &["250ms"]);
    args.say_by_variable("drain_timeout", "drain-timeout", &["2"]);
    args.say_by_variable("poll_interval", "poll-interval", &[""]);
    let resolved = load_with(file, args).expect("valid");
    let limits = &resolved.config.limits;
    assert_eq!(limits.write_timeout, Duration::from_millis(250));
    assert_eq!(limits.drain_timeout, Duration::from_secs(2));
    assert_eq!(limits.replays, 2);
    assert_eq!(limits.poll_interval, Duration::from_millis(250));
    let described = resolved.describe();
    for line in [
        "write_timeout = \"250ms\"  # flag, --write-timeout",
        "drain_timeout = \"2s\"  # environment, WALCAST_DRAIN_TIMEOUT",
        "replays = 2  # file, line 3",
        "poll_interval = \"250ms\"  # default",
    ] {
        assert!(described.contains(line), "lacks {line}: {described}");
    }
}

#[test]
fn flags_are_judged_like_the_file_and_named_in_the_error() {
    let refused = |args: ServeArgs, expected: &str| {
        let error = Resolved::load(&args, &|_| None)
            .map(|_| ())
            .expect_err(expected)
            .to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    let flag = |key: &str, name: &str, text: &str| {
        let mut args = ServeArgs::default();
        args.say_by_flag(key, name, &[text]);
        args
    };
    refused(
        flag("replays", "replays", "0"),
        "--replays 0: is not a whole number above 0",
    );
    refused(
        flag("write_timeout", "write-timeout", "soon"),
        "--write-timeout soon: is not a time",
    );
    refused(
        flag("auth.anonymous", "anonymous", "yes"),
        "--anonymous yes: is not a truth value",
    );
    refused(flag("database", "db", ""), "--db : is empty");
    let mut args = ServeArgs::default();
    args.say_by_variable("listen", "listen", &["80100"]);
    refused(args, "WALCAST_LISTEN=80100: 80100 is not an address");
    refused(
        ServeArgs::of_config("/nowhere/x.toml"),
        "/nowhere/x.toml: the configuration can't be read",
    );
}

#[test]
fn a_value_that_is_overruled_is_judged_too() {
    let mut args = ServeArgs::default();
    args.say_by_flag("replays", "replays", &["4"]);
    assert!(load_with("replays = \"many\"", args).is_err());
}

#[test]
fn state_dir_is_named_or_systemds_or_xdgs() {
    let resolved = |variables: &[(&str, &str)], named: Option<&str>| {
        let mut args = ServeArgs::default();
        if let Some(named) = named {
            args.say_by_flag("state_dir", "state-dir", &[named]);
        }
        let environment = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        Resolved::load(&args, &environment)
            .expect("valid")
            .config
            .state_dir
    };
    let all = [
        ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"),
        ("XDG_STATE_HOME", "/x"),
        ("HOME", "/h"),
    ];
    assert_eq!(resolved(&all, Some("/named")), Some("/named".into()));
    assert_eq!(resolved(&all, None), Some("/var/lib/a".into()));
    assert_eq!(resolved(&all[1..], None), Some("/x/walcast".into()));
    assert_eq!(
        resolved(&all[2..], None),
        Some("/h/.local/state/walcast".into())
    );
    assert_eq!(
        resolved(&[("XDG_STATE_HOME", "relative"), ("HOME", "/h")], None),
        Some("/h/.local/state/walcast".into())
    );
    assert_eq!(resolved(&[], None), None);
}

#[test]
fn a_file_named_as_such_is_served_as_it_is() {
    let named = |toml: &str| {
        load_with(toml, ServeArgs::of_file("app.db"))
            .expect("valid")
            .config
    };
    let config = named("");
    assert!(config.all_tables && config.feeds.is_empty());
    assert_eq!(config.journal_mode, JournalMode::Keep);
    assert_eq!(
        named("journal_mode = \"wal\"").journal_mode,
        JournalMode::Wal
    );
    let config = named("[feeds.remediation]\n[feeds.a]");
    assert!(!config.all_tables && config.feeds.iter().all(|feed| !feed.create));
    assert_eq!(config.feeds.len(), 2);
    assert_eq!(config.journal_mode, JournalMode::Keep);
}

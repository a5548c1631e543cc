//! What comes of a configuration that is written out, and of one that is read again.

use std::time::Duration;

use super::*;

#[test]
fn what_is_described_loads_to_the_same() {
    let file = "database = \"/a \\\"b\\\".db\"\nlisten = [\"unix:/s\", \"[::1]:1\"]\nstate_dir = \"/s\"\nmax_connections = 7\norigins = \"*\"\nhosts = \"a\"\n\
                trusted_proxies = [\"unix\", \"10.0.0.0/8\"]\nframe_ancestors = \"https://a.example\"\n\
                [feeds.a]\nkey = \"k\"\ncolumns = [\"x\", \"y z\"]\njson = \"x\"\ntruncate = { \"y z\" = 3 }\n[feeds.remediation]\n";
    for file in ["", file] {
        let first = load_with(file, ServeArgs::default()).expect("valid");
        let described = first.describe();
        assert_eq!(ok(&described), first.config, "{described}");
    }
}

#[test]
fn jwts_and_proxies_are_described_as_they_are_written() {
    let text = "[auth.jwt]\nalgorithms = [\"RS256\", \"PS256\"]\njwks_file = \"/k\"\nissuer = \"i\"\naudience = \"a\"\n\
                leeway = 0\nrevoked_file = \"/r\"\n[auth.proxy]\nuser = \"X-User\"\n\
                [feeds.a]\nscope = { b = \"claim:c\", \"d e\" = \"header:X-Tenant\" }\n";
    let resolved = load_with(text, ServeArgs::default()).expect("valid");
    let described = resolved.describe();
    assert_eq!(ok(&described), resolved.config, "{described}");
    let jwt = resolved.config.auth.jwt.expect("it is there");
    assert_eq!((jwt.leeway, jwt.algorithms.len()), (Duration::ZERO, 2));
    refused(
        "[feeds.a]\nscope = { b = \"header:X-Tenant\" }",
        &["feeds.a.scope", "[auth.proxy]"],
    );
}

#[test]
fn a_reload_applies_what_can_change_and_names_the_rest() {
    let running = defaults();
    let same = running.reloaded_from(&running);
    assert!(same.applied.is_empty() && same.refused.is_empty());

    let live = ok(
        "origins = \"*\"\nhosts = \"a\"\ntrusted_proxies = \"unix\"\nframe_ancestors = \"*\"\nmax_connections = 5\nmax_connections_per_ip = 5\nwrite_timeout = 5\ndrain_timeout = 5\nlog.level = \"debug\"",
    );
    let reload = running.reloaded_from(&live);
    assert_eq!(
        reload.applied,
        [
            "origins",
            "hosts",
            "trusted_proxies",
            "frame_ancestors",
            "max_connections",
            "max_connections_per_ip",
            "write_timeout",
            "drain_timeout",
            "log.level"
        ]
    );
    assert_eq!((reload.config, reload.refused), (live, vec![]));

    let fixed = ok(
        "database = \"x\"\nlisten = \"127.0.0.1:1\"\njournal_mode = \"keep\"\nstate_dir = \"/x\"\nwatch = \"poll\"\npoll_interval = 1\nreplays = 1\nmax_row_bytes = 1\n\
                    ring = { rows = 1, bytes = 1 }\nhistory.waiting = 1\nauth.anonymous = true\nlog.format = \"json\"\n[feeds.a]",
    );
    let reload = running.reloaded_from(&fixed);
    assert_eq!(reload.config, running);
    assert!(reload.applied.is_empty());
    assert_eq!(
        reload.refused,
        [
            "database",
            "listen",
            "journal_mode",
            "state_dir",
            "watch",
            "poll_interval",
            "replays",
            "max_row_bytes",
            "ring.rows",
            "ring.bytes",
            "history",
            "auth.anonymous",
            "log.format",
            "feeds.remediation",
            "feeds.a"
        ]
    );
}

/// A table that may be missing is one thing: a reload applies nothing of it, and names it once.
#[test]
fn a_table_that_came_went_or_changed_needs_a_restart() {
    let jwt =
        "[auth.jwt]\nalgorithms = \"RS256\"\nkey_file = \"/k\"\nissuer = \"i\"\naudience = \"a\"\n";
    let (without, with) = (ok(""), ok(jwt));
    let other = ok(&jwt
        .replace("\"/k\"", "\"/l\"\nleeway = 1")
        .replace("\"i\"", "\"j\""));
    for (running, new) in [(&without, &with), (&with, &without), (&with, &other)] {
        let reload = running.reloaded_from(new);
        assert_eq!(reload.refused, ["auth.jwt"]);
        assert!(reload.applied.is_empty() && reload.config == *running);
    }
}

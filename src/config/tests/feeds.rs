//! The feeds.

use std::time::Duration;

use super::*;

#[test]
fn a_feed_of_its_own_needs_only_a_name() {
    let config = ok("[feeds.zebra]\n[feeds.orders]\n\
         table = \"shop orders\"\nkey = \"no\"\n\
         ws = [\"/a\", \"/b\"]\nhistory = []\nmessage = { type = \"order\" }\n\
         truncate = { z = 2, a = 1 }\n");
    let [zebra, orders] = &config.feeds[..] else {
        panic!("two feeds in the order of the file")
    };
    assert_eq!(*zebra, FeedConfig::named("zebra"));
    assert_eq!(
        (
            zebra.table.as_str(),
            zebra.message_type.as_str(),
            zebra.create
        ),
        ("zebra", "zebra_event", false)
    );
    assert_eq!(
        (zebra.ws.as_slice(), zebra.history.as_slice()),
        (&["/ws/zebra".to_owned()][..], &[][..])
    );
    assert_eq!(
        (orders.table.as_str(), orders.key.as_deref()),
        ("shop orders", Some("no"))
    );
    assert_eq!(
        (orders.message_type.as_str(), orders.message_body.as_str()),
        ("order", "event")
    );
    assert_eq!(orders.truncate, [("z".to_owned(), 2), ("a".to_owned(), 1)]);
}

#[test]
fn the_stock_feed_written_out_keeps_its_defaults() {
    assert_eq!(ok("[feeds.remediation]").feeds, [FeedConfig::stock()]);
    let feed = &ok("[feeds.remediation]\ntruncate = {}\ncreate = false\ningest = true").feeds[0];
    assert_eq!(
        *feed,
        FeedConfig {
            truncate: vec![],
            create: false,
            ingest: true,
            ..FeedConfig::stock()
        }
    );
    let other = &ok("[feeds.remediation]\ntable = \"other\"").feeds[0];
    assert_eq!(
        (other.create, other.history.len(), other.truncate.len()),
        (false, 0, 0)
    );
    assert_eq!(other.message_type, "remediation_event");
    assert!(ok("[feeds.x]\ntable = \"remediation_events\"\ncreate = true").feeds[0].create);
}

#[test]
fn feeds_that_would_not_work_are_refused() {
    for (toml, parts) in [
        ("[feeds.Orders]", ["walcast.toml:1: [feeds.Orders]", "a-z"]),
        ("[feeds.\"a.b\"]", ["walcast.toml:1:", "a-z"]),
        ("[feeds.a]\nws = \"a\"", ["walcast.toml:2:", "write \"/a\""]),
        ("[feeds.a]\nws = \"/a?b\"", ["walcast.toml:2:", "/a?b"]),
        (
            "[feeds.a]\nws = \"/a b\"",
            ["walcast.toml:2:", "plain path"],
        ),
        ("[feeds.a]\nws = []", ["feeds.a.ws = []", "leave it out"]),
        (
            "[feeds.a]\nws = \"/healthz\"",
            ["/healthz", "walcast itself"],
        ),
        (
            "[feeds.a]\nhistory = \"/api/a\"",
            ["/api/a", "walcast itself"],
        ),
        (
            "[feeds.a]\n[feeds.b]\nws = \"/ws/a\"",
            ["walcast.toml:3: feeds.b.ws", "taken by feeds.a.ws"],
        ),
        (
            "[feeds.a]\nws = \"/ws/b\"\n[feeds.b]",
            ["walcast.toml:3: feeds.b.ws", "taken by feeds.a.ws"],
        ),
        (
            "[feeds.a]\nws = \"/x\"\nhistory = \"/x\"",
            ["walcast.toml:3: feeds.a.history", "taken by feeds.a.ws"],
        ),
        (
            "[feeds.a]\ncolumns = []",
            ["feeds.a.columns", "leave it out"],
        ),
        (
            "[feeds.a]\ncolumns = [\"x\", \"y\"]\nexclude = [\"y\"]",
            ["walcast.toml:3: feeds.a.exclude", "\"y\""],
        ),
        ("[feeds.a]\ntruncate = { x = 0 }", ["x = 0", "above 0"]),
        ("[feeds.a]\ntruncate = 5", ["truncate = 5", "details = 500"]),
        (
            "[feeds.a]\nmessage = { body = \"type\" }",
            ["feeds.a.message.body", "another name"],
        ),
        (
            "[feeds.a]\nmessage = \"x\"",
            ["feeds.a.message = \"x\"", "not a table"],
        ),
        (
            "[feeds.a]\ncreate = true",
            [
                "walcast.toml:2: feeds.a.create = true",
                "remediation_events",
            ],
        ),
    ] {
        refused(toml, &parts);
    }
}

#[test]
fn all_tables_may_be_feeds() {
    let resolved = load_with("feeds = \"*\"", ServeArgs::default()).expect("valid");
    assert!(resolved.config.all_tables && resolved.config.feeds.is_empty());
    assert_eq!(resolved.config.journal_mode, JournalMode::Keep);
    assert!(
        resolved.describe().contains("feeds = \"*\"  #"),
        "{}",
        resolved.describe()
    );
    let reload = resolved.config.reloaded_from(&ok("feeds = \"*\""));
    assert_eq!(reload.refused, Vec::<String>::new());
    let reload = resolved.config.reloaded_from(&ok(""));
    assert_eq!(reload.refused, ["journal_mode", "feeds"]);
}

#[test]
fn captured_feeds_say_how_and_for_how_long() {
    let feed = &ok(
        "[feeds.orders]\ncapture = \"full\"\ncapture_filters = [\"tenant\"]\ncapture_keep = \"7d\"",
    )
    .feeds[0];
    let rules = feed.capture.as_ref().expect("captured");
    assert_eq!(rules.mode, CaptureMode::Full);
    assert_eq!(rules.filters, ["tenant"]);
    assert_eq!(rules.keep, Duration::from_secs(7 * 24 * 60 * 60));
    assert!(rules.upkeep);
    assert_eq!(
        (feed.message_type.as_str(), feed.message_body.as_str()),
        ("orders_change", "change")
    );
    let feed = &ok("[feeds.a]\ncapture = \"keys\"").feeds[0];
    let rules = feed.capture.as_ref().expect("captured");
    assert_eq!((rules.mode, rules.filters.len()), (CaptureMode::Keys, 0));
    assert_eq!(rules.keep, Duration::from_secs(24 * 60 * 60));
    assert_eq!(ok("[feeds.a]").feeds[0].capture, None);
    for (toml, part) in [
        ("capture = \"wal\"", "not offered"),
        ("capture = \"all\"", "write \"keys\""),
        ("capture_filters = [\"a\"]", "add capture = "),
        (
            "capture = \"keys\"\nkey = \"id\"",
            "feeds.a.key: the key of",
        ),
        (
            "capture = \"keys\"\ncapture_keep = \"soon\"",
            "write e.g. \"30m\"",
        ),
        (
            "capture = \"keys\"\n[feeds.b]\ntable = \"a\"\ncapture = \"full\"",
            "captured otherwise for feeds.a",
        ),
    ] {
        refused(&format!("[feeds.a]\n{toml}"), &["walcast.toml:", part]);
    }
    let written = "[feeds.a]\ncapture = \"full\"\ncapture_filters = [\"x\"]\ncapture_keep = \"2d\"";
    let resolved = load_with(written, ServeArgs::default()).expect("loads");
    let described = resolved.describe();
    assert_eq!(ok(&described), resolved.config, "{described}");
}

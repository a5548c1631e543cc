use std::fs;

use super::*;
use crate::address::AllowedOrigin;

const EXAMPLE: &str = include_str!("../../systemd/walcast.example.toml");

/// Loads `toml` as the file `walcast.toml` below the flags in `args`, in an empty environment.
fn load_with(toml: &str, mut args: ServeArgs) -> Result<Resolved, String> {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("walcast.toml");
    fs::write(&file, toml).expect("write the file");
    args.config = Some(file.to_str().expect("UTF-8").to_owned());
    let prefix = format!("{}/", directory.path().display());
    Resolved::load(&args, &|_| None).map_err(|error| error.to_string().replace(&prefix, ""))
}

fn load(toml: &str) -> Result<Config, String> {
    load_with(toml, ServeArgs::default()).map(|resolved| resolved.config)
}

fn ok(toml: &str) -> Config {
    load(toml).unwrap_or_else(|error| panic!("{toml}\n{error}"))
}

/// Asserts that `toml` is refused with one problem, which holds all of `parts`.
fn refused(toml: &str, parts: &[&str]) {
    let error = load(toml).expect_err(toml);
    assert_eq!(error.lines().count(), 1, "{toml}\n{error}");
    for part in parts {
        assert!(error.contains(part), "{toml}\nlacks {part:?}: {error}");
    }
}

fn defaults() -> Config {
    Resolved::load(&ServeArgs::default(), &|_| None)
        .expect("defaults are valid")
        .config
}

#[test]
fn nothing_said_is_the_stock_feed_on_loopback() {
    let config = defaults();
    assert_eq!(config.database, PathBuf::from("./walcast.db"));
    assert_eq!(
        config.listen,
        [Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8010)))]
    );
    assert_eq!(config.feeds, [FeedConfig::stock()]);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(
        (
            config.auth.anonymous,
            config.log_level.as_str(),
            config.state_dir.as_ref()
        ),
        (false, "info", None)
    );
    let stock = &config.feeds[0];
    assert_eq!(stock.ws, ["/ws/remediation"]);
    assert_eq!(stock.history, ["/ops/remediate/history"]);
    assert_eq!(
        (stock.message_type.as_str(), stock.message_body.as_str()),
        ("remediation_event", "event")
    );
    assert_eq!(stock.truncate, [("details".to_owned(), 500)]);
    assert!(stock.create && !stock.ingest);
    assert_eq!(ok(""), config);
}

#[test]
fn example_is_the_defaults_and_names_every_key() {
    assert_eq!(ok(EXAMPLE), defaults());
    let is_set = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
    };
    let all: Vec<_> = EXAMPLE
        .lines()
        .map(|line| if is_set(line) { &line[1..] } else { line })
        .collect();
    let all = all.join("\n");
    assert_eq!(ok(&all).feeds.len(), 2);
    let root = Node::parse(&all).expect("TOML");
    for (section, keys) in SECTIONS {
        let section = section.replace("NAME", "remediation");
        for key in keys {
            let full = if section.is_empty() {
                (*key).to_owned()
            } else {
                format!("{section}.{key}")
            };
            // One that another takes the place of is named where that stands.
            let is_instead = full == "auth.jwt.jwks_file" && EXAMPLE.contains("# jwks_file = ");
            let is_there = root.get(&full).is_some() || is_instead;
            assert!(is_there, "the example lacks {full}");
        }
    }
}

#[test]
fn flag_wins_over_variable_over_file_over_default() {
    let file = "write_timeout = 5\ndrain_timeout = \"1m\"\nreplays = 2\n";
    let args = ServeArgs {
        write_timeout: Some("250ms".to_owned()),
        drain_timeout: Some("2".to_owned()),
        poll_interval: Some(String::new()),
        from_environment: ["drain_timeout", "poll_interval"].map(str::to_owned).into(),
        ..ServeArgs::default()
    };
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
    let text = |text: &str| Some(text.to_owned());
    refused(
        ServeArgs {
            replays: text("0"),
            ..ServeArgs::default()
        },
        "--replays 0: is not a whole number above 0",
    );
    refused(
        ServeArgs {
            write_timeout: text("soon"),
            ..ServeArgs::default()
        },
        "--write-timeout soon: is not a time",
    );
    refused(
        ServeArgs {
            anonymous: text("yes"),
            ..ServeArgs::default()
        },
        "--anonymous yes: is not a truth value",
    );
    refused(
        ServeArgs {
            db: text(""),
            ..ServeArgs::default()
        },
        "--db : is empty",
    );
    let from_environment = ["listen".to_owned()].into();
    let listen = vec!["80100".to_owned()];
    refused(
        ServeArgs {
            listen,
            from_environment,
            ..ServeArgs::default()
        },
        "WALCAST_LISTEN=80100: 80100 is not an address",
    );
    refused(
        ServeArgs {
            config: text("/nowhere/x.toml"),
            ..ServeArgs::default()
        },
        "/nowhere/x.toml: the configuration can't be read",
    );
}

#[test]
fn a_value_that_is_overruled_is_judged_too() {
    let args = ServeArgs {
        replays: Some("4".to_owned()),
        ..ServeArgs::default()
    };
    assert!(load_with("replays = \"many\"", args).is_err());
}

#[test]
fn what_is_wrong_stays_on_its_line_of_the_terminal() {
    let escape = r#"[feeds."a\u001b[31m\nb"]"#;
    refused(escape, &["walcast.toml:1", r"a\u{1b}[31m\nb"]);
}

#[test]
fn unknown_keys_name_line_and_nearest_key() {
    let error = load("\n\ndatabse = \"x\"").expect_err("unknown");
    assert_eq!(
        error,
        "walcast.toml:3: unknown key \"databse\"; did you mean \"database\"?"
    );
    refused(
        "ring = { row = 1 }",
        &["walcast.toml:1: unknown key \"ring.row\"; did you mean \"rows\"?"],
    );
    refused(
        "[feeds.a]\nws = \"/a\"\ncolums = [\"b\"]",
        &["walcast.toml:3:", "feeds.a.colums", "\"columns\""],
    );
    refused(
        "[feeds.a.message]\nbdy = \"b\"",
        &["walcast.toml:2:", "feeds.a.message.bdy", "\"body\""],
    );
    refused("anonymous = true", &["did you mean \"auth.anonymous\"?"]);
    refused("[log]\nreplays = 3", &["belongs at the top of the file"]);
    refused("[log]\nxyzzy = 3", &["known here: level, format"]);
    refused("ring = 5", &["walcast.toml:1: ring = 5: is not a table"]);
    refused("feeds = 5", &["feeds = 5: is not a table"]);
    refused(
        "[feeds]\na = 5",
        &["walcast.toml:2: feeds.a = 5: is not a table"],
    );
}

/// A key whose flag or variable is looked up under another name would ignore it, or name the wrong source.
#[test]
fn every_flag_and_variable_reaches_its_key() {
    let definition = crate::cli::Cli::definition();
    let flags: Vec<_> = definition
        .get_arguments()
        .filter(|flag| !["config", "file", "open"].contains(&flag.get_id().as_str()))
        .collect();
    for flag in flags {
        let id = &flag.get_id().to_string();
        let variable = format!("WALCAST_{}", id.to_uppercase());
        assert_eq!(
            flag.get_env().and_then(|name| name.to_str()),
            Some(variable.as_str())
        );
        let flag = format!("--{}", id.replace('_', "-"));
        let line = ["walcast".to_owned(), format!("{flag}=")];
        let crate::cli::Cli {
            command: crate::cli::Command::Serve(mut args),
        } = crate::cli::Cli::try_parse_from(line).expect(&flag)
        else {
            panic!("not serve")
        };
        let error = Resolved::load(&args, &|_| None)
            .map(|_| ())
            .expect_err(&flag)
            .to_string();
        assert!(error.starts_with(&format!("{flag} : ")), "{flag}: {error}");
        args.from_environment = [id.clone()].into();
        assert!(
            Resolved::load(&args, &|_| None).is_ok(),
            "an empty variable is unset: {id}"
        );
    }
}

#[test]
fn every_problem_of_the_file_is_told_at_once() {
    let error = load("listen = 1\nreplays = -1\noops = 1").expect_err("three problems");
    assert_eq!(error.lines().count(), 3, "{error}");
}

#[test]
fn broken_toml_names_the_line() {
    refused(
        "database = \"x\"\nlisten = [",
        &["walcast.toml:2: not valid TOML"],
    );
    refused(
        "replays = 1\nreplays = 2",
        &["walcast.toml:2: not valid TOML", "duplicate"],
    );
}

#[test]
fn wrong_types_and_values_are_refused_with_line_value_and_remedy() {
    for (toml, value, remedy) in [
        ("database = 5", "database = 5", "put it in quotes"),
        ("database = \"\"", "database = \"\"", "leave it out"),
        ("replays = \"8\"", "replays = \"8\"", "without quotes"),
        (
            "replays = 99999999999999999999",
            "99999999999999999999",
            "whole number",
        ),
        ("max_connections = 0", "max_connections = 0", "above 0"),
        ("write_timeout = 0", "write_timeout = 0", "1ms or more"),
        ("write_timeout = -1", "write_timeout = -1", "\"30s\""),
        ("write_timeout = nan", "NaN", "\"30s\""),
        ("write_timeout = inf", "inf", "\"30s\""),
        ("write_timeout = \"3 weeks\"", "3 weeks", "\"30s\""),
        ("write_timeout = \"25h\"", "25h", "at most 24h"),
        ("journal_mode = \"delete\"", "\"delete\"", "\"keep\""),
        ("watch = \"inotify\"", "\"inotify\"", "\"notify\""),
        ("watch = true", "watch = true", "\"poll\""),
        (
            "auth.anonymous = \"true\"",
            "auth.anonymous = \"true\"",
            "without quotes",
        ),
        ("log.level = \"inof\"", "\"inof\"", "info"),
        ("log.level = \"=debug\"", "\"=debug\"", "info"),
        ("log.format = \"xml\"", "\"xml\"", "\"json\""),
        (
            "origins = [\"https://a.example/\"]",
            "https://a.example/",
            "scheme://host",
        ),
        ("origins = [\"a.example\"]", "a.example", "scheme://host"),
        (
            "origins = [\"https://a:99999\"]",
            "https://a:99999",
            "scheme://host",
        ),
        (
            "hosts = [\"http://a.example\"]",
            "http://a.example",
            "name of a host",
        ),
        ("hosts = [\"a:80\"]", "a:80", "without scheme, port"),
        ("hosts = \"*\"", "*", "console.example.com"),
        (
            "trusted_proxies = [\"10.0.0.0/33\"]",
            "10.0.0.0/33",
            "\"10.0.0.0/8\"",
        ),
        ("trusted_proxies = \"proxy\"", "proxy", "\"127.0.0.1\""),
        (
            "frame_ancestors = [\"a.example; script-src *\"]",
            "a.example; script-src *",
            "scheme://host",
        ),
        ("listen = []", "listen = []", "leave it out"),
        ("listen = [\"127.0.0.1\"]", "127.0.0.1", "IP:PORT"),
        ("listen = \"example.com:80\"", "example.com:80", "IP:PORT"),
        (
            "listen = \"unix:walcast.sock\"",
            "unix:walcast.sock",
            "unix:/run",
        ),
        (
            "listen = [\"localhost:1\", \"127.0.0.1:1\"]",
            "127.0.0.1:1",
            "once",
        ),
    ] {
        refused(toml, &["walcast.toml:1: ", value, remedy]);
    }
}

#[test]
fn times_are_texts_or_seconds() {
    for (written, millis) in [
        ("\"250ms\"", 250),
        ("\"30s\"", 30_000),
        ("\"1m\"", 60_000),
        ("\"2\"", 2000),
        ("3", 3000),
        ("0.5", 500),
        ("\"1.5 s\"", 1500),
        ("\"1h\"", 3_600_000),
    ] {
        assert_eq!(
            ok(&format!("write_timeout = {written}"))
                .limits
                .write_timeout,
            Duration::from_millis(millis),
            "{written}"
        );
    }
    assert_eq!(ok("drain_timeout = 0").limits.drain_timeout, Duration::ZERO);
}

#[test]
fn listening_beyond_loopback_must_be_asked_for() {
    refused(
        "listen = \"0.0.0.0:8010\"",
        &[
            "walcast.toml:1: listen = 0.0.0.0:8010",
            "walcast token add",
            "auth.anonymous = true",
        ],
    );
    for beyond in [
        "[::]:1",
        "192.0.2.1:1",
        "[::ffff:0.0.0.0]:1",
        "[::ffff:192.0.2.1]:1",
        "[2001:db8::1]:1",
    ] {
        refused(
            &format!("listen = [\"127.0.0.1:1\", {beyond:?}]"),
            &[beyond],
        );
    }
    assert!(
        ok("listen = \"0.0.0.0:8010\"\nauth.anonymous = true")
            .auth
            .anonymous
    );
    let config = ok(
        "listen = [\"localhost:8010\", \"[::1]:8010\", \"[::ffff:127.0.0.1]:1\", \"unix:/run/walcast.sock\"]",
    );
    assert_eq!(
        config.listen[0],
        Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8010)))
    );
    assert_eq!(config.listen[3], Listen::Unix("/run/walcast.sock".into()));
}

#[test]
fn origins_are_as_browsers_send_them() {
    let origins = [
        "*",
        "https://a.example",
        "http://a-b.example:8080",
        "http://[::1]:3000",
        "chrome-extension://abcdef",
    ];
    let access = ok(&format!(
        "origins = {origins:?}\nframe_ancestors = \"HTTPS://A.example:443\""
    ))
    .access;
    assert_eq!(access.origins, origins.map(origin));
    assert_eq!(access.frame_ancestors, [origin("https://a.example")]);
}

fn origin(text: &str) -> AllowedOrigin {
    AllowedOrigin::parse(text).expect("an origin")
}

#[test]
fn hosts_and_proxies_are_named() {
    let access = ok(
        "hosts = [\"Console.example.com\", \"walcast\"]\ntrusted_proxies = [\"127.0.0.1\", \"fd00::/8\", \"unix\"]",
    )
    .access;
    let hosts: Vec<String> = access.hosts.iter().map(|host| host.to_string()).collect();
    assert_eq!(hosts, ["console.example.com", "walcast"]);
    let is_proxy = |address: Option<&str>| {
        let address = address.map(|text| text.parse().expect("an address"));
        access.trusted_proxies.iter().any(|proxy| proxy.is(address))
    };
    assert!(is_proxy(None) && is_proxy(Some("127.0.0.1")) && is_proxy(Some("fd12::1")));
    assert!(!is_proxy(Some("127.0.0.2")));
    let only_tcp = ok("trusted_proxies = \"0.0.0.0/0\"").access;
    assert!(!only_tcp.trusted_proxies.iter().any(|proxy| proxy.is(None)));
}

#[test]
fn state_dir_is_named_or_systemds_or_xdgs() {
    let resolved = |variables: &[(&str, &str)], named: Option<&str>| {
        let args = ServeArgs {
            state_dir: named.map(str::to_owned),
            ..ServeArgs::default()
        };
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

#[test]
fn a_port_alone_is_one_of_loopback() {
    for text in ["9", ":9", "localhost:9", "127.0.0.1:9"] {
        let listen = ok(&format!("listen = {text:?}")).listen;
        assert_eq!(
            listen,
            [Listen::Tcp("127.0.0.1:9".parse().expect("an address"))]
        );
    }
}

#[test]
fn a_file_named_as_such_is_served_as_it_is() {
    let named = |toml: &str| {
        let args = ServeArgs {
            file: Some("app.db".to_owned()),
            db: Some("app.db".to_owned()),
            ..ServeArgs::default()
        };
        load_with(toml, args).expect("valid").config
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
fn what_other_programs_call_it_is_told() {
    refused("db = \"x\"", &["did you mean \"database\"?"]);
    refused("tables = [\"a\"]", &["[feeds.NAME]", "feeds = \"*\""]);
    refused(
        "[[feeds]]\nname = \"a\"",
        &["[feeds.NAME]", "one pair of brackets"],
    );
    refused("[feeds.a]\nauth = 1", &["[auth] stands at the top level"]);
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

//! The command line as operators use it: exit codes, precedence, signals, logs.

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{
    Daemon, Database, STOCK_FEED, STOCK_HISTORY, STOCK_SSE, Settings, Subscriber, directory,
    wait_until,
};
use common::{http, settings};
use serde_json::Value;

/// Runs walcast in this directory, without the variables and the state of whoever runs the tests, to its end.
fn walcast(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments)
        .output()
        .expect("walcast can be run")
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = settings::program();
    command
        .args(arguments)
        .current_dir(directory)
        .env("XDG_STATE_HOME", directory.join("state"))
        .stdin(Stdio::null());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one line that says why; its exit code is checked.
#[track_caller]
fn refusal(output: &Output, code: i32) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("walcast: "))
        .collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    lines[0].to_owned()
}

#[track_caller]
fn assert_names(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

/// A daemon that reads this configuration, again at each SIGHUP.
fn configured(directory: &Path, toml: &str) -> Settings {
    Daemon::on(directory).toml(toml)
}

fn reconfigure(walcast: &Daemon, directory: &Path, toml: &str) {
    fs::write(directory.join("walcast.toml"), toml).expect("the configuration can be written");
    walcast.signal(libc::SIGHUP);
}

// --- exit codes ---

#[test]
fn without_arguments_it_serves_the_stock_feed_of_a_new_file() {
    let dir = directory();
    let listen = "127.0.0.1:0";
    let mut child = command(dir.path(), &["--listen", listen])
        .stderr(Stdio::piped())
        .spawn()
        .expect("walcast can be run");
    wait_until("the stock table is there", || {
        dir.path().join("walcast.db").exists()
            && Database::within(dir.path())
                .connect()
                .query_row(
                    "SELECT count(*) FROM sqlite_schema WHERE name = 'remediation_events'",
                    [],
                    |row| row.get::<_, i64>(0),
                )
                .is_ok_and(|tables| tables == 1)
    });
    child.kill().expect("walcast runs");
    child.wait().expect("a killed child can be waited for");
}

#[test]
fn a_taken_port_is_one_clear_line_and_exit_code_1() {
    let dir = directory();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has an address").to_string();
    let line = refusal(&walcast(dir.path(), &["--listen", &address]), 1);
    assert_names(&line, &[&address, "in use", "--listen"]);
}

#[test]
fn a_taken_port_leaves_nothing_half_started() {
    let dir = directory();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has an address").to_string();
    refusal(&walcast(dir.path(), &["--listen", &address]), 1);
    assert!(!dir.path().join("walcast.db").exists());
}

#[test]
fn a_unix_socket_that_is_taken_or_cannot_be_made_is_exit_code_1() {
    let dir = directory();
    let socket = format!("unix:{}/walcast.sock", dir.path().display());
    let _running = Daemon::on(dir.path()).option("--listen", &socket).start();
    let line = refusal(&walcast(dir.path(), &["--listen", &socket]), 1);
    assert_names(&line, &["walcast.sock", "in use"]);
    let nowhere = format!("unix:{}/no/walcast.sock", dir.path().display());
    let line = refusal(&walcast(dir.path(), &["--listen", &nowhere]), 1);
    assert_names(&line, &["no/walcast.sock"]);
}

#[test]
fn a_socket_left_by_a_killed_daemon_is_replaced() {
    let dir = directory();
    let socket = dir.path().join("walcast.sock");
    let listen = format!("unix:{}", socket.display());
    Daemon::on(dir.path())
        .option("--listen", &listen)
        .start()
        .kill();
    assert!(socket.exists());
    let again = Daemon::on(dir.path()).option("--listen", &listen).start();
    assert_eq!(again.get("/healthz").status, 200);
    std::os::unix::net::UnixStream::connect(&socket).expect("somebody listens");
}

#[test]
fn a_file_in_the_place_of_a_socket_is_refused_and_not_deleted() {
    let dir = directory();
    let precious = dir.path().join("precious.db");
    fs::write(&precious, "years of work").expect("a file can be written");
    let listen = format!("unix:{}", precious.display());
    let started = Daemon::on(dir.path())
        .option("--listen", &listen)
        .try_start();
    let kept = fs::read_to_string(&precious);
    assert_eq!(kept.ok().as_deref(), Some("years of work"));
    let failed = started.err().expect("it must not start");
    assert_eq!(failed.status.code(), Some(1));
    assert_names(&failed.stderr, &["precious.db"]);
}

#[test]
fn bad_usage_and_bad_configuration_are_exit_code_2() {
    let dir = directory();
    let path = dir.path().join("walcast.toml");
    let config = path.to_str().expect("the path is text");
    let with = |toml: &str, arguments: &[&str]| {
        fs::write(&path, toml).expect("the configuration can be written");
        let arguments = [&["serve", "--config", config], arguments].concat();
        refusal(&walcast(dir.path(), &arguments), 2)
    };
    let line = with("\nlisten = [\"127.0.0.1:0\"]\ndatabas = \"x.db\"\n", &[]);
    assert_names(
        &line,
        &["walcast.toml:3", "databas", "did you mean \"database\""],
    );
    let line = with("[feeds.jobs]\ntabel = \"jobs\"\n", &[]);
    assert_names(&line, &["walcast.toml:2", "tabel", "\"table\""]);
    let line = with("listen = [\n", &[]);
    assert_names(&line, &["walcast.toml"]);
    let line = with("write_timeout = \"soon\"\n", &[]);
    assert_names(&line, &["write_timeout", "soon"]);
    let line = with("", &["--poll-interval", "never"]);
    assert_names(&line, &["--poll-interval", "never"]);
    let line = refusal(
        &walcast(dir.path(), &["--config", "/nowhere/walcast.toml"]),
        2,
    );
    assert_names(&line, &["/nowhere/walcast.toml"]);

    let behind = walcast(dir.path(), &["--listen", ":8199", "config"]);
    assert_eq!(behind.status.code(), Some(2));
    let said = "the command comes first: walcast config --listen :8199\n";
    assert_names(&stderr(&behind), &[said]);
    let line = refusal(&walcast(dir.path(), &["chekc"]), 2);
    assert_names(&line, &["chekc", "did you mean `walcast check`?"]);
    for arguments in [&["--nonsense"][..], &["--listen"], &["nonsense"]] {
        let output = walcast(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["serve", "--help"]] {
        let output = walcast(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(stdout(&output).contains("walcast"));
    }
}

/// The names of what the help of a command lists.
fn listed(command: &str) -> Vec<String> {
    let dir = directory();
    let output = walcast(dir.path(), &[command, "--help"]);
    assert_eq!(output.status.code(), Some(0), "{command}");
    let text = stdout(&output);
    let first_words = text.lines().filter_map(|line| {
        let line = line.strip_prefix("  ")?.trim_start();
        (line.starts_with("--") || line.starts_with(['[', '<'])).then_some(line)
    });
    first_words
        .filter_map(|line| line.split([' ', '=']).next().map(str::to_owned))
        .collect()
}

#[test]
fn help_lists_what_a_command_takes_and_nothing_else() {
    let edge = listed("edge");
    for name in ["--upstream", "--spool", "--listen", "--config", "--open"] {
        assert!(edge.iter().any(|listed| listed == name), "{name}: {edge:?}");
    }
    for name in ["[FILE]", "--db", "--journal-mode"] {
        assert!(
            !edge.iter().any(|listed| listed == name),
            "{name}: {edge:?}"
        );
    }
    for command in ["check", "config", "feeds", "types"] {
        let names = listed(command);
        assert!(names.iter().any(|listed| listed == "--db"), "{names:?}");
        assert!(!names.iter().any(|listed| listed == "--open"), "{names:?}");
    }
    assert_eq!(listed("types"), ["[FILE]", "--db", "--config"]);
    let feeds = listed("feeds");
    for name in ["--listen", "--tls-cert", "--ready", "--token-file", "--ca"] {
        assert!(feeds.iter().any(|listed| listed == name), "{feeds:?}");
    }
    for name in ["--log-level", "--ring-rows", "--journal-mode", "--origin"] {
        assert!(!feeds.iter().any(|listed| listed == name), "{feeds:?}");
    }
    assert!(listed("serve").iter().any(|listed| listed == "--open"));
    let dir = directory();
    let upstream = ["edge", "--upstream", "ws://127.0.0.1:1", "app.db"];
    let line = refusal(&walcast(dir.path(), &upstream), 2);
    assert_names(&line, &["edge.spool"]);
    let line = refusal(&walcast(dir.path(), &["edge", "ws://127.0.0.1:1"]), 2);
    assert_names(&line, &["--upstream ws://127.0.0.1:1,"]);
}

#[test]
fn what_is_proposed_for_an_upstream_can_be_one() {
    let dir = directory();
    let arguments = ["edge", "--upstream", "127.0.0.1:8010"];
    let line = refusal(&walcast(dir.path(), &arguments), 2);
    assert_names(&line, &["--upstream", "127.0.0.1:8010", "wss://"]);
    assert!(!line.contains("/ws/"), "{line}");
}

#[test]
fn listening_beyond_loopback_must_be_allowed() {
    let dir = directory();
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let line = refusal(&walcast(dir.path(), &["--listen", listen]), 2);
        assert_names(&line, &[listen, "anonymous"]);
    }
    let allowed = configured(dir.path(), "auth.anonymous = true\n")
        .option("--listen", "0.0.0.0:0")
        .start();
    assert_eq!(allowed.get("/healthz").status, 200);
}

#[test]
fn a_table_that_cannot_be_a_feed_keeps_no_other_from_being_one() {
    for table in [
        "CREATE TABLE jobs(name TEXT PRIMARY KEY, x)",
        "CREATE TABLE jobs(name TEXT PRIMARY KEY, x) WITHOUT ROWID",
        "CREATE TABLE jobs(a INTEGER, b INTEGER, PRIMARY KEY (a, b))",
        "CREATE TABLE jobs(x)",
        "CREATE VIEW jobs AS SELECT 1 AS id",
    ] {
        let dir = directory();
        Database::with_stock_table(dir.path()).execute(table);
        let walcast = configured(dir.path(), "[feeds.jobs]\n[feeds.remediation]\n").start();
        let refused = http::upgrade(walcast.address(), "/ws/jobs", &[]);
        assert_eq!(refused.status, 503, "{table}");
        let why = refused.error_message();
        assert!(
            why.contains("integer primary key") || why.contains("view"),
            "{table}: {why}"
        );
        // The log names the file in the command that mends it; public answers don't.
        let file = walcast.database().path().display().to_string();
        let logged = why.replace("--db FILE", &format!("--db {file}"));
        assert_names(&walcast.log(), &["jobs", &logged]);
        let mut plain = walcast.subscribe("");
        let id = walcast.database().insert("beside it");
        assert_eq!(plain.next_row()["id"], id);
        // Mended while it runs.
        if !table.contains("VIEW") {
            walcast.database().execute(
                "DROP TABLE jobs; CREATE TABLE jobs(id INTEGER PRIMARY KEY AUTOINCREMENT)",
            );
            wait_until("the mended table is a feed", || {
                http::upgrade(walcast.address(), "/ws/jobs", &[]).status == 101
            });
        }
    }
}

// --- configuration ---

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let dir = directory();
    let path = dir.path().join("walcast.toml");
    fs::write(
        &path,
        "database = \"file.db\"\nwrite_timeout = 7\ndrain_timeout = 7\npoll_interval = 7\n",
    )
    .expect("the configuration can be written");
    let output = command(
        dir.path(),
        &["config", "--db", "flag.db", "--write-timeout", "9s"],
    )
    .env("WALCAST_CONFIG", &path)
    .env("WALCAST_DB", "variable.db")
    .env("WALCAST_WRITE_TIMEOUT", "8s")
    .env("WALCAST_DRAIN_TIMEOUT", "8s")
    .output()
    .expect("walcast can be run");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let line = |key: &str| {
        text.lines()
            .find(|line| line.starts_with(&format!("{key} = ")))
            .unwrap_or_else(|| panic!("no {key} in {text}"))
    };
    assert_names(line("database"), &["flag.db", "flag"]);
    assert_names(line("write_timeout"), &["\"9s\"", "flag"]);
    assert_names(line("drain_timeout"), &["\"8s\"", "WALCAST_DRAIN_TIMEOUT"]);
    assert_names(line("poll_interval"), &["\"7s\"", "file"]);
    assert_names(line("replays"), &["8", "default"]);
}

#[test]
fn the_configuration_printed_is_one_that_serves() {
    let dir = directory();
    let printed = walcast(dir.path(), &["config"]);
    assert_eq!(printed.status.code(), Some(0));
    let walcast = configured(dir.path(), &stdout(&printed)).start();
    let feed = walcast.feed();
    assert_eq!(feed["name"], "remediation");
    assert_eq!(feed["history"][0], STOCK_HISTORY);
    assert_eq!(walcast.get(STOCK_HISTORY).status, 200);
}

// --- reload ---

#[test]
fn a_reload_applies_what_can_change_and_drops_nobody() {
    let dir = directory();
    let walcast = configured(dir.path(), "").start();
    let mut plain = walcast.subscribe("");
    let mut resumable = walcast.subscribe_live();
    let status = |origin: &str| {
        let headers = [("Origin", origin)];
        walcast.request("GET", "/api/feeds", &headers, b"").status
    };
    assert_eq!(status("https://a.example"), 403);
    let toml = "origins = [\"https://a.example\"]\nreplays = 3\n[log]\nlevel = \"debug\"\n";
    reconfigure(&walcast, dir.path(), toml);
    walcast.wait_for_log("configuration read again: applied origins, log.level");
    assert_eq!(status("https://a.example"), 200);
    assert_eq!(status("https://b.example"), 403);
    assert!(walcast.log().contains("DEBUG"), "{}", walcast.log());
    wait_until("it says what needs a restart", || {
        let log = walcast.log();
        log.lines()
            .any(|line| line.contains("restart") && line.contains("replays"))
    });
    let toml = format!("max_connections = 2\n{toml}");
    reconfigure(&walcast, dir.path(), &toml);
    walcast.wait_for_log("configuration read again: applied max_connections");
    assert_eq!(walcast.get("/api/feeds").status, 503);
    let id = walcast.database().insert("after the reload");
    assert_eq!(plain.next_row()["id"], id);
    assert_eq!(resumable.next_row()["id"], id);
}

#[test]
fn a_reload_changes_the_names_and_the_proxies_that_are_known() {
    let dir = directory();
    let walcast = configured(dir.path(), "").start();
    let status =
        || http::get_as(walcast.address(), "console.example.com", "/api/feeds", &[]).status;
    let stream = || {
        let client = [("X-Forwarded-For", "198.51.100.1")];
        let head = http::head("GET", STOCK_SSE, "localhost", &client);
        let mut stream = walcast.connect();
        std::io::Write::write_all(&mut stream, head.as_bytes()).expect("walcast reads");
        let mut line = [0; 12];
        std::io::Read::read_exact(&mut stream, &mut line).expect("an answer");
        (line == *b"HTTP/1.1 200", stream)
    };
    assert_eq!(status(), 421);
    let before = [stream(), stream()];
    assert!(before.iter().all(|(served, _)| *served));
    let toml = "hosts = \"console.example.com\"\ntrusted_proxies = \"127.0.0.1\"\n\
                frame_ancestors = \"https://a.example\"\nmax_connections_per_ip = 1\n";
    reconfigure(&walcast, dir.path(), toml);
    walcast.wait_for_log("applied hosts, trusted_proxies, frame_ancestors, max_connections_per_ip");
    assert_eq!(status(), 200);
    let policy = walcast
        .get("/")
        .header("Content-Security-Policy")
        .map(str::to_owned);
    assert!(policy.is_some_and(|policy| policy.ends_with("frame-ancestors https://a.example")));
    let after = [stream(), stream()];
    assert_eq!((after[0].0, after[1].0), (true, false));
}

#[test]
fn a_reload_shortens_the_write_timeout_of_connections_that_are_there() {
    let dir = directory();
    let walcast = configured(dir.path(), "").start();
    walcast.database().insert_many(30_000);
    let _stuck = walcast.subscribe_slow(STOCK_FEED, "since=earliest");
    reconfigure(&walcast, dir.path(), "write_timeout = 1\n");
    wait_until("the write timeout has struck", || {
        walcast.connection_errors("write_timeout") == 1.0
    });
}

#[test]
fn a_reload_of_a_broken_file_keeps_the_old_configuration_and_says_so() {
    let dir = directory();
    let walcast = configured(dir.path(), "origins = [\"https://a.example\"]\n").start();
    let mut plain = walcast.subscribe("");
    reconfigure(&walcast, dir.path(), "origns = [\"https://b.example\"]\n");
    walcast.wait_for_log("origns");
    assert!(walcast.log().contains("not reloaded"));
    let origin = [("Origin", "https://a.example")];
    let response = walcast.request("GET", "/api/feeds", &origin, b"");
    assert_eq!(response.status, 200);
    let id = walcast.database().insert("after the failed reload");
    assert_eq!(plain.next_row()["id"], id);
}

// --- signals ---

#[test]
fn either_signal_drains_and_ends_with_0() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let dir = directory();
        let mut walcast = Daemon::start(dir.path());
        let mut plain = walcast.subscribe("");
        walcast.signal(signal);
        plain.expect_close(1012);
        drop(plain);
        assert_eq!(walcast.wait_for_exit().code(), Some(0));
        // Its last line may be read after its end is seen.
        walcast.wait_for_log("stopped");
        assert_names(&walcast.log(), &["stopping", "stopped"]);
    }
}

/// A subscriber that has much to take, takes nothing, and so holds a drain up.
fn stuck_subscriber(walcast: &Daemon) -> Subscriber {
    walcast.database().insert_many(60_000);
    let mut stuck = walcast.subscribe_slow(STOCK_FEED, "since=earliest");
    stuck.expect("hello");
    stuck
}

#[test]
fn a_drain_ends_in_its_time_although_a_client_is_stuck() {
    let mut walcast = Daemon::on_new_file()
        .option("--drain-timeout", "1s")
        .start();
    let _stuck = stuck_subscriber(&walcast);
    walcast.signal(libc::SIGTERM);
    assert_eq!(walcast.wait_for_exit().code(), Some(0));
    assert_names(&walcast.log(), &["did not go in time"]);
}

#[test]
fn a_second_signal_ends_the_drain_at_once() {
    let mut walcast = Daemon::on_new_file()
        .option("--drain-timeout", "1h")
        .start();
    let _stuck = stuck_subscriber(&walcast);
    walcast.signal(libc::SIGTERM);
    walcast.wait_for_log("stopping");
    walcast.signal(libc::SIGTERM);
    assert_eq!(walcast.wait_for_exit().code(), Some(0));
    assert_names(&walcast.log(), &["told again"]);
}

#[test]
fn a_draining_daemon_accepts_nobody() {
    let walcast = Daemon::on_new_file()
        .option("--drain-timeout", "1h")
        .start();
    let _stuck = stuck_subscriber(&walcast);
    walcast.signal(libc::SIGTERM);
    wait_until("nobody is accepted", || {
        std::net::TcpStream::connect(walcast.address()).is_err()
    });
}

#[test]
fn idle_connections_do_not_hold_up_a_drain() {
    let mut walcast = Daemon::on_new_file()
        .option("--drain-timeout", "1h")
        .start();
    let silent = walcast.connect();
    let mut kept_alive = walcast.connect();
    http::ask(&mut kept_alive, "/healthz");
    assert_eq!(http::read_response(&mut kept_alive).status, 200);
    walcast.signal(libc::SIGTERM);
    assert_eq!(walcast.wait_for_exit().code(), Some(0));
    assert!(!walcast.log().contains("did not go in time"));
    drop((silent, kept_alive));
}

// --- logs ---

#[test]
fn json_logs_are_one_object_a_line() {
    let mut walcast = Daemon::on_new_file()
        .option("--log-format", "json")
        .option("--log-level", "debug")
        .start();
    let subscriber = walcast.subscribe("");
    walcast.signal(libc::SIGHUP);
    walcast.wait_for_log("configuration read again");
    drop(subscriber);
    walcast.signal(libc::SIGTERM);
    walcast.wait_for_exit();
    let log = walcast.log();
    assert!(log.lines().count() >= 4, "{log}");
    for line in log.lines() {
        let event: Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}"));
        for key in ["timestamp", "level", "message"] {
            assert!(event[key].is_string(), "{key} is missing: {line}");
        }
    }
}

#[test]
fn the_first_line_says_what_is_served_and_where() {
    let dir = directory();
    Database::with_stock_table(dir.path()).insert_many(7);
    let walcast = Daemon::start(dir.path());
    let log = walcast.log();
    let line = log
        .lines()
        .find(|line| line.contains("http://"))
        .expect("the line is there");
    let address = format!("http://{}", walcast.address());
    assert_names(
        line,
        &[
            env!("CARGO_PKG_VERSION"),
            "walcast.db",
            "wal",
            "remediation",
            "head 7",
            &address,
            STOCK_FEED,
        ],
    );
    let others = log.lines().filter(|other| *other != line);
    // The switch to WAL has a line of its own.
    let others: Vec<&str> = others
        .filter(|line| !line.contains("switched from"))
        .collect();
    assert!(others.is_empty(), "{log}");
}

#[test]
fn tokens_are_never_logged() {
    let walcast = Daemon::on_new_file().option("--log-level", "trace").start();
    let _subscriber = walcast.subscribe("token=hunter2");
    let refused = walcast.refused_upgrade("/ws/remediation?token=hunter2&nope=1");
    assert_eq!(refused.status, 400);
    walcast.get("/ops/remediate/history?token=hunter2");
    let bearer = [("Authorization", "Bearer hunter2")];
    walcast.request("GET", "/api/feeds", &bearer, b"");
    let protocols = (
        "Sec-WebSocket-Protocol",
        "walcast.v1, walcast.bearer.hunter2",
    );
    let upgraded = walcast.upgrade(STOCK_FEED, &[protocols]);
    assert_eq!(upgraded.status, 101);
    walcast.wait_for_log("request");
    assert!(!walcast.log().contains("hunter2"), "{}", walcast.log());
}

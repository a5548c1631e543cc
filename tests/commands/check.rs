//! `walcast check`.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::common::Daemon;
use crate::common::database::STOCK_SCHEMA;
use crate::program::{database, names, text, walcast, write_no_database};

pub struct Checked {
    pub code: i32,
    pub out: String,
}

impl Checked {
    pub fn says(&self, part: &str) -> &Checked {
        assert!(self.out.contains(part), "{part:?} is not in\n{}", self.out);
        self
    }
}

/// `walcast check` on a free port; the database's path is to follow.
fn walcast_check() -> Command {
    let mut command = walcast();
    command.args(["check", "--listen", "127.0.0.1:0", "--db"]);
    command
}

/// Checks `database` on a free port, with a state directory beside it.
pub fn check(database: &Path, more: &[&str]) -> Checked {
    let state = database.with_extension("state");
    let Output {
        status,
        stdout,
        stderr,
    } = walcast_check()
        .arg(database)
        .arg("--state-dir")
        .arg(state)
        .args(more)
        .output()
        .unwrap();
    Checked {
        code: status.code().unwrap(),
        out: text(&stdout) + &text(&stderr),
    }
}

#[test]
fn check_finds_a_good_file_good_and_leaves_it_alone() {
    for mode in ["wal", "delete"] {
        let directory = TempDir::new().unwrap();
        let rows = "INSERT INTO remediation_events(ts) VALUES ('a'), ('b'), ('c');";
        let path = database(
            &directory,
            &format!("PRAGMA journal_mode = {mode}; {STOCK_SCHEMA} {rows}"),
        );
        let before = (names(directory.path()), std::fs::read(&path).unwrap());
        let checked = check(&path, &[]);
        checked.says("table remediation_events, key id, AUTOINCREMENT, head 3, 3 rows, ids 1 to 3");
        checked
            .says("tenant TEXT")
            .says("sound")
            .says("all of this would work");
        assert_eq!(checked.code, 0, "{}", checked.out);
        assert!(
            (names(directory.path()), std::fs::read(&path).unwrap()) == before,
            "{mode}: something changed"
        );
    }
}

#[test]
fn check_waits_like_the_daemon_for_a_missing_file_or_table() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.db");
    let checked = check(&path, &[]);
    checked
        .says("does not exist yet")
        .says("walcast creates it");
    assert_eq!(checked.code, 0, "{}", checked.out);
    assert!(!path.exists());
    let path = database(&directory, "CREATE TABLE other(x)");
    assert_eq!(
        check(&path, &[])
            .says("table remediation_events does not exist yet")
            .code,
        0
    );
}

#[test]
fn check_says_0_of_a_known_history_without_rows() {
    let directory = TempDir::new().unwrap();
    let walcast = Daemon::on(directory.path())
        .with_tables(STOCK_SCHEMA)
        .start();
    let database = walcast.database();
    walcast.stop();
    let checked = walcast_check()
        .arg(database.path())
        .arg("--state-dir")
        .arg(directory.path().join("state"))
        .output()
        .unwrap();
    let out = text(&checked.stdout);
    assert!(out.contains("is known up to head 0\n"), "{out}");
}

#[test]
fn check_refuses_what_could_never_be_served() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.db");
    write_no_database(&path);
    assert_eq!(check(&path, &[]).says("is not a SQLite database").code, 1);
    std::fs::remove_file(&path).unwrap();

    database(
        &directory,
        "CREATE TABLE remediation_events(id TEXT PRIMARY KEY, ts TEXT)",
    );
    assert_eq!(
        check(&path, &[])
            .says("has no integer primary key")
            .says("AUTOINCREMENT")
            .code,
        1
    );

    let missing = directory.path().join("nowhere/events.db");
    assert_eq!(
        check(&missing, &[])
            .says("its directory does not exist")
            .says("mkdir -p")
            .code,
        1
    );
}

#[test]
fn check_suggests_indexes_for_what_a_large_table_may_be_filtered_by() {
    let directory = TempDir::new().unwrap();
    let rows = |rows: u32| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO remediation_events(ts, tenant, action, details)
             SELECT 'at ' || i, 't' || (i % 20), 'a' || (i % 3), 'row ' || i FROM n"
        )
    };
    let path = database(&directory, STOCK_SCHEMA);
    let add = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    add(&rows(2_000));
    assert!(!check(&path, &[]).out.contains("CREATE INDEX"));
    add(&rows(110_000));
    add("CREATE INDEX by_action ON remediation_events(action, tenant)");
    let checked = check(&path, &[]);
    checked.says("CREATE INDEX remediation_events_tenant ON remediation_events(tenant)");
    assert_eq!(checked.out.matches("CREATE INDEX").count(), 1);
    assert_eq!(checked.code, 0);
}

#[test]
fn check_warns_of_ids_that_are_given_twice() {
    let directory = TempDir::new().unwrap();
    let path = database(
        &directory,
        "CREATE TABLE remediation_events(id INTEGER PRIMARY KEY, ts TEXT)",
    );
    let checked = check(&path, &[]);
    assert_eq!(
        checked.says("has no AUTOINCREMENT").says("1 warning").code,
        0
    );
}

#[test]
fn check_names_wrong_configuration_and_exits_with_2() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("walcast.toml");
    std::fs::write(&file, "databse = \"x\"\n").unwrap();
    let path = directory.path().join("events.db");
    let checked = check(&path, &["--config", file.to_str().unwrap()]);
    assert_eq!(checked.says("databse").says("database").code, 2);
}

#[test]
fn check_says_who_has_the_port() {
    let directory = TempDir::new().unwrap();
    let path = database(&directory, STOCK_SCHEMA);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = walcast();
    command
        .env_remove("INVOCATION_ID")
        .args(["check", "--listen", &address, "--db"])
        .arg(&path);
    let output = command.output().unwrap();
    let out = text(&output.stdout);
    assert!(
        out.contains(&format!("{address} is in use by")) && out.contains("ss -ltnp"),
        "{out}"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// Root may read everything, so these run as somebody else; where that can't be, they have nothing to say.
fn as_nobody(command: &mut Command) -> bool {
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65534;
    // SAFETY: takes nothing and can't fail.
    let root = unsafe { libc::geteuid() } == 0;
    if root {
        command.uid(NOBODY).gid(NOBODY);
    }
    root
}

#[test]
fn check_finds_a_directory_and_a_file_it_may_not_use() {
    // The program has to be where nobody can run it from.
    let place = TempDir::new().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.path(), open.clone()).unwrap();
    let program = place.path().join("walcast");
    std::fs::copy(env!("CARGO_BIN_EXE_walcast"), &program).unwrap();
    let directory = place.path().join("data");
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("events.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch(STOCK_SCHEMA)
        .unwrap();
    let run = |mode: u32, file_mode: u32| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file_mode)).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = Command::new(&program);
        let restricted = as_nobody(&mut command);
        command
            .args([
                "check",
                "--listen",
                "127.0.0.1:0",
                "--state-dir",
                "/nonexistent",
                "--db",
            ])
            .arg(&path);
        let output = command.output().unwrap();
        std::fs::set_permissions(&directory, open.clone()).unwrap();
        restricted.then(|| Checked {
            code: output.status.code().unwrap(),
            out: text(&output.stdout),
        })
    };
    if let Some(checked) = run(0o700, 0o644) {
        assert_eq!(checked.says("can't be looked up").code, 1);
    }
    if let Some(checked) = run(0o755, 0o600) {
        assert_eq!(
            checked
                .says("can't read the database")
                .says("chmod 2770")
                .code,
            1
        );
    }
    if let Some(checked) = run(0o755, 0o644) {
        assert_eq!(
            checked
                .says("can't write the database")
                .says("can't create -wal and -shm")
                .code,
            1
        );
    }
}

#[test]
fn check_says_who_may_come_in() {
    let directory = TempDir::new().unwrap();
    let path = database(&directory, STOCK_SCHEMA);
    check(&path, &[])
        .says("answers to IP addresses and localhost")
        .says("same origin and loopback");
    let named = [
        ["--allow-host", "walcast"],
        ["--origin", "https://console.example.com"],
        ["--trusted-proxy", "10.0.0.0/8"],
    ];
    check(&path, &named.concat())
        .says("localhost, and walcast, console.example.com")
        .says("loopback, and https://console.example.com")
        .says("10.0.0.0/8 tell the addresses of clients");
    check(&path, &["--origin", "*", "--trusted-proxy", "::/0"])
        .says("pages of every origin")
        .says("any client may claim to be another");
    check(&path, &["--allow-host", "http://walcast"]).says("without scheme");
}

#[test]
fn check_says_which_ids_can_t_be_followed() {
    let directory = TempDir::new().unwrap();
    let path = database(
        &directory,
        "CREATE TABLE remediation_events(id INTEGER PRIMARY KEY, ts TEXT);
         INSERT INTO remediation_events(id) VALUES (9223372036854775807)",
    );
    check(&path, &[])
        .says("is the largest there can be")
        .says("delete the row whose id is 9223372036854775807");
}

#[test]
fn check_says_which_table_can_t_be_read() {
    const SCRIPT: &str = "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.create_function('slug', 1, str, deterministic=True)
connection.execute('ALTER TABLE remediation_events ADD COLUMN g AS (slug(ts))')";
    let directory = TempDir::new().unwrap();
    let path = database(&directory, STOCK_SCHEMA);
    let python = Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(&path)
        .status();
    assert!(python.unwrap().success());
    let checked = check(&path, &[]);
    checked
        .says("the table remediation_events can't be read")
        .says("`exclude`");
    assert_eq!(checked.code, 1, "{}", checked.out);
}

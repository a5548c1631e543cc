//! `check`, `emit` and `tail` as a user runs them: the real program, its output and its exit code.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value as Json;
use tempfile::TempDir;

/// Far more than anything here takes; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const TABLE: &str =
    "CREATE TABLE remediation_events(id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT NOT NULL,
    alertname TEXT, tenant TEXT, action TEXT, status TEXT, details TEXT);";

fn walcast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walcast"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WALCAST_") {
            command.env_remove(name);
        }
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a program that ends with exit code 1 says on stderr.
#[track_caller]
fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let why = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{why}");
    why
}

fn write_no_database(path: &Path) {
    let text = "no database, but as long as one would be. ".repeat(200);
    std::fs::write(path, text).unwrap();
}

// --- check ---

struct Checked {
    code: i32,
    out: String,
}

impl Checked {
    fn says(&self, part: &str) -> &Checked {
        assert!(self.out.contains(part), "{part:?} is not in\n{}", self.out);
        self
    }
}

/// Checks `database` on a free port, with a state directory beside it.
fn check(database: &Path, more: &[&str]) -> Checked {
    let state = database.with_extension("state");
    let Output {
        status,
        stdout,
        stderr,
    } = walcast()
        .args(["check", "--listen", "127.0.0.1:0", "--db"])
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

fn names(directory: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    names
}

fn database(directory: &TempDir, sql: &str) -> PathBuf {
    let path = directory.path().join("events.db");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    path
}

#[test]
fn check_finds_a_good_file_good_and_leaves_it_alone() {
    for mode in ["wal", "delete"] {
        let directory = TempDir::new().unwrap();
        let rows = "INSERT INTO remediation_events(ts) VALUES ('a'), ('b'), ('c');";
        let path = database(
            &directory,
            &format!("PRAGMA journal_mode = {mode}; {TABLE} {rows}"),
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
    let path = database(&directory, TABLE);
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
        .execute_batch(TABLE)
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

// --- emit ---

fn emit(path: &Path, count: &str) -> Output {
    let output = walcast()
        .args(["emit", count, "--db"])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

#[test]
fn emit_creates_the_table_and_writes_events() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.db");
    assert!(
        text(&emit(&path, "40").stderr)
            .contains(&format!("wrote 40 events to {}, ids 1–40", path.display()))
    );
    emit(&path, "2");
    let db = Connection::open(&path).unwrap();
    let of = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(of("SELECT count(*) FROM remediation_events"), 42);
    assert_eq!(
        of("SELECT count(*) FROM remediation_events WHERE status = 'error'"),
        10
    );
    let stamp = "____-__-__T__:__:__.___Z";
    assert_eq!(
        of(&format!(
            "SELECT count(*) FROM remediation_events WHERE ts LIKE '{stamp}' AND ts > '2020'"
        )),
        42
    );
}

#[test]
fn emit_refuses_a_table_of_another_shape() {
    let directory = TempDir::new().unwrap();
    let path = database(
        &directory,
        "CREATE TABLE remediation_events(id INTEGER PRIMARY KEY, x)",
    );
    let why = refusal(walcast().args(["emit", "--db"]).arg(&path));
    assert!(why.contains("is not the stock table"), "{why}");
}

// --- tail ---

/// A program that runs, its lines on stdout, and a way to end it in order.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        Running { child, lines }
    }

    fn tail(arguments: &[&str]) -> Running {
        Running::start(walcast().arg("tail").args(arguments))
    }

    fn row(&self) -> Json {
        let line = self.lines.recv_timeout(PATIENCE).expect("a row in time");
        serde_json::from_str(&line).expect("a line of JSON")
    }

    fn ids(&self, count: usize) -> Vec<i64> {
        (0..count)
            .map(|_| self.row()["id"].as_i64().unwrap())
            .collect()
    }

    /// The first line on stderr with `part` in it. The rest is read on, so that the program never blocks on it.
    fn says(&mut self, part: &str) -> String {
        let (sender, found) = channel();
        let (stderr, part) = (self.child.stderr.take().unwrap(), part.to_owned());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.contains(&part) {
                    let _ = sender.send(line);
                }
            }
        });
        found.recv_timeout(PATIENCE).expect("the line in time")
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that has not been waited for, so the id is still its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it still runs");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[test]
fn tail_of_a_file_prints_json_lines_and_leaves_no_trace() {
    let directory = TempDir::new().unwrap();
    // More rows than one page holds.
    let rows = "INSERT INTO remediation_events(ts) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000)
        SELECT 'row ' || i FROM n;";
    let path = database(
        &directory,
        &format!("PRAGMA journal_mode = WAL; {TABLE} {rows}"),
    );
    let mut tail = Running::tail(&["--db", path.to_str().unwrap(), "--since", "earliest"]);
    assert_eq!(tail.ids(3000), (1..=3000).collect::<Vec<_>>());
    emit(&path, "1");
    let row = tail.row();
    let columns: Vec<&str> = vec![
        "id",
        "ts",
        "alertname",
        "tenant",
        "action",
        "status",
        "details",
    ];
    assert_eq!(row["id"], 3001);
    assert!(
        columns.iter().all(|column| row.get(column).is_some())
            && row.as_object().unwrap().len() == 7
    );
    tail.signal(libc::SIGINT);
    assert_eq!(tail.exit_code(), Some(0));
    assert_eq!(
        names(directory.path()),
        [path],
        "-wal and -shm are gone with the last connection"
    );
}

#[test]
fn tail_of_a_file_follows_filters_and_the_last_rows() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.db");
    emit(&path, "40");
    let tail = Running::tail(&[
        "--db",
        path.to_str().unwrap(),
        "--last",
        "2",
        "--filter",
        "status=error",
    ]);
    assert_eq!(tail.ids(2), [36, 40]);
    let filter = ["tail", "--filter", "nope=1", "--db"];
    let why = refusal(walcast().args(filter).arg(&path));
    assert!(why.contains("no column nope; it has id, ts"), "{why}");
}

#[test]
fn tail_of_a_file_waits_for_it_and_prints_all_of_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.db");
    let mut tail = Running::tail(&["--db", path.to_str().unwrap()]);
    tail.says("does not exist yet");
    assert!(!path.exists());
    emit(&path, "3");
    assert_eq!(tail.ids(3), [1, 2, 3]);
    // Another history in its place is printed from its first row.
    let other = directory.path().join("other.db");
    emit(&other, "2");
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(tail.ids(2), [1, 2]);
}

#[test]
fn tail_refuses_what_is_no_database() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.db");
    write_no_database(&path);
    let why = refusal(walcast().args(["tail", "--db"]).arg(&path));
    assert!(why.contains("is not a SQLite database"), "{why}");
}

#[test]
fn tail_ends_quietly_when_nobody_reads_any_more() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.db");
    emit(&path, "3");
    let mut command = walcast();
    command
        .args(["tail", "--since", "earliest", "--db"])
        .arg(&path);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "");
}

// --- tail of a daemon ---

/// A daemon on a port of its own, which it keeps over restarts.
struct Daemon {
    database: PathBuf,
    address: String,
    running: Running,
}

impl Daemon {
    fn start(directory: &TempDir) -> Daemon {
        let database = directory.path().join("events.db");
        let (running, address) = Daemon::run(&database, "127.0.0.1:0");
        Daemon {
            database,
            address,
            running,
        }
    }

    fn run(database: &Path, listen: &str) -> (Running, String) {
        let mut command = walcast();
        command
            .args(["serve", "--listen", listen, "--db"])
            .arg(database);
        command
            .arg("--state-dir")
            .arg(database.with_extension("state"));
        command.args(["--log-format", "text"]);
        let mut running = Running::start(&mut command);
        let line = running.says("127.0.0.1:");
        let (_, rest) = line.split_once("127.0.0.1:").unwrap();
        let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (running, format!("127.0.0.1:{port}"))
    }

    fn stop(&mut self, signal: i32) {
        self.running.signal(signal);
        self.running.exit_code();
    }

    fn start_again(&mut self) {
        (self.running, _) = Daemon::run(&self.database, &self.address);
    }
}

#[test]
fn tail_of_a_daemon_outlives_its_restarts_and_misses_nothing() {
    let directory = TempDir::new().unwrap();
    let mut daemon = Daemon::start(&directory);
    let mut tail = Running::tail(&[
        &format!("http://{}", daemon.address),
        "--filter",
        "status=error",
    ]);
    tail.says("connected to");
    emit(&daemon.database, "8");
    assert_eq!(tail.ids(2), [4, 8]);
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        daemon.stop(signal);
        emit(&daemon.database, "4");
        daemon.start_again();
        emit(&daemon.database, "4");
    }
    assert_eq!(tail.ids(4), [12, 16, 20, 24]);
    tail.signal(libc::SIGINT);
    assert_eq!(tail.exit_code(), Some(0));
    assert!(tail.lines.try_recv().is_err(), "nothing twice");
}

#[test]
fn tail_of_a_daemon_says_why_it_was_refused() {
    let directory = TempDir::new().unwrap();
    let daemon = Daemon::start(&directory);
    emit(&daemon.database, "1");
    let refused = |arguments: &[&str]| refusal(walcast().arg("tail").args(arguments));
    let url = format!("ws://{}/ws/remediation", daemon.address);
    assert!(refused(&[&url, "--filter", "nope=1"]).contains("nope"));
    assert!(refused(&[&format!("ws://{}/ws/nope", daemon.address)]).contains("404"));
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert!(refused(&[&format!("ws://{free}")]).contains("is walcast running there?"));
    // And check knows its own.
    let checked = check(&daemon.database, &["--listen", &daemon.address]);
    assert_eq!(checked.says("is served by a running walcast").code, 0);
}

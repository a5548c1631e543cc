//! A database named on the command line: served as it is, listed, described, and turned into a configuration.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rusqlite::Connection;

use crate::common::{directory, wait_until};
use crate::program::{Running, database, names, refusal, text, walcast, write_no_database};

const SCHEMA: &str = "
    CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, price REAL, meta JSON, \"odd name\" BLOB);
    CREATE TABLE words(word TEXT PRIMARY KEY, seq INTEGER NOT NULL UNIQUE);
    CREATE TABLE kept(k INT PRIMARY KEY, v ANY, b BLOB) STRICT;
    INSERT INTO orders(what) VALUES ('tea'), ('milk'); INSERT INTO kept VALUES (5, 1, x'00');";

fn run(directory: &Path, arguments: &[&str]) -> Output {
    at(directory, arguments).output().unwrap()
}

fn at(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = walcast();
    command
        .args(arguments)
        .current_dir(directory)
        .env("XDG_STATE_HOME", directory.join("state"));
    command
}

/// Serves the file, and gives the address.
fn serve(directory: &Path, arguments: &[&str]) -> (Running, String) {
    let mut running = Running::start(&mut at(directory, arguments));
    let line = running.says(" serves ");
    let address = line
        .split(" on ")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    let address = address
        .unwrap_or_else(|| panic!("no address in {line}"))
        .to_owned();
    (running, address)
}

#[test]
fn a_named_file_is_served_and_left_as_it_was() {
    let dir = directory();
    let file = database(&dir, SCHEMA);
    let before = std::fs::read(&file).unwrap();
    for arguments in [
        &["events.db", "--listen", "0"][..],
        &["serve", "events.db", "--listen", ":0"],
    ] {
        let (mut running, url) = serve(dir.path(), arguments);
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        let listed = run(dir.path(), &["feeds", &url]);
        assert_eq!(listed.status.code(), Some(0), "{}", text(&listed.stderr));
        let listed = text(&listed.stdout);
        assert!(
            listed.contains("/ws/orders") && listed.contains("/ws/kept"),
            "{listed}"
        );
        assert!(!listed.contains("words"), "{listed}");
        running.signal(libc::SIGTERM);
        assert_eq!(running.exit_code(), Some(0));
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(names(dir.path()), [file, dir.path().join("state")]);
}

#[test]
fn a_named_file_that_is_locked_is_not_waited_for_before_it_listens() {
    let dir = directory();
    let locking = Connection::open(database(&dir, SCHEMA)).unwrap();
    locking.execute_batch("BEGIN EXCLUSIVE").unwrap();
    wait_until(
        "it listens before who began to wait earlier gives up",
        || {
            let other = Connection::open(dir.path().join("events.db")).unwrap();
            // SQLite counts its own pauses: on a machine that stands still they do not pass.
            other.busy_timeout(Duration::from_secs(2)).unwrap();
            let waiting = std::thread::spawn(move || other.execute_batch("BEGIN IMMEDIATE"));
            let mut running = Running::start(&mut at(dir.path(), &["events.db", "--listen", "0"]));
            running.says(" listens on ");
            let is_first = !waiting.is_finished();
            assert!(waiting.join().unwrap().is_err(), "it was not locked");
            is_first
        },
    );
}

#[test]
fn a_name_that_leads_to_no_database_gets_the_nearest() {
    let dir = directory();
    database(&dir, SCHEMA);
    write_no_database(&dir.path().join("notes.txt"));
    let why = |arguments: &[&str], code: i32| {
        let output = run(dir.path(), arguments);
        let why = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {why}");
        why
    };
    for arguments in [&["event.db"][..], &["serve", "event.db"]] {
        assert!(why(arguments, 2).contains("did you mean events.db?"));
    }
    for command in ["feeds", "types", "init", "tail"] {
        assert!(
            why(&[command, "event.db"], 1).contains("did you mean events.db?"),
            "{command}"
        );
        assert!(
            why(&[command, "."], 1).contains("is a directory"),
            "{command}"
        );
        assert!(
            why(&[command, "notes.txt"], 1).contains("not a SQLite database"),
            "{command}"
        );
    }
    assert!(why(&["."], 2).contains("is a directory"));
    assert!(why(&["notes.txt"], 1).contains("not a SQLite database"));
    let checked = run(dir.path(), &["check", "event.db"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(text(&checked.stdout).contains("did you mean events.db?"));
    let both = run(dir.path(), &["events.db", "--db", "other.db"]);
    assert_eq!(both.status.code(), Some(2), "{}", text(&both.stderr));
}

#[test]
fn feeds_lists_what_is_and_says_why_others_are_not() {
    let dir = directory();
    let file = database(&dir, SCHEMA);
    let listed = run(dir.path(), &["feeds", "events.db"]);
    assert_eq!(listed.status.code(), Some(0));
    let lines = text(&listed.stdout);
    let orders = lines
        .lines()
        .find(|line| line.starts_with("orders"))
        .unwrap();
    let cells: Vec<&str> = orders.split_whitespace().collect();
    assert_eq!(cells, ["orders", "orders", "id", "2", "/ws/orders"]);
    let why = text(&listed.stderr);
    assert!(
        why.contains("not a feed: table words")
            && why.contains("key = \"seq\"")
            && why.contains("walcast capture install --db events.db words"),
        "{why}"
    );
    assert_eq!(names(dir.path()), [file]);
    let nobody = refusal(&mut at(dir.path(), &["feeds", "http://127.0.0.1:1"]));
    assert!(nobody.contains("no daemon answers"), "{nobody}");
    let checked = run(dir.path(), &["check", "events.db"]);
    let found = text(&checked.stdout);
    assert!(
        found.contains("feed orders") && found.contains("install --db events.db words"),
        "{found}"
    );
    for rows in ["2 rows, ids 1 to 2", "1 row, id 5"] {
        assert!(found.contains(rows), "{found}");
    }
    assert_eq!(checked.status.code(), Some(0), "{found}");
}

#[test]
fn a_command_to_paste_names_the_file_as_a_shell_takes_it() {
    let dir = directory();
    let file = database(&dir, SCHEMA);
    std::fs::rename(file, dir.path().join("it's ours.db")).unwrap();
    let command = r"walcast capture install --db 'it'\''s ours.db' words";
    let said = text(&run(dir.path(), &["feeds", "it's ours.db"]).stderr);
    assert!(said.contains(command), "{said}");
    let mut served = Running::start(&mut at(dir.path(), &["it's ours.db", "--listen", "0"]));
    let logged = served.says("not a feed: table words");
    assert!(logged.contains(command), "{logged}");
    let written = text(&run(dir.path(), &["init", "it's ours.db", "--output", "-"]).stdout);
    let absolute = dir.path().join("it's ours.db").display().to_string();
    let absolute = absolute.replace('\'', r"'\''");
    let line = format!("walcast capture install --db '{absolute}' words");
    assert!(written.contains(&line), "{written}");
    let line = "walcast tail 'it'\\''s ours.db' --feed orders";
    let several = text(&run(dir.path(), &["tail", "it's ours.db"]).stderr);
    assert!(several.contains(line), "{several}");
}

#[test]
fn an_address_in_the_place_of_a_file_is_told_where_it_goes() {
    let dir = directory();
    let url = "http://127.0.0.1:8010/?a=b&c";
    for (arguments, code) in [
        (&[url][..], 2),
        (&["serve", url], 2),
        (&["check", url], 1),
        (&["types", url], 1),
        (&["init", url], 1),
        (&["emit", url], 1),
    ] {
        let output = run(dir.path(), arguments);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        for part in [
            "this takes a database file",
            "`walcast feeds 'http://127.0.0.1:8010/?a=b&c'`",
            "`walcast tail 'http://127.0.0.1:8010/?a=b&c'`",
        ] {
            assert!(said.contains(part), "{arguments:?}: {said}");
        }
        assert!(!said.contains("directory http:"), "{arguments:?}: {said}");
    }
}

#[test]
fn feeds_asks_a_daemon_whether_it_is_ready() {
    let dir = directory();
    let file = database(&dir, SCHEMA);
    let socket = format!("unix:{}", dir.path().join("socket").display());
    let arguments = ["events.db", "--listen", "0", "--listen", &socket];
    let (running, url) = serve(dir.path(), &arguments);
    let url = url.split(' ').next().unwrap().to_owned();
    let ready = |more: &[&str]| {
        let output = run(dir.path(), &[&["feeds", "--ready"], more].concat());
        let code = output.status.code().unwrap();
        assert_eq!(text(&output.stdout), "");
        (code, text(&output.stderr))
    };
    let port = url.rsplit(':').next().unwrap();
    for place in [
        &[url.as_str()][..],
        &["--listen", port],
        &["--listen", &socket],
    ] {
        assert_eq!(ready(place), (0, String::new()), "{place:?}");
    }
    // As a container's health check: what it listens on is in the environment.
    let any = format!("0.0.0.0:{port}");
    let mut check = at(dir.path(), &["feeds", "--ready"]);
    check.env("WALCAST_LISTEN", &any);
    assert_eq!(check.output().unwrap().status.code(), Some(0));
    let (code, why) = ready(&["events.db"]);
    assert!(code == 2 && why.contains("http://127.0.0.1:8010"), "{why}");
    std::fs::write(&file, "no database any more").unwrap();
    wait_until("it is not ready any more", || ready(&[&url]).0 == 1);
    let why = ready(&[&url]).1;
    assert!(why.contains("not ready: "), "{why}");
    drop(running);
    let (code, why) = ready(&[&url]);
    assert!(code == 1 && why.contains("no daemon answers"), "{why}");
}

#[test]
fn check_names_the_table_that_was_probably_meant() {
    let dir = directory();
    database(&dir, SCHEMA);
    std::fs::write(dir.path().join("walcast.toml"), "[feeds.order]\n").unwrap();
    let arguments = ["check", "--config", "walcast.toml", "--db", "events.db"];
    let found = text(&run(dir.path(), &arguments).stdout);
    assert!(found.contains("did you mean the table orders?"), "{found}");
    assert!(!found.contains("all of this would work"), "{found}");
}

#[test]
fn check_names_the_column_and_the_file_that_were_probably_meant() {
    let dir = directory();
    database(&dir, SCHEMA);
    let check = |feed: &str, file: &str| {
        let toml = format!("[feeds.orders]\n{feed}\n");
        std::fs::write(dir.path().join("walcast.toml"), toml).unwrap();
        let checked = run(
            dir.path(),
            &["check", "--config", "walcast.toml", "--db", file],
        );
        (text(&checked.stdout), checked.status.code())
    };
    for (feed, key) in [
        ("exclude = [\"prise\"]", "feeds.orders.exclude:"),
        ("columns = [\"prise\"]", "feeds.orders.columns:"),
        ("json = [\"prise\"]", "feeds.orders.json:"),
        ("truncate = { prise = 9 }", "truncate cuts prise"),
        ("key = \"prise\"", "key = \"prise\":"),
    ] {
        let (found, code) = check(feed, "events.db");
        assert!(found.contains(key), "{feed}: {found}");
        assert!(found.contains("did you mean \"price\"?"), "{feed}: {found}");
        // What is only not cut keeps nothing from being served.
        assert_eq!(code, Some(i32::from(key != "truncate cuts prise")));
    }
    let (found, _) = check("", "event.db");
    assert!(found.contains("did you mean "), "{found}");
    assert!(found.contains("/events.db?"), "{found}");
    let (found, code) = check("", ".");
    assert!(
        found.contains("is a directory") && code == Some(1),
        "{found}"
    );
}

#[test]
fn what_can_t_be_read_is_not_said_to_be_served() {
    let dir = directory();
    write_no_database(&dir.path().join("notes.txt"));
    std::fs::write(dir.path().join("empty.db"), "").unwrap();
    let said = [
        (".", "but . can't be read"),
        ("notes.txt", "but notes.txt can't be read"),
        ("empty.db", "but empty.db is empty so far"),
        ("nowhere/x.db", "but there is no nowhere/x.db yet"),
    ];
    std::fs::write(dir.path().join("walcast.toml"), "feeds = \"*\"\n").unwrap();
    for (file, why) in said {
        let arguments = ["--config", "walcast.toml", "--db", file, "--listen", "0"];
        let mut running = Running::start(&mut at(dir.path(), &arguments));
        let line = running.says(" listens on ");
        assert!(line.contains(why), "{line}");
    }
}

#[test]
fn types_are_those_of_the_columns() {
    let dir = directory();
    let file = database(&dir, SCHEMA);
    let printed = run(dir.path(), &["types", "events.db"]);
    assert_eq!(printed.status.code(), Some(0), "{}", text(&printed.stderr));
    let types = text(&printed.stdout);
    for part in [
        "export interface Orders {\n  id: number;\n  what: string;\n  price: number | null;\n  meta: number | string | null;\n  \
         \"odd name\": number | string | null;\n}",
        "  type: \"orders_event\";\n  event: Orders;",
        "export interface Kept {\n  k: number;\n  v: number | string | null;\n  b: string | null;\n}",
    ] {
        assert!(types.contains(part), "{part} is not in {types}");
    }
    let toml = "[feeds.orders]\njson = [\"meta\"]\nexclude = [\"price\"]\n";
    std::fs::write(dir.path().join("walcast.toml"), toml).unwrap();
    let types = text(
        &run(
            dir.path(),
            &["types", "events.db", "--config", "walcast.toml"],
        )
        .stdout,
    );
    assert!(
        types.contains("meta: unknown;") && !types.contains("price"),
        "{types}"
    );
    assert_eq!(names(dir.path()), [file, dir.path().join("walcast.toml")]);
}

#[test]
fn the_key_of_a_captured_table_is_never_null() {
    let dir = directory();
    let file = database(
        &dir,
        "CREATE TABLE words(word TEXT PRIMARY KEY, said); CREATE TABLE pairs(a, \"b c\" TEXT, v TEXT, PRIMARY KEY (a, \"b c\"))",
    );
    for table in ["words", "pairs"] {
        let mut capture = at(dir.path(), &["capture", "install", "--db"]);
        let captured = capture.arg(&file).arg(table).output().unwrap();
        assert!(captured.status.success(), "{}", text(&captured.stderr));
    }
    let types = text(&run(dir.path(), &["types", "events.db"]).stdout);
    for part in [
        "export interface Words {\n  word: string;\n  said: number | string | null;\n}",
        "export interface Pairs {\n  a: number | string;\n  \"b c\": string;\n  v: string | null;\n}",
    ] {
        assert!(types.contains(part), "{part} is not in {types}");
    }
}

#[test]
fn init_writes_a_configuration_that_serves_the_same() {
    let dir = directory();
    database(&dir, SCHEMA);
    let written = run(dir.path(), &["init", "events.db"]);
    assert_eq!(written.status.code(), Some(0), "{}", text(&written.stderr));
    let toml = std::fs::read_to_string(dir.path().join("walcast.toml")).unwrap();
    assert!(toml.contains("# not a feed: table words"), "{toml}");
    let again = refusal(&mut at(dir.path(), &["init", "events.db"]));
    assert!(again.contains("--force"), "{again}");
    for (output, named) in [("shop.toml", "shop.toml"), ("-", "walcast.toml")] {
        let written = run(dir.path(), &["init", "events.db", "--output", output]);
        let toml = match output {
            "-" => text(&written.stdout),
            file => std::fs::read_to_string(dir.path().join(file)).unwrap(),
        };
        let command = format!("Try it: walcast check --config {named}\n");
        assert!(toml.contains(&command), "{toml}");
    }
    let arguments = ["--config", "walcast.toml", "--listen", "0"];
    let (running, url) = serve(dir.path(), &arguments);
    let listed = text(&run(dir.path(), &["feeds", &url]).stdout);
    assert!(
        listed.contains("/ws/orders") && listed.contains("/ws/kept"),
        "{listed}"
    );
    drop(running);
}

#[test]
fn a_file_is_followed_and_written_to_by_its_name_alone() {
    let dir = directory();
    database(
        &dir,
        "CREATE TABLE orders(id INTEGER PRIMARY KEY, what); INSERT INTO orders VALUES (3, 'tea')",
    );
    let file = dir.path().join("events.db").display().to_string();
    let tail = Running::tail(&[&file, "--since", "earliest"]);
    assert_eq!(tail.ids(1), [3]);
    drop(tail);
    let written = run(dir.path(), &["emit", "stock.db", "2"]);
    assert!(
        text(&written.stderr).contains("wrote 2 events to stock.db"),
        "{}",
        text(&written.stderr)
    );
    let refused = refusal(Command::arg(&mut walcast(), "tail").arg(dir.path().join("event.db")));
    assert!(refused.contains("did you mean"), "{refused}");
}

#[test]
fn completions_offer_values_and_not_names_of_files() {
    let dir = directory();
    for shell in ["bash", "zsh", "fish"] {
        let printed = run(dir.path(), &["completions", shell]);
        assert_eq!(printed.status.code(), Some(0), "{shell}");
        let script = text(&printed.stdout);
        assert!(
            ["debug", "wal", "earliest"]
                .iter()
                .all(|value| script.contains(value)),
            "{shell}"
        );
    }
    assert_eq!(
        text(&run(dir.path(), &["version"]).stdout),
        text(&run(dir.path(), &["--version"]).stdout)
    );
}

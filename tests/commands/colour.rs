//! Colours are for terminals that have them, and for people who want them.

use std::process::Command;

use crate::common::directory;
use crate::program::{database, walcast};
use crate::terminal::OnTerminal;

/// What a line holds that is coloured.
const ESCAPE: char = '\x1b';

/// What the environment says, and whether colours follow from it.
const ENVIRONMENTS: [(&[(&str, &str)], bool); 5] = [
    (&[("TERM", "xterm")], true),
    (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
    (&[("TERM", "xterm"), ("NO_COLOR", "1")], false),
    (&[("TERM", "xterm"), ("CLICOLOR", "0")], false),
    (&[("TERM", "dumb")], false),
];

/// The first line with `part` in it that the program writes to a terminal, stderr included.
fn line(arguments: &[&str], environment: &[(&str, &str)], part: &str) -> String {
    let program = walcast();
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"exec "$0" "$@" 2>&1"#])
        .arg(program.get_program())
        .args(arguments);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    let terminal = OnTerminal::start(&mut command);
    loop {
        let line = terminal.line();
        if line.contains(part) {
            return line;
        }
    }
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    for (environment, coloured) in ENVIRONMENTS {
        let dir = directory();
        let file = database(
            &dir,
            "CREATE TABLE orders(id INTEGER PRIMARY KEY, status TEXT); INSERT INTO orders VALUES (1, 'ok')",
        );
        let file = file.to_str().unwrap();
        for (arguments, part) in [
            (&["check", file][..], "ok"),
            (&["tail", file, "--last", "1"], "status"),
            (
                &["serve", file, "--listen", "0", "--journal-mode", "wal"],
                "INFO",
            ),
        ] {
            let line = line(arguments, environment, part);
            let told = format!("{arguments:?} with {environment:?} writes {line:?}");
            assert_eq!(line.contains(ESCAPE), coloured, "{told}");
        }
    }
}

#[test]
fn columns_stay_straight_whatever_the_letters() {
    let dir = directory();
    let file = database(
        &dir,
        "CREATE TABLE \"日本\"(id INTEGER PRIMARY KEY); CREATE TABLE orders(id INTEGER PRIMARY KEY)",
    );
    let output = walcast().arg("feeds").arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Two letters in four cells, as wide as six.
    for line in ["FEED    TABLE   KEY", "日本    id", "orders  id"] {
        assert!(text.contains(line), "{text}");
    }
}

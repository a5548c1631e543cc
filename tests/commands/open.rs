//! `walcast --open`: the dashboard is shown with a program of the desktop's, and nothing depends on it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common::{directory, wait_until};
use crate::program::{Running, database, text, walcast};

const TABLE: &str = "CREATE TABLE orders(id INTEGER PRIMARY KEY)";

/// A desktop without a single program but those that a test puts there.
struct Desktop {
    dir: TempDir,
}

impl Desktop {
    fn new() -> Desktop {
        let dir = directory();
        database(&dir, TABLE);
        fs::create_dir(dir.path().join("bin")).unwrap();
        Desktop { dir }
    }

    /// A program that notes its arguments, each run a line, and ends with this code.
    fn install(&self, name: &str, code: u8) {
        let script = format!(
            "#!/bin/sh\necho \"$@\" >>{}\nexit {code}\n",
            self.opened().display()
        );
        let program = self.dir.path().join("bin").join(name);
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn opened(&self) -> PathBuf {
        self.dir.path().join("opened")
    }

    /// `walcast` with these arguments, which has a display.
    fn walcast(&self, arguments: &[&str]) -> Command {
        let mut command = walcast();
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("PATH", self.dir.path().join("bin"))
            .env("XDG_STATE_HOME", self.dir.path().join("state"))
            .env("DISPLAY", ":0");
        for variable in ["BROWSER", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"] {
            command.env_remove(variable);
        }
        command
    }

    fn wait_for(&self, opened: &str) {
        wait_until("the page is opened", || {
            fs::read_to_string(self.opened()).is_ok_and(|text| text.ends_with('\n'))
        });
        assert_eq!(fs::read_to_string(self.opened()).unwrap(), opened);
        fs::remove_file(self.opened()).unwrap();
    }
}

const SERVE: [&str; 4] = ["events.db", "--open", "--listen", "0"];

/// The dashboard's address, from the line that says what is served.
fn url(line: &str) -> String {
    let from = line.find("http://").unwrap();
    let address = line[from..].split([';', ' ']).next();
    format!("{}/", address.unwrap())
}

#[test]
fn the_dashboard_is_opened_with_the_desktops_program() {
    let desktop = Desktop::new();
    desktop.install("xdg-open", 0);
    let mut serving = Running::start(&mut desktop.walcast(&SERVE));
    let url = url(&serving.says(" serves "));
    desktop.wait_for(&format!("{url}\n"));
    // The programs of one's own choice go before it, one after the other.
    drop(serving);
    desktop.install("broken", 7);
    desktop.install("mine", 0);
    let mut command = desktop.walcast(&SERVE);
    command.env("BROWSER", "nowhere:mine --new %s:broken");
    let mut serving = Running::start(&mut command);
    let url = self::url(&serving.says(" serves "));
    desktop.wait_for(&format!("--new {url}\n"));
}

#[track_caller]
fn says_where_to_go(command: &mut Command, why: &str) {
    let mut serving = Running::start(command);
    let line = serving.says("no browser shows the dashboard");
    assert!(
        line.contains(why) && line.contains("; go to http://127.0.0.1:"),
        "{line}"
    );
    let listed = walcast().args(["feeds", &url(&line)]).output().unwrap();
    assert!(text(&listed.stdout).contains("/ws/orders"), "it goes on");
    serving.signal(libc::SIGTERM);
    assert_eq!(serving.exit_code(), Some(0));
}

#[test]
fn where_nothing_can_show_it_one_line_says_so() {
    let desktop = Desktop::new();
    says_where_to_go(&mut desktop.walcast(&SERVE), "xdg-utils");
    desktop.install("xdg-open", 3);
    says_where_to_go(
        &mut desktop.walcast(&SERVE),
        "xdg-open ended with exit status: 3",
    );
    let mut command = desktop.walcast(&SERVE);
    says_where_to_go(command.env("BROWSER", "nowhere"), "nowhere: No such file");
    fs::remove_file(desktop.opened()).unwrap();
    let mut command = desktop.walcast(&SERVE);
    says_where_to_go(command.env_remove("DISPLAY"), "this session has no display");
    assert!(
        !desktop.opened().exists(),
        "a browser for terminals would be opened"
    );
    let socket = desktop.dir.path().join("socket");
    let listen = format!("unix:{}", socket.display());
    let mut command = desktop.walcast(&["events.db", "--open", "--listen", &listen]);
    let mut serving = Running::start(&mut command);
    serving.says("can't be shown");
}

#[test]
fn nothing_is_opened_where_nothing_is_served() {
    let desktop = Desktop::new();
    desktop.install("xdg-open", 0);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = |arguments: &[&str]| {
        let output = desktop.walcast(arguments).output().unwrap();
        assert!(!output.status.success(), "{}", text(&output.stderr));
        assert!(!Path::new(&desktop.opened()).exists());
    };
    refused(&["events.db", "--open", "--listen", &address]);
    refused(&["event.db", "--open", "--listen", "0"]);
}

//! A program that writes to a terminal.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::program::PATIENCE;

/// A program whose stdout is a terminal.
pub struct OnTerminal {
    child: Child,
    lines: Receiver<String>,
    /// A line that was looked for, and not yet given.
    ahead: Cell<Option<String>>,
}

impl OnTerminal {
    /// Starts it; it writes no colours unless the command's own environment has a `TERM`.
    pub fn start(command: &mut Command) -> OnTerminal {
        let (screen, terminal) = terminal();
        if !command.get_envs().any(|(name, _)| name == "TERM") {
            // Not `TERM=dumb`, which `CI` overrules.
            command.env("NO_COLOR", "1");
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(terminal)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Or the terminal would never end.
        command.stdout(Stdio::null());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // A terminal that nobody writes to any more ends with an error.
            for line in BufReader::new(screen).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        OnTerminal {
            child,
            lines,
            ahead: Cell::new(None),
        }
    }

    /// The next line that was written.
    #[track_caller]
    pub fn line(&self) -> String {
        let line = self.ahead.take();
        let line = line.or_else(|| self.lines.recv_timeout(PATIENCE).ok());
        line.expect("a line in time").trim_end().to_owned()
    }

    /// Returns whether no line was written up to now.
    pub fn is_blank(&self) -> bool {
        let line = self.ahead.take().or_else(|| self.lines.try_recv().ok());
        self.ahead.set(line.clone());
        line.is_none()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // Ended already, perhaps.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is written to a new terminal, and the terminal.
fn terminal() -> (File, OwnedFd) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let terminal = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (File::from(screen), terminal)
}

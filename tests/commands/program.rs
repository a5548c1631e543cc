//! The program as a process: run to its end, or running with its output read line by line.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value as Json;
use tempfile::TempDir;

pub use crate::common::settings::program as walcast;
use crate::common::wait::pause;

/// Far more than anything here takes; a test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a program that ends with exit code 1 says on stderr.
#[track_caller]
pub fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let why = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{why}");
    why
}

pub fn write_no_database(path: &Path) {
    let text = "no database, but as long as one would be. ".repeat(200);
    std::fs::write(path, text).unwrap();
}

pub fn names(directory: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    names
}

pub fn database(directory: &TempDir, sql: &str) -> PathBuf {
    let path = directory.path().join("events.db");
    execute(&path, sql);
    path
}

pub fn execute(path: &Path, sql: &str) {
    let writer = Connection::open(path).unwrap();
    writer.busy_timeout(PATIENCE).unwrap();
    writer.execute_batch(sql).unwrap();
}

pub fn emit(path: &Path, count: &str) -> Output {
    let output = walcast()
        .args(["emit", count, "--db"])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

/// A program that runs, its lines on stdout, and a way to end it in order.
pub struct Running {
    child: Child,
    pub lines: Receiver<String>,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        Running { child, lines }
    }

    pub fn tail(arguments: &[&str]) -> Running {
        Running::start(walcast().arg("tail").args(arguments))
    }

    pub fn row(&self) -> Json {
        let line = self.lines.recv_timeout(PATIENCE).expect("a row in time");
        serde_json::from_str(&line).expect("a line of JSON")
    }

    pub fn ids(&self, count: usize) -> Vec<i64> {
        (0..count)
            .map(|_| self.row()["id"].as_i64().unwrap())
            .collect()
    }

    /// The first line on stderr with `part` in it. The rest is read on, so that the program never blocks on it.
    pub fn says(&mut self, part: &str) -> String {
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

    pub fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that has not been waited for, so the id is still its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            pause();
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

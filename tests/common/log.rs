//! What the daemon says on stderr.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use super::wait::PATIENCE;

/// What the daemon writes to stderr, line by line.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    text: String,
    address: Option<SocketAddr>,
    ended: bool,
}

impl Log {
    pub fn collect(&self, stderr: impl std::io::Read + Send + 'static) -> JoinHandle<()> {
        let log = self.clone();
        std::thread::spawn(move || {
            let (lines, changed) = &*log.0;
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { break };
                let mut lines = lines.lock().expect("no thread panics with the log locked");
                lines.address = lines.address.or_else(|| address_in(&line));
                lines.text.push_str(&line);
                lines.text.push('\n');
                changed.notify_all();
            }
            lines
                .lock()
                .expect("no thread panics with the log locked")
                .ended = true;
            changed.notify_all();
        })
    }

    /// The address of the line that says what is served; `None` where the process ends or stays silent.
    pub fn wait_for_address(&self) -> Option<SocketAddr> {
        let (lines, changed) = &*self.0;
        let lines = lines.lock().expect("no thread panics with the log locked");
        let (lines, _) = changed
            .wait_timeout_while(lines, PATIENCE, |lines| {
                lines.address.is_none() && !lines.ended
            })
            .expect("no thread panics with the log locked");
        lines.address
    }

    pub fn text(&self) -> String {
        let lines = self.0.0.lock();
        lines
            .expect("no thread panics with the log locked")
            .text
            .clone()
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line
        .split_once("http://")
        .or_else(|| line.split_once("https://"))?;
    let end = rest
        .find(|c: char| !(c.is_ascii_digit() || ".:[]".contains(c)))
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

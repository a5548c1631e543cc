//! A NATS server with JetStream, in a process of its own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::sys;

/// Where the program is looked for, unless `WALCAST_NATS_SERVER` names it: where `tests/run` puts it, then Debian's.
const PROGRAMS: [&str; 2] = ["target/nats/bin/nats-server", "/usr/sbin/nats-server"];

/// A running server.
pub struct Broker {
    child: Child,
    pub url: String,
}

impl Broker {
    /// Starts one that stores in `directory`, and waits until it listens.
    ///
    /// # Errors
    /// It is not installed, or does not begin to listen within 10 s.
    pub fn start(directory: &Path) -> Result<Broker> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut command = Command::new(program()?);
        command
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        sys::end_with_parent(&mut command);
        let child = command.spawn().context("nats-server")?;
        let broker = Broker {
            child,
            url: format!("nats://127.0.0.1:{port}"),
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < deadline, "nats-server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(broker)
    }

    /// Writes a configuration that publishes the stock feed there, and returns its path.
    ///
    /// # Errors
    /// It can't be written.
    pub fn configure(&self, directory: &Path) -> Result<PathBuf> {
        let path = directory.join("publish.toml");
        fs::write(
            &path,
            format!(
                "[feeds.remediation]\n[publish]\nnats = {:?}\nkeep = {{ bytes = \"1GiB\" }}\n",
                self.url
            ),
        )?;
        Ok(path)
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// It could not be ended.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.kill(); // it has ended before
    }
}

fn program() -> Result<PathBuf> {
    let named = std::env::var_os("WALCAST_NATS_SERVER").map(PathBuf::from);
    let found = PROGRAMS
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists());
    named
        .or(found)
        .context("nats-server is not installed: run tests/run rust once, or name it with WALCAST_NATS_SERVER")
}

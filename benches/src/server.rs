//! The programs under measurement, each in a process of its own: started, asked, weighed and stopped by its id.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::sys;
use crate::wire;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Walcast,
    Floor,
}

impl Subject {
    pub fn name(self) -> &'static str {
        match self {
            Self::Walcast => "walcast",
            Self::Floor => "floor",
        }
    }
}

/// A running server.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// Where it is asked how it is, without TLS.
    health: SocketAddr,
    log: PathBuf,
}

/// What a server is started with.
pub struct Launch<'a> {
    pub subject: Subject,
    /// The daemon's binary.
    pub walcast: &'a Path,
    pub database: &'a Path,
    /// A directory of its own, for state and log.
    pub directory: &'a Path,
    /// walcast's configuration, where the stock feed is not meant.
    pub config: Option<&'a Path>,
    /// Of an edge, its origin; the database is its spool.
    pub upstream: Option<SocketAddr>,
    /// Where it listens, where it speaks TLS.
    pub over_tls: Option<Places>,
}

/// The addresses of a server that speaks TLS; it has the same ones whenever it is started.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// Where clients come.
    pub clients: SocketAddr,
    /// `metrics.listen` in its configuration.
    pub health: SocketAddr,
}

impl Places {
    /// Addresses nobody listens on now.
    ///
    /// # Errors
    /// When there are none.
    pub fn free() -> Result<Self> {
        let held = TcpListener::bind(("127.0.0.1", 0))?;
        Ok(Self {
            clients: held.local_addr()?,
            health: free_address()?,
        })
    }
}

impl Launch<'_> {
    /// Starts the server without waiting for it.
    ///
    /// # Errors
    /// When the binary can't be run.
    pub fn spawn(&self) -> Result<Server> {
        let address = match self.over_tls {
            Some(places) => places.clients,
            None => free_address()?,
        };
        let log = self.directory.join("server.log");
        let mut command = match self.subject {
            Subject::Walcast => {
                let mut command = Command::new(self.walcast);
                match self.upstream {
                    Some(origin) => command
                        .arg("edge")
                        .arg("--upstream")
                        .arg(format!("ws://{origin}")),
                    None => command.arg("serve"),
                };
                command.arg("--state-dir").arg(self.directory.join("state"));
                if let Some(config) = self.config {
                    command.arg("--config").arg(config);
                }
                command
            }
            Subject::Floor => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("floor");
                command
            }
        };
        command
            .arg(if self.upstream.is_some() {
                "--spool"
            } else {
                "--db"
            })
            .arg(self.database)
            .arg("--listen")
            .arg(address.to_string());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        sys::end_with_parent(&mut command);
        let child = command
            .spawn()
            .with_context(|| format!("{}", command.get_program().display()))?;
        Ok(Server {
            child,
            address,
            health: self.over_tls.map_or(address, |places| places.health),
            log,
        })
    }

    /// Starts the server and waits until it serves.
    ///
    /// # Errors
    /// When it does not within 20 s; the end of its log is in the message.
    pub fn start(&self) -> Result<Server> {
        let mut server = self.spawn()?;
        let path = if self.subject == Subject::Walcast {
            "/readyz"
        } else {
            "/healthz"
        };
        server.wait_for(path, Duration::from_millis(5))?;
        Ok(server)
    }
}

impl Server {
    /// Asks for `path` every `pause` until the answer is 200.
    ///
    /// # Errors
    /// When it is not within 20 s, or the process ended.
    pub fn wait_for(&mut self, path: &str, pause: Duration) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match wire::get(self.health, path) {
                Ok((200, _)) => return Ok(()),
                _ if self.child.try_wait()?.is_some() => {
                    bail!("it ended at once:\n{}", self.last_words())
                }
                answer if Instant::now() > deadline => {
                    bail!(
                        "{path} did not answer 200 within 20 s but {answer:?}:\n{}",
                        self.last_words()
                    )
                }
                _ => std::thread::sleep(pause),
            }
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// Ends it at once, as a crash does.
    ///
    /// # Errors
    /// When it can't be ended.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// What it counts of connections that went wrong, as its metrics say it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn connection_errors(&self) -> Result<Vec<String>> {
        let (_, text) = wire::get(self.health, "/metrics")?;
        let text = String::from_utf8_lossy(&text);
        let series = text
            .lines()
            .filter(|line| line.starts_with("walcast_connection_errors_total{"));
        Ok(series
            .filter(|line| !line.ends_with(" 0"))
            .map(str::to_owned)
            .collect())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time of all its threads since its start, nanoseconds.
    ///
    /// # Errors
    /// When it is not running.
    pub fn cpu_ns(&self) -> Result<u64> {
        sys::process_cpu_ns(self.pid())
            .with_context(|| format!("it has ended:\n{}", self.last_words()))
    }

    /// Resident memory in MiB.
    ///
    /// # Errors
    /// When it is not running.
    pub fn resident_mib(&self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// Highest resident memory since the start or [`Server::forget_peak`], in MiB.
    ///
    /// # Errors
    /// When it is not running.
    pub fn peak_mib(&self) -> Result<f64> {
        self.status("VmHWM:")
    }

    /// # Errors
    /// When it is not running.
    pub fn forget_peak(&self) -> Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.pid()), "5")?)
    }

    fn status(&self, key: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .with_context(|| format!("no {key}"))?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }
}

/// Ends the server as a service manager does: SIGTERM, and SIGKILL when it is still there after 12 s.
impl Drop for Server {
    fn drop(&mut self) {
        sys::terminate(self.pid()); // its id is still its own: unless it ended before, nobody has waited for it
        let deadline = Instant::now() + Duration::from_secs(12);
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                let _ = self.child.kill(); // it has ended in this very moment
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// An address nobody listens on now. Both subjects get theirs this way.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Connections so far that came to a listen queue which had no room for them. Their clients try again after a second, then
/// three, and so on.
///
/// # Errors
/// When /proc is not as Linux has it.
pub fn listen_overflows() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = lines.next().zip(lines.next()).context("no TcpExt")?;
    let mut pairs = names.split(' ').zip(values.split(' '));
    let found = pairs.find(|(name, _)| *name == "ListenOverflows");
    Ok(found.context("no ListenOverflows")?.1.parse()?)
}

/// Kernel memory of all TCP sockets of the machine in KiB.
///
/// # Errors
/// When /proc is not as Linux has it.
pub fn tcp_memory_kib() -> Result<f64> {
    let text = fs::read_to_string("/proc/net/sockstat")?;
    let line = text
        .lines()
        .find(|line| line.starts_with("TCP:"))
        .context("no TCP in sockstat")?;
    let pages = line
        .split(' ')
        .skip_while(|&word| word != "mem")
        .nth(1)
        .context("no mem in sockstat")?;
    Ok(pages.parse::<f64>()? * 4.0)
}

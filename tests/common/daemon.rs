//! The daemon under test as a process of its own, on a port that it chose itself.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use super::database::{Database, insert};
use super::http::{self, Response};
use super::subscriber::Subscriber;
use super::wait::{PATIENCE, wait_until};

/// The WebSocket of the stock feed.
pub const STOCK_FEED: &str = "/ws/remediation";

/// How a daemon is started. Unless told otherwise: `walcast.db` and the state in the directory given, a free port.
#[derive(Debug, Clone)]
pub struct Settings {
    directory: PathBuf,
    database: PathBuf,
    flags: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    toml: Option<String>,
    listen: String,
    file_events: bool,
}

impl Settings {
    /// Serves this file instead of `walcast.db`.
    pub fn database(mut self, path: impl Into<PathBuf>) -> Settings {
        self.database = path.into();
        self
    }

    pub fn flag(mut self, flag: impl Into<OsString>) -> Settings {
        self.flags.push(flag.into());
        self
    }

    pub fn option(self, flag: impl Into<OsString>, value: impl Into<OsString>) -> Settings {
        self.flag(flag).flag(value)
    }

    pub fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Settings {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The text of the configuration file, written to `walcast.toml` in the directory.
    pub fn toml(mut self, text: impl Into<String>) -> Settings {
        self.toml = Some(text.into());
        self
    }

    /// An interval so long that whatever arrives was not found by the safety poll.
    pub fn without_poll(self) -> Settings {
        self.option("--poll-interval", "1h")
    }

    /// A system on which nothing can be watched: every attempt to use inotify fails.
    pub fn without_file_events(mut self) -> Settings {
        self.file_events = false;
        self
    }

    /// Starts the daemon and waits until it serves.
    #[track_caller]
    pub fn start(self) -> Daemon {
        match self.try_start() {
            Ok(daemon) => daemon,
            Err(failed) => panic!(
                "walcast did not start ({}):\n{}",
                failed.status, failed.stderr
            ),
        }
    }

    /// Starts the daemon and waits until it serves or has ended.
    pub fn try_start(self) -> Result<Daemon, Failed> {
        let mut child = self.command().spawn().expect("walcast can be run");
        let log = Log::default();
        let reader = log.collect(child.stderr.take().expect("stderr is piped"));
        match log.wait_for_address() {
            Some(address) => Ok(Daemon {
                child,
                address,
                log,
                reader: Some(reader),
                settings: self,
            }),
            None => {
                // It has closed stderr, or says nothing: either way it is at its end.
                let ended = child.try_wait().ok().flatten();
                let status = ended.unwrap_or_else(|| {
                    wait_for_end(&mut child).unwrap_or_else(|| {
                        let _ = child.kill();
                        child.wait().expect("a killed child can be waited for")
                    })
                });
                reader.join().expect("the log reader does not panic");
                Err(Failed {
                    status,
                    stderr: log.text(),
                })
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walcast"));
        for (name, _) in std::env::vars_os() {
            let foreign = name.to_string_lossy().starts_with("WALCAST_");
            if foreign || name == "NOTIFY_SOCKET" || name == "STATE_DIRECTORY" {
                command.env_remove(name);
            }
        }
        if let Some(toml) = &self.toml {
            let path = self.directory.join("walcast.toml");
            fs::write(&path, toml).expect("the configuration can be written");
            command.arg("serve").arg("--config").arg(path);
        } else {
            command.arg("serve");
        }
        command
            .arg("--db")
            .arg(&self.database)
            .args(["--listen", &self.listen, "--state-dir"])
            .arg(self.directory.join("state"))
            .args(&self.flags)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if !self.file_events {
            // SAFETY: the closure makes two system calls and touches only its own stack.
            unsafe { command.pre_exec(forbid_inotify) };
        }
        command
    }
}

/// A start that came to nothing.
#[derive(Debug)]
pub struct Failed {
    pub status: ExitStatus,
    pub stderr: String,
}

/// A running daemon. Dropped, it is killed; where the test failed, its log is printed.
pub struct Daemon {
    child: Child,
    address: SocketAddr,
    log: Log,
    reader: Option<JoinHandle<()>>,
    settings: Settings,
}

impl Daemon {
    /// A daemon on `walcast.db` in this directory.
    #[track_caller]
    pub fn start(directory: &Path) -> Daemon {
        Daemon::on(directory).start()
    }

    /// A daemon to be configured.
    pub fn on(directory: &Path) -> Settings {
        Settings {
            directory: directory.to_owned(),
            database: directory.join("walcast.db"),
            flags: vec![],
            variables: vec![],
            toml: None,
            listen: "127.0.0.1:0".into(),
            file_events: true,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn database(&self) -> Database {
        Database::at(&self.settings.database)
    }

    /// A subscriber of the stock feed; `query` may be empty.
    #[track_caller]
    pub fn subscribe(&self, query: &str) -> Subscriber {
        self.subscribe_to(STOCK_FEED, query)
    }

    #[track_caller]
    pub fn subscribe_to(&self, path: &str, query: &str) -> Subscriber {
        Subscriber::connect(self.address, path, query)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        http::request(self.address, "GET", path, &[], b"")
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &serde_json::Value) -> Response {
        let headers = [("Content-Type", "application/json")];
        http::request(
            self.address,
            "POST",
            path,
            &headers,
            body.to_string().as_bytes(),
        )
    }

    /// The value of a metric, given with its labels as Prometheus writes them; 0 where it does not exist yet.
    #[track_caller]
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").text();
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0.0)
    }

    /// Commits rows to the stock table so densely that the daemon asks for them instead of hearing of writes. Gives the
    /// last one's id.
    #[track_caller]
    pub fn commit_densely(&self) -> i64 {
        let writer = self.database().connect();
        writer
            .pragma_update(None, "synchronous", "OFF")
            .expect("a connection can be told not to sync");
        let mut last = 0;
        wait_until("the daemon asks for commits", || {
            let burst = (0..1_000).map(|_| insert(&writer, "acme", "dense"));
            last = burst.last().expect("a thousand rows were written");
            !self.hears_of_writes()
        });
        last
    }

    /// Whether the daemon has a watch on a directory at the moment, as the kernel has noted.
    #[track_caller]
    pub fn hears_of_writes(&self) -> bool {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fdinfo", self.id()));
        descriptors
            .expect("a running process has descriptors")
            // One that was closed meanwhile has nothing to say.
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
            .any(|told| told.lines().any(|line| line.starts_with("inotify ")))
    }

    /// Waits until the daemon has read up to this id of the stock feed.
    #[track_caller]
    pub fn wait_for_head(&self, head: i64) {
        wait_until(&format!("the head is {head}"), || {
            self.metric(r#"walcast_feed_head{feed="remediation"}"#) >= head as f64
        });
    }

    /// Waits until the state directory knows of this head: a sample of the rows up to it was kept.
    #[track_caller]
    pub fn wait_for_kept_head(&self, head: i64) {
        let kept = |path: PathBuf| {
            let text = fs::read(path).unwrap_or_default();
            // Read while it is being replaced it may be anything.
            let identity: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            identity["head"] == head
        };
        wait_until(&format!("the head {head} is kept"), || {
            let files = fs::read_dir(self.settings.directory.join("state"));
            let mut files = files.expect("the state directory is there").flatten();
            files.any(|file| kept(file.path()))
        });
    }

    /// Waits until the stock feed is ready: file and table are open.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        wait_until("the daemon is ready", || self.get("/readyz").status == 200);
    }

    /// Everything the daemon has logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("the log says {text:?}"), || {
            self.log().contains(text)
        });
    }

    pub fn signal(&self, signal: libc::c_int) {
        let id = libc::pid_t::try_from(self.child.id()).expect("a process id fits");
        // SAFETY: a plain system call; the child has not been waited for, so the id is still its own.
        assert_eq!(
            unsafe { libc::kill(id, signal) },
            0,
            "walcast can be signalled"
        );
    }

    /// Waits until the process has ended by itself.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for_end(&mut self.child).unwrap_or_else(|| panic!("walcast still runs"))
    }

    /// SIGTERM, and its end. Panics where that is not exit code 0.
    #[track_caller]
    pub fn stop(self) -> Settings {
        self.stop_while(|| ())
    }

    /// The same; the clients say goodbye meanwhile.
    #[track_caller]
    pub fn stop_while(mut self, meanwhile: impl FnOnce()) -> Settings {
        self.signal(libc::SIGTERM);
        meanwhile();
        let status = self.wait_for_exit();
        assert!(status.success(), "a stop must end with 0, not {status}");
        self.settings_on_same_port()
    }

    /// SIGKILL: no goodbye, nothing is saved.
    pub fn kill(mut self) -> Settings {
        self.child.kill().expect("walcast can be killed");
        self.child.wait().expect("a killed child can be waited for");
        self.settings_on_same_port()
    }

    /// Stops it and starts it again with the same port, file and state.
    #[track_caller]
    pub fn restart(self) -> Daemon {
        self.stop().start()
    }

    fn settings_on_same_port(&self) -> Settings {
        Settings {
            listen: self.address.to_string(),
            ..self.settings.clone()
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!("--- log of walcast:\n{}---", self.log.text());
        }
    }
}

fn wait_for_end(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        super::wait::pause();
    }
    None
}

/// What the daemon writes to stderr, line by line.
#[derive(Debug, Clone, Default)]
struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    text: String,
    address: Option<SocketAddr>,
    ended: bool,
}

impl Log {
    fn collect(&self, stderr: impl std::io::Read + Send + 'static) -> JoinHandle<()> {
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
    fn wait_for_address(&self) -> Option<SocketAddr> {
        let (lines, changed) = &*self.0;
        let lines = lines.lock().expect("no thread panics with the log locked");
        let (lines, _) = changed
            .wait_timeout_while(lines, PATIENCE, |lines| {
                lines.address.is_none() && !lines.ended
            })
            .expect("no thread panics with the log locked");
        lines.address
    }

    fn text(&self) -> String {
        let lines = self.0.0.lock();
        lines
            .expect("no thread panics with the log locked")
            .text
            .clone()
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    let end = rest
        .find(|c: char| !(c.is_ascii_digit() || ".:[]".contains(c)))
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Makes `inotify_init` fail with ENOSYS in this process, as on a system without it.
fn forbid_inotify() -> std::io::Result<()> {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};
    let statement = |code: u32, jt, jf, k| sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut program = [
        // The number of the system call is the first word of what a filter sees.
        statement(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        statement(
            BPF_JMP | BPF_JEQ | BPF_K,
            0,
            1,
            libc::SYS_inotify_init1 as u32,
        ),
        statement(BPF_RET | BPF_K, 0, 0, refuse),
        statement(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: prctl takes plain numbers and a pointer to a program that lives until after the call.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    match done {
        true => Ok(()),
        false => Err(std::io::Error::last_os_error()),
    }
}

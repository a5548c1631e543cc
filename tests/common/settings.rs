//! How a daemon is configured and started.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use super::authority::{Authority, Pair};
use super::daemon::{Daemon, wait_for_end};
use super::database::Database;
use super::log::Log;
use super::secrets;
use super::tls_front::Front;

/// Set, every daemon of a test speaks TLS, and its clients come through a front that puts it on.
const OVER_TLS: &str = "TESTS_OVER_TLS";

/// The certificate of a daemon, and who has signed it.
#[derive(Clone)]
struct Tls {
    authority: Arc<Authority>,
    pair: Pair,
    /// Where its front is to be; `None`: anywhere.
    front: Option<SocketAddr>,
}

impl Tls {
    fn new(directory: &Path) -> Tls {
        let authority = Authority::new("of the tests");
        let pem = authority.sign(&["localhost", "127.0.0.1"]);
        let pair = pem.write(directory, "tls");
        let authority = Arc::new(authority);
        Tls {
            authority,
            pair,
            front: None,
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.pair.fmt(f)
    }
}

/// How a daemon is started. Unless told otherwise: `walcast.db` and the state in the directory given, a free port.
#[derive(Debug, Clone)]
pub struct Settings {
    directory: PathBuf,
    database: PathBuf,
    flags: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    toml: Option<String>,
    listen: String,
    /// It is an edge.
    edge: bool,
    /// Of an edge, its origin.
    upstream: Option<String>,
    file_events: bool,
    user: Option<u32>,
    /// What is run; `None`: walcast.
    executable: Option<PathBuf>,
    metrics_token: Option<String>,
    tls: Option<Tls>,
    /// Keeps a directory that was made for this daemon alone.
    own_directory: Option<Arc<TempDir>>,
}

impl Settings {
    /// On `walcast.db` in this directory.
    pub fn on(directory: &Path) -> Settings {
        Settings {
            directory: directory.to_owned(),
            database: directory.join("walcast.db"),
            flags: vec![],
            variables: vec![],
            toml: None,
            listen: "127.0.0.1:0".into(),
            edge: false,
            upstream: None,
            file_events: true,
            user: None,
            executable: None,
            metrics_token: None,
            tls: std::env::var_os(OVER_TLS).map(|_| Tls::new(directory)),
            own_directory: None,
        }
    }

    /// On a new file, in a directory that goes with the daemon.
    pub fn on_new_file() -> Settings {
        let directory = super::directory();
        let settings = Settings::on(directory.path());
        Settings {
            own_directory: Some(Arc::new(directory)),
            ..settings
        }
    }

    /// The same, but for the port: clients reach it where they reached the daemon that was at this address.
    pub fn at(&self, address: SocketAddr) -> Settings {
        let mut settings = self.clone();
        match &mut settings.tls {
            Some(tls) => tls.front = Some(address),
            None => settings.listen = address.to_string(),
        }
        settings
    }

    /// The same, listening where the daemon listened that clients reached at `front`.
    pub(super) fn again(&self, own: SocketAddr, front: SocketAddr) -> Settings {
        Settings {
            listen: own.to_string(),
            ..self.at(front)
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn database_path(&self) -> &Path {
        &self.database
    }

    /// An edge of the daemon at this URL, whose spool is the database.
    pub fn edge_of(mut self, upstream: impl Into<String>) -> Settings {
        self.upstream = Some(upstream.into());
        self.edge()
    }

    /// An edge, whose spool is the database. Its configuration says where it has its feeds from.
    pub fn edge(mut self) -> Settings {
        self.edge = true;
        self
    }

    /// Serves this file instead of `walcast.db`.
    pub fn database(mut self, path: impl Into<PathBuf>) -> Settings {
        self.database = path.into();
        self
    }

    /// Runs a script on the file before the daemon is started.
    #[track_caller]
    pub fn with_tables(self, sql: &str) -> Settings {
        Database::at(&self.database).execute(sql);
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

    /// What was given to [`Settings::toml`] last; empty where nothing was.
    pub fn toml_text(&self) -> String {
        self.toml.clone().unwrap_or_default()
    }

    /// The stock feed with these keys set, each on a line of its own.
    pub fn stock_feed(self, keys: &str) -> Settings {
        self.toml(format!("[feeds.remediation]\n{keys}\n"))
    }

    /// An interval so long that whatever arrives was not found by the safety poll.
    pub fn without_poll(self) -> Settings {
        self.option("--poll-interval", "1h")
    }

    /// Nobody is cut off who reads nothing while a test goes about something that may take its time.
    pub fn without_write_timeout(self) -> Settings {
        self.option("--write-timeout", "1h")
    }

    /// A system on which nothing can be watched: every attempt to use inotify fails.
    pub fn without_file_events(mut self) -> Settings {
        self.file_events = false;
        self
    }

    /// Runs as this user, of the group of the same number; only root can.
    pub fn user(mut self, id: u32) -> Settings {
        self.user = Some(id);
        if let Some(tls) = &self.tls {
            // It reads its own key.
            chown(&tls.pair.key, Some(id), Some(id)).expect("root may give files away");
        }
        self
    }

    /// Runs another program that takes the arguments of walcast.
    pub fn executable(mut self, path: impl Into<PathBuf>) -> Settings {
        self.executable = Some(path.into());
        self
    }

    /// The token with which the harness asks for what is counted.
    pub fn metrics_by(mut self, token: impl Into<String>) -> Settings {
        self.metrics_token = Some(token.into());
        self
    }

    /// Speaks TLS with a certificate of its own; the clients of the harness come through a front that puts it on.
    pub fn over_tls(mut self) -> Settings {
        self.tls = Some(Tls::new(&self.directory));
        self
    }

    /// Who has signed the certificate, where TLS is spoken.
    #[track_caller]
    pub fn authority(&self) -> &Authority {
        &self.tls.as_ref().expect("TLS is spoken").authority
    }

    /// The files of the certificate and its key, where TLS is spoken.
    #[track_caller]
    pub fn pair(&self) -> &Pair {
        &self.tls.as_ref().expect("TLS is spoken").pair
    }

    /// What puts TLS on for clients of the daemon at this address, where it speaks that.
    pub(super) fn front(&self, daemon: SocketAddr) -> Option<Front> {
        let tls = self.tls.as_ref()?;
        let client = tls.authority.client();
        Some(match tls.front {
            Some(address) => Front::without_tls_at(address, daemon, client),
            None => Front::without_tls(daemon, client),
        })
    }

    pub fn token_for_metrics(&self) -> Option<&str> {
        self.metrics_token.as_deref()
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
            Some(address) => Ok(Daemon::new(child, address, log, reader, self)),
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
                secrets::assert_none_in("the log", &log.text());
                Err(Failed {
                    status,
                    stderr: log.text(),
                })
            }
        }
    }

    fn command(&self) -> Command {
        let path = self.executable.as_deref();
        let mut command = own_program(path.unwrap_or(Path::new(WALCAST)));
        command.arg(if self.edge { "edge" } else { "serve" });
        if let Some(toml) = &self.toml {
            let path = self.directory.join("walcast.toml");
            fs::write(&path, toml).expect("the configuration can be written");
            command.arg("--config").arg(path);
        }
        if let Some(url) = &self.upstream {
            command.args(["--upstream", url]);
        }
        command
            .arg(if self.edge { "--spool" } else { "--db" })
            .arg(&self.database)
            .args(["--listen", &self.listen, "--state-dir"])
            .arg(self.directory.join("state"))
            .args(&self.flags)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(Tls { pair, .. }) = &self.tls {
            command.arg("--tls-cert").arg(&pair.cert);
            command.arg("--tls-key").arg(&pair.key);
        }
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        if !self.file_events {
            // SAFETY: the closure makes two system calls and touches only its own stack.
            unsafe { command.pre_exec(forbid_inotify) };
        }
        command
    }
}

const WALCAST: &str = env!("CARGO_BIN_EXE_walcast");

/// walcast, without the variables of whoever runs the tests.
pub fn program() -> Command {
    own_program(Path::new(WALCAST))
}

fn own_program(path: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        let foreign = name.to_string_lossy().starts_with("WALCAST_");
        if foreign || name == "NOTIFY_SOCKET" || name == "STATE_DIRECTORY" {
            command.env_remove(name);
        }
    }
    if super::subscriber::compresses() {
        command.env("WALCAST_COMPRESSION", "on");
    }
    command
}

/// A start that came to nothing.
#[derive(Debug)]
pub struct Failed {
    pub status: ExitStatus,
    pub stderr: String,
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

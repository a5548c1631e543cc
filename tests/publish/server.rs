//! A NATS server of one's own, on a port that it chose itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::wait_until;

/// Where a server is looked for, unless `WALCAST_NATS_SERVER` names one: the package of PyPI that `tests/run` installs, then
/// Debian's.
const PROGRAMS: [&str; 3] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/nats/bin/nats-server"),
    "/usr/sbin/nats-server",
    "/usr/local/bin/nats-server",
];

fn program() -> PathBuf {
    let named = std::env::var_os("WALCAST_NATS_SERVER").map(PathBuf::from);
    let found = PROGRAMS
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists());
    named.or(found).expect(
        "nats-server is not installed; tests/run installs it, or name one with WALCAST_NATS_SERVER",
    )
}

/// A running server, and where it keeps its streams. Dropped, it is killed.
pub struct Server {
    directory: TempDir,
    child: Option<Child>,
    /// Where it listens.
    host: String,
    port: u16,
    /// What runs it; empty: nothing but itself.
    run_by: Vec<String>,
    /// What its configuration says besides where it listens and stores.
    config: String,
}

/// What a server with JetStream has in its configuration.
const JETSTREAM: &str = "jetstream { store_dir: \"STORE\" }";

impl Server {
    /// A server with JetStream that lets anybody in.
    pub fn start() -> Server {
        Server::with(JETSTREAM)
    }

    /// A server with JetStream and these lines of configuration.
    pub fn with_jetstream_and(config: &str) -> Server {
        Server::with(&format!("{JETSTREAM}\n{config}"))
    }

    /// A server with this configuration.
    pub fn with(config: &str) -> Server {
        let mut server = Server::at("127.0.0.1", config);
        server.run();
        server
    }

    /// One that is to listen at this address, and does not run yet.
    pub fn at(host: &str, config: &str) -> Server {
        Server {
            directory: crate::common::directory(),
            child: None,
            host: host.to_owned(),
            port: 0,
            run_by: vec![],
            config: config.to_owned(),
        }
    }

    /// The same, run by another program.
    pub fn run_by(mut self, command: &[&str]) -> Server {
        self.run_by = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub fn url(&self) -> String {
        format!("nats://{}:{}", self.host, self.port)
    }

    /// Where it keeps what it stores.
    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Changes the configuration; in force once it is run again.
    pub fn configure(&mut self, config: &str) {
        config.clone_into(&mut self.config);
    }

    /// Writes its configuration, and gives the place of it.
    fn write_config(&self) -> PathBuf {
        let path = self.directory.path().join("server.conf");
        let store = self.store();
        let config = self
            .config
            .replace("STORE", store.to_str().expect("the path is text"));
        let port = if self.port == 0 {
            -1
        } else {
            i32::from(self.port)
        };
        let text = format!("listen: \"{}:{port}\"\n{config}\n", self.host);
        fs::write(&path, text).expect("a configuration can be written");
        path
    }

    /// Runs it; again at the port where it was.
    pub fn run(&mut self) {
        let path = self.write_config();
        let log = fs::File::create(self.directory.path().join("log")).expect("a log can be made");
        let program = program();
        let mut command = match self.run_by.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        let child = command
            .arg("-c")
            .arg(&path)
            .arg("--ports_file_dir")
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server can be run");
        let id = child.id();
        self.child = Some(child);
        self.port = self.wait_for_port(id);
    }

    fn wait_for_port(&self, process: u32) -> u16 {
        let mut port = None;
        wait_until("the NATS server listens", || {
            let ports = fs::read_dir(self.directory.path())
                .expect("it is there")
                .flatten();
            let name = |path: &Path| {
                path.to_string_lossy()
                    .ends_with(&format!("_{process}.ports"))
            };
            let file = ports.map(|entry| entry.path()).find(|path| name(path));
            let text = file
                .and_then(|path| fs::read(path).ok())
                .unwrap_or_default();
            let said: Value = serde_json::from_slice(&text).unwrap_or_default();
            let url = said["nats"][0].as_str().unwrap_or_default();
            port = url.rsplit(':').next().and_then(|port| port.parse().ok());
            port.is_some()
        });
        port.expect("it was found")
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a running server can be killed");
            child.wait().expect("a killed server can be waited for");
        }
    }

    /// Stops it in an orderly way.
    pub fn stop(&mut self) {
        self.signal(libc::SIGTERM);
        if let Some(mut child) = self.child.take() {
            child.wait().expect("a server can be waited for");
        }
    }

    /// Has it read its configuration again, which was changed to this.
    pub fn reload_with(&mut self, config: &str) {
        self.configure(config);
        self.write_config();
        self.signal(libc::SIGHUP);
    }

    pub fn restart(&mut self) {
        self.kill();
        self.run();
    }

    /// Has it do nothing any more, with its connections open.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        let child = self.child.as_ref().expect("it runs");
        // SAFETY: a plain system call; the child is ours and has not been waited for, so its id is no other's.
        let done = unsafe { libc::kill(child.id() as libc::pid_t, signal) };
        assert_eq!(done, 0, "the server can be signalled");
    }

    /// What it has stored, for later. It must not run.
    pub fn keep_store(&self) -> TempDir {
        assert!(self.child.is_none(), "stop it first");
        let kept = crate::common::directory();
        copy(&self.store(), &kept.path().join("store"));
        kept
    }

    /// Goes back to what was kept. It must not run.
    pub fn restore(&self, kept: &TempDir) {
        assert!(self.child.is_none(), "stop it first");
        fs::remove_dir_all(self.store()).expect("a store can be removed");
        copy(&kept.path().join("store"), &self.store());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("log of the NATS server:\n{}", self.log());
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made");
    for entry in fs::read_dir(from)
        .expect("a directory can be read")
        .flatten()
    {
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type is known").is_dir() {
            true => copy(&entry.path(), &target),
            false => {
                fs::copy(entry.path(), target).expect("a file can be copied");
            }
        }
    }
}

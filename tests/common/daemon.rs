//! The daemon under test as a process of its own, on a port that it chose itself.

use std::fs;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread::JoinHandle;
use std::time::Instant;

use super::database::Database;
use super::log::Log;
use super::secrets;
use super::settings::Settings;
use super::tls_front::Front;
use super::wait::{PATIENCE, wait_until};

/// A running daemon. Dropped, it is killed; where the test failed, its log is printed, and else no credential may be where
/// others could find it.
pub struct Daemon {
    child: Child,
    address: SocketAddr,
    /// Through which clients come where TLS is spoken.
    front: Option<Front>,
    log: Log,
    reader: Option<JoinHandle<()>>,
    settings: Settings,
}

impl Daemon {
    pub(super) fn new(
        child: Child,
        address: SocketAddr,
        log: Log,
        reader: JoinHandle<()>,
        settings: Settings,
    ) -> Daemon {
        Daemon {
            child,
            address,
            front: settings.front(address),
            log,
            reader: Some(reader),
            settings,
        }
    }

    /// A daemon on a new file, in a directory that goes with it.
    #[track_caller]
    pub fn start_new() -> Daemon {
        Settings::on_new_file().start()
    }

    /// The same, to be configured.
    pub fn on_new_file() -> Settings {
        Settings::on_new_file()
    }

    /// A daemon on `walcast.db` in this directory.
    #[track_caller]
    pub fn start(directory: &Path) -> Daemon {
        Settings::on(directory).start()
    }

    /// The same, to be configured.
    pub fn on(directory: &Path) -> Settings {
        Settings::on(directory)
    }

    /// Where clients without TLS reach it.
    pub fn address(&self) -> SocketAddr {
        self.front
            .as_ref()
            .map_or(self.address, |front| front.address)
    }

    /// Where it listens itself.
    pub fn own_address(&self) -> SocketAddr {
        self.address
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many sockets it has open, listeners included.
    pub fn sockets(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.id()));
        let open = open.expect("a running process has descriptors");
        // One that is closed while they are listed has no target any more.
        open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.settings.directory()
    }

    pub fn database(&self) -> Database {
        Database::at(self.settings.database_path())
    }

    /// Commits this many events in one transaction and waits until the daemon has read them; gives the id of the last.
    #[track_caller]
    pub fn fill(&self, count: usize) -> i64 {
        let head = self.database().insert_many(count);
        self.wait_for_head(head);
        head
    }

    /// Commits rows to the stock table so densely that the daemon asks for them instead of hearing of writes. Gives the
    /// last one's id. On a busy machine that comes about in a moment of quiet: it is waited for long, and looked for often.
    #[track_caller]
    pub fn commit_densely(&self) -> i64 {
        let writer = self.database().connect();
        writer
            .execute_batch("PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0")
            .expect("a connection can be told not to sync");
        let mut insert = writer
            .prepare("INSERT INTO remediation_events(ts, tenant) VALUES ('dense', 'acme')")
            .expect("the table is there");
        let deadline = Instant::now() + 4 * PATIENCE;
        loop {
            for _ in 0..200 {
                insert.execute([]).expect("a row can be written");
            }
            if !self.hears_of_writes() {
                return writer.last_insert_rowid();
            }
            assert!(
                Instant::now() < deadline,
                "the daemon never asks for commits"
            );
        }
    }

    /// Whether the daemon has a watch on a directory at the moment, as the kernel has noted.
    #[track_caller]
    pub fn hears_of_writes(&self) -> bool {
        let descriptors = fs::read_dir(format!("/proc/{}/fdinfo", self.id()));
        descriptors
            .expect("a running process has descriptors")
            // One that was closed meanwhile has nothing to say.
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
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
            let files = fs::read_dir(self.directory().join("state"));
            let mut files = files.expect("the state directory is there").flatten();
            files.any(|file| kept(file.path()))
        });
    }

    /// Bytes of memory, by their name in `/proc/<pid>/status`.
    #[track_caller]
    pub fn memory(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))
            .expect("a running process has a status");
        let kibibytes = status
            .lines()
            .find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(':')?
                    .strip_suffix(" kB")
            })
            .unwrap_or_else(|| panic!("no {name} in {status}"));
        kibibytes.trim().parse::<usize>().expect("a number") * 1024
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

    /// Whether a client was told this code at its end. One that began to read too late to be told is another matter, as on a
    /// machine that stood still; then the log, at level debug, must say so.
    #[track_caller]
    pub fn has_told(&self, code: u16, heard: Option<u16>) -> bool {
        if heard.is_none() {
            self.wait_for_log("the client did not close in time");
            return false;
        }
        assert_eq!(heard, Some(code));
        true
    }

    pub fn signal(&self, signal: libc::c_int) {
        let id = libc::pid_t::try_from(self.child.id()).expect("a process id fits");
        // SAFETY: a plain system call; the child has not been waited for, so the id is still its own.
        let told = unsafe { libc::kill(id, signal) };
        assert_eq!(told, 0, "walcast can be signalled");
    }

    /// SIGSTOP, and waits until no thread runs any more. SIGCONT has it go on.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
        wait_until("walcast stands still", || {
            let threads = fs::read_dir(format!("/proc/{}/task", self.id()));
            let mut threads = threads.expect("a running process has threads").flatten();
            threads.all(|thread| {
                let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                // The state follows the name, which is in parentheses.
                stat.rsplit_once(") ")
                    .is_none_or(|(_, rest)| rest.starts_with('T'))
            })
        });
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
        self.shows_no_secret();
        self.signal(libc::SIGTERM);
        meanwhile();
        let status = self.wait_for_exit();
        assert!(status.success(), "a stop must end with 0, not {status}");
        self.settings.again(self.address, self.address())
    }

    /// SIGKILL: no goodbye, nothing is saved.
    pub fn kill(mut self) -> Settings {
        self.shows_no_secret();
        self.child.kill().expect("walcast can be killed");
        self.child.wait().expect("a killed child can be waited for");
        self.settings.again(self.address, self.address())
    }

    /// Stops it and starts it again with the same port, file and state.
    #[track_caller]
    pub fn restart(self) -> Daemon {
        self.stop().start()
    }
}

impl Daemon {
    /// Panics where a credential is in what is counted, or in what the system shows of the process.
    #[track_caller]
    fn shows_no_secret(&mut self) {
        let runs = self.child.try_wait().is_ok_and(|ended| ended.is_none());
        if runs && secrets::are_kept() {
            secrets::assert_none_shown_of(self.id());
            self.metrics();
        }
    }

    /// Panics where a credential is in what it has said or kept.
    #[track_caller]
    fn has_left_no_secret(&self) {
        if secrets::are_kept() {
            secrets::assert_none_in("the log", &self.log.text());
            secrets::assert_none_in_files_of(&self.directory().join("state"));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        // Whatever is found, the process does not outlive its test.
        let looked = panic::catch_unwind(AssertUnwindSafe(|| {
            if !failed {
                self.shows_no_secret();
            }
        }));
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if let Err(found) = looked {
            panic::resume_unwind(found);
        }
        match failed {
            true => eprintln!("--- log of walcast:\n{}---", self.log.text()),
            false => self.has_left_no_secret(),
        }
    }
}

/// The status of a process that ends in time.
pub(super) fn wait_for_end(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        super::wait::pause();
    }
    None
}

//! Everything a stranger can send to the daemon, from the request line on: the real daemon in this process, on a Unix
//! socket, is sent the input and must answer or hang up, in time and in order.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use walcast::access::{Gate, Owners};
use walcast::config::Config;
use walcast::daemon::Listeners;
use walcast::telemetry::logging;
use walcast::daemon::signals::{Signals, Stop};

/// Anything that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// More of an answer is not looked at.
const MOST: usize = 64 * 1024;

pub fn request(bytes: &[u8]) {
    let mut socket = UnixStream::connect(&daemon().socket).expect("the daemon listens");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket takes a time limit");
    // Who refuses a request early may close before it is read to its end.
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while answer.len() < MOST {
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => break,
            // libFuzzer's clock rings.
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => panic!("no answer, and no end: {e}"),
        }
        if let Some(status) = whole_head(&answer)
            && status != 101
        {
            return;
        }
    }
}

/// The status of an answer whose head is there. Panics where the head is none.
fn whole_head(answer: &[u8]) -> Option<u16> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).expect("a head is text");
    let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = line
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| line.strip_prefix("HTTP/1.0 "))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .unwrap_or_else(|| panic!("no status line: {line:?}"));
    for header in headers.split("\r\n").filter(|header| !header.is_empty()) {
        assert!(header.contains(": "), "no header: {header:?}");
        assert!(
            !header.contains(char::is_control),
            "control characters: {header:?}"
        );
    }
    // Nothing a client sends is a fault of the daemon.
    assert!(status < 500 || matches!(status, 501 | 503 | 505), "{head}");
    Some(status)
}

struct Daemon {
    socket: PathBuf,
    _directory: TempDir,
    _runtime: tokio::runtime::Runtime,
    _stop: watch::Sender<Stop>,
}

fn daemon() -> &'static Daemon {
    static DAEMON: OnceLock<Daemon> = OnceLock::new();
    DAEMON.get_or_init(|| {
        // SAFETY: no handler runs. Rust's own `main` would have done it, but libFuzzer brings another.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let path = |name: &str| directory.path().join(name);
        let (socket, file) = (path("socket"), path("walcast.toml"));
        let text = format!(
            "database = {:?}\nlisten = [\"unix:{}\"]\nstate_dir = {:?}\norigins = [\"https://a.example\"]\n\
             [feeds.remediation]\ningest = true\n",
            path("walcast.db"),
            socket.display(),
            path("state"),
        );
        std::fs::write(&file, text).expect("a file can be written");
        let args = super::configuration::serve(&["--config".into(), file.into()]);
        let config = Config::load(&args).expect("a good configuration");
        let log = logging::start("off", config.log.format).expect("logging starts once");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let (stop, stopped) = watch::channel(Stop::No);
        let listeners = runtime.block_on(walcast::daemon::bind(&config.listen));
        let listeners = listeners.expect("a socket can be bound");
        runtime.spawn(async move {
            let (_reload, reload) = mpsc::channel(1);
            let control = Signals {
                stop: stopped,
                reload,
            };
            let gate = Gate::new(&config.auth, &config.feeds, Owners::RootAndSelf).expect("there are no files to be read");
            let ended = walcast::daemon::run(config, gate, (Vec::new(), None, None), Listeners { feeds: listeners, metrics: Vec::new(), redirect: Vec::new(), tls: None }, control, &log).await;
            panic!("the daemon has ended: {ended:?}");
        });
        Daemon {
            socket,
            _directory: directory,
            _runtime: runtime,
            _stop: stop,
        }
    })
}

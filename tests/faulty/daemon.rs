//! walcast on a file system that fails where a test wants it to: the program itself, with a VFS of its own under SQLite.
//!
//! `FAULTY_PLAN` holds orders that are in force from the start, separated by semicolons; `FAULTY_CONTROL` names a Unix
//! socket on which a test gives more, a line each: `arm ORDER` is answered with `ok`, `disarm` with how many calls failed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;

mod places;
mod vfs;
#[path = "../../src/main.rs"]
mod walcast_program;

fn main() -> ExitCode {
    vfs::register(true);
    let plan = std::env::var("FAULTY_PLAN").unwrap_or_default();
    for order in plan.split(';').filter(|order| !order.is_empty()) {
        vfs::arm(order.parse().expect("FAULTY_PLAN holds orders"));
    }
    if let Some(path) = std::env::var_os("FAULTY_CONTROL") {
        // One left by a daemon before this.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).expect("FAULTY_CONTROL can be bound");
        std::thread::spawn(move || listener.incoming().flatten().for_each(obey));
    }
    walcast_program::main()
}

/// Obeys the test at the other end until it hangs up.
fn obey(stream: UnixStream) {
    let lines = BufReader::new(&stream).lines();
    for line in lines.map_while(Result::ok) {
        let answer = match line.split_once(' ') {
            Some(("arm", order)) => {
                vfs::arm(order.parse().expect("an order"));
                "ok".to_owned()
            }
            _ if line == "disarm" => vfs::disarm().to_string(),
            _ => panic!("not understood: {line}"),
        };
        if writeln!(&stream, "{answer}").is_err() {
            return;
        }
    }
}

//! Other programs that write in the database's directory.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::common::{Daemon, directory};
use crate::scale;

/// How often the thread that sees commits has gone to sleep and been woken.
fn sleeps(walcast: &Daemon) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", walcast.id())).unwrap();
    let task = tasks
        .map(|task| task.unwrap().path())
        .find(|task| fs::read_to_string(task.join("comm")).unwrap() == "walcast-feed\n");
    let status = fs::read_to_string(task.unwrap().join("status")).unwrap();
    let count = |line: &str| {
        line.strip_prefix("voluntary_ctxt_switches:")?
            .trim()
            .parse()
            .ok()
    };
    status.lines().find_map(count).unwrap()
}

/// How often the daemon wakes while `disturb` does something to another file of the directory so many times, and
/// whether a row still comes.
fn wakes_beside(times: u64, mut disturb: impl FnMut(&Path)) -> u64 {
    let directory = directory();
    let walcast = Daemon::on(directory.path()).without_poll().start();
    let mut plain = walcast.subscribe("");
    walcast.fill(1);
    assert_eq!(plain.next_row()["id"], 1);
    let before = sleeps(&walcast);
    for _ in 0..times {
        disturb(directory.path());
    }
    let wakes = sleeps(&walcast) - before;
    walcast.fill(1);
    assert_eq!(plain.next_row()["id"], 2);
    wakes
}

#[test]
fn writes_to_other_files_wake_nobody() {
    let times = scale::sized(20_000, 1_000_000);
    let mut file = None;
    let wakes = wakes_beside(times, |directory| {
        let file = file.get_or_insert_with(|| fs::File::create(directory.join("log")).unwrap());
        file.write_all_at(b"x", 0).unwrap();
    });
    assert!(wakes < times / 20, "{wakes} wakes by {times} writes");
}

#[test]
fn files_that_come_and_go_are_let_gather() {
    let times = scale::sized(20_000, 500_000);
    let wakes = wakes_beside(times, |directory| {
        let path = directory.join("other.db-journal");
        drop(fs::File::create(&path).unwrap());
        fs::remove_file(path).unwrap();
    });
    assert!(wakes < times / 10, "{wakes} wakes by {times} files");
}

//! Databases that go by two names: a file mounted on its own, hard links.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;

use crate::common::database::{STOCK_SCHEMA, insert};
use crate::common::disks::own_mounts;
use crate::common::settings::program;
use crate::common::{Daemon, Database, STOCK_EVENTS, assert_ledger, directory, ids, wait_until};
use crate::scale;

/// Rows of somebody else's table.
const FOREIGN: &str = "CREATE TABLE other(x);
    INSERT INTO other SELECT hex(randomblob(400)) FROM (VALUES (1),(2),(3),(4),(5),(6),(7),(8));";

fn mount(file: &Path, place: &Path) {
    let text = |path: &Path| CString::new(path.to_str().unwrap()).unwrap();
    let (file, place) = (text(file), text(place));
    // SAFETY: the strings live until after the call; a bind mount looks at no other pointer.
    let mounted = unsafe {
        libc::mount(
            file.as_ptr(),
            place.as_ptr(),
            std::ptr::null(),
            libc::MS_BIND,
            std::ptr::null(),
        )
    };
    assert_eq!(mounted, 0, "{}", std::io::Error::last_os_error());
}

fn unmount(place: &Path) {
    let text = CString::new(place.to_str().unwrap()).unwrap();
    // SAFETY: the string lives until after the call.
    let unmounted = unsafe { libc::umount2(text.as_ptr(), 0) };
    assert_eq!(unmounted, 0, "{}", std::io::Error::last_os_error());
}

/// A database in one directory, and its file mounted into another.
struct Mounted {
    directory: tempfile::TempDir,
    owners: Database,
    /// Where the daemon finds it.
    mounted: PathBuf,
}

impl Mounted {
    fn new(mode: &str, schema: &str) -> Option<Mounted> {
        if !own_mounts() {
            return None;
        }
        let directory = directory();
        let place = |name: &str| {
            let parent = directory.path().join(name);
            fs::create_dir(&parent).unwrap();
            parent.join("walcast.db")
        };
        let (owners, mounted) = (Database::at(place("host")), place("data"));
        owners.execute(&format!("PRAGMA journal_mode = {mode}; {FOREIGN} {schema}"));
        fs::write(&mounted, "").unwrap();
        mount(owners.path(), &mounted);
        Some(Mounted {
            directory,
            owners,
            mounted,
        })
    }

    fn serve(&self) -> Daemon {
        Daemon::on(self.directory.path())
            .database(&self.mounted)
            .start()
    }

    /// What is beside the mounted file; that is to be nothing.
    fn beside(&self) -> Vec<String> {
        let entries = fs::read_dir(self.mounted.parent().unwrap()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "walcast.db").collect()
    }
}

fn journal_mode(path: &Path) -> String {
    let connection = Connection::open(path).unwrap();
    connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap()
}

#[track_caller]
fn not_ready(walcast: &Daemon) -> String {
    let mut reason = String::new();
    wait_until("the daemon says why it serves nothing", || {
        let ready = walcast.get("/readyz");
        reason = ready.text();
        ready.status == 503
    });
    reason
}

/// What a command says, whatever its exit code; the latter must not be 0.
#[track_caller]
fn refused(arguments: &[&str], path: &Path) -> String {
    let output = program().args(arguments).arg(path).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_mounted_file_in_wal_mode_is_left_alone_and_said_to_be() {
    for schema in ["", STOCK_SCHEMA] {
        let Some(scene) = Mounted::new("wal", schema) else {
            return;
        };
        let owner = scene.owners.connect();
        owner
            .execute_batch("INSERT INTO other VALUES ('in the WAL')")
            .unwrap();
        let before = fs::read(scene.owners.path()).unwrap();
        let walcast = scene.serve();
        let reason = not_ready(&walcast);
        assert!(
            reason.contains("mount point") && reason.contains("mount the directory"),
            "{reason}"
        );
        walcast.wait_for_log("mount the directory");
        for command in [
            &["check", "--db"][..],
            &["emit", "1", "--db"],
            &["tail", "--db"],
        ] {
            let said = refused(command, &scene.mounted);
            assert!(said.contains("mount the directory"), "{command:?}: {said}");
        }
        walcast.stop();
        assert_eq!(scene.beside(), [""; 0]);
        assert!(
            fs::read(scene.owners.path()).unwrap() == before,
            "it was written"
        );
        drop(owner);
        assert_eq!(scene.owners.number("SELECT count(*) FROM other"), 9);
    }
}

#[test]
fn a_mounted_file_with_a_rollback_journal_is_served_and_never_written() {
    let Some(scene) = Mounted::new("delete", STOCK_SCHEMA) else {
        return;
    };
    let before = fs::read(scene.owners.path()).unwrap();
    let walcast = scene.serve();
    let mut plain = walcast.subscribe("");
    walcast.wait_until_ready();
    walcast.wait_for_log("not switched to WAL");
    assert!(
        fs::read(scene.owners.path()).unwrap() == before,
        "it was written"
    );
    for id in 1..=scale::sized(5, 200) {
        scene.owners.insert("beside");
        assert_eq!(plain.next_row()["id"], id);
    }
    let checked = program()
        .args(["check", "--listen", "127.0.0.1:0", "--db"])
        .arg(&scene.mounted)
        .output()
        .unwrap();
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.contains("never switched to WAL"), "{checked}");
    assert!(refused(&["emit", "1", "--db"], &scene.mounted).contains("is not written to"));
    drop(plain);
    walcast.stop();
    assert_eq!(scene.beside(), [""; 0]);
    assert_eq!(journal_mode(scene.owners.path()), "delete");
    assert_eq!(scene.owners.number("SELECT count(*) FROM other"), 8);
}

#[test]
fn a_mounted_file_without_the_table_gets_none() {
    let Some(scene) = Mounted::new("delete", "") else {
        return;
    };
    let before = fs::read(scene.owners.path()).unwrap();
    let walcast = scene.serve();
    not_ready(&walcast);
    let mut plain = walcast.subscribe("");
    assert!(
        fs::read(scene.owners.path()).unwrap() == before,
        "it was written"
    );
    let last = scene.owners.python().insert(1)[0];
    assert_eq!(plain.next_row()["id"], last);
    drop(plain);
    walcast.stop();
    assert_eq!(scene.owners.number("SELECT count(*) FROM other"), 8);
}

#[test]
fn the_owners_side_of_a_mounted_file_is_not_served_in_wal_mode_either() {
    let Some(scene) = Mounted::new("wal", STOCK_SCHEMA) else {
        return;
    };
    let walcast = Daemon::on(scene.directory.path())
        .database(scene.owners.path())
        .start();
    let reason = not_ready(&walcast);
    assert!(reason.contains("mount the directory"), "{reason}");
}

#[test]
fn a_mount_elsewhere_is_noticed_while_running_and_so_is_its_end() {
    if !own_mounts() {
        return;
    }
    let directory = directory();
    let walcast = Daemon::start(directory.path());
    walcast.fill(5);
    let mut resumable = walcast.subscribe_live();
    let place = directory.path().join("elsewhere").join("walcast.db");
    fs::create_dir(place.parent().unwrap()).unwrap();
    fs::write(&place, "").unwrap();
    mount(walcast.database().path(), &place);
    let reason = not_ready(&walcast);
    assert!(reason.contains("mount the directory"), "{reason}");
    let mut late = walcast.subscribe("since=0");
    assert_eq!(late.expect("waiting")["reason"], "unreadable");
    unmount(&place);
    walcast.wait_until_ready();
    assert_eq!(resumable.expect("waiting")["reason"], "unreadable");
    resumable.expect("hello");
    assert_eq!(walcast.database().insert("after"), 6);
    for subscriber in [&mut resumable, &mut late] {
        while subscriber.ledger().last().is_none_or(|row| row["id"] != 6) {
            subscriber.next_row_or_frame();
        }
    }
    assert_eq!(ids(resumable.ledger()), [6]);
    assert_eq!(ids(late.ledger()), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_mounted_wal_counts_as_another_name() {
    if !own_mounts() {
        return;
    }
    let directory = directory();
    let database = Database::with_stock_table(directory.path());
    let writer = database.connect();
    writer.pragma_update(None, "journal_mode", "wal").unwrap();
    insert(&writer, "acme", "before");
    let elsewhere = directory.path().join("elsewhere");
    fs::copy(directory.path().join("walcast.db-wal"), &elsewhere).unwrap();
    mount(&elsewhere, &directory.path().join("walcast.db-wal"));
    let walcast = Daemon::start(directory.path());
    let reason = not_ready(&walcast);
    assert!(reason.contains("mount the directory"), "{reason}");
}

#[test]
fn a_file_with_two_names_keeps_every_row_of_both_writers() {
    let directory = directory();
    let database = Database::with_stock_table(directory.path());
    let other = Database::at(directory.path().join("other.db"));
    fs::hard_link(database.path(), other.path()).unwrap();
    let walcast = Daemon::start(directory.path());
    let mut plain = walcast.subscribe("");
    let rows = scale::sized(20, 200);
    std::thread::scope(|scope| {
        for name in [&database, &other] {
            scope.spawn(move || {
                let mut python = name.python();
                (0..rows).for_each(|_| drop(python.insert(1)));
            });
        }
    });
    plain.rows_to(2 * rows);
    assert_ledger(plain.ledger(), &database.rows());
    drop(plain);
    walcast.stop();
    assert_eq!(journal_mode(other.path()), "delete");
    assert_eq!(
        database.query("PRAGMA integrity_check")[0]["integrity_check"],
        "ok"
    );
}

#[test]
fn a_second_name_is_noticed_while_running_and_so_is_its_end() {
    let directory = directory();
    let walcast = Daemon::on(directory.path())
        .stock_feed("ingest = true\nws = \"/ws/remediation\"")
        .start();
    let database = walcast.database();
    walcast.fill(5);
    let mut resumable = walcast.subscribe_live();
    let row = serde_json::json!({"ts": "2026-01-01T00:00:00Z"});
    assert_eq!(walcast.post(STOCK_EVENTS, &row).json()["ids"][0], 6);
    assert_eq!(resumable.next_row()["id"], 6);
    let other = directory.path().join("other.db");
    fs::hard_link(database.path(), &other).unwrap();
    assert!(not_ready(&walcast).contains("hard links"));
    let before = fs::read(database.path()).unwrap();
    let posted = walcast.post(STOCK_EVENTS, &row);
    assert_eq!(posted.status, 503, "{}", posted.text());
    assert!(
        fs::read(database.path()).unwrap() == before,
        "it was written"
    );
    assert_eq!(database.insert("meanwhile"), 7);
    fs::remove_file(&other).unwrap();
    walcast.wait_until_ready();
    assert_eq!(resumable.expect("waiting")["reason"], "unreadable");
    resumable.expect("hello");
    assert_eq!(database.insert("after"), 8);
    while resumable.ledger().last().unwrap()["id"] != 8 {
        resumable.next_row_or_frame();
    }
    assert_eq!(ids(resumable.ledger()), [6, 7, 8]);
}

#[test]
fn a_link_to_a_file_with_two_names_leads_to_the_same() {
    let directory = directory();
    let real = Database::at(directory.path().join("real.db"));
    real.execute(&format!("PRAGMA journal_mode = wal; {STOCK_SCHEMA}"));
    fs::hard_link(real.path(), directory.path().join("second.db")).unwrap();
    std::os::unix::fs::symlink(real.path(), directory.path().join("walcast.db")).unwrap();
    let walcast = Daemon::start(directory.path());
    assert!(not_ready(&walcast).contains("hard links"));
    let find = Command::new("find")
        .arg(directory.path())
        .arg("-name")
        .arg("*-wal")
        .output();
    assert!(find.unwrap().stdout.is_empty());
}

#[test]
fn a_file_with_two_names_that_its_writer_puts_in_wal_mode_is_given_up() {
    let directory = directory();
    let database = Database::with_stock_table(directory.path());
    let other = Database::at(directory.path().join("other.db"));
    fs::hard_link(database.path(), other.path()).unwrap();
    let walcast = Daemon::start(directory.path());
    walcast.wait_until_ready();
    let writer = other.connect();
    wait_until("the writer has it in WAL mode", || {
        writer.pragma_update(None, "journal_mode", "wal").is_ok()
    });
    insert(&writer, "acme", "not to be seen");
    assert!(not_ready(&walcast).contains("WAL mode"));
    walcast.stop();
    drop(writer);
    assert_eq!(other.rows().len(), 1);
}

//! The n-th call at each place fails while the daemon starts: it listens all the same, and serves as soon as it can.

use super::faulty::{Control, Newcomer, RING, ROWS, faulty};
use super::places::{Fault, Order, Place};
use crate::common::database::STOCK_SCHEMA;
use crate::common::{Daemon, Database, directory};
use crate::scale;

/// The calls that fail in the short form, one start for each.
const SHORT: [u64; 2] = [0, 3];
/// So many are tried in the full one, as long as there are so many.
const FULL: u64 = 60;
/// How much SQLite finds wrong with the file.
const DAMAGE: &str = "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'";

/// Starts on a file whose journal mode is to be changed, so that it is written to as well.
fn each_call_fails(places: &[Place], faults: &[Fault]) {
    let directory = directory();
    let database = Database::within(directory.path());
    let mut fired = 0;
    for &place in places {
        for &fault in faults {
            let calls: Vec<u64> = scale::sized(SHORT.to_vec(), (0..FULL).collect());
            for passed in calls {
                database.delete();
                database.execute(STOCK_SCHEMA);
                let rows = usize::try_from(ROWS).expect("it is positive");
                let head = database.insert_many(rows);
                let order = Order {
                    place,
                    fault,
                    passed,
                    failing: 1 + passed % 2,
                };
                let daemon = faulty(Daemon::on(directory.path()))
                    .option("--ring-rows", RING)
                    .variable("FAULTY_PLAN", order.to_string())
                    .start();
                daemon.wait_until_ready();
                let mut plain = daemon.subscribe("");
                Newcomer::to(&daemon).expect_all(head);
                let failed = Control::of(&daemon).disarm();
                let id = database.insert("after the fault");
                assert_eq!(plain.next_row()["id"], id, "{order}");
                assert_eq!(database.rows().len() as i64, id, "{order}");
                assert_eq!(database.number(DAMAGE), 0, "{order}");
                drop(plain);
                daemon.stop();
                fired += failed;
                if failed == 0 {
                    break;
                }
            }
        }
    }
    assert!(fired > 0, "no call was at {places:?}");
}

#[test]
fn opening_fails_at_start() {
    let places = [
        Place::OpenDatabase,
        Place::OpenWal,
        Place::FullPath,
        Place::Access,
    ];
    each_call_fails(&places, &[Fault::Io]);
}

#[test]
fn reading_fails_at_start() {
    each_call_fails(
        &[Place::ReadDatabase, Place::Size],
        &[Fault::Io, Fault::NoMemory],
    );
}

#[test]
fn locking_fails_at_start() {
    each_call_fails(&[Place::Lock, Place::ShmLock, Place::ShmMap], &[Fault::Io]);
    each_call_fails(&[Place::Lock], &[Fault::Busy]);
}

#[test]
fn the_switch_to_wal_fails_in_its_middle() {
    let places = [
        Place::WriteDatabase,
        Place::WriteJournal,
        Place::OpenJournal,
        Place::Sync,
        Place::Delete,
    ];
    each_call_fails(&places, &[Fault::Io]);
    each_call_fails(&[Place::WriteDatabase, Place::WriteJournal], &[Fault::Full]);
}

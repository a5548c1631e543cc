//! The n-th call at each place fails, while rows are written, sent, replayed and asked for.

use super::faulty::{
    Control, Newcomer, RING, ROWS, Watchers, check_history, faulty, wait_until_ready,
};
use super::places::{Fault, Order, Place};
use crate::common::{Daemon, Database, Settings};
use crate::scale;

/// Rounds for each place and fault, in the short form; each has another call fail.
const SHORT: u64 = 3;
/// And in the full one, where a place is left once no more calls of a round are at it.
const FULL: u64 = 80;

/// Has each of these fail in turn, at the first call, the second, and so on.
fn each_call_fails(settings: Settings, places: &[Place], faults: &[Fault]) {
    let database = Database::at(settings.database_path());
    database.insert_many(usize::try_from(ROWS).expect("it is positive"));
    let daemon = faulty(settings).option("--ring-rows", RING).start();
    daemon.wait_until_ready();
    let epoch = daemon.epoch();
    let mut control = Control::of(&daemon);
    let mut watchers = Watchers::new(&daemon);
    let mut fired = 0;
    for &place in places {
        for &fault in faults {
            let fired_before = fired;
            for round in 0..scale::sized(SHORT, FULL) {
                // In the short form calls further on are reached by steps that grow.
                let passed = scale::sized(round * (round + 1) * 2, round);
                let order = Order {
                    place,
                    fault,
                    passed,
                    failing: 1 + round % 3,
                };
                control.arm(order);
                let before = watchers.head;
                watchers.write();
                let newcomer = Newcomer::to(&daemon);
                check_history(&daemon);
                let failed = control.disarm();
                watchers.expect_rows(before);
                newcomer.expect_all(watchers.head);
                wait_until_ready(&daemon, &order);
                fired += failed;
                if failed == 0 {
                    break;
                }
            }
            eprintln!("{place:?} {fault:?}: {} calls failed", fired - fired_before);
        }
    }
    assert!(fired > 0, "no call was at {places:?}");
    assert_eq!(daemon.epoch(), epoch, "the history is still the same");
    drop(watchers);
    daemon.stop();
}

fn wal() -> Settings {
    Daemon::on_new_file().with_tables(crate::common::database::STOCK_SCHEMA)
}

fn rollback_journal() -> Settings {
    wal().option("--journal-mode", "keep")
}

#[test]
fn reads_fail() {
    let places = [Place::ReadDatabase, Place::ReadWal, Place::Size];
    each_call_fails(wal(), &places, &[Fault::Io, Fault::ShortRead]);
}

#[test]
fn memory_runs_out_in_reads() {
    let places = [Place::ReadDatabase, Place::ReadWal, Place::ShmMap];
    each_call_fails(wal(), &places, &[Fault::NoMemory]);
}

#[test]
fn locks_of_the_wal_index_fail() {
    each_call_fails(wal(), &[Place::ShmLock], &[Fault::Io, Fault::Busy]);
}

#[test]
fn the_wal_index_is_not_mapped() {
    each_call_fails(wal(), &[Place::ShmMap, Place::ShmLock], &[Fault::Io]);
}

#[test]
fn locks_of_the_file_fail() {
    let places = [Place::Lock, Place::Unlock, Place::CheckReserved];
    each_call_fails(rollback_journal(), &places, &[Fault::Io, Fault::Busy]);
}

#[test]
fn reads_beside_a_rollback_journal_fail() {
    let places = [Place::ReadDatabase, Place::Size, Place::Access];
    each_call_fails(rollback_journal(), &places, &[Fault::Io, Fault::ShortRead]);
}

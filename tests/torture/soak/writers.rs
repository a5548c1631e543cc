//! Writers of every kind, each in a process or on a connection of its own, until an era is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;

use serde_json::json;

use crate::common::database::{insert, insert_many};
use crate::common::random::Random;
use crate::common::{Database, Writer, wait};

pub const TENANTS: [&str; 4] = ["acme", "globex", "initech", "umbrella"];

/// Starts one of each kind.
pub fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    database: &'scope Database,
    over: &'scope AtomicBool,
    seed: u64,
) {
    let kinds: [fn(&Database, &mut Random, &AtomicBool); 4] =
        [fresh_connections, transactions, shell, held_connection];
    for (kind, write) in kinds.into_iter().enumerate() {
        let mut random = Random::new(seed.wrapping_add(kind as u64));
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                write(database, &mut random, over);
            }
        });
    }
}

/// Python, a new connection for each row.
fn fresh_connections(database: &Database, random: &mut Random, over: &AtomicBool) {
    let mut writer = database.python();
    while !over.load(Ordering::Relaxed) {
        let tenant = random.pick(&TENANTS);
        let details = "x".repeat(random.pick(&[0, 30, 2_000]));
        writer.insert_row(&json!({"tenant": tenant, "details": details}));
        rest(random);
    }
}

/// Python, transactions that spill, stall, lock all others out, come to nothing, or end with their process.
fn transactions(database: &Database, random: &mut Random, over: &AtomicBool) {
    let mut writer: Writer = database.python();
    while !over.load(Ordering::Relaxed) {
        match random.below(3) {
            0 => writer.begin(),
            1 => writer.begin_spilling(),
            _ => writer.begin_exclusive(),
        }
        let (rows, bytes) = (1 + random.below(60), random.pick(&[10, 1_500]));
        writer.add(rows, bytes);
        if random.one_in(3) {
            rest(random);
        }
        match random.below(8) {
            0 | 1 => writer.rollback(),
            2 => return writer.kill(),
            _ => writer.commit(),
        }
        rest(random);
    }
}

/// The shell, a process for each script.
fn shell(database: &Database, random: &mut Random, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let tenant = random.pick(&TENANTS);
        let one = format!(
            "INSERT INTO remediation_events(ts, tenant, details) VALUES ('now', '{tenant}', 'shell');"
        );
        let script = match random.below(3) {
            0 => one,
            1 => format!("BEGIN; {one} {one} COMMIT;"),
            _ => format!("BEGIN; {one} ROLLBACK; {one}"),
        };
        if database.shell(&script).is_none() {
            // It is not installed, and the others do without.
            return;
        }
        rest(random);
    }
}

/// Rust, on a connection that stays open, in bursts.
fn held_connection(database: &Database, random: &mut Random, over: &AtomicBool) {
    let mut connection = database.connect();
    let synchronous = random.pick(&["OFF", "NORMAL", "FULL"]);
    connection
        .pragma_update(None, "synchronous", synchronous)
        .expect("a connection takes it");
    for _ in 0..20 {
        if over.load(Ordering::Relaxed) {
            return;
        }
        match random.one_in(4) {
            true => insert_many(&mut connection, 1 + random.below(300)),
            false => insert(&connection, random.pick(&TENANTS), "held"),
        };
        rest(random);
    }
}

/// Mostly no time, sometimes long enough for silence: the last row before it must not wait for the next.
fn rest(random: &mut Random) {
    for _ in 0..random.pick(&[0, 0, 1, 3, 12]) {
        wait::pause();
    }
}

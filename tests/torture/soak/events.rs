//! What operators and programs do to the file and the daemon while all write and read; and what makes a history another.

use super::World;
use crate::common::database::STOCK_SCHEMA;
use crate::common::{Database, wait_until};
use crate::faults::faulty::Control;
use crate::faults::places::{Fault, Order, Place};

/// At so many places calls are told to fail with each event.
const FAILING: usize = 4;

impl World {
    /// Something that changes no history.
    pub fn event(&mut self) {
        for _ in 0..FAILING * usize::from(self.failing) {
            self.fail_somewhere();
        }
        match self.random.below(12) {
            0 => self.run("PRAGMA wal_checkpoint(TRUNCATE)"),
            1 => self.run("PRAGMA wal_checkpoint(PASSIVE)"),
            2 => self.run("VACUUM"),
            3 => self.add_column(),
            4 => self.run("CREATE INDEX IF NOT EXISTS by_tenant ON remediation_events(tenant)"),
            5 => self.run("DROP INDEX IF EXISTS by_tenant"),
            6 => self.prune(),
            7 => self.leave(),
            8 | 9 => self.slow_down(),
            10 if self.random.one_in(2) => self.restart(false),
            11 if self.random.one_in(2) => self.restart(true),
            _ => {}
        }
    }

    /// A few calls at some place fail soon.
    fn fail_somewhere(&mut self) {
        let place = self.random.pick(&Place::ALL);
        let fault = self
            .random
            .pick(&[Fault::Io, Fault::ShortRead, Fault::NoMemory]);
        let order = Order {
            place,
            // Only a read can be short.
            fault: match place {
                Place::ReadDatabase | Place::ReadWal | Place::ReadJournal => fault,
                _ => Fault::Io,
            },
            passed: self.random.below(10) as u64,
            failing: 1 + self.random.below(4) as u64,
        };
        self.say(format!("fails: {order}"));
        Control::of(self.daemon()).arm(order);
    }

    fn run(&mut self, sql: &str) {
        self.say(sql);
        self.database.execute(sql);
    }

    fn add_column(&mut self) {
        let columns = "SELECT count(*) FROM pragma_table_info('remediation_events')";
        let number = self.database.number(columns);
        if number < 12 {
            let sql =
                format!("ALTER TABLE remediation_events ADD COLUMN c{number} DEFAULT {number}");
            self.run(&sql);
        }
    }

    /// Keeps enough for the history to be recognised.
    fn prune(&mut self) {
        let kept = 200 + self.random.below(2_000);
        let newest = "(SELECT max(id) FROM remediation_events)";
        self.run(&format!(
            "DELETE FROM remediation_events WHERE id < {newest} - {kept}"
        ));
    }

    fn leave(&mut self) {
        let index = self.random.below(self.clients.len());
        self.say(format!("leaves: {:?}", self.clients[index]));
        self.clients[index].leave();
    }

    fn slow_down(&mut self) {
        let index = self.random.below(self.clients.len());
        self.clients[index].slow = true;
        self.say(format!("slow: {:?}", self.clients[index]));
    }

    fn restart(&mut self, kill: bool) {
        self.say(format!("restart, kill: {kill}"));
        self.stop(kill);
        self.start();
    }

    fn stop(&mut self, kill: bool) {
        let daemon = self.daemon.take().expect("it runs");
        let clients = &mut self.clients;
        let settings = match kill {
            true => daemon.kill(),
            false => daemon.stop_while(|| {
                // They are told goodbye, and go.
                for client in clients.iter_mut() {
                    client.leave();
                }
            }),
        };
        self.settings = Some(settings);
        for client in &mut self.clients {
            client.leave();
        }
    }

    fn start(&mut self) {
        let settings = self.settings.take().expect("it is stopped");
        self.daemon = Some(settings.start());
    }

    /// Somebody tidies up beside a database in use, while all is quiet and nothing is in the WAL alone.
    pub fn remove_companions(&mut self) {
        self.run("PRAGMA wal_checkpoint(TRUNCATE)");
        let which = self
            .random
            .pick(&[&["-wal"][..], &["-shm"], &["-wal", "-shm"]]);
        let daemon = self.daemon();
        let noticed = || daemon.log().matches("it is opened anew").count();
        let before = noticed();
        let remove = |suffix: &&str| {
            let mut path = self.database.path().as_os_str().to_owned();
            path.push(*suffix);
            std::fs::remove_file(path).is_ok()
        };
        // The daemon has the file open, so they are there, but where it was just started, or the file just restored, and
        // is not in WAL mode yet.
        if which.iter().filter(|suffix| remove(suffix)).count() == 0 {
            return self.say(format!("{which:?} were not there to be removed"));
        }
        wait_until("the removal is noticed", || noticed() > before);
        self.say(format!("{which:?} were removed"));
        self.database.insert_many(3);
    }

    /// The history becomes another one, while all is quiet. Half the time the daemon is away meanwhile.
    pub fn another_history(&mut self) {
        let how = self.random.below(4);
        // What is restored lacks rows that the daemon has sent.
        let backup = (how < 2).then(|| self.backup());
        let epoch = self.daemon().epoch();
        let away = self.random.one_in(2);
        self.say(format!("another history: {how}, daemon away: {away}"));
        if away {
            self.stop(false);
        }
        if let Some(backup) = backup {
            self.database.python().restore(backup.path());
            if away && how == 1 {
                // Past the head that was.
                self.database.insert_many(400);
            }
        } else if how == 2 {
            self.put_another_file_in_place();
        } else {
            self.run(&format!("DROP TABLE remediation_events; {STOCK_SCHEMA}"));
        }
        if away {
            self.start();
        }
        wait_until("the history is told to be another", || {
            self.daemon().epoch() != epoch
        });
        self.database.insert_many(5);
    }

    /// A copy of the file as it was some rows ago; those since were sent.
    fn backup(&mut self) -> Database {
        let path = self.database.path().with_extension("backup");
        // There is none the first time.
        let _ = std::fs::remove_file(&path);
        let backup = self.database.copy_to(&path);
        let added = 50 + self.random.below(100);
        self.daemon().fill(added);
        backup
    }

    fn put_another_file_in_place(&mut self) {
        let rows = 1 + self.random.below(2_000);
        self.database.replace_with(|new| {
            new.insert_many(rows);
        });
    }
}

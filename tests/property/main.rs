//! Random interleavings of everything that can happen to a table and its subscribers, compared with what was
//! committed. A failure prints its seed; `WALCAST_SEED=<seed>` runs that one alone.

#[path = "../common/mod.rs"]
mod common;

mod client;
mod model;

use client::{Client, Wish};
use common::random::Random;
use common::{Daemon, Steps};
use model::{Model, TENANTS};

const SEEDS: [u64; 4] = [1, 2, 35, 39];
const STEPS: usize = 400;
const CLIENTS: usize = 8;

#[test]
fn every_ledger_agrees_with_the_table() {
    let seeds = match std::env::var("WALCAST_SEED") {
        Ok(seed) => vec![seed.parse().expect("WALCAST_SEED is a number")],
        Err(_) => SEEDS.to_vec(),
    };
    for seed in seeds {
        World::new(seed).live();
    }
}

struct World {
    random: Random,
    /// `None` only while it is being restarted.
    daemon: Option<Daemon>,
    model: Model,
    clients: Vec<Client>,
    log: Steps,
}

impl World {
    fn new(seed: u64) -> World {
        // Small, so that a few thousand rows are more than the log in memory holds.
        let daemon = Daemon::on_new_file().option("--ring-rows", "512").start();
        World {
            random: Random::new(seed),
            model: Model::new(daemon.database()),
            daemon: Some(daemon),
            clients: vec![],
            log: Steps::of(seed),
        }
    }

    fn live(mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.log.push("the end");
        self.settle();
        self.model.check_itself();
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..30 => self.insert(1),
            30..36 => self.insert(50),
            36..40 => self.insert(2_000),
            40..48 => self.delete(),
            48..54 => self.update(),
            54..66 => self.subscribe(),
            66..74 => self.leave_or_return(),
            74..80 => self.slow_down(),
            80..84 => self.run("PRAGMA wal_checkpoint(TRUNCATE)"),
            84..86 => self.run("VACUUM"),
            86..94 => self.settle(),
            94..97 => self.stop_and_start(),
            97..100 => self.kill_and_start(),
            _ => unreachable!("below 100"),
        }
        for client in self.clients.iter_mut().filter(|client| !client.slow) {
            client.sip(&self.model);
        }
    }

    fn say(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.log
            .push(format!("{what} (head {})", self.model.head()));
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it is not being restarted")
    }

    fn insert(&mut self, at_most: usize) {
        let count = 1 + self.random.below(at_most);
        let tenants: Vec<_> = (0..count).map(|_| self.random.pick(&TENANTS)).collect();
        // Wide rows fill the buffers of those who do not read.
        let details = "x".repeat(self.random.pick(&[0, 10, 400]));
        self.model.insert(&tenants, &details);
        self.say(format!("insert {count}"));
    }

    /// From the low end, as pruning does; the newest; or here and there. Never so many that the history can't be
    /// recognised by what is left.
    fn delete(&mut self) {
        let ids: Vec<i64> = self.model.existing().map(|(id, _)| id).collect();
        if ids.len() < 64 {
            return;
        }
        let (what, chosen) = match self.random.below(3) {
            0 => (
                "prune",
                ids[..1 + self.random.below(ids.len() - 40)].to_vec(),
            ),
            1 => (
                "delete newest",
                ids[ids.len() - 1 - self.random.below(3)..].to_vec(),
            ),
            _ => {
                let some = ids.into_iter().filter(|_| self.random.one_in(10));
                ("delete some", some.collect())
            }
        };
        self.model.delete(&chosen);
        self.say(format!("{what}, {}", chosen.len()));
    }

    fn update(&mut self) {
        let all = self.random.one_in(4);
        let ids: Vec<i64> = self.model.existing().map(|(id, _)| id).collect();
        let ids: Vec<i64> = match all {
            true => ids,
            false => ids.into_iter().rev().take(5).collect(),
        };
        self.model.update(&ids);
        self.say(format!("update {}", ids.len()));
    }

    fn subscribe(&mut self) {
        if self.clients.len() == CLIENTS {
            self.clients.remove(self.random.below(CLIENTS));
        }
        let floor = self.model.earliest().map_or(self.model.head(), |id| id - 1);
        let above = (self.model.head() - floor) as usize;
        let wish = match self.random.below(6) {
            0 | 1 => Wish::Plain,
            2 => Wish::Now,
            3 => Wish::Earliest,
            4 => Wish::Last(1 + self.random.below(3_000)),
            _ => Wish::Since(floor + self.random.below(above + 1) as i64),
        };
        // Zero is the wish for everything, whatever was pruned.
        let wish = if wish == Wish::Since(0) {
            Wish::Earliest
        } else {
            wish
        };
        let tenants = TENANTS.iter().copied();
        let tenants: Vec<_> = match self.random.one_in(2) {
            true => tenants.filter(|_| self.random.one_in(2)).collect(),
            false => vec![],
        };
        self.say(format!("subscribe {wish:?} {tenants:?}"));
        let daemon = self.daemon.as_ref().expect("it is not being restarted");
        let client = Client::connect(daemon, &self.model, wish, tenants);
        self.clients.push(client);
    }

    fn leave_or_return(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let index = self.random.below(self.clients.len());
        self.say(format!("leave or return: {:?}", self.clients[index]));
        let daemon = self.daemon.as_ref().expect("it is not being restarted");
        let client = &mut self.clients[index];
        match client.is_connected() {
            true => client.disconnect(),
            false => client.reconnect(daemon, &self.model, false),
        }
    }

    fn slow_down(&mut self) {
        if !self.clients.is_empty() {
            let index = self.random.below(self.clients.len());
            self.clients[index].slow = true;
            self.say(format!("slow: {:?}", self.clients[index]));
        }
    }

    fn run(&mut self, sql: &str) {
        self.say(sql);
        self.daemon().database().execute(sql);
    }

    /// Everyone catches up; who was sent away comes back first.
    fn settle(&mut self) {
        self.say("settle");
        let daemon = self.daemon.as_ref().expect("it is not being restarted");
        for client in &mut self.clients {
            client.settle(&self.model);
            if !client.is_connected() {
                client.reconnect(daemon, &self.model, false);
                client.settle(&self.model);
            }
        }
    }

    fn stop_and_start(&mut self) {
        self.say("SIGTERM");
        let daemon = self.daemon.take().expect("it is not being restarted");
        let stopped = daemon.stop_while(|| {
            for client in &mut self.clients {
                client.expect_goodbye(&self.model);
            }
        });
        self.write_meanwhile();
        self.daemon = Some(stopped.start());
        self.return_all(false);
    }

    fn kill_and_start(&mut self) {
        self.say("SIGKILL");
        let daemon = self.daemon.take().expect("it is not being restarted");
        let killed = daemon.kill();
        for client in &mut self.clients {
            client.drain(&self.model);
        }
        self.write_meanwhile();
        self.daemon = Some(killed.start());
        self.return_all(true);
    }

    fn write_meanwhile(&mut self) {
        if self.random.one_in(2) {
            self.insert(100);
        }
        // With fewer than eight rows, an edited history can't be told from another one.
        if self.random.one_in(3) && self.model.existing().count() >= 8 {
            self.update();
        }
    }

    fn return_all(&mut self, crashed: bool) {
        let daemon = self.daemon.as_ref().expect("it is not being restarted");
        for client in &mut self.clients {
            client.slow = false;
            client.reconnect(daemon, &self.model, crashed);
        }
    }
}

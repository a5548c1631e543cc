//! Random histories: whatever is done to the table, its log, its schema and the daemon, whoever applies what they are sent
//! holds exactly their part of the table, and is never sent a row of another's. A failure prints its seed;
//! `WALCAST_SEED=<seed>` runs that one alone.

use std::time::{Duration, Instant};

use serde_json::Value;
use walcast::config::CaptureMode;

use crate::common::random::Random;
use crate::common::subscriber::{Received, row_of};
use crate::common::{Daemon, Database, PATIENCE, Settings, Steps, Subscriber};
use crate::scenes::{Held, capture, settings};

const SEEDS: [u64; 4] = [1, 2, 3, 4];
const STEPS: usize = 120;
const CLIENTS: usize = 6;
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

/// Tables that are captured: what they declare before `tenant`, and their keys.
const TABLES: [(&str, &str, &[&str]); 4] = [
    ("id INTEGER PRIMARY KEY, other", "", &["id"]),
    ("id TEXT PRIMARY KEY, other", "", &["id"]),
    (
        "id INT, other INT, PRIMARY KEY(other, id)",
        "WITHOUT ROWID",
        &["other", "id"],
    ),
    (
        "id INTEGER PRIMARY KEY AUTOINCREMENT, other INT UNIQUE",
        "",
        &["id"],
    ),
];

#[test]
fn who_applies_what_they_are_sent_holds_their_part_of_the_table() {
    run(World::new);
}

/// Here everybody goes now to the daemon beside the table, now to an edge of it.
#[test]
fn who_hops_between_an_edge_and_its_origin_holds_their_part_of_the_table() {
    run(World::with_edge);
}

fn run(world: impl Fn(u64) -> World) {
    let seeds = match std::env::var("WALCAST_SEED") {
        Ok(seed) => vec![seed.parse().expect("WALCAST_SEED is a number")],
        Err(_) => SEEDS.to_vec(),
    };
    for seed in seeds {
        let mut world = world(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
    }
}

/// Somebody who keeps a copy.
struct Client {
    /// Whose rows they ask for; all where that is empty.
    tenants: Vec<&'static str>,
    connection: Option<Subscriber>,
    epoch: String,
    position: i64,
    held: Held,
    is_live: bool,
}

struct World {
    random: Random,
    /// `None` while it is down.
    daemon: Option<Daemon>,
    edge: Option<Daemon>,
    settings: Settings,
    database: Database,
    table: usize,
    mode: CaptureMode,
    clients: Vec<Client>,
    columns: usize,
    /// The log has the rows that REPLACE deletes.
    replaces: bool,
    log: Steps,
}

impl Client {
    fn takes(&self, tenant: &Value) -> bool {
        self.tenants.is_empty() || self.tenants.iter().any(|wanted| tenant == wanted)
    }

    fn query(&self) -> String {
        let filter = self
            .tenants
            .iter()
            .map(|tenant| format!("&tenant={tenant}"));
        let filter: String = filter.collect();
        match self.epoch.as_str() {
            "" => format!("since=earliest{filter}"),
            epoch => format!("since={}&epoch={epoch}{filter}", self.position),
        }
    }

    /// The part of the table that is theirs.
    fn part(&self, database: &Database, key: &[&str]) -> Held {
        let tenants: Vec<String> = self
            .tenants
            .iter()
            .map(|name| format!("'{name}'"))
            .collect();
        let condition = match tenants.is_empty() {
            true => "1".to_owned(),
            false => format!("tenant IN ({})", tenants.join(", ")),
        };
        // A column that comes later comes with the next change of each row.
        let sql = format!("SELECT id, other, tenant, n FROM t WHERE {condition}");
        Held::of(database, &sql, key)
    }

    fn text(&mut self, text: &str) {
        let frame: Value = serde_json::from_str(text).expect("frames are JSON");
        let number = |field: &str| frame[field].as_i64().expect("a number");
        if let Some(change) = row_of(&frame) {
            for row in ["after", "before"]
                .into_iter()
                .filter_map(|name| change.get(name))
            {
                assert!(
                    self.takes(&row["tenant"]),
                    "{:?} were sent {frame}",
                    self.tenants
                );
            }
            let mut known = change.clone();
            if let Some(row) = known.get_mut("after").and_then(Value::as_object_mut) {
                row.retain(|name, _| ["id", "other", "tenant", "n"].contains(&name.as_str()));
            }
            self.held.apply(&known);
            if let Some(seq) = change["seq"].as_i64() {
                assert!(seq > self.position, "{seq} came after {}", self.position);
                self.position = seq;
            }
            return;
        }
        let snapshot = frame["snapshot"] == true;
        match frame["type"].as_str() {
            Some("hello" | "reset") => {
                let epoch = frame["epoch"].as_str().expect("an epoch").to_owned();
                assert!(
                    snapshot || epoch == self.epoch,
                    "another history without its table: {frame}"
                );
                if snapshot {
                    (self.held, self.position) = (Held::default(), 0);
                }
                (self.epoch, self.is_live) = (epoch, false);
            }
            Some("live") => {
                self.position = self.position.max(number("id"));
                self.is_live = true;
            }
            Some("heartbeat" | "goodbye") => {}
            Some("waiting") => self.is_live = false,
            _ => panic!("an unknown frame: {frame}"),
        }
    }

    /// Takes what there is for so long. A closed connection is opened anew.
    fn take_for(&mut self, daemon: &Daemon, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let Some(connection) = &mut self.connection else {
                return self.connect(daemon);
            };
            match connection.receive_within(left) {
                Some(Received::Text(text)) if text == "pong" => return,
                Some(Received::Text(text)) => self.text(&text),
                Some(Received::Closed(_)) => self.connection = None,
                None => return,
            }
        }
    }

    fn connect(&mut self, daemon: &Daemon) {
        let query = self.query();
        self.is_live = false;
        // Refused while the capture is broken.
        let answer = daemon.upgrade("/ws/orders", &[]);
        if answer.status == 101 {
            self.connection = Some(daemon.subscribe_to("/ws/orders", &query));
        }
    }
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let table = random.below(TABLES.len());
        let mode = random.pick(&[CaptureMode::Keys, CaptureMode::Full]);
        let (declared, ending, _) = TABLES[table];
        let sql = create("t", declared, ending);
        let settings = settings(&sql, "t", mode, &["tenant"], "");
        let database = Database::at(settings.database_path());
        let noted = "SELECT count(*) FROM sqlite_schema WHERE name = '_walcast_pending'";
        let replaces = database.number(noted) > 0;
        let mut log = Steps::of(seed);
        log.push(format!("{declared} {ending}, {mode:?}"));
        let mut world = World {
            daemon: Some(settings.clone().start()),
            edge: None,
            settings,
            database,
            table,
            mode,
            clients: vec![],
            columns: 0,
            replaces,
            log,
            random,
        };
        for _ in 0..CLIENTS {
            let count = world.random.below(3);
            let tenants = (0..count).map(|_| world.random.pick(&TENANTS)).collect();
            world.clients.push(Client {
                tenants,
                connection: None,
                epoch: String::new(),
                position: 0,
                held: Held::default(),
                is_live: false,
            });
        }
        world
    }

    fn with_edge(seed: u64) -> World {
        let mut world = World::new(seed);
        // An edge finds it where it was, also after a restart.
        let address = world.daemon.as_ref().expect("it was started").address();
        world.settings = world.settings.at(address);
        let edge = Settings::on_new_file().edge_of(format!("ws://{address}"));
        world.edge = Some(edge.start());
        world
    }

    /// Ends the edge and starts it again, now and then without its spool.
    fn restart_edge(&mut self) {
        let Some(edge) = self.edge.take() else {
            return;
        };
        let is_killed = self.random.one_in(2);
        let settings = if is_killed { edge.kill() } else { edge.stop() };
        if self.random.one_in(4) {
            self.log.push("the edge begins anew".to_owned());
            for suffix in ["", "-wal", "-shm"] {
                let path = settings.database_path().display();
                let _ = std::fs::remove_file(format!("{path}{suffix}"));
            }
        } else {
            self.log.push("the edge is restarted".to_owned());
        }
        if self.random.one_in(2) {
            self.write();
        }
        self.edge = Some(settings.start());
    }

    fn step(&mut self) {
        if self.edge.is_some() && self.random.one_in(20) {
            return self.restart_edge();
        }
        match self.random.below(30) {
            0 => self.restart(),
            1 => self.settle(),
            2 | 3 => {
                let client = self.random.below(CLIENTS);
                self.clients[client].connection = None;
            }
            4..=8 => {
                let client = self.random.below(CLIENTS);
                let time = Duration::from_millis(self.random.below(20) as u64);
                let is_at_edge = self.edge.is_some() && self.random.one_in(2);
                let daemon = if is_at_edge { &self.edge } else { &self.daemon };
                if let Some(daemon) = daemon {
                    self.clients[client].take_for(daemon, time);
                }
            }
            9 => self.prune(),
            10 => self.migrate(),
            11 => {
                let pragma =
                    self.random
                        .pick(&["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)", "ANALYZE"]);
                self.run(pragma);
            }
            _ => self.write(),
        }
    }

    #[track_caller]
    fn run(&mut self, sql: &str) {
        self.log.push(sql.to_owned());
        self.database.execute(sql);
    }

    fn write(&mut self) {
        let mut sql = String::new();
        let count = 1 + self.random.below(4);
        for _ in 0..count {
            let statement = self.statement();
            sql.push_str(&match self.random.below(8) {
                0 => format!("SAVEPOINT s; {statement}; ROLLBACK TO s; RELEASE s; "),
                1 => format!("SAVEPOINT s; {statement}; RELEASE s; "),
                _ => format!("{statement}; "),
            });
        }
        let end = if self.random.one_in(8) {
            "ROLLBACK"
        } else {
            "COMMIT"
        };
        self.run(&format!("BEGIN IMMEDIATE; {sql}{end}"));
    }

    fn statement(&mut self) -> String {
        let statement = self.any_statement();
        match self.replaces {
            true => statement,
            false => statement.replace("OR REPLACE", "OR IGNORE"),
        }
    }

    fn any_statement(&mut self) -> String {
        let random = &mut self.random;
        let tenant = random.pick(&TENANTS);
        let (id, other) = (random.below(40), random.below(40));
        let (from, number) = (random.below(40), random.below(1_000_000));
        let to = from + random.below(8);
        let some = format!("id BETWEEN {from} AND {to}");
        let values = format!("(id, other, tenant, n) VALUES ({id}, {other}, '{tenant}', {number})");
        let (_, _, key) = TABLES[self.table];
        match random.below(14) {
            0..=2 => format!("INSERT OR IGNORE INTO t{values}"),
            3 | 4 => format!("INSERT OR REPLACE INTO t{values}"),
            5 => format!(
                "INSERT INTO t{values} ON CONFLICT({}) DO UPDATE SET n = excluded.n, tenant = excluded.tenant",
                key.join(", ")
            )
            .replace("INSERT INTO", if self.table == 3 { "INSERT OR IGNORE INTO" } else { "INSERT INTO" }),
            6 | 7 => format!("UPDATE OR IGNORE t SET n = {number} WHERE {some}"),
            8 => format!("UPDATE OR IGNORE t SET tenant = '{tenant}' WHERE {some}"),
            9 => format!("UPDATE OR IGNORE t SET id = id + {other}, n = n + 1 WHERE {some}"),
            10 => format!("UPDATE OR REPLACE t SET id = {id}, other = {other} WHERE {some}"),
            11 => format!("DELETE FROM t WHERE {some}"),
            12 => format!(
                "INSERT OR IGNORE INTO t(id, other, tenant, n) WITH RECURSIVE s(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM s
                 LIMIT 300) SELECT i, i, '{tenant}', i FROM s"
            ),
            _ if random.one_in(3) => "DELETE FROM t".to_owned(),
            _ => format!("DELETE FROM t WHERE tenant = '{tenant}'"),
        }
    }

    fn prune(&mut self) {
        self.run(
            "DELETE FROM _walcast_t WHERE seq < (SELECT max(seq) - abs(random() % 50) FROM _walcast_t)",
        );
    }

    /// A column that is new, or the table built anew, with which its triggers go.
    fn migrate(&mut self) {
        self.columns += 1;
        let number = self.columns;
        if self.random.one_in(2) {
            self.run(&format!(
                "ALTER TABLE t ADD COLUMN c{number} DEFAULT {number}"
            ));
            // Where whole rows are recorded, the log needs the column too.
            return capture(&self.database, "t", self.mode, &["tenant"]);
        }
        let (declared, ending, _) = TABLES[self.table];
        let columns = self
            .database
            .query("SELECT name FROM pragma_table_info('t')");
        let columns: Vec<&str> = columns
            .iter()
            .filter_map(|row| row["name"].as_str())
            .collect();
        // Those that came later stand behind the first four.
        let later: String = columns[4..]
            .iter()
            .map(|name| format!(", {name}"))
            .collect();
        let columns = columns.join(", ");
        let new = create("made", declared, ending).replace(", n", &format!(", n{later}"));
        self.run(&format!(
            "BEGIN IMMEDIATE; {new}; INSERT INTO made({columns}) SELECT {columns} FROM t; DROP TABLE t; ALTER TABLE made RENAME TO t; COMMIT"
        ));
        if self.random.one_in(2) {
            // What is written while nothing is captured.
            let sql = self.statement();
            self.run(&sql);
        }
        capture(&self.database, "t", self.mode, &["tenant"]);
        self.log.push("captured again".to_owned());
    }

    fn restart(&mut self) {
        self.log.push("restart".to_owned());
        for client in &mut self.clients {
            client.connection = None;
        }
        if let Some(daemon) = self.daemon.take() {
            drop(match self.random.one_in(2) {
                true => daemon.kill(),
                false => daemon.stop(),
            });
        }
        if self.random.one_in(2) {
            self.write();
        }
        self.daemon = Some(self.settings.clone().start());
    }

    /// Waits until everybody has all there is, and compares it with the table.
    fn settle(&mut self) {
        self.log.push("settle".to_owned());
        let (_, _, key) = TABLES[self.table];
        for (index, client) in self.clients.iter_mut().enumerate() {
            let at_edge = self.edge.as_ref().filter(|_| index.is_multiple_of(2));
            let daemon = at_edge.or(self.daemon.as_ref());
            let daemon = daemon.expect("it runs between steps");
            let part = client.part(&self.database, key);
            let end = Instant::now() + PATIENCE;
            loop {
                if client.is_live && client.held == part {
                    // What was under way when it looked right is taken, too.
                    if let Some(connection) = &mut client.connection {
                        connection.send("ping");
                    }
                    client.take_for(daemon, PATIENCE);
                    if client.is_live && client.held == part {
                        break;
                    }
                }
                assert!(
                    Instant::now() < end,
                    "client {index} of {:?} at {} (live: {}) holds what is not there: {:?}; and lacks {:?}",
                    client.tenants,
                    client.position,
                    client.is_live,
                    client.held.without(&part),
                    part.without(&client.held)
                );
                client.take_for(daemon, Duration::from_millis(20));
            }
        }
    }
}

fn create(name: &str, declared: &str, ending: &str) -> String {
    // Constraints of the table stand behind its columns.
    let (columns, constraint) = match declared.split_once(", PRIMARY KEY") {
        Some((columns, rest)) => (columns, format!(", PRIMARY KEY{rest}")),
        None => (declared, String::new()),
    };
    format!("CREATE TABLE {name}({columns}, tenant TEXT, n{constraint}) {ending}")
}

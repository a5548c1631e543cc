//! The same of changes, where a row comes to a tenant, leaves them, and goes: whoever applies what they are sent holds exactly
//! their rows, and learns of no other, not even its key.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tempfile::TempDir;
use walcast::config::CaptureMode;
use walcast::sqlite::capture::{Subject, install};

use super::super::issuer::Issuer;
use super::{CUSTOMERS, Caller, callers, seeds};
use crate::common::http::Response;
use crate::common::random::Random;
use crate::common::subscriber::{Received, row_of};
use crate::common::{Daemon, Database, Settings, Steps, Subscriber, directory, wait_until};

const STEPS: usize = 120;
const FOLLOWERS: usize = 10;
const TABLE: &str = "id INTEGER PRIMARY KEY, customer TEXT, branch INTEGER, item TEXT";

#[test]
fn nobody_learns_of_a_change_of_anothers_and_all_hold_their_own_rows() {
    for seed in seeds() {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
    }
}

/// Somebody who keeps a copy, or (plain) only listens.
struct Follower {
    caller: usize,
    plain: bool,
    branch: Option<usize>,
    /// `None` while it is away.
    connection: Option<Subscriber>,
    epoch: String,
    position: i64,
    /// Items by the keys of their rows.
    held: BTreeMap<i64, String>,
    is_live: bool,
}

struct World {
    random: Random,
    daemon: Daemon,
    _files: TempDir,
    callers: Vec<Caller>,
    followers: Vec<Follower>,
    /// Whose each content was, by its text, which no two have in common.
    contents: BTreeMap<String, Option<&'static str>>,
    /// Who ever had a row of this key.
    owners: BTreeMap<i64, BTreeSet<Option<&'static str>>>,
    rebuilt: usize,
    log: Steps,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let own = directory();
        let issuer = Issuer::new();
        let tokens = own.path().join("tokens.toml");
        let callers = callers(&mut random, &issuer, &tokens);
        let mode = random.pick(&[CaptureMode::Keys, CaptureMode::Full]);
        let exclude = if random.one_in(2) {
            "exclude = [\"customer\"]\n"
        } else {
            ""
        };
        let captured = format!(
            "table = \"orders\"\ncapture = {:?}\ncapture_filters = [\"customer\", \"branch\"]\n{exclude}",
            mode.as_str()
        );
        let toml = format!(
            "trusted_proxies = [\"127.0.0.1\"]\n[auth]\ntokens = {tokens:?}\n{}[auth.proxy]\nuser = \"X-Auth-User\"\n\
             [feeds.orders]\n{captured}scope = {{ customer = \"claim:customer\" }}\n\
             [feeds.desk]\n{captured}scope = {{ customer = \"header:X-Tenant\" }}\n",
            issuer.settle(own.path()),
        );
        let settings =
            Settings::on_new_file().with_tables(&format!("CREATE TABLE orders({TABLE})"));
        let filters = ["customer".to_owned(), "branch".to_owned()];
        let subject =
            |connection: &rusqlite::Connection| Subject::of(connection, "orders", mode, &filters);
        let database = Database::at(settings.database_path());
        install(&mut database.connect(), &subject).expect("it can be captured");
        // So few that whoever does not read is soon served from the log in the file.
        let daemon = settings.toml(toml).option("--ring-rows", "64").start();
        let mut log = Steps::of(seed);
        log.push(format!("{mode:?} {exclude}"));
        World {
            random,
            daemon,
            _files: own,
            callers,
            followers: Vec::new(),
            contents: BTreeMap::new(),
            owners: BTreeMap::new(),
            rebuilt: 0,
            log,
        }
    }

    fn step(&mut self) {
        match self.random.below(24) {
            0 => self.settle(),
            1 => self.prune(),
            2 => self.rebuild(),
            3 => self.execute("VACUUM"),
            4..=6 => self.follow(),
            7 | 8 => self.leave_or_come_back(),
            9..=11 => self.take_some(),
            12..=14 => self.insert(),
            15..=18 => self.hand_over(),
            19 | 20 => self.rename(),
            _ => self.delete(),
        }
    }

    #[track_caller]
    fn execute(&mut self, sql: &str) {
        self.log.push(sql.to_owned());
        self.daemon.database().execute(sql);
    }

    /// A new content, whose it is, and what a row of it has.
    fn content(&mut self) -> (Option<&'static str>, String) {
        let customer = self.random.pick(&CUSTOMERS);
        let item = format!("item-{}", self.contents.len());
        self.contents.insert(item.clone(), customer);
        let branch = self.random.below(3);
        let owner = customer.map_or("NULL".to_owned(), |name| format!("'{name}'"));
        (customer, format!("{owner}, {branch}, '{item}'"))
    }

    fn own(&mut self, id: i64, customer: Option<&'static str>) {
        self.owners.entry(id).or_default().insert(customer);
    }

    fn ids(&self, at_most: usize) -> Vec<i64> {
        let sql = format!("SELECT id FROM orders ORDER BY random() LIMIT {at_most}");
        let rows = self.daemon.database().query(&sql);
        rows.iter().filter_map(|row| row["id"].as_i64()).collect()
    }

    fn insert(&mut self) {
        let mut sql = "BEGIN;".to_owned();
        for _ in 0..1 + self.random.below(30) {
            let (customer, values) = self.content();
            let id = self.random.below(60) as i64;
            self.own(id, customer);
            sql.push_str(&format!(
                "INSERT OR REPLACE INTO orders VALUES ({id}, {values});"
            ));
        }
        self.execute(&format!("{sql}COMMIT"));
    }

    fn hand_over(&mut self) {
        for id in self.ids(5) {
            let (customer, values) = self.content();
            self.own(id, customer);
            self.execute(&format!(
                "UPDATE orders SET (customer, branch, item) = (SELECT {values}) WHERE id = {id}"
            ));
        }
    }

    /// Gives rows other keys, and with them other contents.
    fn rename(&mut self) {
        for id in self.ids(3) {
            let (customer, values) = self.content();
            let other = self.random.below(60) as i64;
            self.own(other, customer);
            self.execute(&format!(
                "UPDATE OR REPLACE orders SET (customer, branch, item) = (SELECT {values}), id = {other} WHERE id = {id}"
            ));
        }
    }

    fn delete(&mut self) {
        let from = self.random.below(60);
        let to = from + self.random.below(6);
        self.execute(&format!(
            "DELETE FROM orders WHERE id BETWEEN {from} AND {to}"
        ));
    }

    /// Also what somebody who is behind has not seen.
    fn prune(&mut self) {
        let keep = self.random.pick(&[0, 20, 100]);
        self.execute(&format!(
            "DELETE FROM _walcast_orders WHERE seq < (SELECT max(seq) - {keep} FROM _walcast_orders)"
        ));
    }

    /// As migrations do it: the triggers go with the old table, and rows are changed on the way.
    fn rebuild(&mut self) {
        self.rebuilt += 1;
        let gone = self.random.below(60);
        self.execute(&format!(
            "BEGIN IMMEDIATE; CREATE TABLE made({TABLE}); INSERT INTO made SELECT * FROM orders WHERE id <> {gone};
             DROP TABLE orders; ALTER TABLE made RENAME TO orders; COMMIT"
        ));
        let triggers =
            "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'orders'";
        wait_until("it is captured anew", || {
            self.daemon.database().number(triggers) > 0
        });
        let caller = &self.callers[0];
        let path = format!("/api/feeds/{}/events", caller.feed);
        wait_until("it is served again", || {
            self.get(caller, &path).status == 200
        });
    }

    fn get(&self, caller: &Caller, path: &str) -> Response {
        self.daemon.request("GET", path, &caller.headers(), b"")
    }

    fn follow(&mut self) {
        if self.followers.len() == FOLLOWERS {
            let index = self.random.below(FOLLOWERS);
            self.followers.remove(index);
        }
        let caller = self.random.below(self.callers.len());
        let mut follower = Follower {
            caller,
            plain: self.random.one_in(4),
            branch: self.random.one_in(3).then(|| self.random.below(3)),
            connection: None,
            epoch: String::new(),
            position: 0,
            held: BTreeMap::new(),
            is_live: false,
        };
        self.connect(&mut follower);
        self.followers.push(follower);
    }

    fn connect(&self, follower: &mut Follower) {
        let caller = &self.callers[follower.caller];
        let since = match (follower.plain, follower.epoch.as_str()) {
            (true, _) => String::new(),
            (_, "") => "since=earliest".to_owned(),
            (_, epoch) => format!("since={}&epoch={epoch}", follower.position),
        };
        let branch = follower.branch.map(|branch| format!("&branch={branch}"));
        let query = since + &branch.unwrap_or_default();
        let path = format!("/ws/{}", caller.feed);
        let address = self.daemon.address();
        let connection = Subscriber::connect_with(address, &path, &query, &caller.headers());
        (follower.connection, follower.is_live) = (Some(connection), follower.plain);
    }

    fn leave_or_come_back(&mut self) {
        if self.followers.is_empty() {
            return;
        }
        let index = self.random.below(self.followers.len());
        let mut follower = self.followers.swap_remove(index);
        match follower.connection.take() {
            Some(_) => {}
            None => self.connect(&mut follower),
        }
        self.followers.push(follower);
    }

    /// Who takes nothing for long is served from the file.
    fn take_some(&mut self) {
        if self.followers.is_empty() {
            return;
        }
        let index = self.random.below(self.followers.len());
        let mut follower = self.followers.swap_remove(index);
        self.take_until(&mut follower, |_| true);
        self.followers.push(follower);
    }

    /// Takes frames until all that was sent by now has come, and `is_done`.
    fn take_until(&self, follower: &mut Follower, is_done: impl Fn(&Follower) -> bool) {
        let mut answered = false;
        loop {
            let Some(connection) = &mut follower.connection else {
                self.connect(follower);
                answered = false;
                continue;
            };
            if !answered {
                connection.send("ping");
                while let Some(text) = self.receive(follower) {
                    self.text(follower, &text);
                }
                answered = true;
                continue;
            }
            if is_done(follower) {
                return;
            }
            if let Some(text) = self.receive(follower) {
                self.text(follower, &text);
            }
        }
    }

    /// The next frame; `None` for an answer to a ping, and where the connection is closed, as a plain one's is by a reset.
    fn receive(&self, follower: &mut Follower) -> Option<String> {
        match follower.connection.as_mut()?.receive() {
            Received::Text(text) => Some(text).filter(|text| text != "pong"),
            Received::Closed(Some(1012)) => {
                follower.connection = None;
                None
            }
            Received::Closed(code) => panic!(
                "{follower:?} was sent away with {code:?}",
                follower = follower.caller
            ),
        }
    }

    fn text(&self, follower: &mut Follower, text: &str) {
        let frame: Value = serde_json::from_str(text).expect("a frame is JSON");
        let caller = &self.callers[follower.caller];
        if let Some(change) = row_of(&frame) {
            self.apply(&mut follower.held, caller, &change);
            follower.position = change["seq"].as_i64().unwrap_or(follower.position);
            return;
        }
        assert!(
            !follower.plain,
            "a plain subscriber gets changes alone: {frame}"
        );
        match frame["type"].as_str() {
            Some("hello" | "reset") => {
                let epoch = frame["epoch"].as_str().expect("an epoch").to_owned();
                if frame["snapshot"] == true {
                    (follower.held, follower.position) = (BTreeMap::new(), 0);
                } else {
                    assert_eq!(
                        epoch, follower.epoch,
                        "another history without its table: {frame}"
                    );
                }
                (follower.epoch, follower.is_live) = (epoch, false);
            }
            Some("live") => {
                follower.position = follower.position.max(frame["id"].as_i64().expect("an id"));
                follower.is_live = true;
            }
            Some("waiting") => follower.is_live = false,
            other => assert_eq!(other, Some("heartbeat"), "{frame}"),
        }
    }

    /// Applies a change to what a caller holds, none of which may be another's.
    #[track_caller]
    fn apply(&self, held: &mut BTreeMap<i64, String>, caller: &Caller, change: &Value) {
        for key in ["key", "old_key"]
            .iter()
            .filter_map(|name| change.get(name))
        {
            let id = key["id"].as_i64().expect("a key");
            let mut owners = self.owners.get(&id).into_iter().flatten();
            let is_theirs = owners.any(|owner| caller.may_read(*owner));
            assert!(is_theirs, "{caller:?} never had a row {id}: {change}");
        }
        let rows = ["after", "before"];
        for row in rows.iter().filter_map(|name| change.get(name)) {
            let item = row["item"].as_str().expect("a row has an item");
            let customer = self.contents.get(item).expect("a row was committed");
            assert!(
                caller.may_read(*customer),
                "{change} is {customer:?}'s, shown to {caller:?}"
            );
            if let Some(shown) = row.get("customer") {
                assert_eq!(*shown, json!(customer));
            }
        }
        let id = |name: &str| change[name]["id"].as_i64();
        if let Some(old) = change.get("old_key").and_then(|_| id("old_key")) {
            held.remove(&old);
        }
        let key = id("key").expect("a key");
        match change.get("after") {
            Some(row) => held.insert(key, row["item"].as_str().unwrap().to_owned()),
            None => held.remove(&key),
        };
    }

    /// The rows of the table that are a caller's.
    fn part(&self, caller: &Caller, branch: Option<usize>) -> BTreeMap<i64, String> {
        let branch = branch.map_or(String::new(), |branch| format!(" AND branch = {branch}"));
        let sql = format!(
            "SELECT id, item FROM orders WHERE {}{branch}",
            caller.condition()
        );
        let rows = self.daemon.database().query(&sql).into_iter();
        rows.map(|row| {
            (
                row["id"].as_i64().unwrap(),
                row["item"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
    }

    /// Everybody holds what is theirs; then every other way to read is compared with the table.
    fn settle(&mut self) {
        self.log.push("settle".to_owned());
        let mut followers = std::mem::take(&mut self.followers);
        for follower in &mut followers {
            let part = self.part(&self.callers[follower.caller], follower.branch);
            self.take_until(follower, |follower| {
                follower.plain || (follower.is_live && follower.held == part)
            });
        }
        self.followers = followers;
        for caller in &self.callers {
            self.compare(caller);
        }
    }

    fn compare(&self, caller: &Caller) {
        let events = format!("/api/feeds/{}/events", caller.feed);
        let history = self.get(caller, &format!("{events}?limit=500")).json();
        let items = history["items"].as_array().expect("a list");
        let total = history["total"].as_u64().expect("a number") as usize;
        assert_eq!(items.len(), total.min(500), "{caller:?}");
        let mut ignored = BTreeMap::new();
        for change in items {
            self.apply(&mut ignored, caller, change);
        }
        for stranger in ["acme", "globex"] {
            if !caller.customers.contains(stranger) {
                let asked = self.get(caller, &format!("{events}?customer={stranger}"));
                let nothing = asked.status == 400 || asked.json()["total"] == 0;
                assert!(nothing, "{caller:?} asked for {stranger}: {}", asked.text());
            }
        }
        let stream = format!("/sse/{}?since=earliest", caller.feed);
        let mut stream = self.daemon.event_source(&stream, &caller.headers());
        stream.expect("hello");
        let mut held = BTreeMap::new();
        loop {
            let event = stream.next().expect("the stream goes on");
            match row_of(&event.json()) {
                Some(change) => self.apply(&mut held, caller, &change),
                None => break assert_eq!(event.name.as_deref(), Some("live")),
            }
        }
        assert_eq!(held, self.part(caller, None), "SSE of {caller:?}");
        let feeds = self.get(caller, "/api/feeds").json();
        let [feed] = feeds["feeds"].as_array().expect("a list").as_slice() else {
            panic!("{caller:?} sees {feeds}");
        };
        assert_eq!(
            (&feed["name"], &feed["kind"]),
            (&json!(caller.feed), &json!("changes"))
        );
        assert!(feed.get("subscribers").is_none());
        assert_eq!(self.get(caller, "/metrics").status, 403);
    }
}

//! Random tenants, credentials, filters and writers: nobody ever sees another's row by any path, and misses none of their
//! own. A failure prints its seed; `WALCAST_SEED=<seed>` runs that one alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::issuer::Issuer;
use super::office::command;
use crate::common::http::{JSON, Response};
use crate::common::random::Random;
use crate::common::subscriber::{Received, row_of};
use crate::common::{Daemon, Settings, Steps, Subscriber, directory, wait_until};

mod changes;

const SEEDS: [u64; 3] = [1, 2, 3];
const STEPS: usize = 120;
const SUBSCRIBERS: usize = 10;
/// More rows would be more than one page of history.
const MOST_ROWS: usize = 400;
/// Values that are easily taken for each other, and none.
const CUSTOMERS: [Option<&str>; 8] = [
    Some("acme"),
    Some("ACME"),
    Some("acme "),
    Some("globex"),
    Some("5"),
    Some("5.0"),
    Some(""),
    None,
];

#[test]
fn nobody_sees_a_row_of_another_and_all_see_their_own() {
    for seed in seeds() {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("WALCAST_SEED") {
        Ok(seed) => vec![seed.parse().expect("WALCAST_SEED is a number")],
        Err(_) => SEEDS.to_vec(),
    }
}

/// Somebody with a credential.
#[derive(Debug, Clone)]
struct Caller {
    /// `desk` is the same table as `orders`, for those who come through a proxy.
    feed: &'static str,
    headers: Vec<(&'static str, String)>,
    /// Whose rows they may read.
    customers: BTreeSet<&'static str>,
    may_write: bool,
}

impl Caller {
    fn headers(&self) -> Vec<(&'static str, &str)> {
        let headers = self.headers.iter();
        headers
            .map(|(name, value)| (*name, value.as_str()))
            .collect()
    }

    fn may_read(&self, customer: Option<&str>) -> bool {
        customer.is_some_and(|customer| self.customers.contains(customer))
    }

    /// The rows of the table that are theirs, as SQL.
    fn condition(&self) -> String {
        let texts: Vec<String> = self
            .customers
            .iter()
            .map(|name| format!("'{name}'"))
            .collect();
        format!("customer IN ({})", texts.join(", "))
    }
}

/// A connection that lasts.
struct Follower {
    caller: usize,
    plain: bool,
    branch: Option<usize>,
    connection: Subscriber,
    /// Items of rows they must have got when all is settled.
    due: BTreeSet<String>,
    got: BTreeSet<String>,
}

struct World {
    random: Random,
    daemon: Daemon,
    /// Holds the files that say who may come in.
    _files: TempDir,
    callers: Vec<Caller>,
    followers: Vec<Follower>,
    /// Every content a row ever had, by its text, which no two have in common: whose it was, and its branch.
    contents: BTreeMap<String, (Option<&'static str>, usize)>,
    log: Steps,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let own = directory();
        let issuer = Issuer::new();
        let tokens = own.path().join("tokens.toml");
        let callers = callers(&mut random, &issuer, &tokens);
        // Whose a row is is seen by some, and hidden from others.
        let exclude = if random.one_in(2) {
            "exclude = [\"customer\"]\n"
        } else {
            ""
        };
        let toml = format!(
            "trusted_proxies = [\"127.0.0.1\"]\n[auth]\ntokens = {tokens:?}\n{}[auth.proxy]\nuser = \"X-Auth-User\"\n\
             [feeds.orders]\ningest = true\n{exclude}scope = {{ customer = \"claim:customer\" }}\n\
             [feeds.desk]\ntable = \"orders\"\n{exclude}scope = {{ customer = \"header:X-Tenant\" }}\n",
            issuer.settle(own.path()),
        );
        let daemon = Settings::on_new_file()
            .with_tables(
                "CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT, branch INTEGER, item TEXT)",
            )
            .toml(toml)
            // So few that whoever does not read is soon served from the table.
            .option("--ring-rows", "64")
            .start();
        World {
            random,
            daemon,
            _files: own,
            callers,
            followers: Vec::new(),
            contents: BTreeMap::new(),
            log: Steps::of(seed),
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..30 => self.insert(1),
            30..45 => self.insert(100),
            45..55 => self.hand_over(),
            55..62 => self.prune(),
            62..65 => self.alter(),
            65..85 => self.follow(),
            85..93 => self.settle(),
            93..97 => self.send(),
            97..100 => self.start_over(),
            _ => unreachable!("below 100"),
        }
    }

    fn say(&mut self, what: String) {
        self.log.push(what);
    }

    /// Text that no row had before.
    fn content(&mut self, customer: Option<&'static str>, branch: usize) -> String {
        let filling = "x".repeat(self.random.pick(&[0, 0, 50, 3_000]));
        let text = format!("item {} {filling}", self.contents.len());
        self.contents.insert(text.clone(), (customer, branch));
        text
    }

    fn insert(&mut self, at_most: usize) {
        let count = 1 + self.random.below(at_most);
        let rows: Vec<_> = (0..count)
            .map(|_| (self.random.pick(&CUSTOMERS), self.random.below(3)))
            .collect();
        self.say(format!("insert {count}"));
        self.write(&rows);
    }

    /// Commits these rows at once.
    fn write(&mut self, rows: &[(Option<&'static str>, usize)]) {
        let mut connection = self.daemon.database().connect();
        let transaction = connection.transaction().unwrap();
        for (customer, branch) in rows {
            let item = self.content(*customer, *branch);
            let sql = "INSERT INTO orders(customer, branch, item) VALUES (?, ?, ?)";
            transaction
                .execute(sql, (customer, *branch as i64, &item))
                .unwrap();
            for follower in &mut self.followers {
                let wanted = follower.branch.is_none_or(|wanted| wanted == *branch);
                if wanted && self.callers[follower.caller].may_read(*customer) {
                    follower.due.insert(item.clone());
                }
            }
        }
        transaction.commit().unwrap();
    }

    /// Rows that become another's. Who was not told of them yet may or may not be, of what they were.
    fn hand_over(&mut self) {
        let connection = self.daemon.database().connect();
        let ids = self
            .daemon
            .database()
            .query("SELECT id, item FROM orders ORDER BY random() LIMIT 5");
        for row in &ids {
            let (customer, branch) = (self.random.pick(&CUSTOMERS), self.random.below(3));
            let item = self.content(customer, branch);
            let sql = "UPDATE orders SET customer = ?, branch = ?, item = ? WHERE id = ?";
            let id = row["id"].as_i64();
            connection
                .execute(sql, (customer, branch as i64, &item, id))
                .unwrap();
            self.no_longer_due(row["item"].as_str().unwrap());
        }
        self.say(format!("hand over {}", ids.len()));
    }

    fn no_longer_due(&mut self, item: &str) {
        for follower in &mut self.followers {
            follower.due.remove(item);
        }
    }

    /// Everybody is up to date first: whoever was behind would have to start over.
    fn prune(&mut self) {
        self.settle();
        let keep = self.random.pick(&[20, 50, 200]);
        let oldest = format!("(SELECT id FROM orders ORDER BY id DESC LIMIT -1 OFFSET {keep})");
        self.daemon
            .database()
            .execute(&format!("DELETE FROM orders WHERE id IN {oldest}"));
        self.say(format!("prune all but {keep}"));
    }

    fn alter(&mut self) {
        let name = format!("c{}", self.log.len());
        self.daemon
            .database()
            .execute(&format!("ALTER TABLE orders ADD COLUMN {name} TEXT"));
        self.say(format!("add column {name}"));
    }

    /// The ids begin anew: another history.
    fn start_over(&mut self) {
        self.settle();
        let epoch = self.epoch();
        self.daemon
            .database()
            .execute("BEGIN; DELETE FROM orders; DELETE FROM sqlite_sequence; COMMIT");
        self.say("start over".into());
        self.followers.clear();
        wait_until("the history is another", || self.epoch() != epoch);
    }

    fn epoch(&self) -> Value {
        let caller = self.callers.iter().find(|caller| caller.feed == "orders");
        let listed = self
            .get(caller.expect("somebody has a token"), "/api/feeds")
            .json();
        listed["feeds"][0]["epoch"].clone()
    }

    fn get(&self, caller: &Caller, path: &str) -> Response {
        self.daemon.request("GET", path, &caller.headers(), b"")
    }

    fn follow(&mut self) {
        if self.followers.len() == SUBSCRIBERS {
            let index = self.random.below(SUBSCRIBERS);
            self.followers.remove(index);
        }
        let index = self.random.below(self.callers.len());
        let caller = &self.callers[index];
        let branch = self.random.one_in(3).then(|| self.random.below(3));
        let plain = self.random.one_in(2);
        let since = if plain { "" } else { "since=earliest" };
        let query = match branch {
            Some(branch) => format!("{since}&branch={branch}"),
            None => since.to_owned(),
        };
        let path = format!("/ws/{}", caller.feed);
        let connection =
            Subscriber::connect_with(self.daemon.address(), &path, &query, &caller.headers());
        let mut due = BTreeSet::new();
        if !plain {
            due.extend(self.items_of(caller, branch));
        }
        self.log.push(format!("follow as {index}, {query:?}"));
        self.followers.push(Follower {
            caller: index,
            plain,
            branch,
            connection,
            due,
            got: BTreeSet::new(),
        });
    }

    /// The items in the table that a caller may read.
    fn items_of(&self, caller: &Caller, branch: Option<usize>) -> Vec<String> {
        let branch = branch.map_or(String::new(), |branch| format!(" AND branch = {branch}"));
        let sql = format!(
            "SELECT item FROM orders WHERE {}{branch} ORDER BY id",
            caller.condition()
        );
        items(&self.daemon.database().query(&sql))
    }

    /// Rows that are sent are the sender's own, or none.
    fn send(&mut self) {
        let writers: Vec<usize> = (0..self.callers.len())
            .filter(|index| self.callers[*index].may_write)
            .collect();
        let caller = self.callers[self.random.pick(&writers)].clone();
        let customer = caller.customers.first().copied();
        let stranger = self.random.pick(&CUSTOMERS);
        let item = self.content(customer, 0);
        let mut row = json!({"item": item, "branch": 0});
        let foreign = self.random.one_in(2);
        if foreign {
            row["customer"] = json!(stranger);
        }
        let headers = [caller.headers(), vec![JSON]].concat();
        let path = format!("/api/feeds/{}/events", caller.feed);
        let answer = self
            .daemon
            .request("POST", &path, &headers, row.to_string().as_bytes());
        let own = !foreign || caller.may_read(stranger);
        if !own {
            assert_ne!(answer.status, 201, "{row} of {caller:?}");
        }
        if answer.status != 201 {
            assert!(foreign, "{}", answer.text());
            self.contents.remove(&item);
            assert_eq!(self.count_of(&item), 0);
            return;
        }
        let stored = if foreign { stranger } else { customer };
        self.contents.insert(item.clone(), (stored, 0));
        for follower in &mut self.followers {
            let wanted = follower.branch.is_none_or(|wanted| wanted == 0);
            if wanted && self.callers[follower.caller].may_read(stored) {
                follower.due.insert(item.clone());
            }
        }
        self.say(format!("send as {stored:?}"));
    }

    fn count_of(&self, item: &str) -> i64 {
        let connection = self.daemon.database().connect();
        let sql = "SELECT count(*) FROM orders WHERE item = ?";
        connection.query_row(sql, [item], |row| row.get(0)).unwrap()
    }

    /// Everybody gets what is due; then every way to read is compared with the table.
    fn settle(&mut self) {
        self.say("settle".into());
        let everyone: Vec<_> = CUSTOMERS
            .iter()
            .flat_map(|customer| (0..3).map(|branch| (*customer, branch)))
            .collect();
        self.write(&everyone);
        let mut followers = std::mem::take(&mut self.followers);
        for follower in &mut followers {
            self.catch_up(follower);
        }
        self.followers = followers;
        for index in 0..self.callers.len() {
            self.compare(&self.callers[index]);
        }
        let rows = self.daemon.database().number("SELECT count(*) FROM orders") as usize;
        if rows > MOST_ROWS {
            self.daemon.database().execute(
                "DELETE FROM orders WHERE id IN (SELECT id FROM orders ORDER BY id DESC LIMIT -1 OFFSET 100)",
            );
        }
    }

    /// Takes frames until all that is due has come, and proves that nothing else does.
    fn catch_up(&self, follower: &mut Follower) {
        let caller = &self.callers[follower.caller];
        follower.connection.send("ping");
        let mut answered = false;
        while !answered || !follower.due.is_subset(&follower.got) {
            let text = match follower.connection.receive() {
                Received::Text(text) => text,
                Received::Closed(code) => panic!("{caller:?} was sent away with {code:?}"),
            };
            if text == "pong" {
                answered = true;
                continue;
            }
            let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
            match row_of(&frame) {
                Some(row) => {
                    let item = self.theirs(caller, &row);
                    assert!(follower.got.insert(item), "twice: {row}");
                }
                None => assert!(
                    !follower.plain,
                    "a plain subscriber gets rows alone: {frame}"
                ),
            }
        }
    }

    /// The row's item, whose content was at some time one of the caller's.
    #[track_caller]
    fn theirs(&self, caller: &Caller, row: &Value) -> String {
        let item = row["item"].as_str().expect("a row has an item");
        let (customer, _) = self.contents.get(item).expect("a row was committed");
        assert!(
            caller.may_read(*customer),
            "{row} is {customer:?}'s, shown to {caller:?}"
        );
        if let Some(shown) = row.get("customer") {
            assert_eq!(*shown, json!(customer));
        }
        item.to_owned()
    }

    /// What a caller is told by each request is what the table has for them.
    fn compare(&self, caller: &Caller) {
        let own = self.items_of(caller, None);
        let newest: Vec<String> = own.iter().rev().take(7).rev().cloned().collect();
        let events = format!("/api/feeds/{}/events", caller.feed);
        let history = self.get(caller, &format!("{events}?limit=500")).json();
        assert_eq!(history["total"], own.len(), "{caller:?}");
        let mut listed = items(history["items"].as_array().expect("a list"));
        listed.reverse();
        let shown = &own[own.len().saturating_sub(500)..];
        assert_eq!(listed, shown, "{caller:?}");
        let narrowed = self
            .get(caller, &format!("{events}?branch=1&limit=500"))
            .json();
        assert_eq!(narrowed["total"], self.items_of(caller, Some(1)).len());
        for stranger in ["acme", "globex"]
            .iter()
            .filter(|name| !caller.customers.contains(*name))
        {
            let asked = self.get(caller, &format!("{events}?customer={stranger}"));
            let nothing = asked.status == 400 || asked.json()["total"] == 0;
            assert!(nothing, "{caller:?} asked for {stranger}: {}", asked.text());
        }
        let path = format!("/ws/{}", caller.feed);
        for (query, wanted) in [("since=earliest", &own), ("last=7", &newest)] {
            let address = self.daemon.address();
            let mut replay = Subscriber::connect_with(address, &path, query, &caller.headers());
            replay.expect("hello");
            replay.rows_until("live");
            assert_eq!(&items(replay.ledger()), wanted, "{query} of {caller:?}");
        }
        let stream = format!("/sse/{}?since=earliest", caller.feed);
        let mut stream = self.daemon.event_source(&stream, &caller.headers());
        stream.expect("hello");
        for item in &own {
            let event = stream.next().expect("the stream goes on");
            let row = row_of(&event.json()).expect("a row");
            assert_eq!(row["item"], *item, "SSE of {caller:?}");
        }
        stream.expect("live");
        let feeds = self.get(caller, "/api/feeds").json();
        let [feed] = feeds["feeds"].as_array().expect("a list").as_slice() else {
            panic!("{caller:?} sees {feeds}");
        };
        assert_eq!(feed["name"], caller.feed);
        assert!(feed.get("subscribers").is_none());
        assert_eq!(self.get(caller, "/metrics").status, 403);
    }
}

fn items(rows: &[Value]) -> Vec<String> {
    let item = |row: &Value| row["item"].as_str().expect("a row has an item").to_owned();
    rows.iter().map(item).collect()
}

/// Some of each kind: tokens, JWTs, users of a proxy; for one customer, for several, for none.
fn callers(random: &mut Random, issuer: &Issuer, tokens: &Path) -> Vec<Caller> {
    let mut callers = Vec::new();
    let names: Vec<&'static str> = CUSTOMERS.iter().copied().flatten().collect();
    for n in 0..4 {
        let customers: BTreeSet<&'static str> = (0..=n % 3).map(|_| random.pick(&names)).collect();
        let bearer = |credential: String| vec![("Authorization", format!("Bearer {credential}"))];
        let name = format!("holder-{n}");
        let columns: Vec<String> = customers
            .iter()
            .map(|name| format!("customer={name}"))
            .collect();
        let mut args = vec!["add", &name, "--feed", "orders", "--ingest"];
        columns
            .iter()
            .for_each(|column| args.extend(["--where", column]));
        let token = command(tokens, &args).expect("a token is made");
        let by = |feed, headers, customers: &BTreeSet<&'static str>, may_write| Caller {
            feed,
            headers,
            customers: customers.clone(),
            may_write,
        };
        // One value fills what is left out; of several it can't be told which.
        let single = customers.len() == 1;
        callers.push(by(
            "orders",
            bearer(token.trim().to_owned()),
            &customers,
            single,
        ));
        let claims = match customers.first() {
            Some(only) if single => json!({ "customer": only }),
            _ => json!({ "customer": customers }),
        };
        callers.push(by(
            "orders",
            bearer(issuer.token(claims)),
            &customers,
            false,
        ));
        let tenant = random.pick(&["acme", "globex", "5", "ACME"]);
        let headers = vec![
            ("X-Auth-User", format!("user-{n}")),
            ("X-Tenant", tenant.to_owned()),
        ];
        callers.push(by("desk", headers, &[tenant].into(), false));
    }
    let nothing = issuer.token(json!({"customer": []}));
    let headers = vec![("Authorization", format!("Bearer {nothing}"))];
    callers.push(Caller {
        feed: "orders",
        headers,
        customers: BTreeSet::new(),
        may_write: false,
    });
    callers
}

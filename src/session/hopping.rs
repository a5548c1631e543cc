//! A model of cursors that hop between a hundred edges, each behind its origin by a time of its own, while histories grow and
//! are replaced. Sessions and feeds are the real ones; time, and what came where, is the model's.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::hub::{SourceDesk, SourceWord};
use crate::model::position::Epoch;
use crate::wire::control::ResetReason;

const EDGES: usize = 100;
/// How far an edge may be behind, in ticks.
const MOST_LAG: usize = 40;
const TICKS: usize = 4000;

/// Where a history stands: which it is, and its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    history: usize,
    head: i64,
}

/// The numbers of a xorshift64* generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound as u64) as usize
    }
}

/// One edge.
struct Edge {
    feed: Arc<Feed>,
    desk: Arc<SourceDesk>,
    lag: usize,
    /// How many rows its spool keeps.
    keeps: i64,
    at: Standing,
}

impl Edge {
    /// What the origin was a while ago has come.
    fn advance(&mut self, timeline: &[Standing], now: usize) {
        let next = timeline[now.saturating_sub(self.lag).min(TICKS - 1)];
        let head = Cursor(next.head);
        match next.history == self.at.history {
            true if next.head > self.at.head => self.feed.skip_to(head),
            true => {}
            false => self
                .feed
                .replace(name_of(next.history), head, ResetReason::default()),
        }
        self.at = next;
    }

    /// The lowest id that its spool has.
    fn earliest(&self) -> Option<i64> {
        (self.at.head > 0).then(|| (self.at.head - self.keeps + 1).max(1))
    }

    fn bounds(&self) -> TableBounds {
        let mut bounds = TableBounds::of(&self.feed, self.feed.standing());
        bounds.earliest = self.earliest();
        bounds
    }
}

fn name_of(history: usize) -> Epoch {
    Epoch::new(format!("e{history}"))
}

/// The origin at each tick.
fn timeline(random: &mut Random) -> Vec<Standing> {
    let mut at = Standing {
        history: 0,
        head: 0,
    };
    let mut begun = 0;
    let tick = |now| {
        match random.below(150) {
            // One that every edge has come to, before the next: the time that a client is held has a bound then.
            0 if now > begun + 2 * MOST_LAG => {
                begun = now;
                at.history += 1;
                at.head = random.below(30) as i64;
            }
            _ => at.head += random.below(20) as i64,
        }
        at
    };
    (0..TICKS).map(tick).collect()
}

/// A client, and what it has: all of a history from some id on, up to the cursor.
#[derive(Clone, Copy)]
struct Client {
    history: usize,
    id: i64,
}

struct Model {
    random: Random,
    timeline: Vec<Standing>,
    now: usize,
    edges: Vec<Edge>,
    held: usize,
    reset: usize,
}

impl Model {
    fn new(seed: u64) -> Model {
        let mut random = Random(seed);
        let timeline = timeline(&mut random);
        let mut edge = |_| {
            let desk = Arc::<SourceDesk>::default();
            let feed = Feed::of_edge(Arc::clone(&desk));
            feed.begin(name_of(0), Cursor(0));
            feed.closed(Presence::Open);
            Edge {
                feed,
                desk,
                lag: random.below(MOST_LAG),
                keeps: [20, 200, i64::MAX / 2][random.below(3)],
                at: Standing {
                    history: 0,
                    head: 0,
                },
            }
        };
        let edges = (0..EDGES).map(&mut edge).collect();
        Model {
            random,
            timeline,
            now: 0,
            edges,
            held: 0,
            reset: 0,
        }
    }

    fn tick(&mut self) {
        self.now += 1;
        for edge in &mut self.edges {
            edge.advance(&self.timeline, self.now);
        }
    }

    /// The client goes to an edge, and takes some of what that has.
    fn hop(&mut self, client: &mut Client) {
        let which = self.random.below(EDGES);
        let since = Since::Id {
            id: Cursor(client.id),
            epoch: Some(name_of(client.history).0.to_string()),
        };
        let request = Request {
            since: Some(since),
            filter: Filter::default(),
        };
        let mut session = Session::begin(&self.edges[which].feed, request).unwrap();
        let mut ticks = 0;
        let (since, recovered) = loop {
            let edge = &self.edges[which];
            match session.next(&edge.feed.view()) {
                Step::AskBounds => match session.opened(&edge.bounds()) {
                    Some(Control::Hello {
                        since, recovered, ..
                    }) => break (since.0, recovered),
                    Some(other) => panic!("{other:?}"),
                    None => {}
                },
                Step::WaitForHead => {
                    // It is held: the origin is asked, and time goes on.
                    let origin = self.timeline[self.now.min(TICKS - 1)];
                    let word = SourceWord {
                        asked_at: Instant::now(),
                        epoch: name_of(origin.history),
                        head: Cursor(origin.head),
                    };
                    edge.desk.tell(&edge.feed.config.name, word);
                    self.tick();
                    ticks += 1;
                    assert!(ticks <= MOST_LAG + 1, "a client is held for ever");
                }
                other => panic!("{other:?}"),
            }
        };
        self.held += usize::from(ticks > 0);
        let edge = &self.edges[which];
        match recovered {
            true => {
                let goes_on = (edge.at.history, since) == (client.history, client.id);
                // Before every row is before the first that there is.
                let is_first = client.id == 0;
                assert!(goes_on || is_first, "rows are lost, or come twice");
            }
            false => {
                let is_newer = edge.at.history > client.history;
                let is_older = edge.at.history == client.history
                    && edge
                        .earliest()
                        .is_some_and(|earliest| client.id + 1 < earliest);
                assert!(
                    is_newer || is_older,
                    "an edge that is behind says that rows are lost"
                );
                self.reset += 1;
            }
        }
        let there = usize::try_from(edge.at.head - since).expect("nobody stands above the head");
        client.history = edge.at.history;
        client.id = since + self.random.below(there + 1) as i64;
    }
}

/// So many cursors hop twice, while all that the origin does comes to the edges.
fn run(cursors: usize) {
    let mut model = Model::new(0x9e37_79b9_7f4a_7c15);
    let first = Client { history: 0, id: 0 };
    let mut clients = vec![first; cursors];
    let each = (2 * cursors / TICKS).max(1);
    for hop in 0..2 * cursors {
        if hop % each == 0 {
            model.tick();
        }
        let which = model.random.below(cursors);
        let mut client = clients[which];
        model.hop(&mut client);
        clients[which] = client;
    }
    assert!(model.held > 0 && model.reset > 0, "nothing happened");
    eprintln!(
        "{cursors} cursors: {} were held, {} told to start over",
        model.held, model.reset
    );
}

#[test]
fn cursors_that_hop_between_edges_lose_no_row_and_have_none_twice() {
    run(5000);
}

#[test]
#[ignore = "takes its time: tests/run faults"]
fn a_million_cursors_that_hop_between_edges_lose_no_row_and_have_none_twice() {
    run(1_000_000);
}

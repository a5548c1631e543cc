//! What a row costs inside the daemon, in nanoseconds: encoding, asking filters, the log of ready frames.

use std::sync::Arc;
use std::time::Instant;

use divan::Bencher;
use rusqlite::types::ValueRef;
use walcast::config::{FeedConfig, Limits};
use walcast::hub::{Feed, Hub};
use walcast::model::filter::{Filter, FilterId, FilterIndex};
use walcast::model::position::{Cursor, Epoch};
use walcast::model::wakeup::Wake;
use walcast::session::{Batch, BatchLimits};
use walcast::sqlite::row_json::RowEncoder;
use walcast::sqlite::stock_table::STOCK_SCHEMA;
use walcast::sqlite::table::Schema;
use walcast::wire::block::{Block, Entry, Matches};

fn main() {
    divan::main();
}

const WIDE: BatchLimits = BatchLimits {
    runs: 256,
    bytes: 256 * 1024,
};

fn schema(feed: &FeedConfig) -> Schema {
    let connection = rusqlite::Connection::open_in_memory().expect("a database in memory");
    connection
        .execute_batch(STOCK_SCHEMA)
        .expect("the stock schema");
    Schema::of_feed(&connection, feed).expect("a feed of the stock table")
}

fn value<'a>(tenant: &'a str, place: usize) -> ValueRef<'a> {
    match place {
        0 => ValueRef::Integer(123_456),
        1 => ValueRef::Text(b"2026-11-22T23:54:01.123Z"),
        3 => ValueRef::Text(tenant.as_bytes()),
        6 => ValueRef::Text(
            b"restarted nginx on web-3 after 5 failed probes; healthy again in 2.4 s",
        ),
        _ => ValueRef::Text(b"HighErrorRate"),
    }
}

/// A typical row to its JSON message.
#[divan::bench]
fn encode_row(bencher: Bencher) {
    let feed = FeedConfig::stock();
    let encoder = RowEncoder::new(&feed, &schema(&feed), 1 << 20);
    let mut out = Vec::with_capacity(1024);
    bencher.bench_local(|| {
        out.clear();
        encoder.message(&mut out, |place| value("acme", place));
        out.len()
    });
}

/// Which of so many tenants' filters take a row: one does.
#[divan::bench(args = [1, 100, 10_000])]
fn match_filters(bencher: Bencher, filters: u64) {
    let mut index = FilterIndex::default();
    for id in 1..=filters {
        let mut filter = Filter::default();
        filter.accept("tenant", &format!("tenant-{id}"));
        index.insert(FilterId(id), &Arc::new(filter), |_| Some(3));
    }
    bencher.bench_local(|| {
        let mut found = 0;
        index.each_match(|place| value("tenant-1", place), |_| found += 1);
        found
    });
}

/// Filters that share all their values but one, or both columns' values: a comparison with each would take milliseconds.
#[divan::bench(args = [1_000, 20_000])]
fn match_filters_that_share_values(bencher: Bencher, filters: u64) {
    let mut index = FilterIndex::default();
    for n in 0..filters {
        let mut filter = Filter::default();
        for (column, value) in [
            (0, 1),
            (0, n + 100),
            (1, 1),
            (1, 2),
            (2, n % 97),
            (3, n / 97),
        ] {
            filter.accept(&format!("{column}"), &value.to_string());
        }
        index.insert(FilterId(n + 1), &Arc::new(filter), |column| {
            column.name().parse().ok()
        });
    }
    bencher.bench_local(|| {
        let mut found = 0;
        let place = |place| ValueRef::Integer(if place < 2 { 1 } else { 3 });
        index.each_match(place, |_| found += 1);
        found
    });
}

fn feed() -> Arc<Feed> {
    let hub = Hub::new(
        vec![FeedConfig::stock()],
        0,
        &Limits::default(),
        Arc::new(Wake::default()),
    );
    hub.feeds[0].begin(Epoch::new("bench"), Cursor(0));
    Arc::clone(&hub.feeds[0])
}

fn block(after: i64, rows: i64) -> Block {
    let entries: Vec<Entry> = (1..=rows)
        .map(|n| Entry {
            id: after + n,
            end: n as u32 * 200,
        })
        .collect();
    Block {
        after: Cursor(after),
        last: Cursor(after + rows),
        bytes: vec![b'x'; rows as usize * 200],
        entries,
        matches: Some(Matches {
            known_below: FilterId(1),
            ..Matches::default()
        }),
        read_at: Instant::now(),
        handover: Default::default(),
        deflated: Default::default(),
    }
}

/// One row into a full log, and a shard's view brought up to date.
#[divan::bench]
fn publish_and_refresh(bencher: Bencher) {
    let feed = feed();
    let mut view = feed.view();
    let mut head = 0;
    bencher.bench_local(|| {
        feed.publish(block(head, 1));
        head += 1;
        feed.refresh(&mut view).fresh_from
    });
}

/// What a subscriber a thousand rows behind takes next: one write's worth of frames that exist already.
#[divan::bench(args = [1, 1000])]
fn gather(bencher: Bencher, rows_per_block: i64) {
    let feed = feed();
    for n in 0..1000 / rows_per_block {
        feed.publish(block(n * rows_per_block, rows_per_block));
    }
    let view = feed.view();
    bencher
        .bench_local(|| Batch::gather(view.after(Cursor(0)), FilterId::NONE, Cursor(0), WIDE).rows);
}

//! Positions hold everywhere: at the origin and at any of its edges.

use std::time::{Duration, Instant};

use serde_json::json;

use super::pair::{edge_of, epoch, pair};
use crate::common::random::Random;
use crate::common::{Daemon, PATIENCE, assert_ledger, wait_until};

#[test]
fn a_client_hops_between_two_edges_and_the_origin_and_misses_nothing() {
    let (origin, first) = pair();
    let second = edge_of(&first).start();
    second.wait_until_ready();
    let mut random = Random::new(seed());
    let daemons = [&origin, &first, &second];
    let connection = origin.database().connect();
    let mut ledger = vec![];
    let (mut since, mut epoch) = (json!("earliest"), epoch(&origin));
    let mut written = 0;
    for _ in 0..60 {
        for _ in 0..random.below(20) {
            written = crate::common::database::insert(&connection, "acme", "hop");
        }
        let daemon = daemons[random.below(3)];
        let at = since.to_string();
        let query = format!("since={}&epoch={epoch}", at.trim_matches('"'));
        let (mut subscriber, hello) = daemon.resume(&query);
        assert_eq!(hello["recovered"], true, "{query}: {hello}");
        epoch = hello["epoch"]
            .as_str()
            .expect("an epoch is text")
            .to_owned();
        since = hello["since"].clone();
        for _ in 0..random.below(30) {
            if since.as_i64() >= Some(written) {
                break;
            }
            if subscriber.next_row_or_frame().is_none() {
                since = subscriber.ledger().last().expect("a row came")["id"].clone();
            }
        }
        ledger.extend(subscriber.ledger().to_vec());
    }
    let (mut subscriber, _) = second.resume(&format!("since={since}&epoch={epoch}"));
    if since.as_i64() < Some(written) {
        while since.as_i64() != Some(written) {
            if subscriber.next_row_or_frame().is_none() {
                since = subscriber.ledger().last().expect("a row came")["id"].clone();
            }
        }
    }
    ledger.extend(subscriber.ledger().to_vec());
    assert_ledger(&ledger, &origin.database().rows());
}

#[test]
fn an_edge_that_is_behind_holds_the_hello_until_it_has_heard() {
    let (origin, edge) = pair();
    origin.fill(5);
    edge.wait_for_head(5);
    edge.freeze();
    let head = origin.fill(20);
    let epoch = epoch(&origin);
    let path = format!("since={head}&epoch={epoch}");
    let connecting = std::thread::scope(|scope| {
        let asked = scope.spawn(|| edge.subscribe(&path));
        edge.signal(libc::SIGCONT);
        asked.join().expect("the client connects")
    });
    let mut subscriber = connecting;
    let hello = subscriber.expect("hello");
    assert_eq!(
        (&hello["recovered"], &hello["since"]),
        (&json!(true), &json!(head))
    );
    subscriber.expect("live");
    let id = origin.database().insert("after");
    assert_eq!(subscriber.next_row()["id"], id);
}

#[test]
fn what_the_origin_does_not_know_either_is_told_soon() {
    let (origin, edge) = pair();
    let head = origin.fill(5);
    edge.wait_for_head(head);
    let epoch = epoch(&origin);
    let (silent, cut_off) = pair();
    silent.fill(5);
    cut_off.wait_for_head(5);
    let held_to_the_end = format!("since=900&epoch={}", self::epoch(&silent));
    silent.freeze();
    for query in [
        "since=3&epoch=foreign".to_owned(),
        format!("since=900&epoch={epoch}"),
    ] {
        // A machine that stood still may be late with one answer, but not with each.
        wait_until("it is told before who asked earlier and is held", || {
            let mut held = cut_off.subscribe(&held_to_the_end);
            let (_subscriber, hello) = edge.resume(&query);
            assert_eq!(hello["recovered"], false, "{query}");
            held.receive_within(Duration::ZERO).is_none()
        });
    }
    silent.signal(libc::SIGCONT);
}

#[test]
fn who_knows_more_than_an_edge_that_is_cut_off_is_told_after_a_while() {
    let (origin, edge) = pair();
    let head = origin.fill(5);
    edge.wait_for_head(head);
    let epoch = epoch(&origin);
    origin.freeze();
    let (mut subscriber, hello) = edge.resume(&format!("since=3&epoch={epoch}"));
    assert_eq!(hello["recovered"], true);
    subscriber.rows_until("live");
    let asked = Instant::now();
    let mut ahead = edge.subscribe(&format!("since=900&epoch={epoch}"));
    let hello = next_frame_within(&mut ahead, Duration::from_secs(10) + PATIENCE);
    assert_eq!(hello["recovered"], false);
    assert!(asked.elapsed() >= Duration::from_secs(9), "it was not held");
    origin.signal(libc::SIGCONT);
}

fn next_frame_within(
    subscriber: &mut crate::common::Subscriber,
    time: Duration,
) -> serde_json::Value {
    match subscriber.receive_within(time) {
        Some(crate::common::subscriber::Received::Text(text)) => {
            serde_json::from_str(&text).expect("a frame is JSON")
        }
        other => panic!("no frame came: {other:?}"),
    }
}

#[test]
fn deletions_at_the_origin_and_ids_without_rows_leave_positions_good() {
    let (origin, edge) = pair();
    let head = origin.fill(50);
    // Rows that it never saw the edge hears of with the next heartbeat only.
    wait_for_listed_head(&edge, head);
    origin
        .database()
        .execute("DELETE FROM remediation_events WHERE id > 40");
    let edge_of_gap = edge_of(&origin).start();
    edge_of_gap.wait_until_ready();
    for daemon in [&origin, &edge, &edge_of_gap] {
        wait_for_listed_head(daemon, head);
        let (mut subscriber, hello) = daemon.resume(&format!("since={head}"));
        assert_eq!(
            (&hello["recovered"], &hello["head"]),
            (&json!(true), &json!(head))
        );
        subscriber.expect("live");
    }
}

fn wait_for_listed_head(daemon: &Daemon, head: i64) {
    wait_until("the head is listed", || daemon.feed()["head"] == head);
}

/// The seed of what is done at random; `WALCAST_SEED` repeats a run.
fn seed() -> u64 {
    let given = std::env::var("WALCAST_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("WALCAST_SEED={seed}");
    seed
}

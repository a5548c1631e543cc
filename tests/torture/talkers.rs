//! Clients that talk much: what they ask for costs neither memory nor the others' time.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tungstenite::Message;

use crate::common::{Daemon, STOCK_FEED, StopAtEnd, Subscriber, wait, wait_until};
use crate::scale::sized;

const PING: u8 = 0x89;
const TEXT: u8 = 0x81;

/// A frame of up to 125 bytes, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// A subscriber with more to read than its socket takes.
fn stuck(walcast: &Daemon) -> Subscriber {
    let mut subscriber = walcast.subscribe_slow(STOCK_FEED, "since=earliest");
    subscriber.expect("hello");
    subscriber
}

#[test]
fn of_the_pongs_owed_to_a_client_only_the_newest_is_kept() {
    const PINGS: usize = 3_000;
    let clients = sized(60, 200);
    let walcast = Daemon::on_new_file().without_write_timeout().start();
    walcast.fill(30_000);
    let mut stuck: Vec<Subscriber> = (0..clients).map(|_| stuck(&walcast)).collect();
    let pings = |range: std::ops::Range<usize>| -> Vec<u8> {
        let ping = |n: usize| frame(PING, format!("{n:0125}").as_bytes());
        range.flat_map(ping).collect()
    };
    let told =
        |kind: &str| walcast.metric(&format!("walcast_client_messages_total{{kind=\"{kind}\"}}"));
    let mut ask = |pings: &[u8], round: usize| {
        for subscriber in &mut stuck {
            let bytes = [pings, &frame(TEXT, b"ping"), &frame(TEXT, b"other")].concat();
            subscriber
                .stream()
                .write_all(&bytes)
                .expect("walcast reads");
        }
        wait_until("all of it was read", || {
            told("other") == (round * clients) as f64
        });
    };
    // The first round shows what a stuck client costs by itself.
    ask(&pings(0..10), 1);
    let before = walcast.memory("RssAnon");
    ask(&pings(10..PINGS), 2);
    let grown = walcast.memory("RssAnon").saturating_sub(before);
    // What is kept of the table for who is behind comes and goes beside it, up to some 4 MB.
    let asked = clients * PINGS * 127;
    assert!(
        grown < asked / 2,
        "{grown} bytes for Pings that ask for {asked}"
    );
    assert_eq!(told("ping"), 2.0 * clients as f64);

    let mut one = stuck.pop().expect("there are some");
    one.enlarge_buffer();
    let (mut rows, mut texts, mut newest) = (0, 0, vec![]);
    while texts == 0 || rows < 30_000 {
        match one.next_message() {
            Message::Text(text) if text == "pong" => texts += 1,
            Message::Text(text) if text.contains("remediation_event") => rows += 1,
            Message::Pong(payload) => newest = payload.to_vec(),
            _ => {}
        }
    }
    assert_eq!(newest, format!("{:0125}", PINGS - 1).as_bytes());
    assert!(texts <= 2, "{texts} answers to two questions");
}

/// Sends Pings for as long as the sockets take them; gives how many bytes each took.
fn talk(subscribers: &mut [Subscriber], stop: &AtomicBool) -> Vec<usize> {
    let pings = frame(PING, b"").repeat(10_000);
    let mut sent = vec![0; subscribers.len()];
    while !stop.load(Ordering::Relaxed) {
        let mut all_full = true;
        for (subscriber, sent) in subscribers.iter_mut().zip(&mut sent) {
            let stream = subscriber.stream();
            stream
                .set_nonblocking(true)
                .expect("a socket can be asked not to block");
            // A frame cut in two is gone on with where it was cut.
            match stream.write(&pings[*sent % 6..]) {
                Ok(bytes) => {
                    *sent += bytes;
                    all_full = false;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => panic!("a client that sends Pings was thrown out: {e}"),
            }
        }
        if all_full {
            wait::pause();
        }
    }
    sent
}

#[test]
fn clients_that_send_pings_without_end_are_read_slowly_and_delay_nobody() {
    let talkers: usize = sized(20, 500);
    let walcast = Daemon::start_new();
    let mut live = walcast.subscribe_live();
    let mut talking: Vec<Subscriber> = (0..talkers).map(|_| walcast.subscribe("")).collect();
    let (stop, began) = (AtomicBool::new(false), Instant::now());
    let sent: Vec<usize> = std::thread::scope(|scope| {
        let _end = StopAtEnd(&stop);
        let threads: Vec<_> = talking
            .chunks_mut(talkers.div_ceil(2))
            .map(|few| {
                let stop = &stop;
                scope.spawn(move || talk(few, stop))
            })
            .collect();
        for number in 0..sized(100, 1_000) {
            let id = walcast.database().insert(&format!("row {number}"));
            assert_eq!(live.next_row()["id"], id);
        }
        stop.store(true, Ordering::Relaxed);
        let sent = threads.into_iter().map(|thread| thread.join());
        sent.flat_map(|sent| sent.expect("a talker")).collect()
    });
    // Bursts and rates of the daemon, and what the kernel keeps on both sides.
    let allowed = (480 << 10) + (160 << 10) * (began.elapsed().as_secs() as usize + 1) + (16 << 20);
    let most = sent.iter().max().expect("there are some");
    assert!(*most < allowed, "{most} bytes were taken of one client");
    drop(talking);
    wait_until(
        "those who are gone are let go, whatever they had still to say",
        || walcast.metric("walcast_ws_connections_active") == 1.0,
    );
}

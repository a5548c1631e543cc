//! One client's life, followed through the log.

use crate::common::{Daemon, STOCK_FEED, STOCK_SSE, wait_until};

/// What the log says of one connection, a line an event, without time and level.
fn life(walcast: &Daemon, connection: &str) -> Vec<String> {
    let start = format!("{connection}: ");
    let log = walcast.log();
    log.lines()
        .filter_map(|line| Some(line.split_once(&start)?.1.to_owned()))
        .collect()
}

/// Waits until the next event of this name after the first `seen` ones, and gives how many events it is the last of.
#[track_caller]
fn comes(walcast: &Daemon, connection: &str, seen: usize, event: &str) -> usize {
    let mut at = seen;
    wait_until(&format!("{connection}: {event}"), || {
        let events = life(walcast, connection);
        match events[seen..]
            .iter()
            .position(|line| line.starts_with(event))
        {
            Some(found) => {
                at = seen + found + 1;
                true
            }
            None => false,
        }
    });
    at
}

fn with_debug_log() -> Daemon {
    Daemon::on_new_file().option("--log-level", "debug").start()
}

#[test]
fn a_websocket_clients_life_can_be_followed_in_the_log() {
    let walcast = with_debug_log();
    walcast.fill(3);
    let (mut other, _) = walcast.resume("since=now");
    other.replay();
    let of_other = "connection{id=1 peer=127.0.0.1 feed=remediation path=/ws/remediation}";
    comes(&walcast, of_other, 0, "caught up position=3");

    let mut client = walcast.subscribe_slow(STOCK_FEED, "since=1&_cache=a-secret");
    let of_client = "connection{id=2 peer=127.0.0.1 feed=remediation path=/ws/remediation}";
    let seen = comes(
        &walcast,
        of_client,
        0,
        "connected resumable=true filtered=false",
    );
    let seen = comes(&walcast, of_client, seen, "hello frame=");
    let seen = comes(&walcast, of_client, seen, "live frame=");
    let seen = comes(&walcast, of_client, seen, "caught up position=3");
    // Until the kernel's buffers are full, for the client reads nothing.
    wait_until("the client is behind", || {
        walcast.fill(1_000);
        life(&walcast, of_client)[seen..]
            .iter()
            .any(|event| event.starts_with("behind"))
    });
    let last = walcast.database().insert("the last row");
    client.enlarge_buffer();
    client.expect("hello");
    client.replay();
    client.rows_to(last);
    let seen = comes(&walcast, of_client, seen, "behind");
    // Before the last row or with it, as fast as the buffers empty.
    let seen = comes(&walcast, of_client, seen, "caught up position=");
    client
        .try_send(tungstenite::Message::Close(None))
        .expect("walcast is there");
    let seen = comes(&walcast, of_client, seen, "the client closes");
    comes(&walcast, of_client, seen, "closed");

    drop(other);
    comes(
        &walcast,
        of_other,
        0,
        "closed: the client went without a close frame",
    );
    assert!(!walcast.log().contains("a-secret"));
}

#[test]
fn the_log_says_why_a_connection_was_closed() {
    let walcast = with_debug_log();
    let mut client = walcast.subscribe("");
    client.send(&"x".repeat(5_000));
    client.expect_close(1009);
    let connection = "connection{id=1 peer=127.0.0.1 feed=remediation path=/ws/remediation}";
    comes(
        &walcast,
        connection,
        0,
        "closing code=1009 reason=the client sent a message that is too big",
    );
}

#[test]
fn an_event_streams_life_can_be_followed_in_the_log() {
    let walcast = with_debug_log();
    let head = walcast.fill(3);
    let mut stream = walcast.event_source(&format!("{STOCK_SSE}?since=1"), &[]);
    let connection = "connection{id=1 peer=127.0.0.1 feed=remediation path=/sse/remediation}";
    let seen = comes(
        &walcast,
        connection,
        0,
        "connected resumable=true filtered=false",
    );
    let seen = comes(&walcast, connection, seen, "hello frame=");
    let seen = comes(&walcast, connection, seen, "live frame=");
    let seen = comes(
        &walcast,
        connection,
        seen,
        &format!("caught up position={head}"),
    );
    let live = |event: Option<crate::common::event_source::Event>| {
        event.expect("the stream goes on").name.as_deref() == Some("live")
    };
    while !live(stream.next()) {}
    drop(stream);
    comes(
        &walcast,
        connection,
        seen,
        "closed reason=the client is gone",
    );
}

#[test]
fn without_debug_no_connection_is_in_the_log() {
    let walcast = Daemon::start_new();
    let (mut client, _) = walcast.resume("since=now");
    client.replay();
    assert!(!walcast.log().contains("connection{"), "{}", walcast.log());
}

#[test]
fn one_clients_connections_can_be_followed_alone() {
    let walcast = Daemon::on_new_file()
        .option(
            "--log-level",
            "info,[connection{path=/sse/remediation}]=debug",
        )
        .start();
    let (mut client, _) = walcast.resume("since=now");
    client.replay();
    let _stream = walcast.event_source(STOCK_SSE, &[]);
    let connection = "connection{id=2 peer=127.0.0.1 feed=remediation path=/sse/remediation}";
    comes(&walcast, connection, 0, "caught up");
    let log = walcast.log();
    assert!(!log.contains("connection{id=1 "), "{log}");
    assert_eq!(
        log.matches("DEBUG").count(),
        life(&walcast, connection).len(),
        "{log}"
    );
}

#[test]
fn whoever_connects_from_an_address_can_be_followed() {
    for (address, told) in [("127.0.0.1", true), ("192.0.2.17", false)] {
        let walcast = Daemon::on_new_file()
            .toml(format!(
                "[log]\nlevel = \"info,[connection{{peer={address}}}]=debug\"\n"
            ))
            .start();
        let (mut client, _) = walcast.resume("since=now");
        client.replay();
        drop(client);
        wait_until("nobody is connected", || {
            walcast.metric("walcast_ws_connections_active") == 0.0
        });
        if told {
            let connection =
                "connection{id=1 peer=127.0.0.1 feed=remediation path=/ws/remediation}";
            comes(&walcast, connection, 0, "closed");
        } else {
            assert!(!walcast.log().contains("connection{"), "{}", walcast.log());
        }
    }
}

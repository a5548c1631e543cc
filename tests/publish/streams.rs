//! Streams: what walcast made, and what it did not.

use async_nats::jetstream::stream::Config;

use crate::common::{Daemon, wait_until};
use crate::server::Server;
use crate::setup::{STREAM, published, publishing, wait_for_state, wait_for_trouble};
use crate::stored::Client;

#[test]
fn a_stream_of_others_is_left_alone() {
    let server = Server::start();
    let client = Client::of(&server);
    let theirs = Config {
        name: STREAM.to_owned(),
        subjects: vec!["walcast.remediation".to_owned()],
        description: Some("ours, not yours".to_owned()),
        ..Config::default()
    };
    client.make_stream(theirs);
    client.run(async {
        let sent = client
            .jetstream
            .publish("walcast.remediation", "precious".into());
        sent.await.expect("it is sent").await.expect("it is stored");
    });
    let before = client.config(STREAM);
    let daemon = publishing(Daemon::on_new_file(), &server, "").start();
    daemon.fill(3);
    let said = wait_for_trouble(&daemon, "is not one that walcast made");
    assert!(
        said.contains("nats stream rm walcast_remediation"),
        "{said}"
    );
    assert!(said.contains("publish.stream_prefix"), "{said}");
    assert_eq!(client.config(STREAM), before);
    assert_eq!(client.messages(STREAM)[0].body, b"precious");
}

#[test]
fn what_others_publish_into_a_stream_is_named() {
    let server = Server::start();
    let client = Client::of(&server);
    let daemon = published(&server);
    let before = daemon.fill(3);
    client.wait_for_row(STREAM, before);
    client.run(async {
        let sent = client
            .jetstream
            .publish("walcast.remediation", "stray".into());
        sent.await.expect("it is sent").await.expect("it is stored");
    });
    let last = daemon.database().insert("x");
    let said = wait_for_trouble(&daemon, "was not published by walcast");
    assert!(
        said.contains("nats stream purge walcast_remediation"),
        "{said}"
    );
    let stream = client.stream(STREAM);
    client
        .run(async { stream.purge().await })
        .expect("a stream can be purged");
    client.expect_rows_to(last);
}

#[test]
fn a_stream_keeps_what_the_configuration_says_now() {
    let server = Server::start();
    let client = Client::of(&server);
    let keys = "keep.bytes = \"32MiB\"";
    let daemon = publishing(Daemon::on_new_file(), &server, keys).start();
    wait_for_state(&daemon, "live");
    let config = client.config(STREAM);
    assert_eq!(
        (config.max_bytes, config.max_age.as_secs()),
        (32 << 20, 7 * 24 * 60 * 60)
    );
    let settings = daemon.stop();
    let keys = "keep = { bytes = \"1MiB\", age = \"1h\" }";
    let daemon = publishing(settings, &server, keys).start();
    wait_until("the stream keeps less", || {
        let config = client.config(STREAM);
        (config.max_bytes, config.max_age.as_secs()) == (1 << 20, 60 * 60)
    });
    wait_for_state(&daemon, "live");
    // More than it keeps: the oldest go, and the chain holds.
    let last = daemon.fill(20_000);
    let messages = client.wait_for_row(STREAM, last);
    assert!(messages[0].kind == "rows" && messages[0].first > 1);
    let rows: usize = messages.iter().map(|message| message.rows().len()).sum();
    assert!(rows < 20_000 && rows > 1_000, "{rows}");
}

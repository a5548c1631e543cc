//! Signatures, as their receivers verify them.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::common::Daemon;
use crate::receiver::{Post, Receiver};
use crate::setup::{SECRET, wait_for_state, with_sink, write_secret};

/// Returns whether one of the signatures of a post is that of this secret.
fn is_signed(post: &Post, secret: &str) -> bool {
    let bytes = BASE64
        .decode(secret.trim_start_matches("whsec_"))
        .expect("base64");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
    let head = format!(
        "{}.{}.",
        post.header("webhook-id"),
        post.header("webhook-timestamp")
    );
    let signed = [head.as_bytes(), &post.body].concat();
    let wanted = format!("v1,{}", BASE64.encode(hmac::sign(&key, &signed)));
    post.header("webhook-signature")
        .split(' ')
        .any(|one| one == wanted)
}

#[test]
fn posts_are_signed_with_the_time_at_which_they_were_sent() {
    let receiver = Receiver::start();
    let daemon = with_sink(
        Daemon::on_new_file(),
        &receiver.url(),
        "since = \"earliest\"",
    )
    .start();
    let id = daemon.database().insert("é");
    receiver.ids_up_to(id);
    let post = &receiver.posts()[0];
    assert!(is_signed(post, SECRET));
    let sent: u64 = post.header("webhook-timestamp").parse().expect("seconds");
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("a clock")
        .as_secs();
    // Receivers refuse what is five minutes off.
    assert!(now.abs_diff(sent) < 300, "{sent} and {now}");
}

#[test]
fn a_secret_is_changed_without_a_restart() {
    let receiver = Receiver::start();
    let settings = with_sink(
        Daemon::on_new_file(),
        &receiver.url(),
        "since = \"earliest\"",
    );
    let file = settings.directory().join("billing.secret");
    let daemon = settings.start();
    let first = daemon.database().insert("x");
    receiver.ids_up_to(first);
    let other = format!("whsec_{}", BASE64.encode([7; 32]));
    write_secret(&file, &format!("{other}\n{SECRET}\n"));
    // The file is looked at once a second, and for a post.
    let signed_by_both = |posts: &[Post]| {
        posts
            .iter()
            .any(|post| is_signed(post, &other) && is_signed(post, SECRET))
    };
    crate::common::wait_until("both sign", || {
        let id = daemon.database().insert("x");
        receiver.ids_up_to(id);
        signed_by_both(&receiver.posts())
    });
    // What is no secret changes nothing, and is said.
    write_secret(&file, "hunter2");
    daemon_says(&daemon, &receiver, "does not begin with whsec_");
    let id = daemon.database().insert("x");
    receiver.ids_up_to(id);
    assert!(is_signed(receiver.posts().last().expect("a post"), &other));
}

#[track_caller]
fn daemon_says(daemon: &Daemon, receiver: &Receiver, text: &str) {
    crate::common::wait_until(text, || {
        let id = daemon.database().insert("x");
        receiver.ids_up_to(id);
        daemon.log().contains(text)
    });
}

#[test]
fn what_lets_a_sender_in_is_told_nobody() {
    let receiver = Receiver::start();
    let settings = with_sink(
        Daemon::on_new_file(),
        &receiver.url(),
        "since = \"earliest\"",
    );
    let daemon = settings.variable("WALCAST_LOG_LEVEL", "trace").start();
    wait_for_state(&daemon, "live");
    receiver.answer_next(&[crate::receiver::Answer(500, "")]);
    let id = daemon.database().insert("x");
    receiver.ids_up_to(id);
    let told = [
        daemon.log(),
        daemon.get("/metrics").text(),
        daemon.get("/api/feeds").text(),
    ];
    for text in told {
        let ours: String = text
            .lines()
            .filter(|line| line.contains("walcast") || line.contains("sink"))
            .collect();
        assert!(
            !ours.contains("hunter2") && !ours.contains(&SECRET[6..]),
            "{ours}"
        );
    }
}

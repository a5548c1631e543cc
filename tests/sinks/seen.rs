//! Who is told of sinks.

use crate::common::Daemon;
use crate::common::secrets::add_token;
use crate::receiver::Receiver;
use crate::setup::{SECRET, wait_for_state, with_sink, write_secret};

#[test]
fn whoever_may_see_what_is_counted_sees_the_sinks_of_a_feed() {
    let receiver = Receiver::start();
    let settings = with_sink(Daemon::on_new_file(), &receiver.url(), "");
    let text = settings.toml_text() + "[feeds.others]\n";
    let settings = settings.toml(text);
    let daemon = settings.start();
    wait_for_state(&daemon, "live");
    let feeds = daemon.get("/api/feeds").json();
    let sink = &feeds["feeds"][0]["sinks"][0];
    assert_eq!(sink["name"], "billing");
    assert_eq!(sink["receiver"], format!("http://{}", receiver.address()));
    assert_eq!(
        (&sink["lag_rows"], &sink["lag_seconds"]),
        (&0.into(), &0.0.into())
    );
    assert!(sink["trouble"].is_null(), "{sink}");
    assert!(
        feeds["feeds"][1].get("sinks").is_none(),
        "a feed without sinks says nothing of any"
    );
}

#[test]
fn others_are_not_told_of_sinks() {
    let receiver = Receiver::start();
    let settings = Daemon::on_new_file();
    let tokens = settings.directory().join("tokens.toml");
    let both = add_token(&tokens, &["both", "--feed", "remediation", "--metrics"]);
    let reader = add_token(&tokens, &["reader", "--feed", "remediation"]);
    write_secret(&settings.directory().join("billing.secret"), SECRET);
    let settings = with_sink(settings, &receiver.url(), "");
    let text = settings.toml_text();
    let settings = settings.toml(format!("[auth]\ntokens = \"tokens.toml\"\n{text}"));
    let daemon = settings.metrics_by(&both).start();
    let sinks = |token: &str| {
        let bearer = format!("Bearer {token}");
        let listed = daemon.request("GET", "/api/feeds", &[("Authorization", &bearer)], b"");
        listed.json()["feeds"][0].get("sinks").cloned()
    };
    assert!(sinks(&both).is_some());
    assert_eq!(sinks(&reader), None);
}

//! No credential of any test is where others could find it; the harness looks after each daemon. Here that it finds one.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::common::{Daemon, Settings, secrets};

/// A daemon that is careless with a token in one way.
fn careless(way: &str, token: &str) -> Daemon {
    let directory = Settings::on_new_file();
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/access/careless.py");
    let settings = directory.executable(program);
    let settings = match way {
        "arguments" => settings.option("--token", token),
        "environment" => settings.variable("FEED_TOKEN", token),
        // By a file: then nobody but the program itself tells of it.
        _ => {
            fs::write(settings.directory().join("token"), token).unwrap();
            settings.variable("CARELESS", way)
        }
    };
    settings.start()
}

/// What the harness complains of when this is done.
fn complaint(what: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(what)).err()?;
    let text = panic.downcast_ref::<String>();
    Some(text.expect("the text of a panic").clone())
}

#[test]
fn a_credential_that_leaks_anywhere_fails_the_test() {
    for (number, (way, place)) in [
        ("log", "the log"),
        ("head", "an answer"),
        ("metrics", "an answer"),
        ("state", "/state/kept"),
        ("arguments", "/cmdline"),
        ("environment", "/environ"),
    ]
    .into_iter()
    .enumerate()
    {
        // One of its own each time: what one way has told must not be found by another.
        let token = format!("wct_aaaaaaaa_{number}{}", "s3cret-".repeat(6));
        secrets::keep_those_in(&format!("Bearer {token}"));
        let daemon = careless(way, &token);
        let said = complaint(|| drop(daemon)).unwrap_or_else(|| panic!("{way} is not noticed"));
        assert!(said.contains(place), "{way}: {said}");
    }
    let token = format!("wct_aaaaaaaa_{}", "an0ther-".repeat(6));
    secrets::keep_those_in(&token);
    assert_eq!(complaint(|| drop(careless("none", &token))), None);
}

#[test]
fn a_credential_in_an_error_fails_the_test() {
    let token = format!("eyJhbGciOiJFZERTQSJ9.e30.{}", "s1gned-".repeat(6));
    let daemon = careless("errors", &token);
    let bearer = format!("Bearer {token}");
    let asked = complaint(|| {
        daemon.request("GET", "/api/feeds", &[("Authorization", &bearer)], b"");
    });
    let asked = asked.expect("it is noticed");
    assert!(asked.contains("an answer"), "{asked}");
    // At its end it is asked for what it counts, and would tell that as well.
    let ended = complaint(|| drop(daemon)).expect("it is noticed");
    assert!(ended.contains("an answer"), "{ended}");
}

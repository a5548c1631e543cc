//! What is said at start, and by commands about a daemon that speaks TLS.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::common::authority::Authority;
use crate::common::settings::program;
use crate::common::{Daemon, Settings, directory};

/// A daemon with these lines under `[tls]` must not start; says why.
#[track_caller]
fn refusal(directory: &Path, tls: &str) -> String {
    let settings = Settings::on(directory).toml(format!("[tls]\n{tls}\n"));
    let failed = settings.try_start().err().expect("it does not start");
    assert_eq!(failed.status.code(), Some(2), "{}", failed.stderr);
    failed.stderr
}

#[test]
fn what_keeps_tls_from_being_spoken_is_named_with_the_remedy() {
    let place = directory();
    let here = place.path();
    let authority = Authority::new("ours");
    let (one, other) = (
        authority.sign(&["localhost"]),
        authority.sign(&["localhost"]),
    );
    one.write(here, "one");
    other.write(here, "other");
    authority.sign_expired(&["localhost"]).write(here, "old");
    authority.sign(&[]).write(here, "nameless");
    fs::write(here.join("half.pem"), &one.cert[..one.cert.len() / 2]).unwrap();
    fs::write(here.join("empty.pem"), "").unwrap();
    fs::write(here.join("open.key"), &one.key).unwrap();
    fs::set_permissions(here.join("open.key"), fs::Permissions::from_mode(0o644)).unwrap();
    for (tls, says) in [
        (
            r#"cert = "one.pem""#,
            vec![
                "walcast.toml:",
                "tls.cert: has no key; name its file in tls.key",
            ],
        ),
        (
            r#"key = "one.key""#,
            vec!["tls.key: has no certificate; name its file in tls.cert"],
        ),
        (
            r#"cert = ["one.pem", "other.pem"]
               key = "one.key""#,
            vec!["tls.key: there are 1 of 2 certificates", "one for each"],
        ),
        (
            r#"cert = "one.pem"
               key = "other.key""#,
            vec!["tls.key: other.key: is not the key of the certificate in one.pem"],
        ),
        (
            r#"cert = "none.pem"
               key = "one.key""#,
            vec!["tls.cert: none.pem: can't be read", "No such file"],
        ),
        (
            r#"cert = "half.pem"
               key = "one.key""#,
            vec!["tls.cert: half.pem: is no whole PEM"],
        ),
        (
            r#"cert = "empty.pem"
               key = "one.key""#,
            vec![
                "tls.cert: empty.pem: holds no certificate in PEM",
                "fullchain.pem",
            ],
        ),
        (
            r#"cert = "one.pem"
               key = "one.pem""#,
            vec!["tls.key: one.pem: ", "0640"],
        ),
        (
            r#"cert = "one.pem"
               key = "open.key""#,
            vec!["tls.key: open.key: its mode is 0644"],
        ),
        (
            r#"cert = "old.pem"
               key = "old.key""#,
            vec!["tls.cert: old.pem: the certificate ended at 2021-01-01T00:00:00Z; renew it"],
        ),
        (
            r#"cert = "nameless.pem"
               key = "nameless.key""#,
            vec!["tls.cert: nameless.pem: the certificate is for no name"],
        ),
        (
            r#"certs = "one.pem""#,
            vec!["unknown key \"tls.certs\"; did you mean \"cert\"?"],
        ),
    ] {
        let said = refusal(here, tls);
        for part in says {
            assert!(said.contains(part), "{tls}\nlacks {part:?}: {said}");
        }
        assert!(!said.contains("PRIVATE KEY"), "{said}");
    }
}

#[test]
fn the_address_that_is_printed_is_one_of_https() {
    let daemon = Daemon::on_new_file().over_tls().start();
    daemon.wait_for_log("TLS is spoken with ");
    let (log, address) = (daemon.log(), daemon.own_address());
    assert!(
        log.contains(&format!(" on https://{address}; feeds: ")),
        "{log}"
    );
    assert!(!log.contains(&format!("http://{address}")), "{log}");
}

#[test]
fn commands_ask_a_daemon_that_speaks_tls() {
    let daemon = Daemon::on_new_file().over_tls().start();
    daemon.fill(2);
    let ca = daemon
        .settings()
        .authority()
        .publish(daemon.directory(), "ca.pem");
    let port = daemon.own_address().port();
    let run = |arguments: &[&str]| {
        let output = program().args(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        said
    };
    let ca = ca.to_str().unwrap();
    let (url, feed) = (
        format!("https://localhost:{port}"),
        format!("wss://localhost:{port}/ws/remediation"),
    );
    assert!(run(&["feeds", &url, "--ca", ca]).contains("remediation"));
    run(&["feeds", "--ready", &url, "--ca", ca]);
    let mut tail = program()
        .args(["tail", &feed, "--ca", ca, "--last", "2", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let rows = BufReader::new(tail.stdout.take().expect("it is piped")).lines();
    let rows: Vec<String> = rows.take(2).map(|row| row.expect("a line")).collect();
    assert!(rows[1].contains("\"id\":2"), "{rows:?}");
    tail.kill().expect("it still follows");
    tail.wait().expect("a killed child can be waited for");
    // A healthcheck asks where the configuration listens, whatever the certificate is for.
    let (cert, key) = (
        daemon.settings().pair().cert.to_str().unwrap(),
        daemon.settings().pair().key.to_str().unwrap(),
    );
    let listen = daemon.own_address().to_string();
    let own = ["--listen", &listen, "--tls-cert", cert, "--tls-key", key];
    run(&[&["feeds", "--ready"], &own[..]].concat());
    let database = daemon.settings().database_path().to_str().unwrap();
    let checked = run(&[&["check", "--db", database], &own[..]].concat());
    assert!(checked.contains(" days left"), "{checked}");
    assert!(
        checked.contains("is served by a running walcast"),
        "{checked}"
    );
}

//! Certificates: which one is shown, and what becomes of new ones.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::client::{connect, get, shown};
use crate::common::authority::{Authority, Pair, Pem};
use crate::common::{Daemon, StopAtEnd, assert_ledger, wait_until};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

fn certificate(pem: &Pem) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.cert.as_bytes()).expect("a certificate")
}

/// What a client is shown that asks for `localhost`.
fn shown_now(daemon: &Daemon, client: &Arc<ClientConfig>) -> CertificateDer<'static> {
    shown(&connect(daemon, "localhost", client))
}

#[test]
fn each_client_is_shown_the_certificate_for_the_name_it_asks_for() {
    let settings = Daemon::on_new_file();
    let here = settings.directory().to_owned();
    let authority = Authority::new("ours");
    let names: [&[&str]; 3] = [
        &["a.example.com", "localhost"],
        &["*.example.net"],
        &["b.example.com", "c.example.com"],
    ];
    let pems = names.map(|names| authority.sign(names));
    let pairs: Vec<Pair> = ["a", "net", "b"]
        .iter()
        .zip(&pems)
        .map(|(name, pem)| pem.write(&here, name))
        .collect();
    let list = |of: fn(&Pair) -> &std::path::Path| {
        let paths = pairs.iter().map(|pair| format!("{:?}", of(pair)));
        paths.collect::<Vec<_>>().join(", ")
    };
    let daemon = settings
        .toml(format!(
            "tls = {{ cert = [{}], key = [{}] }}\nmetrics.listen = \"127.0.0.1:0\"\n",
            list(|pair| &pair.cert),
            list(|pair| &pair.key)
        ))
        .start();
    let client = Arc::new(authority.client());
    for (name, pem) in [
        ("a.example.com", &pems[0]),
        ("x.example.net", &pems[1]),
        ("C.EXAMPLE.COM", &pems[2]),
        ("b.example.com", &pems[2]),
        ("localhost", &pems[0]),
    ] {
        assert_eq!(
            shown(&connect(&daemon, name, &client)),
            certificate(pem),
            "{name}"
        );
    }
    // Who asks for another name is shown the first, and does not believe it.
    let refused = super::client::try_connect(&daemon, "other.example.org", &client);
    assert!(refused.is_err());
}

#[test]
fn new_certificates_are_shown_at_once_and_bad_ones_are_not() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let (authority, pair) = (daemon.settings().authority(), daemon.settings().pair());
    let client = Arc::new(authority.client());
    let mut subscriber = daemon.subscribe_live();
    let first = shown_now(&daemon, &client);
    let names = ["localhost", "127.0.0.1"];
    let good = authority.sign(&names);
    for (bad, says) in [
        (
            authority.sign_expired(&names),
            "the certificate ended at 2021-01-01",
        ),
        (
            Pem {
                cert: good.cert.clone(),
                key: authority.sign(&names).key,
            },
            "is not the key of the certificate",
        ),
        (
            Pem {
                cert: good.cert[..good.cert.len() / 2].to_owned(),
                key: good.key.clone(),
            },
            "is no whole PEM",
        ),
    ] {
        bad.replace(pair);
        daemon.wait_for_log(says);
        assert_eq!(shown_now(&daemon, &client), first, "{says}");
    }
    fs::remove_file(&pair.key).unwrap();
    daemon.wait_for_log("tls.key: ");
    good.replace(pair);
    wait_until("the new certificate is shown", || {
        shown_now(&daemon, &client) == certificate(&good)
    });
    daemon.wait_for_log("certificate read again: ");
    // Nobody was dropped.
    let id = daemon.database().insert_many(1);
    assert_eq!(subscriber.next_row()["id"], id);
    let left = daemon.metric("walcast_tls_certificate_expiry_seconds{name=\"localhost\"}");
    assert!(left > 86_400.0 * 365.0, "{left}");
}

/// Some tools write a file where it is, and not at once.
#[test]
fn files_that_are_written_in_pieces_are_taken_when_they_are_whole() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let (authority, pair) = (daemon.settings().authority(), daemon.settings().pair());
    let client = Arc::new(authority.client());
    let mut subscriber = daemon.subscribe_live();
    let first = shown_now(&daemon, &client);
    let new = authority.sign(&["localhost"]);
    let half = |text: &str| text[..text.len() / 2].to_owned();
    for (cert, key, says) in [
        (half(&new.cert), String::new(), "is no whole PEM"),
        (
            new.cert.clone(),
            half(&new.key),
            "is no whole PEM of a private key",
        ),
        (new.cert.clone(), String::new(), "holds no private key"),
    ] {
        fs::write(&pair.cert, cert).unwrap();
        fs::write(&pair.key, key).unwrap();
        daemon.wait_for_log(says);
        assert_eq!(shown_now(&daemon, &client), first, "{says}");
    }
    fs::write(&pair.key, &new.key).unwrap();
    wait_until("the new certificate is shown", || {
        shown_now(&daemon, &client) == certificate(&new)
    });
    let id = daemon.database().insert_many(1);
    assert_eq!(subscriber.next_row()["id"], id);
}

#[test]
fn a_hangup_reads_certificates_again_too() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let client = Arc::new(daemon.settings().authority().client());
    let before = shown_now(&daemon, &client);
    let mut kept = connect(&daemon, "localhost", &client);
    assert_eq!(get(&mut kept, "/healthz").status, 200);
    let new = daemon.settings().authority().sign(&["localhost"]);
    new.replace(daemon.settings().pair());
    daemon.signal(libc::SIGHUP);
    daemon.wait_for_log("configuration read again");
    wait_until("the new certificate is shown", || {
        shown_now(&daemon, &client) == certificate(&new)
    });
    assert_ne!(before, certificate(&new));
    assert_eq!(
        get(&mut kept, "/healthz").status,
        200,
        "on the old connection"
    );
}

#[test]
fn certificates_that_change_under_load_cost_nobody_a_row() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let mut subscribers: Vec<_> = (0..8).map(|_| daemon.subscribe("since=earliest")).collect();
    let (pair, authority) = (daemon.settings().pair(), daemon.settings().authority());
    let client = Arc::new(authority.client());
    let database = daemon.database();
    let written = AtomicBool::new(false);
    let last = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut last = 0;
            while !written.load(Ordering::Relaxed) {
                last = database.insert_many(20);
            }
            last
        });
        let stop = StopAtEnd(&written);
        for _ in 0..3 {
            let new = authority.sign(&["localhost"]);
            new.replace(pair);
            wait_until("the new certificate is shown", || {
                shown_now(&daemon, &client) == certificate(&new)
            });
        }
        drop(stop);
        writing.join().expect("rows are written")
    });
    let table = database.rows();
    for subscriber in &mut subscribers {
        subscriber.expect("hello");
        subscriber.replay();
        while subscriber.ledger().len() < table.len() {
            subscriber.next_row();
        }
        assert_ledger(subscriber.ledger(), &table);
    }
    assert_eq!(last as usize, table.len());
}

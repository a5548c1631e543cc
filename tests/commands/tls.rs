//! Daemons behind TLS: whose certificates are believed, and what is said of others.

use std::path::Path;

use rcgen::{BasicConstraints, IsCa};

use crate::common::authority::Authority;
use crate::common::settings::Settings;
use crate::common::tls_front::Front;
use crate::common::{Daemon, directory};
use crate::program::{Running, emit, refusal, text, walcast};

#[test]
fn a_feed_behind_tls_is_listed_and_followed_across_restarts() {
    let place = directory();
    let authority = Authority::new("ours");
    let ca = authority.publish(place.path(), "ca.pem");
    let ca = ca.to_str().unwrap();
    let mut daemon = Daemon::start_new();
    let database = daemon.database().path().to_owned();
    let proxy = Front::with_tls(
        daemon.address(),
        authority.server(&["localhost", "127.0.0.1"]),
    );
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}", proxy.port());
        let listed = walcast()
            .args(["feeds", &url, "--ca", ca])
            .output()
            .unwrap();
        let said = text(&listed.stdout);
        assert!(
            said.contains("remediation"),
            "{said}{}",
            text(&listed.stderr)
        );
        let ready = walcast()
            .args(["feeds", "--ready", &url])
            .env("SSL_CERT_FILE", ca)
            .status();
        assert!(ready.unwrap().success());
    }
    let url = format!("wss://localhost:{}", proxy.port());
    let mut tail = Running::tail(&[&url, "--ca", ca]);
    let shown = tail.says("connected to");
    assert!(shown.contains(&format!("{url}/ws/remediation")), "{shown}");
    emit(&database, "2");
    assert_eq!(tail.ids(2), [1, 2]);
    let ended = daemon.stop();
    emit(&database, "2");
    daemon = ended.start();
    daemon.wait_until_ready();
    emit(&database, "2");
    assert_eq!(tail.ids(4), [3, 4, 5, 6]);
}

#[test]
fn a_certificate_that_is_not_good_is_named_with_the_remedy() {
    let place = directory();
    let own = Authority::new("ours");
    let ca = own.publish(place.path(), "ca.pem");
    let others = Authority::new("theirs").publish(place.path(), "other.pem");
    let older = Authority::new("ours").publish(place.path(), "older.pem");
    let daemon = Daemon::start_new();
    let proxy = Front::with_tls(daemon.address(), own.server(&["feeds.example.com"]));
    let (port, plain) = (proxy.port(), daemon.address());
    let asked = |url: &str, ca: &Path| {
        let listed = refusal(walcast().args(["feeds", url, "--ca"]).arg(ca));
        let url = format!("{}/ws/remediation", url.replace("https", "wss"));
        let followed = refusal(walcast().args(["tail", &url, "--ca"]).arg(ca));
        [listed, followed]
    };
    for (url, ca, says) in [
        (
            format!("https://localhost:{port}"),
            &others,
            "name the file of the one that did with --ca",
        ),
        (
            format!("https://localhost:{port}"),
            &older,
            "name the file of the one that did with --ca",
        ),
        (
            format!("https://localhost:{port}"),
            &ca,
            "its certificate is not good: certificate not valid for name \"localhost\"",
        ),
        (format!("https://{plain}"), &ca, "speaks no TLS"),
    ] {
        for said in asked(&url, ca) {
            assert!(said.contains(says), "{url}: {said}");
            assert!(!said.contains("reconnecting"), "{url}: {said}");
        }
    }
    // To a plain address nobody has to prove anything.
    for (url, ca, says) in [
        (
            format!("http://{plain}"),
            &ca,
            "--ca is for URLs of https and wss",
        ),
        (
            format!("https://{plain}"),
            &place.path().join("missing.pem"),
            "missing.pem: the certificates can't be read",
        ),
    ] {
        let output = walcast().args(["feeds", &url, "--ca"]).arg(ca).output();
        let output = output.unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn a_certificate_that_is_an_authority_is_named_with_the_remedy() {
    let settings = Settings::on_new_file().over_tls();
    let ca = settings.authority().publish(settings.directory(), "ca.pem");
    // As `openssl req -x509` makes them.
    settings
        .authority()
        .sign_with(&["localhost"], |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        })
        .replace(settings.pair());
    let daemon = settings.start();
    let url = format!("https://localhost:{}", daemon.own_address().port());
    let said = refusal(walcast().args(["feeds", &url, "--ca"]).arg(ca));
    assert!(
        said.contains("basicConstraints=critical,CA:FALSE"),
        "{said}"
    );
}

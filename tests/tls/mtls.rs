//! Clients that prove by a certificate who they are.

use std::fs;
use std::path::Path;

use rcgen::{DnType, SanType};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::common::authority::{Authority, Pem};
use crate::common::tls_front::Front;
use crate::common::{Daemon, Response, Subscriber, http, wait_until};

const ORDERS: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, item TEXT);
    CREATE TABLE audit (id INTEGER PRIMARY KEY, text TEXT);";
const TOML: &str = "[auth.mtls]\nca = \"clients-ca.pem\"\nclients = \"clients.toml\"\n\
    [feeds.orders]\ntable = \"orders\"\n[feeds.audit]\ntable = \"audit\"\n";
const CLIENTS: &str = "[[client]]
name = \"billing\"
san = \"billing.example.com\"
feeds = [\"orders\"]
where = { customer = \"acme\" }
[[client]]
name = \"audit\"
subject = { CN = \"auditor\", O = \"ours\" }
feeds = [\"audit\"]
metrics = true
";
const HISTORY: &str = "/api/feeds/orders/events";

/// A daemon that knows these clients, whose certificates this authority signs.
fn daemon(authority: &Authority) -> Daemon {
    let settings = Daemon::on_new_file().over_tls();
    authority.publish(settings.directory(), "clients-ca.pem");
    fs::write(settings.directory().join("clients.toml"), CLIENTS).unwrap();
    let daemon = settings.with_tables(ORDERS).toml(TOML).start();
    daemon.wait_until_ready();
    daemon
}

/// A client of the daemon that shows a certificate, or none.
fn client(daemon: &Daemon, shows: Option<&Pem>) -> Front {
    let roots = daemon.settings().authority().roots();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("versions that there are")
        .with_root_certificates(roots);
    let config = match shows {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let cert = CertificateDer::from_pem_slice(pem.cert.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![cert], key).unwrap()
        }
    };
    Front::without_tls(daemon.own_address(), config)
}

fn billing(authority: &Authority) -> Pem {
    authority.sign(&["billing.example.com"])
}

fn auditor(authority: &Authority) -> Pem {
    authority.sign_with(&[], |params| {
        params
            .distinguished_name
            .push(DnType::CommonName, "auditor");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "ours");
    })
}

fn get(front: &Front, path: &str) -> Response {
    http::request(front.address, "GET", path, &[], b"")
}

fn rewrite(directory: &Path, clients: &str) {
    let new = directory.join("clients.new");
    fs::write(&new, clients).unwrap();
    fs::rename(new, directory.join("clients.toml")).unwrap();
}

#[test]
fn a_certificate_stands_for_its_feeds_and_rows() {
    let authority = Authority::new("of clients");
    let daemon = daemon(&authority);
    daemon
        .database()
        .execute("INSERT INTO orders VALUES (1, 'acme', 'a'), (2, 'other', 'b')");
    let front = client(&daemon, Some(&billing(&authority)));
    wait_until("the rows are read", || {
        get(&front, HISTORY).json()["total"] == 1
    });
    assert_eq!(get(&front, "/api/feeds/audit/events").status, 404);
    assert_eq!(get(&front, "/metrics").status, 403);
    let mut subscriber = Subscriber::connect(front.address, "/ws/orders", "since=earliest");
    subscriber.expect("hello");
    assert_eq!(subscriber.replay().0, [1]);
    daemon
        .database()
        .execute("INSERT INTO orders VALUES (3, 'other', 'c'), (4, 'acme', 'd')");
    assert_eq!(subscriber.next_row()["id"], 4);
    let front = client(&daemon, Some(&auditor(&authority)));
    assert_eq!(get(&front, "/api/feeds/audit/events").status, 200);
    assert_eq!(get(&front, HISTORY).status, 404);
    assert_eq!(get(&front, "/metrics").status, 200);
}

#[test]
fn who_shows_none_or_an_unknown_one_is_not_let_in() {
    let authority = Authority::new("of clients");
    let daemon = daemon(&authority);
    let nobody = client(&daemon, None);
    let refused = get(&nobody, HISTORY);
    assert_eq!(
        (refused.status, refused.error_code()),
        (401, "token_missing".into())
    );
    assert_eq!(get(&nobody, "/healthz").status, 200);
    for unknown in [
        authority.sign(&["other.example.com"]),
        // A name in the subject is none of those the certificate is for.
        authority.sign_with(&[], |params| {
            let name = "billing.example.com";
            params.distinguished_name.push(DnType::CommonName, name);
        }),
        authority.sign_with(&[], |params| {
            params
                .distinguished_name
                .push(DnType::CommonName, "auditor, O=ours");
            let uri = "spiffe://example.com/x".try_into().unwrap();
            params.subject_alt_names.push(SanType::URI(uri));
        }),
    ] {
        let refused = get(&client(&daemon, Some(&unknown)), HISTORY);
        assert_eq!(
            (refused.status, refused.error_code()),
            (401, "certificate_unknown".into())
        );
    }
    // Signed by another, over already: refused before anything is asked.
    let others = Authority::new("of clients");
    let over = authority.sign_expired(&["billing.example.com"]);
    for refused in [billing(&others), over] {
        let before = daemon_errors(&daemon, &authority);
        let front = client(&daemon, Some(&refused));
        let mut stream = http::connect(front.address);
        http::ask(&mut stream, HISTORY);
        let mut answer = Vec::new();
        // However the front's end comes, nothing has come before.
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
        assert_eq!(answer, b"");
        wait_until("it is counted", || {
            daemon_errors(&daemon, &authority) > before
        });
    }
}

/// What is counted of handshakes, by who may see it.
fn daemon_errors(daemon: &Daemon, authority: &Authority) -> f64 {
    let text = get(&client(daemon, Some(&auditor(authority))), "/metrics").text();
    let line = "walcast_connection_errors_total{reason=\"tls\"} ";
    let count = text.lines().find_map(|text| text.strip_prefix(line));
    count.expect("it is counted").parse().expect("a number")
}

#[test]
fn who_is_taken_out_or_changed_is_told_at_once() {
    let authority = Authority::new("of clients");
    let daemon = daemon(&authority);
    let front = client(&daemon, Some(&billing(&authority)));
    let connect = || {
        let mut subscriber = Subscriber::connect(front.address, "/ws/orders", "since=now");
        subscriber.expect("hello");
        subscriber.expect("live");
        subscriber
    };
    let mut changed = connect();
    let mut kept = {
        let front = client(&daemon, Some(&auditor(&authority)));
        let mut kept = Subscriber::connect(front.address, "/ws/audit", "");
        kept.expect_nothing();
        (kept, front)
    };
    let more = CLIENTS.replace("\"acme\"", "[\"acme\", \"more\"]");
    rewrite(daemon.directory(), &more);
    changed.expect_close(4401);
    let mut revoked = connect();
    let (_, rest) = more.split_once("[[client]]\nname = \"audit\"").unwrap();
    rewrite(
        daemon.directory(),
        &format!("[[client]]\nname = \"audit\"{rest}"),
    );
    revoked.expect_close(4501);
    assert_eq!(get(&front, HISTORY).error_code(), "certificate_unknown");
    // What can't be read changes nothing.
    rewrite(daemon.directory(), "[[client]]\nname = \"audit\"\n");
    daemon.wait_for_log("the clients stay as they were: ");
    kept.0.expect_nothing();
}

#[test]
fn another_authority_takes_over_without_a_restart() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let daemon = daemon(&old);
    let front = client(&daemon, Some(&billing(&old)));
    assert_eq!(get(&front, HISTORY).status, 200);
    new.publish(daemon.directory(), "clients-ca.pem");
    let fresh = client(&daemon, Some(&billing(&new)));
    wait_until("the new authority counts", || {
        let mut stream = http::connect(fresh.address);
        http::ask(&mut stream, HISTORY);
        let mut first = [0; 12];
        let read = std::io::Read::read_exact(&mut stream, &mut first);
        read.is_ok() && first.ends_with(b" 200")
    });
    // Nor is a session resumed that the old one vouched for.
    let mut stream = http::connect(front.address);
    http::ask(&mut stream, HISTORY);
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
    assert_eq!(answer, b"");
}

//! What is agreed on: versions, resumption, protocols.

use std::io::Write as _;
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion};

use super::client::{believer, connect, get, try_connect};
use crate::common::{Daemon, http, wait_until};

#[test]
fn tls_1_2_and_1_3_are_spoken() {
    let daemon = Daemon::on_new_file().over_tls().start();
    for (version, spoken) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let config = Arc::new(daemon.settings().authority().client_of(&[version]));
        let mut connection = connect(&daemon, "localhost", &config);
        assert_eq!(connection.conn.protocol_version(), Some(spoken));
        assert_eq!(get(&mut connection, "/healthz").status, 200);
    }
}

/// Not those of versions before 1.2: no library at hand speaks them. A client that offers nothing newer is refused as one that
/// speaks nothing the server does.
#[test]
fn a_hello_of_tls_1_0_is_refused() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let mut stream = http::connect(daemon.own_address());
    // A ClientHello of TLS 1.0 with one cipher suite and no extensions.
    let mut hello = vec![1, 0, 0, 41, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8];
    record.extend(hello);
    stream.write_all(&record).expect("the daemon reads");
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut answer).expect("it closes");
    // An alert (21), fatal (2).
    assert_eq!((answer[0], answer[5]), (21, 2), "{answer:?}");
    wait_until("it is counted", || daemon.connection_errors("tls") == 1.0);
}

#[test]
fn who_comes_back_resumes_with_a_ticket_and_sends_nothing_early() {
    let daemon = Daemon::on_new_file().over_tls().start();
    for version in [&TLS12, &TLS13] {
        let mut client = daemon.settings().authority().client_of(&[version]);
        client.enable_early_data = true;
        let config = Arc::new(client);
        let mut first = connect(&daemon, "localhost", &config);
        assert_eq!(first.conn.handshake_kind(), Some(HandshakeKind::Full));
        // The tickets come with the first answer.
        assert_eq!(get(&mut first, "/healthz").status, 200);
        let mut again = connect(&daemon, "localhost", &config);
        assert_eq!(again.conn.handshake_kind(), Some(HandshakeKind::Resumed));
        assert!(!again.conn.is_early_data_accepted());
        assert_eq!(get(&mut again, "/healthz").status, 200);
    }
}

#[test]
fn http_1_1_is_agreed_on_and_what_nobody_speaks_is_refused() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let offering = |protocols: &[&[u8]]| {
        let mut client = daemon.settings().authority().client();
        client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(client)
    };
    let mut http = connect(&daemon, "localhost", &offering(&[b"http/1.1"]));
    assert_eq!(http.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(get(&mut http, "/healthz").status, 200);
    let refused = try_connect(&daemon, "localhost", &offering(&[b"smtp"]));
    let why = refused.map(drop).expect_err("nothing to agree on");
    assert!(why.to_string().contains("NoApplicationProtocol"), "{why}");
}

#[test]
fn a_certificate_is_shown_to_those_who_ask_for_an_address() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let mut connection = connect(&daemon, "127.0.0.1", &believer(&daemon));
    assert_eq!(get(&mut connection, "/healthz").status, 200);
}

#[test]
fn who_asks_without_tls_is_told_so() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let response = http::request(daemon.own_address(), "GET", "/healthz", &[], b"");
    assert_eq!(response.status, 400);
    assert_eq!(response.error_code(), "tls_required");
    assert!(response.error_message().contains("https://"));
}

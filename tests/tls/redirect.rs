//! From where no TLS is spoken to where it is.

use std::net::SocketAddr;

use super::client::{believer, connect, get};
use crate::common::{Daemon, http};

#[test]
fn a_plain_port_leads_to_the_one_with_tls_which_says_so_for_long() {
    let daemon = Daemon::on_new_file()
        .toml("hosts = [\"a.example\"]\n[tls]\nredirect = \"127.0.0.1:0\"\nhsts = \"180d\"\n")
        .over_tls()
        .start();
    let port = daemon.own_address().port();
    let leads = format!(" leads to https, port {port}");
    daemon.wait_for_log(&leads);
    let log = daemon.log();
    let (before, _) = log.split_once(&leads).unwrap();
    let (_, plain) = before.rsplit_once("http://").unwrap();
    let plain: SocketAddr = plain.parse().expect("an address");
    for (host, path) in [("a.example", "/"), ("localhost", "/ws/remediation?since=1")] {
        let response = http::get_as(plain, host, path, &[]);
        assert_eq!(response.status, 308);
        let expected = format!("https://{host}:{port}{path}");
        assert_eq!(response.header("location"), Some(&*expected));
        assert_eq!(response.header("strict-transport-security"), None);
    }
    // It leads nobody to a place that is not its own.
    let refused = http::get_as(plain, "evil.example", "/", &[]);
    assert_eq!((refused.status, refused.header("location")), (421, None));
    let mut connection = connect(&daemon, "localhost", &believer(&daemon));
    let answer = get(&mut connection, "/healthz");
    assert_eq!(
        answer.header("strict-transport-security"),
        Some("max-age=15552000")
    );
}

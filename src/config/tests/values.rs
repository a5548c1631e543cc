//! What values mean.

use std::time::Duration;

use super::*;
use crate::address::AllowedOrigin;

#[test]
fn times_are_texts_or_seconds() {
    for (written, millis) in [
        ("\"250ms\"", 250),
        ("\"30s\"", 30_000),
        ("\"1m\"", 60_000),
        ("\"2\"", 2000),
        ("3", 3000),
        ("0.5", 500),
        ("\"1.5 s\"", 1500),
        ("\"1h\"", 3_600_000),
    ] {
        assert_eq!(
            ok(&format!("write_timeout = {written}"))
                .limits
                .write_timeout,
            Duration::from_millis(millis),
            "{written}"
        );
    }
    assert_eq!(ok("drain_timeout = 0").limits.drain_timeout, Duration::ZERO);
}

#[test]
fn listening_beyond_loopback_must_be_asked_for() {
    refused(
        "listen = \"0.0.0.0:8010\"",
        &[
            "walcast.toml:1: listen = 0.0.0.0:8010",
            "walcast token add",
            "auth.anonymous = true",
        ],
    );
    for beyond in [
        "[::]:1",
        "192.0.2.1:1",
        "[::ffff:0.0.0.0]:1",
        "[::ffff:192.0.2.1]:1",
        "[2001:db8::1]:1",
    ] {
        refused(
            &format!("listen = [\"127.0.0.1:1\", {beyond:?}]"),
            &[beyond],
        );
    }
    let everyone = ok("listen = \"0.0.0.0:8010\"\nauth.anonymous = true").auth;
    assert_eq!(everyone.anonymous, Anonymous::Everything);
    let config = ok(
        "listen = [\"localhost:8010\", \"[::1]:8010\", \"[::ffff:127.0.0.1]:1\", \"unix:/run/walcast.sock\"]",
    );
    assert_eq!(
        config.listen[0],
        Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8010)))
    );
    assert_eq!(config.listen[3], Listen::Unix("/run/walcast.sock".into()));
}

#[test]
fn origins_are_as_browsers_send_them() {
    let origins = [
        "*",
        "https://a.example",
        "http://a-b.example:8080",
        "http://[::1]:3000",
        "chrome-extension://abcdef",
    ];
    let access = ok(&format!(
        "origins = {origins:?}\nframe_ancestors = \"HTTPS://A.example:443\""
    ))
    .access;
    assert_eq!(access.origins, origins.map(origin));
    assert_eq!(access.frame_ancestors, [origin("https://a.example")]);
}

fn origin(text: &str) -> AllowedOrigin {
    AllowedOrigin::parse(text).expect("an origin")
}

#[test]
fn hosts_and_proxies_are_named() {
    let access = ok(
        "hosts = [\"Console.example.com\", \"walcast\"]\ntrusted_proxies = [\"127.0.0.1\", \"fd00::/8\", \"unix\"]",
    )
    .access;
    let hosts: Vec<String> = access.hosts.iter().map(|host| host.to_string()).collect();
    assert_eq!(hosts, ["console.example.com", "walcast"]);
    let is_proxy = |address: Option<&str>| {
        let address = address.map(|text| text.parse().expect("an address"));
        access.trusted_proxies.iter().any(|proxy| proxy.is(address))
    };
    assert!(is_proxy(None) && is_proxy(Some("127.0.0.1")) && is_proxy(Some("fd12::1")));
    assert!(!is_proxy(Some("127.0.0.2")));
    let only_tcp = ok("trusted_proxies = \"0.0.0.0/0\"").access;
    assert!(!only_tcp.trusted_proxies.iter().any(|proxy| proxy.is(None)));
}

#[test]
fn a_port_alone_is_one_of_loopback() {
    for text in ["9", ":9", "localhost:9", "127.0.0.1:9"] {
        let listen = ok(&format!("listen = {text:?}")).listen;
        assert_eq!(
            listen,
            [Listen::Tcp("127.0.0.1:9".parse().expect("an address"))]
        );
    }
}

#[test]
fn feeds_are_published_as_said() {
    let text = "[publish]\nnats = [\"nats://a\", \"tls://b:4333\"]\ncredentials = \"/c\"\ntls_ca = \"/t\"\n\
                stream_prefix = \"site-1\"\nreplicas = 3\nkeep = { bytes = \"1536MiB\", age = \"36h\" }\nbackfill = false\n";
    let resolved = load_with(text, ServeArgs::default()).expect("valid");
    let described = resolved.describe();
    assert_eq!(ok(&described), resolved.config, "{described}");
    let rules = resolved.config.publish.expect("it is there");
    let servers: Vec<String> = rules.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["nats://a:4222", "tls://b:4333"]);
    assert_eq!(rules.keep.bytes, 1536 << 20);
    assert_eq!(rules.keep.age, Duration::from_secs(36 * 60 * 60));
    assert!((rules.replicas, rules.backfill) == (3, false));
    let least = ok("[publish]\nnats = \"nats://127.0.0.1\"")
        .publish
        .expect("it is there");
    assert_eq!(
        (least.stream_prefix.as_str(), least.replicas),
        ("walcast", 1)
    );
    assert!(least.backfill && least.keep.bytes == 4 << 30);
    assert_eq!(ok("").publish, None);
}

#[test]
fn what_can_not_be_published_to_is_refused() {
    refused(
        "[publish]\nreplicas = 3",
        &[":1:", "nats: is missing", "nats = [\"nats://"],
    );
    let with = |line: &str| format!("[publish]\nnats = \"nats://a\"\n{line}");
    for (line, parts) in [
        ("replicas = 2", &[":3:", "publish.replicas", "1, 3 or 5"]),
        (
            "stream_prefix = \"a.b\"",
            &[":3:", "stream_prefix", "letters"],
        ),
        (
            "keep = { bytes = \"4GB\" }",
            &[":3:", "publish.keep.bytes", "4GiB"],
        ),
        (
            "keep = { bytes = 1000 }",
            &[":3:", "publish.keep.bytes", "1MiB"],
        ),
        (
            "keep = { age = \"week\" }",
            &[":3:", "publish.keep.age", "7d"],
        ),
        (
            "keep.days = 7",
            &[":3:", "publish.keep.days", "known here: bytes, age"],
        ),
    ] {
        refused(&with(line), parts);
    }
    // What may be a secret is not told.
    let error = load("[publish]\nnats = \"nats://me:hunter2@a\"").expect_err("refused");
    assert!(error.contains("credentials"), "{error}");
}

//! More connections than there is room for, and clients that only hold on to theirs. Everyone is answered, and who was
//! there before notices nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::common::http::{self, Response};
use crate::common::{
    Daemon, PATIENCE, STOCK_EVENTS, STOCK_FEED, STOCK_HISTORY, STOCK_SSE, wait_until,
};
use crate::scale;

/// Connects this many clients, each of which asks for `path` at once, and gives their answers.
fn answers(walcast: &Daemon, clients: usize, path: &str) -> Vec<Response> {
    let head = http::head("GET", path, "localhost", &[]);
    let mut streams: Vec<TcpStream> = (0..clients)
        .map(|_| {
            let mut stream = walcast.connect();
            stream
                .write_all(head.as_bytes())
                .expect("the kernel takes it");
            stream
        })
        .collect();
    streams
        .iter_mut()
        .map(|stream| http::read_response(stream))
        .collect()
}

#[test]
fn everyone_above_the_limit_is_told_so_at_once() {
    let walcast = Daemon::on_new_file()
        .option("--max-connections", "3")
        .start();
    let mut members = [
        walcast.subscribe(""),
        walcast.subscribe(""),
        walcast.subscribe(""),
    ];
    let clients = scale::sized(400, 4_000);
    for path in ["/api/feeds", STOCK_SSE, STOCK_FEED] {
        for answer in answers(&walcast, clients / 4, path) {
            assert_eq!(answer.status, 503, "{path}");
            assert_eq!(answer.error_code(), "at_capacity");
            assert!(answer.header("Retry-After").is_some());
            assert_eq!(answer.header("Connection"), Some("close"));
        }
    }
    for answer in answers(&walcast, clients / 4, "/healthz") {
        // Its place may have been needed by the next.
        assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(walcast.get(path).status, 200, "{path}");
    }
    let id = walcast.database().insert("for those who were there");
    for member in &mut members {
        assert_eq!(member.next_row()["id"], id);
    }
}

/// Those who say nothing are told, too, when others come.
#[test]
fn silent_connections_above_the_limit_give_way() {
    let walcast = Daemon::on_new_file()
        .option("--max-connections", "1")
        .start();
    let _member = walcast.subscribe("");
    let silent: Vec<TcpStream> = (0..scale::sized(100, 1_000))
        .map(|_| walcast.connect())
        .collect();
    assert_eq!(walcast.get("/healthz").status, 200);
    // The last few may stay for as long as nobody needs their place.
    for mut stream in silent.into_iter().rev().skip(20) {
        assert_eq!(http::read_response(&mut stream).status, 503);
    }
}

#[test]
fn silent_connections_above_the_limit_do_not_hold_up_a_stop() {
    let mut walcast = Daemon::on_new_file()
        .option("--max-connections", "1")
        .option("--drain-timeout", "60s")
        .start();
    let member = walcast.subscribe("");
    let _silent: Vec<TcpStream> = (0..5).map(|_| walcast.connect()).collect();
    assert_eq!(walcast.get("/healthz").status, 200);
    drop(member);
    walcast.signal(libc::SIGTERM);
    assert!(walcast.wait_for_exit().success());
    let log = walcast.log();
    let drained = log
        .split_once("stopped after ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
    // By themselves they would have gone ten seconds after they came.
    assert!(drained.is_some_and(|seconds| seconds < 5.0), "{log}");
}

/// As many descriptors as the daemon has open, and one more, until this is dropped.
struct FewDescriptors<'a> {
    walcast: &'a Daemon,
    before: libc::rlimit,
}

impl FewDescriptors<'_> {
    fn of(walcast: &Daemon) -> FewDescriptors<'_> {
        let open = fs::read_dir(format!("/proc/{}/fd", walcast.id()));
        let open: Vec<libc::rlim_t> = open
            .expect("a running process has descriptors")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        // What the daemon inherited may have far higher numbers than what it opened.
        let free = (0..).find(|number| !open.contains(number));
        let before = limit(walcast, None);
        let few = libc::rlimit {
            rlim_cur: free.map_or(0, |number| number + 1),
            rlim_max: before.rlim_max,
        };
        limit(walcast, Some(&few));
        FewDescriptors { walcast, before }
    }
}

impl Drop for FewDescriptors<'_> {
    fn drop(&mut self) {
        limit(self.walcast, Some(&self.before));
    }
}

/// Sets the limit of descriptors of a running daemon, where one is given; gives the one before.
fn limit(walcast: &Daemon, new: Option<&libc::rlimit>) -> libc::rlimit {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    let id = libc::pid_t::try_from(walcast.id()).expect("a process id fits");
    // SAFETY: both pointers are valid for the call, or null where that is allowed.
    let set = unsafe { libc::prlimit(id, libc::RLIMIT_NOFILE, new, &mut old) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    old
}

#[test]
fn everyone_is_answered_when_descriptors_have_run_out() {
    let walcast = Daemon::start_new();
    walcast.wait_until_ready();
    let mut member = walcast.subscribe("");
    let few = FewDescriptors::of(&walcast);
    // They take what is left.
    let _holding: Vec<TcpStream> = (0..20).map(|_| walcast.connect()).collect();
    let answers = answers(&walcast, scale::sized(400, 4_000), "/api/feeds");
    let (told, served): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 503);
    for answer in &told {
        assert_eq!(answer.error_code(), "at_capacity");
        assert!(answer.header("Retry-After").is_some());
    }
    // A descriptor may become free at any time: then the next is served.
    assert!(served.iter().all(|answer| answer.status == 200));
    assert!(told.len() > served.len(), "{} were told", told.len());
    assert_eq!(walcast.get("/healthz").status, 200);
    let id = walcast.database().insert("for who was there");
    assert_eq!(member.next_row()["id"], id);
    drop(few);
    wait_until("there is room again", || {
        walcast.get("/api/feeds").status == 200
    });
    let log = walcast.log();
    let said = log
        .lines()
        .filter(|line| line.contains("can't be accepted"));
    assert!(said.count() <= 3, "{log}");
}

#[test]
fn heads_that_never_end_keep_nobody_waiting() {
    let walcast = Daemon::start_new();
    let mut member = walcast.subscribe("");
    let slow: Vec<TcpStream> = (0..scale::sized(200, 2_000))
        .map(|i| {
            let mut stream = walcast.connect();
            let begun = [
                "GET / HTTP/1.1\r\nX-Slow: ",
                "GET /",
                "",
                "POST /api/feeds/re",
            ][i % 4];
            stream
                .write_all(begun.as_bytes())
                .expect("the kernel takes it");
            stream
        })
        .collect();
    assert_eq!(walcast.get(STOCK_HISTORY).status, 200);
    let id = walcast.database().insert("meanwhile");
    assert_eq!(member.next_row()["id"], id);
    if scale::is_full() {
        // Ten seconds after they were made, all of them are gone.
        for mut stream in slow {
            let patience = Some(std::time::Duration::from_secs(10) + PATIENCE);
            stream
                .set_read_timeout(patience)
                .expect("a socket takes a time limit");
            assert!(matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_)));
        }
        wait_until("only the member is left", || {
            walcast.metric("walcast_ws_connections_active") == 1.0
        });
    }
}

// --- behind a proxy ---

fn behind_a_proxy() -> Daemon {
    let toml = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\nmax_connections_per_ip = 2\n[feeds.remediation]\ningest = true\n";
    Daemon::on_new_file().toml(toml).start()
}

fn from(client: &str) -> [(&'static str, &str); 1] {
    [("X-Forwarded-For", client)]
}

#[test]
fn clients_of_a_trusted_proxy_are_counted_each_for_itself() {
    let walcast = behind_a_proxy();
    let upgrade = |client: &str| {
        let mut stream = walcast.connect();
        let headers = [&http::UPGRADE[..], &from(client)].concat();
        let head = http::head("GET", STOCK_FEED, "localhost", &headers);
        stream.write_all(head.as_bytes()).expect("walcast reads");
        let answer = http::read_response(&mut stream);
        (answer.status, stream)
    };
    let mut held = vec![];
    for client in ["198.51.100.1", "1.2.3.4, 198.51.100.1, 10.1.1.1"] {
        let (status, stream) = upgrade(client);
        assert_eq!(status, 101, "{client}");
        held.push(stream);
    }
    for client in ["198.51.100.1", "198.51.100.1:4711", "8.8.8.8, 198.51.100.1"] {
        assert_eq!(upgrade(client).0, 503, "{client}");
    }
    let refused = walcast.request("GET", "/api/feeds", &from("198.51.100.1"), b"");
    assert_eq!(refused.status, 503);
    assert!(refused.header("Retry-After").is_some());
    let message = refused.error_message();
    assert!(message.contains("max_connections_per_ip"), "{message}");
    let health = walcast.request("GET", "/healthz", &from("198.51.100.1"), b"");
    assert_eq!(health.status, 200);
    for client in ["198.51.100.2", "2001:db8::1", "2001:db8:0:1::1"] {
        assert_eq!(upgrade(client).0, 101, "{client}");
    }
    held.pop();
    wait_until("there is room again", || {
        walcast
            .request("GET", "/api/feeds", &from("198.51.100.1"), b"")
            .status
            == 200
    });
}

/// A proxy that sets one of the two headers passes on the other as a client sent it.
#[test]
fn a_client_gets_no_more_by_the_header_that_its_proxy_does_not_set() {
    let walcast = behind_a_proxy();
    let stream = |made_up: &str| {
        let mut stream = walcast.connect();
        let headers = [&from("198.51.100.1")[..], &[("Forwarded", made_up)]].concat();
        let head = http::head(
            "GET",
            STOCK_FEED,
            "localhost",
            &[&http::UPGRADE[..], &headers].concat(),
        );
        stream.write_all(head.as_bytes()).expect("walcast reads");
        (http::read_response(&mut stream).status, stream)
    };
    let _held = ["for=1.2.3.1", "for=unknown"].map(|made_up| {
        let (status, stream) = stream(made_up);
        assert_eq!(status, 101, "{made_up}");
        stream
    });
    for made_up in ["for=1.2.3.2", "for=127.0.0.1", "nonsense", "for=\"[::1]\""] {
        assert_eq!(stream(made_up).0, 503, "{made_up}");
    }
    let honest = walcast.request("GET", "/api/feeds", &from("198.51.100.1"), b"");
    assert_eq!(honest.status, 200);
}

/// A proxy keeps its connections open, and its clients take turns on them.
#[test]
fn requests_on_a_proxys_connection_are_counted_only_while_they_last() {
    let walcast = behind_a_proxy();
    let mut shared = walcast.connect();
    for i in 0..20 {
        let headers = from(if i % 2 == 0 {
            "198.51.100.1"
        } else {
            "198.51.100.2"
        });
        let head = http::head("GET", STOCK_EVENTS, "localhost", &headers);
        shared.write_all(head.as_bytes()).expect("walcast reads");
        assert_eq!(http::read_response(&mut shared).status, 200);
    }
    let _streams: Vec<_> = (0..2)
        .map(|_| walcast.event_source(STOCK_SSE, &from("198.51.100.1")))
        .collect();
    let headers = [&from("198.51.100.1")[..], &[http::JSON]].concat();
    let body = json!({"ts": "t"}).to_string();
    let post = walcast.request("POST", STOCK_EVENTS, &headers, body.as_bytes());
    assert_eq!(post.status, 503, "two streams are held");
}

#[test]
fn nobody_else_is_believed() {
    let walcast = Daemon::on_new_file()
        .option("--max-connections-per-ip", "1")
        .option("--trusted-proxy", "10.0.0.0/8")
        .start();
    let held = walcast.event_source(STOCK_SSE, &from("198.51.100.1"));
    // Loopback is exempt, whatever it says.
    let again = walcast.request("GET", "/api/feeds", &from("198.51.100.1"), b"");
    assert_eq!(again.status, 200);
    drop(held);
}

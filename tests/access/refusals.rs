//! What is not let in, and what is said of it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;

use std::process::Stdio;

use serde_json::json;

use super::office::{Office, command, settings, with_another_secret};
use crate::common::http;
use crate::common::secrets::secret_of;
use crate::common::settings::program;
use crate::common::{directory, wait_until};

const READ: &[&str] = &["--feed", "news"];

#[test]
fn whoever_has_no_good_token_reads_nothing_by_any_path() {
    let office = Office::open();
    let good = office.token("reader", READ);
    let wrong = with_another_secret(&good);
    office.command(&["add", "short", "--feed", "news", "--expires", "1s"]);
    for path in [
        "/api/feeds",
        "/api/feeds/news/events",
        "/sse/news",
        "/ws/news",
        "/metrics",
    ] {
        let missing = office.get(path, None);
        assert_eq!(
            (missing.status, missing.error_code()),
            (401, "token_missing".into()),
            "{path}"
        );
        assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    }
    for bad in [wrong.as_str(), "x", "wct_", "eyJhbGciOiJub25lIn0.e30."] {
        let refused = office.get("/api/feeds", Some(bad));
        assert_eq!(
            (refused.status, refused.error_code()),
            (401, "token_invalid".into()),
            "{bad}"
        );
    }
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/dashboard/app.js",
        "/walcast.js",
    ] {
        assert_eq!(office.get(path, None).status, 200, "{path} is everybody's");
    }
    let basic = [("Authorization", "Basic eDp5")];
    let basic = office.daemon.request("GET", "/api/feeds", &basic, b"");
    assert_eq!(
        basic.error_code(),
        "token_invalid",
        "never taken for nobody"
    );
    assert_eq!(
        office
            .daemon
            .metric(r#"walcast_auth_failures_total{reason="token_invalid"}"#),
        5.0
    );
    assert_eq!(
        office
            .daemon
            .metric(r#"walcast_auth_failures_total{reason="token_missing"}"#),
        5.0
    );
}

#[test]
fn two_credentials_that_differ_are_refused_and_the_same_twice_is_one() {
    let office = Office::open_with("cookie = \"walcast\"");
    let (one, other) = (office.token("one", READ), office.token("other", READ));
    let bearer = format!("Bearer {one}");
    for (cookie, status) in [(&one, 200), (&other, 400)] {
        let cookie = format!("a=b; walcast={cookie}");
        let headers = [("Authorization", bearer.as_str()), ("Cookie", &cookie)];
        let answer = office.daemon.request("GET", "/api/feeds", &headers, b"");
        assert_eq!(answer.status, status);
    }
    let cookie = format!("walcast={one}");
    let alone = office
        .daemon
        .request("GET", "/api/feeds", &[("Cookie", &cookie)], b"");
    assert_eq!(alone.status, 200);
}

#[test]
fn the_address_carries_a_token_only_where_that_is_allowed() {
    let office = Office::open();
    let token = office.token("reader", READ);
    let path = format!("/api/feeds/news/events?token={token}");
    let refused = office.get(&path, None);
    assert_eq!(
        (refused.status, refused.error_code()),
        (401, "token_invalid".into())
    );
    assert!(refused.error_message().contains("query_token"));
    let office = Office::open_with("query_token = true");
    let token = office.token("reader", READ);
    let path = format!("/api/feeds/news/events?token={token}");
    assert_eq!(office.get(&path, None).status, 200);
    let mut rows = office
        .daemon
        .subscribe_to("/ws/news", &format!("since=now&token={token}"));
    rows.expect("hello");
}

#[test]
fn a_feed_that_is_not_granted_looks_like_one_that_is_not_there() {
    let office = Office::open();
    let token = office.token("reader", READ);
    for (granted_not, not_there) in [
        ("/api/feeds/orders/events", "/api/feeds/nobody/events"),
        ("/sse/orders", "/sse/nobody"),
        ("/ws/orders", "/ws/nobody"),
    ] {
        let (one, other) = (
            office.get(granted_not, Some(&token)),
            office.get(not_there, Some(&token)),
        );
        assert_eq!((one.status, one.error_code()), (404, "not_found".into()));
        let said = one.error_message().replace("orders", "nobody");
        assert_eq!(said, other.error_message());
    }
    let posted = office.post("/api/feeds/orders/events", &token, &json!({"item": "x"}));
    assert_eq!(posted.status, 404);
    let listed = office.get("/api/feeds", Some(&token)).json();
    let names: Vec<_> = listed["feeds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|feed| &feed["name"])
        .collect();
    assert_eq!(names, ["news"]);
}

#[test]
fn a_page_learns_by_the_close_code_why_it_was_refused() {
    let office = Office::open();
    let token = office.token("reader", READ);
    office
        .subscribe_from_page("/ws/news", "", None)
        .expect_close(4501);
    office
        .subscribe_from_page("/ws/news", "", Some("wct_x"))
        .expect_close(4501);
    office
        .subscribe_from_page("/ws/orders", "", Some(&token))
        .expect_close(4504);
    office
        .subscribe_from_page("/ws/nobody", "", Some(&token))
        .expect_close(4504);
    office
        .subscribe_from_page("/ws/news", "since=now", Some(&token))
        .expect("hello");
    // What is no page can see the status.
    let refused = office.daemon.upgrade("/ws/news", &[]);
    assert_eq!(
        (refused.status, refused.error_code()),
        (401, "token_missing".into())
    );
}

#[test]
fn ten_wrong_credentials_are_answered_and_good_ones_always() {
    let office = Office::open();
    let token = office.token("reader", READ);
    let codes: Vec<_> = (0..12)
        .map(|_| office.get("/api/feeds", Some("wrong")).status)
        .collect();
    assert_eq!(codes, [[401; 10].as_slice(), &[429; 2]].concat());
    let over = office.get("/api/feeds", Some("wrong"));
    assert!(
        over.header("retry-after")
            .is_some_and(|wait| wait.parse::<u64>().is_ok_and(|s| s <= 61))
    );
    assert_eq!(office.get("/api/feeds", Some(&token)).status, 200);
    assert_eq!(office.get("/api/feeds", None).status, 401);
}

#[test]
fn what_is_counted_and_what_is_written_needs_a_token_made_for_it() {
    let office = Office::open();
    let token = office.token("reader", &["--feed", "orders", "--where", "customer=acme"]);
    let refused = office.get("/metrics", Some(&token));
    assert_eq!(
        (refused.status, refused.error_code()),
        (403, "metrics_not_granted".into())
    );
    let refused = office.post("/api/feeds/orders/events", &token, &json!({"item": "x"}));
    assert_eq!(
        (refused.status, refused.error_code()),
        (403, "ingest_not_granted".into())
    );
    assert_eq!(office.orders_stored(), 0);
}

#[test]
fn everyone_may_read_the_part_that_is_everybodys() {
    let office = Office::open_with("anonymous = { feeds = [\"news\"], where = { public = 1 } }");
    office
        .daemon
        .database()
        .execute("INSERT INTO news(title, public) VALUES ('a', 1), ('b', 0), ('c', NULL)");
    office.daemon.wait_until_ready();
    let news = office.get("/api/feeds/news/events", None).json();
    assert_eq!(
        (&news["total"], &news["items"][0]["title"]),
        (&json!(1), &json!("a"))
    );
    assert_eq!(office.get("/api/feeds/orders/events", None).status, 404);
    assert_eq!(
        office.get("/api/feeds/news/events", Some("wrong")).status,
        401
    );
    assert_eq!(office.get("/metrics", None).status, 403);
}

#[test]
fn a_token_that_says_nothing_of_the_scope_reads_nothing_of_that_feed() {
    let office = Office::open();
    // Without the configuration at hand the command can't tell.
    let token = office.token("careless", &["--feed", "orders", "--feed", "news"]);
    let refused = office.get("/api/feeds/orders/events", Some(&token));
    assert_eq!(
        (refused.status, refused.error_code()),
        (401, "claim_missing".into())
    );
    office
        .subscribe_from_page("/ws/orders", "", Some(&token))
        .expect_close(4501);
    assert_eq!(
        office.get("/api/feeds/news/events", Some(&token)).status,
        200
    );
    let config = office.daemon.directory().join("walcast.toml");
    let output = program()
        .args(["token", "add", "told", "--feed", "orders", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("--where customer="),
        "{said}"
    );
}

#[test]
fn tokens_that_cannot_work_keep_the_daemon_from_starting() {
    let directory = directory();
    let tokens = directory.path().join("tokens.toml");
    for (text, mode, says) in [
        (None, 0o600, "walcast token add"),
        (Some("[[token]]\nid = 5"), 0o600, "line 2"),
        (Some(""), 0o644, "0644"),
    ] {
        if let Some(text) = text {
            fs::write(&tokens, text).unwrap();
            fs::set_permissions(&tokens, fs::Permissions::from_mode(mode)).unwrap();
        }
        let failed = settings(directory.path(), "")
            .try_start()
            .err()
            .expect("it must not start");
        assert_eq!(failed.status.code(), Some(2), "{}", failed.stderr);
        assert!(failed.stderr.contains(says), "{}", failed.stderr);
    }
}

#[test]
fn tokens_are_made_listed_shown_and_revoked() {
    let directory = directory();
    let tokens = directory.path().join("tokens.toml");
    let run = |args: &[&str]| command(&tokens, args);
    run(&["add", "first", "--feed", "x"]).unwrap();
    run(&["revoke", "first"]).unwrap();
    let list = ["token", "list", "--tokens"];
    let nothing = program().args(list).arg(&tokens).output();
    let nothing = nothing.expect("walcast can be run");
    let complaint = String::from_utf8_lossy(&nothing.stderr);
    assert!(
        nothing.status.success() && nothing.stdout.is_empty(),
        "{complaint}"
    );
    assert!(complaint.contains("there are no tokens in"), "{complaint}");
    let grant = [
        "--feed",
        "orders",
        "--where",
        "customer=a b",
        "--where",
        "customer=c",
        "--expires",
        "90d",
    ];
    let made = run(&[&["add", "billing"], grant.as_slice()].concat()).unwrap();
    let token = made.trim();
    let secret = secret_of(token);
    assert!(token.starts_with("wct_") && secret.len() == 43, "{token}");
    let listed = run(&["list"]).unwrap();
    assert!(
        listed.contains("billing") && listed.contains("customer = a b or c"),
        "{listed}"
    );
    assert!(!listed.contains(secret));
    assert_eq!(run(&["show", token]).unwrap(), listed);
    let other = with_another_secret(token);
    assert!(
        run(&["show", &other])
            .unwrap_err()
            .contains("secret is another")
    );
    for (args, says) in [
        (vec!["add", "billing", "--feed", "x"], "token set billing"),
        (vec!["add", "a b", "--feed", "x"], "a b"),
        (vec!["add", "idle"], "--feed"),
        (
            vec!["add", "late", "--feed", "x", "--expires", "soon"],
            "soon",
        ),
        (
            vec!["add", "late", "--feed", "x", "--where", "novalue"],
            "COLUMN=VALUE",
        ),
        (vec!["revoke", "biling"], "billing"),
    ] {
        let said = run(&args).unwrap_err();
        assert!(said.contains(says), "{args:?}: {said}");
    }
    let link = run(&[
        "add",
        "guest",
        "--feed",
        "x",
        "--link",
        "https://feeds.example.com/",
    ])
    .unwrap();
    assert!(
        link.starts_with("https://feeds.example.com/#token=wct_"),
        "{link}"
    );
    run(&["revoke", "billing"]).unwrap();
    assert!(run(&["show", token]).unwrap_err().contains("revoked"));
}

#[test]
fn beyond_loopback_tokens_are_asked_for_or_anyone_is_served_by_request() {
    let directory = directory();
    let tokens = directory.path().join("tokens.toml");
    command(&tokens, &["add", "one", "--feed", "news"]).unwrap();
    let daemon = settings(directory.path(), "")
        .option("--listen", "0.0.0.0:0")
        .start();
    wait_until("it serves", || daemon.get("/healthz").status == 200);
    let open = crate::common::Settings::on(directory.path()).option("--listen", "0.0.0.0:0");
    let failed = open.try_start().err().expect("it must not start");
    assert_eq!(failed.status.code(), Some(2));
    for way in ["walcast token add", "auth.anonymous = true"] {
        assert!(failed.stderr.contains(way), "{}", failed.stderr);
    }
}

#[test]
fn commands_present_the_token_of_a_file_or_a_variable() {
    let office = Office::open();
    let token = office.token("reader", READ);
    let file = office.daemon.directory().join("token");
    fs::write(&file, format!("{token}\n")).unwrap();
    let url = format!("http://{}", office.daemon.address());
    let feeds = || {
        let mut command = program();
        command.args(["feeds", &url]);
        command
    };
    let refused = feeds().output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("401"));
    let of_file = feeds().arg("--token-file").arg(&file).output().unwrap();
    let of_variable = feeds().env("WALCAST_TOKEN", &token).output().unwrap();
    for output in [of_file, of_variable] {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("news") && !text.contains("orders"), "{text}");
    }
    office
        .daemon
        .database()
        .execute("INSERT INTO news(title) VALUES ('read all about it')");
    let url = format!("ws://{}/ws/news", office.daemon.address());
    let mut tail = program()
        .args(["tail", &url, "--since", "earliest", "--token-file"])
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(tail.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("read all about it"), "{line}");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn what_is_counted_can_have_an_address_of_its_own_where_nobody_is_asked() {
    let office = Office::open_with("[metrics]\nlisten = \"127.0.0.1:0\"\n");
    let said = "metrics alone at http://";
    office.daemon.wait_for_log(said);
    let log = office.daemon.log();
    let (_, rest) = log.split_once(said).unwrap();
    let address = rest.split_once('/').unwrap().0.parse().unwrap();
    let get = |path: &str, headers: &[(&'static str, &str)]| {
        http::request(address, "GET", path, headers, b"")
    };
    let counted = get("/metrics", &[]);
    assert_eq!(counted.status, 200);
    assert!(counted.text().contains("walcast_build_info"));
    assert_eq!(get("/healthz", &[]).status, 200);
    let bearer = format!("Bearer {}", office.metrics_token());
    for path in [
        "/",
        "/api/feeds",
        "/api/feeds/news/events",
        "/sse/news",
        "/metrics/",
    ] {
        assert_eq!(get(path, &[]).status, 404, "{path}");
        assert_eq!(
            get(path, &[("Authorization", &bearer)]).status,
            404,
            "{path}"
        );
    }
    assert_eq!(http::upgrade(address, "/ws/news", &[]).status, 404);
    assert_eq!(
        office.get("/metrics", None).status,
        401,
        "elsewhere a token is asked for"
    );
}

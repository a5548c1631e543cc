//! The client that pages without a build step load from the daemon.

use crate::common::Daemon;

const PATH: &str = "/walcast.js";
const PAGE: (&str, &str) = ("Origin", "https://console.example.com");

fn walcast() -> Daemon {
    Daemon::on_new_file().option("--origin", PAGE.1).start()
}

#[test]
fn it_is_the_committed_script_as_a_module() {
    let walcast = walcast();
    let answer = walcast.get(PATH);
    assert_eq!(answer.status, 200);
    let kind = answer.header("Content-Type");
    assert_eq!(kind, Some("text/javascript; charset=utf-8"));
    assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(answer.header("Cache-Control"), Some("no-cache"));
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/web/client/browser/walcast.js");
    let committed = std::fs::read(committed).expect("the script is in the sources");
    assert_eq!(answer.body, committed);
}

#[test]
fn a_browser_that_has_it_is_told_so() {
    let walcast = walcast();
    let answer = walcast.get(PATH);
    let tag = answer.header("ETag").expect("a tag");
    for known in [tag, &format!("\"x\", W/{tag}"), "*"] {
        let again = walcast.request("GET", PATH, &[PAGE, ("If-None-Match", known)], b"");
        assert_eq!((again.status, again.body.len()), (304, 0), "{known}");
        assert_eq!(again.header("ETag"), Some(tag), "{known}");
        let readable_by = again.header("Access-Control-Allow-Origin");
        assert_eq!(readable_by, Some(PAGE.1), "{known}");
    }
    let older = walcast.request("GET", PATH, &[("If-None-Match", "\"x\"")], b"");
    assert_eq!(older.status, 200);
}

/// A module script is asked for with CORS, and runs only where the answer names the page's origin.
#[test]
fn pages_of_allowed_origins_may_load_it_and_no_others() {
    let walcast = walcast();
    let script = [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "cors"),
        ("Sec-Fetch-Dest", "script"),
    ];
    for origin in [PAGE.1, "http://localhost:5173"] {
        let headers = [&script[..], &[("Origin", origin)]].concat();
        let answer = walcast.request("GET", PATH, &headers, b"");
        assert_eq!(answer.status, 200, "{origin}");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(origin));
        assert!(answer.head().contains("vary: origin\n"));
    }
    let stranger = [&script[..], &[("Origin", "https://evil.example")]].concat();
    assert_eq!(walcast.request("GET", PATH, &stranger, b"").status, 403);
}

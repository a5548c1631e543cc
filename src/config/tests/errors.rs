//! What is wrong, and where.

use super::*;

#[test]
fn what_is_wrong_stays_on_its_line_of_the_terminal() {
    let escape = r#"[feeds."a\u001b[31m\nb"]"#;
    refused(escape, &["walcast.toml:1", r"a\u{1b}[31m\nb"]);
}

#[test]
fn unknown_keys_name_line_and_nearest_key() {
    let error = load("\n\ndatabse = \"x\"").expect_err("unknown");
    assert_eq!(
        error,
        "walcast.toml:3: unknown key \"databse\"; did you mean \"database\"?"
    );
    refused(
        "ring = { row = 1 }",
        &["walcast.toml:1: unknown key \"ring.row\"; did you mean \"rows\"?"],
    );
    refused(
        "[feeds.a]\nws = \"/a\"\ncolums = [\"b\"]",
        &["walcast.toml:3:", "feeds.a.colums", "\"columns\""],
    );
    refused(
        "[feeds.a.message]\nbdy = \"b\"",
        &["walcast.toml:2:", "feeds.a.message.bdy", "\"body\""],
    );
    refused("anonymous = true", &["did you mean \"auth.anonymous\"?"]);
    refused("[log]\nreplays = 3", &["belongs at the top of the file"]);
    refused("[log]\nxyzzy = 3", &["known here: level, format"]);
    refused("ring = 5", &["walcast.toml:1: ring = 5: is not a table"]);
    refused("feeds = 5", &["feeds = 5: is not a table"]);
    refused(
        "[feeds]\na = 5",
        &["walcast.toml:2: feeds.a = 5: is not a table"],
    );
}

#[test]
fn every_problem_of_the_file_is_told_at_once() {
    let error = load("listen = 1\nreplays = -1\noops = 1").expect_err("three problems");
    assert_eq!(error.lines().count(), 3, "{error}");
}

#[test]
fn broken_toml_names_the_line() {
    refused(
        "database = \"x\"\nlisten = [",
        &["walcast.toml:2: not valid TOML"],
    );
    refused(
        "replays = 1\nreplays = 2",
        &["walcast.toml:2: not valid TOML", "duplicate"],
    );
}

#[test]
fn wrong_types_and_values_are_refused_with_line_value_and_remedy() {
    for (toml, value, remedy) in [
        ("database = 5", "database = 5", "put it in quotes"),
        ("database = \"\"", "database = \"\"", "leave it out"),
        ("replays = \"8\"", "replays = \"8\"", "without quotes"),
        (
            "replays = 99999999999999999999",
            "99999999999999999999",
            "whole number",
        ),
        ("max_connections = 0", "max_connections = 0", "above 0"),
        ("write_timeout = 0", "write_timeout = 0", "1ms or more"),
        ("write_timeout = -1", "write_timeout = -1", "\"30s\""),
        ("write_timeout = nan", "NaN", "\"30s\""),
        ("write_timeout = inf", "inf", "\"30s\""),
        ("write_timeout = \"3 weeks\"", "3 weeks", "\"30s\""),
        ("write_timeout = \"25h\"", "25h", "at most 24h"),
        ("journal_mode = \"delete\"", "\"delete\"", "\"keep\""),
        ("watch = \"inotify\"", "\"inotify\"", "\"notify\""),
        ("watch = true", "watch = true", "\"poll\""),
        (
            "auth.anonymous = \"true\"",
            "auth.anonymous = \"true\"",
            "without quotes",
        ),
        ("log.level = \"inof\"", "\"inof\"", "info"),
        ("log.level = \"=debug\"", "\"=debug\"", "info"),
        ("log.format = \"xml\"", "\"xml\"", "\"json\""),
        (
            "origins = [\"https://a.example/\"]",
            "https://a.example/",
            "scheme://host",
        ),
        ("origins = [\"a.example\"]", "a.example", "scheme://host"),
        (
            "origins = [\"https://a:99999\"]",
            "https://a:99999",
            "scheme://host",
        ),
        (
            "hosts = [\"http://a.example\"]",
            "http://a.example",
            "name of a host",
        ),
        ("hosts = [\"a:80\"]", "a:80", "without scheme, port"),
        ("hosts = \"*\"", "*", "console.example.com"),
        (
            "trusted_proxies = [\"10.0.0.0/33\"]",
            "10.0.0.0/33",
            "\"10.0.0.0/8\"",
        ),
        ("trusted_proxies = \"proxy\"", "proxy", "\"127.0.0.1\""),
        (
            "frame_ancestors = [\"a.example; script-src *\"]",
            "a.example; script-src *",
            "scheme://host",
        ),
        ("listen = []", "listen = []", "leave it out"),
        ("listen = [\"127.0.0.1\"]", "127.0.0.1", "IP:PORT"),
        ("listen = \"example.com:80\"", "example.com:80", "IP:PORT"),
        (
            "listen = \"unix:walcast.sock\"",
            "unix:walcast.sock",
            "unix:/run",
        ),
        (
            "listen = [\"localhost:1\", \"127.0.0.1:1\"]",
            "127.0.0.1:1",
            "once",
        ),
    ] {
        refused(toml, &["walcast.toml:1: ", value, remedy]);
    }
}

#[test]
fn what_other_programs_call_it_is_told() {
    refused("db = \"x\"", &["did you mean \"database\"?"]);
    refused("tables = [\"a\"]", &["[feeds.NAME]", "feeds = \"*\""]);
    refused(
        "[[feeds]]\nname = \"a\"",
        &["[feeds.NAME]", "one pair of brackets"],
    );
    for (key, file) in [("key", "key_file"), ("jwks", "jwks_file")] {
        let error = load(&format!("[auth.jwt]\n{key} = \"x\"")).expect_err("an unknown key");
        let told = format!("unknown key \"auth.jwt.{key}\"; did you mean \"{file}\"?");
        assert!(error.contains(&told), "lacks {told}: {error}");
    }
    refused("[feeds.a]\nauth = 1", &["[auth] stands at the top level"]);
}

/// What is wrong in a table that is there is told, and nothing is said to be missing beside it.
#[test]
fn what_a_table_lacks_is_told_with_an_example() {
    refused(
        "[feeds.a]\nscope = { b = \"header:X-Tenant\" }\n[auth.proxy]\n",
        &["walcast.toml:3: auth.proxy.user: is missing; write user = \"X-Auth-User\""],
    );
    let error = load("[auth.jwt]\nissuer = \"\"").expect_err("an empty issuer");
    let told = "auth.jwt.issuer = \"\": is empty; write issuer = \"https://id.example.com\"";
    assert!(error.contains(told), "{error}");
    let error =
        load("listen = \"0.0.0.0:1\"\n[auth.jwt]\nissuer = 5\n").expect_err("four problems");
    for problem in [
        "walcast.toml:2: auth.jwt.algorithms: is missing; write algorithms = [\"RS256\"]",
        "walcast.toml:3: auth.jwt.issuer = 5: is not text",
        "walcast.toml:2: auth.jwt.audience: is missing; write audience = \"walcast\"",
        "walcast.toml:2: auth.jwt: names no keys; write key_file",
    ] {
        assert!(error.contains(problem), "lacks {problem}: {error}");
    }
    assert_eq!(error.lines().count(), 4, "{error}");
    refused(
        "[auth]\njwt = 5",
        &["walcast.toml:2: auth.jwt = 5: is not a table"],
    );
}

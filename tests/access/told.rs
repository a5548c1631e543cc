//! What `walcast check` and `walcast token show` say of who may come in.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;

use super::issuer::{Issuer, now, revoke};
use super::office::{Office, command};
use crate::common::secrets;
use crate::common::settings::program;
use crate::common::{Database, directory};

const FEEDS: &str = "[feeds.orders]\nscope = { customer = \"claim:customer\" }\n[feeds.news]\nscope = \"none\"\n[feeds.audit]\n";

/// A configuration with this in it, and its tables.
fn configured(directory: &Path, auth: &str, feeds: &str) {
    let database = Database::within(directory);
    database.execute(
        "CREATE TABLE IF NOT EXISTS orders(id INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT);
         CREATE TABLE IF NOT EXISTS news(id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT);
         CREATE TABLE IF NOT EXISTS audit(id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT)",
    );
    let (file, state) = (directory.join("walcast.db"), directory.join("state"));
    let text = format!(
        "database = {file:?}\nstate_dir = {state:?}\nlisten = \"127.0.0.1:0\"\n{auth}\n{feeds}"
    );
    fs::write(directory.join("walcast.toml"), text).unwrap();
}

/// The exit code of `walcast check`, and what it printed.
fn check(directory: &Path) -> (i32, String) {
    let output = program()
        .args(["check", "--config"])
        .arg(directory.join("walcast.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), said + &errors)
}

#[test]
fn check_finds_a_good_configuration_good() {
    let directory = directory();
    let path = directory.path();
    let tokens = path.join("tokens.toml");
    command(
        &tokens,
        &["add", "one", "--feed", "orders", "--where", "customer=acme"],
    )
    .unwrap();
    let jwt = Issuer::new().settle(path);
    configured(path, &format!("[auth]\ntokens = {tokens:?}\n{jwt}"), FEEDS);
    let (code, said) = check(path);
    assert_eq!(code, 0, "{said}");
    for part in [
        "has 1, of which 0",
        "those of https://id.example.com for walcast",
        "EdDSA",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn check_knows_that_the_token_of_an_edge_reads_all_rows() {
    let place = directory();
    let path = place.path();
    let tokens = path.join("tokens.toml");
    let add = ["add", "berlin", "--edge", "--feed", "orders"];
    command(&tokens, &add).unwrap();
    configured(path, &format!("[auth]\ntokens = {tokens:?}\n"), FEEDS);
    let (code, said) = check(path);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("has 1, of which 0"), "{said}");
    assert!(!said.contains("reads nothing"), "{said}");
}

#[test]
fn check_names_what_could_not_work() {
    let place = directory();
    let path = place.path();
    let jwt = Issuer::new().settle(path);
    let proxy = "[auth.proxy]\nuser = \"X-Auth-User\"\n";
    let by_header = FEEDS.replace("claim:customer", "header:X-Tenant");
    for (auth, feeds, code, says) in [
        (
            jwt.replace("EdDSA", "ES256"),
            FEEDS.to_owned(),
            1,
            "auth.jwt.key_file",
        ),
        (
            jwt.replace("revoked.toml", "gone.toml"),
            FEEDS.to_owned(),
            1,
            "gone.toml",
        ),
        (
            jwt.clone(),
            FEEDS.replace("customer =", "custmer ="),
            1,
            "has no column custmer",
        ),
        (
            "[auth]\nanonymous = { feeds = [\"orders\"], where = { nope = 1 } }\n".to_owned(),
            FEEDS.to_owned(),
            1,
            "auth.anonymous: table orders has no column nope",
        ),
        (
            jwt.clone(),
            "[feeds.audit]\n".to_owned(),
            0,
            "no feed that a JWT could read",
        ),
        (
            proxy.to_owned(),
            by_header.clone(),
            0,
            "nobody may send X-Auth-User",
        ),
        (
            format!("trusted_proxies = [\"0.0.0.0/0\"]\n{proxy}"),
            by_header.clone(),
            1,
            "anybody may say in X-Auth-User who they are",
        ),
        (
            format!("trusted_proxies = [\"127.0.0.1\"]\n{proxy}"),
            by_header.clone(),
            0,
            "X-Auth-User is believed from 127.0.0.1",
        ),
        (
            proxy.to_owned(),
            FEEDS.to_owned(),
            0,
            "neither auth.jwt nor auth.tokens",
        ),
        (
            format!("{proxy}{jwt}"),
            by_header.replace(" }", ", id = \"claim:id\" }"),
            0,
            "for claims and for headers",
        ),
        (
            String::new(),
            FEEDS.to_owned(),
            0,
            "nobody is asked who they are",
        ),
        (
            format!("[auth]\nanonymous = true\n{jwt}"),
            FEEDS.to_owned(),
            0,
            "auth.anonymous = true",
        ),
    ] {
        configured(path, &auth, &feeds);
        let (found, said) = check(path);
        assert!(said.contains(says), "{says:?} is not in {said}");
        assert_eq!(found, code, "{says}: {said}");
    }
}

#[test]
fn check_sees_who_else_could_write_or_read_the_files() {
    let place = directory();
    let path = place.path();
    let jwt = Issuer::new().settle(path);
    configured(path, &jwt, FEEDS);
    for (file, mode) in [("jwt.pem", 0o664), ("revoked.toml", 0o666)] {
        let file = path.join(file);
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let (code, said) = check(path);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!("its mode is {mode:04o}")), "{said}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    }
}

/// What `walcast token show -` prints of a credential, or complains of.
fn shown(directory: &Path, credential: &str) -> Result<String, String> {
    let mut command = program();
    command
        .args(["token", "show", "-", "--config"])
        .arg(directory.join("walcast.toml"));
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{credential}").unwrap();
    let output = child.wait_with_output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn office(issuer: &Issuer) -> TempDir {
    let directory = directory();
    let tokens = directory.path().join("tokens.toml");
    fs::write(&tokens, "").unwrap();
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
    let jwt = issuer.settle(directory.path());
    configured(
        directory.path(),
        &format!("[auth]\ntokens = {tokens:?}\n{jwt}"),
        FEEDS,
    );
    directory
}

#[test]
fn show_says_what_a_jwt_may_do_and_why_not() {
    let issuer = Issuer::new();
    let place = office(&issuer);
    let path = place.path();
    let good = issuer.token(json!({"customer": ["acme", 5]}));
    let said = shown(path, &good).unwrap();
    for part in [
        "alice (a JWT), until 20",
        "orders: rows where customer = 5 or \"acme\"",
        "news: all rows",
        "audit: nothing, for only tokens that name it read it",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    secrets::assert_none_in("what is said", &said);
    let silent = shown(path, &issuer.token(json!({}))).unwrap();
    let says = "orders: nothing, for it does not say which customer it is for (claim:customer)";
    assert!(silent.contains(says), "{silent}");
    let nothing = shown(path, &issuer.token(json!({"customer": []}))).unwrap();
    assert!(nothing.contains("customer is nothing at all"), "{nothing}");
    revoke(path, "jti = [\"x\"]");
    for (token, says) in [
        (
            issuer.token(json!({"jti": "x"})),
            "alice is refused (token_invalid): it was revoked",
        ),
        (
            issuer.token(json!({"exp": now() - 9})),
            "alice is refused (token_expired): its exp is over",
        ),
        (
            issuer.token(json!({"aud": "x"})),
            "its aud is not auth.jwt.audience",
        ),
        (Issuer::new().token(json!({})), "its signature is not good"),
        ("eyJhbGciOiJub25lIn0.e30.".to_owned(), "\"none\" is not"),
        ("nonsense".to_owned(), "it is no JWT"),
    ] {
        let said = shown(path, &token).unwrap_err();
        assert!(said.contains(says), "{says:?} is not in {said}");
    }
}

#[test]
fn show_says_of_each_feed_what_a_token_reads() {
    let place = office(&Issuer::new());
    let path = place.path();
    let tokens = path.join("tokens.toml");
    let add = [
        "add",
        "one",
        "--feed",
        "orders",
        "--feed",
        "audit",
        "--where",
        "customer=5",
    ];
    let token = command(&tokens, &add).unwrap();
    let said = shown(path, token.trim()).unwrap();
    for part in [
        "orders: rows where customer = \"5\"",
        "audit: rows where customer = \"5\"",
        "news: nothing, for it does not name the feed",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn check_knows_a_daemon_that_asks_for_tokens() {
    let office = Office::open();
    let path = office.daemon.directory().to_owned();
    let token = office.token("counter", &["--metrics"]);
    let check = || {
        let mut command = program();
        command.args([
            "check",
            "--listen",
            &office.daemon.address().to_string(),
            "--config",
        ]);
        command
            .arg(path.join("walcast.toml"))
            .arg("--db")
            .arg(path.join("walcast.db"));
        command
    };
    let plain = check().output().unwrap();
    let said = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(
        said.contains("is served by a running walcast; it tells more to a token"),
        "{said}"
    );
    assert_eq!(plain.status.code(), Some(0), "{said}");
    let asked = check().env("WALCAST_TOKEN", &token).output().unwrap();
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(
        said.contains(concat!(
            "is served by a running walcast ",
            env!("CARGO_PKG_VERSION")
        )),
        "{said}"
    );
    secrets::assert_none_in("what is said", &said);
}

//! Credentials that tests made or presented, and the search for them where nobody may find one.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use super::http::Response;
use super::settings::program;

/// What a token of walcast's own and a JWT begin with.
const BEGINNINGS: [&str; 2] = ["wct_", "eyJ"];
/// Of a secret, so much tells it from everything else, and is found where it was cut.
const TELLING: usize = 16;

/// The telling parts of all that this process has made or presented, whosever they were.
static KEPT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A token made by the command with these arguments, its name the first, which nobody may find anywhere else.
#[track_caller]
pub fn add_token(tokens: &Path, args: &[&str]) -> String {
    let mut command = program();
    command.args(["token", "add"]).args(args);
    let output = command.arg("--tokens").arg(tokens).output();
    let output = output.expect("walcast can be run");
    assert!(output.status.success(), "no token was made");
    let printed = String::from_utf8(output.stdout).expect("a token is text");
    keep_those_in(&printed);
    printed.trim().to_owned()
}

/// Notes every credential in this text: what a command printed, a header or an address that is sent.
pub fn keep_those_in(text: &str) {
    let mut kept = KEPT.lock().expect("nobody panics with the secrets locked");
    for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c))) {
        let Some(start) = BEGINNINGS.iter().find_map(|begins| word.find(begins)) else {
            continue;
        };
        let secret = secret_of(&word[start..]);
        if secret.len() >= TELLING && !kept.iter().any(|known| secret.starts_with(known)) {
            kept.push(secret[..TELLING].to_owned());
        }
    }
}

/// The part of a token, or the signature of a JWT, that nobody else knows; empty where there is none.
pub fn secret_of(credential: &str) -> &str {
    let parts = match credential.strip_prefix(BEGINNINGS[0]) {
        Some(token) => token.split_once('_'),
        None => credential.rsplit_once('.'),
    };
    parts.map_or("", |(_, secret)| secret)
}

/// Whether there is anything that could be found.
pub fn are_kept() -> bool {
    !KEPT
        .lock()
        .expect("nobody panics with the secrets locked")
        .is_empty()
}

/// Panics where one of them is in this text.
#[track_caller]
pub fn assert_none_in(place: &str, text: &str) {
    // The lock is not held while it panics: other tests of this process go on.
    let found = {
        let kept = KEPT.lock().expect("nobody panics with the secrets locked");
        kept.iter().find(|secret| text.contains(*secret)).cloned()
    };
    if let Some(secret) = found {
        panic!("the secret {secret}… of a credential is in {place}:\n{text}");
    }
}

/// Panics where one of them is in an answer: its head or its body.
#[track_caller]
pub fn assert_none_in_answer(answer: &Response) {
    if are_kept() {
        let (head, body) = (answer.head(), String::from_utf8_lossy(&answer.body));
        assert_none_in("an answer", &format!("{head}\n{body}"));
    }
}

/// Panics where one of them is in what the system shows others of this process: its command line, its environment and the
/// names of its threads.
#[track_caller]
pub fn assert_none_shown_of(process: u32) {
    let shown = Path::new("/proc").join(process.to_string());
    let mut places = vec![shown.join("cmdline"), shown.join("environ")];
    let threads = fs::read_dir(shown.join("task")).into_iter().flatten();
    places.extend(threads.flatten().map(|thread| thread.path().join("comm")));
    for place in places {
        // A thread may be gone by now, and so may the process.
        let text = fs::read(&place).unwrap_or_default();
        assert_none_in(
            &place.display().to_string(),
            &String::from_utf8_lossy(&text),
        );
    }
}

/// Panics where one of them is in a file of this directory.
#[track_caller]
pub fn assert_none_in_files_of(directory: &Path) {
    for file in fs::read_dir(directory).into_iter().flatten().flatten() {
        let text = fs::read(file.path()).unwrap_or_default();
        let place = file.path().display().to_string();
        assert_none_in(&place, &String::from_utf8_lossy(&text));
    }
}

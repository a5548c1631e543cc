//! What fuzzers ask of parsers that nobody else outside of this crate needs to reach. There is no such module in the
//! daemon: it is built for tests, which ask the same of the inputs kept in `tests/fuzz/corpus`, and with the feature
//! `fuzzing`. Each function panics where something does not hold.

use std::io::{self, Read, Write};
use std::sync::OnceLock;

use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};
use warp::http::HeaderValue;
use warp::reply::Reply;

pub use crate::access::fuzzing::{access_files, claims, credentials};
use crate::config::FeedConfig;
use crate::fanout::frame_reader::{Assembler, DEFLATE_OVERHEAD, Inbound};
use crate::http::extensions::{self, Agreement};
use crate::http::params;
use crate::model::filter::MAX_VALUES;
pub use crate::net::tls_server::fuzzing::{certificates, hello};
use crate::sqlite::table::Schema;
use crate::wire::control::{CloseCode, MAX_INBOUND_BYTES};
use crate::wire::deflate::{Deflater, inflate};
use crate::wire::frame::payload;

/// The most that may be kept of a client's unfinished frames: a message, a control frame and a header.
const MAX_HELD: usize = MAX_INBOUND_BYTES + DEFLATE_OVERHEAD + 125 + 14;

/// Frames of a client: the same comes of them however the bytes arrive, little is kept meanwhile, and what is accepted
/// is what another implementation reads.
pub fn frames(bytes: &[u8]) {
    let (said, ended) = heard_in_steps(bytes, false);
    if ended.is_none() {
        assert_eq!(said, heard_by_tungstenite(bytes));
    }
}

/// Frames of a client that may compress them: the same, whatever they are said to hold. And what is compressed here comes
/// out of it as it went in.
pub fn deflated(bytes: &[u8]) {
    heard_in_steps(bytes, true);
    if let Ok(message) = inflate(bytes.to_vec(), MAX_INBOUND_BYTES) {
        assert!(message.len() <= MAX_INBOUND_BYTES);
    }
    if let Some(frame) = Deflater::new().frame(bytes) {
        assert!(payload(&frame).len() < bytes.len());
        let again = inflate(payload(&frame).to_vec(), bytes.len());
        assert_eq!(again.as_deref(), Ok(bytes));
    }
}

/// The extensions that a client offers: what is agreed on is within what it said, and can be agreed on in turn.
pub fn extensions(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n');
    let headers: Vec<HeaderValue> = lines
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .collect();
    if let Ok(Some(agreement)) = extensions::agree(headers.iter()) {
        let answer = HeaderValue::from_str(&agreement.header()).ok();
        let answered = extensions::agree(answer.iter());
        let bits = answered.map(|answered| answered.map(Agreement::window_bits));
        assert!(
            matches!(bits, Ok(Some(bits)) if bits <= agreement.window_bits()),
            "{bits:?}"
        );
    }
}

/// The messages in `bytes`, which are the same in steps of any size.
fn heard_in_steps(bytes: &[u8], inflates: bool) -> (Vec<Message>, Option<CloseCode>) {
    let heard_at_once = heard(bytes, inflates, bytes.len().max(1));
    for step in [1, 3, 1 + bytes.len() / 2] {
        assert_eq!(
            heard(bytes, inflates, step),
            heard_at_once,
            "in steps of {step}"
        );
    }
    heard_at_once
}

/// The messages in `bytes`, given in steps of this size, and the code they end with where they break the rules.
fn heard(bytes: &[u8], inflates: bool, step: usize) -> (Vec<Message>, Option<CloseCode>) {
    let (mut assembler, mut said) = (Assembler::new(inflates), vec![]);
    for chunk in bytes.chunks(step) {
        let taken = assembler.take(chunk, |message| {
            said.push(match message {
                Inbound::Text(text) => {
                    assert!(text.len() <= MAX_INBOUND_BYTES);
                    Message::text(text)
                }
                Inbound::Binary => Message::binary(vec![]),
                Inbound::Ping(payload) => Message::Ping(payload.to_vec().into()),
                Inbound::Pong => Message::Pong(vec![].into()),
                Inbound::Close(_) => Message::Close(None),
            });
            Ok(())
        });
        assert!(assembler.held() <= MAX_HELD, "{} bytes", assembler.held());
        if let Err(code) = taken {
            assert!(matches!(
                code,
                CloseCode::ProtocolError | CloseCode::InvalidPayload | CloseCode::TooBig
            ));
            return (said, Some(code));
        }
    }
    (said, None)
}

/// The same by tungstenite, but for what walcast does not keep.
fn heard_by_tungstenite(bytes: &[u8]) -> Vec<Message> {
    let config = WebSocketConfig::default().read_buffer_size(1024);
    let mut socket = WebSocket::from_raw_socket(Deaf(bytes), Role::Server, Some(config));
    let mut said = vec![];
    loop {
        match socket.read() {
            Ok(Message::Binary(_)) => said.push(Message::binary(vec![])),
            Ok(Message::Pong(_)) => said.push(Message::Pong(vec![].into())),
            Ok(Message::Close(_)) => {
                said.push(Message::Close(None));
                return said;
            }
            Ok(message) => said.push(message),
            // Where the bytes end, the connection does.
            Err(Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => {
                return said;
            }
            Err(e) => panic!("tungstenite refuses it: {e}"),
        }
    }
}

/// A peer that sends these bytes and hears nothing.
struct Deaf<'a>(&'a [u8]);

impl Read for Deaf<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Deaf<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The query string of a request of any kind, with the columns known and not: it is understood, within bounds, or
/// refused with 400.
pub fn query(bytes: &[u8]) {
    let Ok(raw) = std::str::from_utf8(bytes) else {
        return;
    };
    // The first line stands for the Last-Event-ID.
    let (last_id, raw) = match raw.split_once('\n') {
        Some((last_id, raw)) => (Some(last_id), raw),
        None => (None, raw),
    };
    for schema in [None, Some(schema())] {
        let asked = [
            params::subscription(raw, schema).map(|request| request.filter),
            params::stream(raw, schema, last_id).map(|request| request.filter),
            params::history(raw, schema).map(|asked| {
                assert!((1..=500).contains(&asked.limit));
                asked.filter
            }),
        ];
        for asked in asked {
            match asked {
                Ok(filter) => {
                    assert!(filter.value_count() <= MAX_VALUES);
                    if let Some(schema) = schema {
                        assert!(
                            filter
                                .columns()
                                .all(|column| schema.place_of(column).is_some())
                        );
                    }
                }
                Err(error) => assert_eq!(error.into_response().status(), 400),
            }
        }
    }
}

/// A table with names that are hard to tell from what else stands in a query.
#[expect(
    clippy::expect_used,
    reason = "a fuzzer that can't begin ends; it serves nobody"
)]
fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let db = rusqlite::Connection::open_in_memory().expect("there is memory");
        db.execute_batch(
            r#"CREATE TABLE t(id INTEGER PRIMARY KEY, tenant TEXT, _own TEXT, "a=b&c" REAL, "é +%" BLOB, "")"#,
        )
        .expect("the table can be made");
        Schema::of_feed(&db, &FeedConfig::named("t")).expect("it is fit for a feed")
    })
}

#[cfg(test)]
mod tests {
    /// What is asked of each input that was kept.
    fn ask(target: &str, check: impl Fn(&[u8])) {
        let directory = format!("{}/tests/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let inputs = std::fs::read_dir(directory).expect("the corpus is there");
        let mut count = 0;
        for input in inputs {
            let path = input.expect("a directory can be listed").path();
            eprintln!("{}", path.display());
            check(&std::fs::read(&path).expect("an input can be read"));
            count += 1;
        }
        assert!(count > 0, "no input for {target}");
    }

    #[test]
    fn kept_frames_hold() {
        ask("frames", super::frames);
    }

    #[test]
    fn kept_deflated_frames_hold() {
        ask("deflated", super::deflated);
    }

    #[test]
    fn kept_extensions_hold() {
        ask("extensions", super::extensions);
    }

    #[test]
    fn kept_credentials_hold() {
        ask("credentials", super::credentials);
    }

    #[test]
    fn kept_access_files_hold() {
        ask("access_files", super::access_files);
    }

    #[test]
    fn kept_claims_hold() {
        ask("claims", super::claims);
    }

    #[test]
    fn kept_certificates_hold() {
        ask("certificates", super::certificates);
    }

    #[test]
    fn kept_hellos_hold() {
        ask("hello", super::hello);
    }

    #[test]
    fn kept_queries_hold() {
        ask("query", super::query);
    }
}

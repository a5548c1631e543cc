//! The values of SQLite as JSON has them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::types::ValueRef;

use crate::model::position::MAX_SAFE_INTEGER;

/// Bytes of the longest character in UTF-8. What stands for an invalid one takes the place of three at most.
pub(super) const MAX_CHARACTER: usize = 4;

/// The first `bytes` of a text and the next character, so that what is cut off is not seen as an invalid one before.
pub(super) fn head(text: &[u8], bytes: usize) -> &[u8] {
    &text[..text.len().min(bytes.saturating_add(MAX_CHARACTER))]
}

/// A line break between tokens is valid JSON but would end an SSE data line. Inside of JSON strings they are always
/// escaped, so all there are stand between tokens.
pub(super) fn push_without_breaks(out: &mut Vec<u8>, json: &str) {
    for line in json.split(['\n', '\r']) {
        out.extend_from_slice(line.as_bytes());
    }
}

/// Appends a value whole.
pub fn push_value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => out.extend_from_slice(b"null"),
        ValueRef::Integer(i) => push_integer(out, i),
        ValueRef::Real(r) => push_real(out, r),
        ValueRef::Blob(blob) => push_blob(out, blob),
        ValueRef::Text(text) => push_string(out, &String::from_utf8_lossy(text)),
    }
}

pub(super) fn push_blob(out: &mut Vec<u8>, blob: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(BASE64.encode(blob).as_bytes());
    out.push(b'"');
}

/// Appends an integer, as a string where JavaScript can't hold it.
pub fn push_integer(out: &mut Vec<u8>, i: i64) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(i).as_bytes();
    if i.unsigned_abs() <= MAX_SAFE_INTEGER as u64 {
        out.extend_from_slice(digits);
    } else {
        out.push(b'"');
        out.extend_from_slice(digits);
        out.push(b'"');
    }
}

pub(super) fn push_real(out: &mut Vec<u8>, r: f64) {
    // SQLite turns NaN into NULL, so infinities are all that JSON has no number for.
    match r {
        f64::INFINITY => out.extend_from_slice(b"\"Infinity\""),
        f64::NEG_INFINITY => out.extend_from_slice(b"\"-Infinity\""),
        _ => push_json(out, &r),
    }
}

pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    push_json(out, text);
}

/// Appends a value as JSON.
pub fn push_json(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    // Writing strings, numbers and lists of strings into memory can't fail.
    let _ = serde_json::to_writer(out, value);
}

/// Appends a text or blob cut to `limit` bytes of JSON, at a character.
pub(super) fn push_cut(out: &mut Vec<u8>, value: ValueRef<'_>, limit: usize) {
    let budget = limit.saturating_sub(2);
    match value {
        ValueRef::Blob(blob) => {
            let bytes = (budget / 4 * 3).min(blob.len());
            push_blob(out, &blob[..bytes]);
        }
        ValueRef::Text(text) => {
            let text = String::from_utf8_lossy(head(text, budget));
            let mut size = 0;
            let end = text
                .char_indices()
                .find(|(_, c)| {
                    size += json_length(*c);
                    size > budget
                })
                .map_or(text.len(), |(at, _)| at);
            push_string(out, &text[..end]);
        }
        _ => out.extend_from_slice(b"null"),
    }
}

/// Bytes a character takes in a JSON string as serde_json writes it.
fn json_length(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if (c as u32) < 0x20 => 6,
        c => c.len_utf8(),
    }
}

//! A row as JSON: the values of the contract, cut where the feed says so and where a row is too large to send.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::types::ValueRef;

use crate::change::{Cursor, MAX_SAFE_INTEGER};
use crate::config::FeedConfig;
use crate::sqlite::table::{Exposed, Schema};

/// Words one feed's rows. Holds the bytes that are the same for every row, and scratch space, so that encoding a row
/// allocates nothing.
#[derive(Debug)]
pub struct Encoder {
    /// `{"type":"remediation_event","event":`
    prefix: Vec<u8>,
    columns: Vec<ColumnEncoder>,
    max_row_bytes: usize,
    /// Where each value ends in the row that was encoded last.
    ends: Vec<usize>,
}

#[derive(Debug)]
struct ColumnEncoder {
    /// `"name":`, with `{` or `,` before it.
    label: Vec<u8>,
    name: String,
    json: bool,
    truncate: Option<usize>,
}

impl Encoder {
    pub fn new(feed: &FeedConfig, schema: &Schema, max_row_bytes: usize) -> Encoder {
        let mut prefix = b"{\"type\":".to_vec();
        push_string(&mut prefix, &feed.message_type);
        prefix.push(b',');
        push_string(&mut prefix, &feed.message_body);
        prefix.push(b':');
        let columns = schema
            .exposed
            .iter()
            .enumerate()
            .map(|(place, e)| ColumnEncoder::new(place, e));
        Encoder {
            prefix,
            columns: columns.collect(),
            max_row_bytes,
            ends: Vec::new(),
        }
    }

    /// Appends the message of a row: `{"type":…,"event":{…}}`.
    pub fn message<'r>(&mut self, out: &mut Vec<u8>, row: impl Fn(usize) -> ValueRef<'r>) {
        out.extend_from_slice(&self.prefix);
        // Envelope and braces count towards the limit; the list of cut columns, sent beside them, is small.
        let overhead = self.prefix.len() + 1;
        let cut = self.object(out, row, overhead);
        if !cut.is_empty() {
            out.extend_from_slice(b",\"truncated\":");
            push_json(out, &cut);
        }
        out.push(b'}');
    }

    /// Appends the row alone, `{…}`, and says which columns were cut because it was too large.
    pub fn item<'r>(
        &mut self,
        out: &mut Vec<u8>,
        row: impl Fn(usize) -> ValueRef<'r>,
    ) -> Vec<String> {
        self.object(out, row, 0)
    }

    fn object<'r>(
        &mut self,
        out: &mut Vec<u8>,
        row: impl Fn(usize) -> ValueRef<'r>,
        overhead: usize,
    ) -> Vec<String> {
        let start = out.len();
        self.ends.clear();
        for (place, column) in self.columns.iter().enumerate() {
            out.extend_from_slice(&column.label);
            column.push_value(out, row(place));
            self.ends.push(out.len());
        }
        out.push(b'}');
        if out.len() - start + overhead <= self.max_row_bytes {
            return Vec::new();
        }
        self.shrink(out, start, row, overhead)
    }

    /// Encodes the row again with its longest texts and blobs cut to a common length that makes it fit.
    #[cold]
    fn shrink<'r>(
        &self,
        out: &mut Vec<u8>,
        start: usize,
        row: impl Fn(usize) -> ValueRef<'r>,
        overhead: usize,
    ) -> Vec<String> {
        let mut sizes = Vec::with_capacity(self.columns.len());
        let mut from = start;
        let mut fixed = overhead + 1;
        for (place, column) in self.columns.iter().enumerate() {
            let size = self.ends[place] - from - column.label.len();
            from = self.ends[place];
            fixed += column.label.len();
            match row(place) {
                ValueRef::Text(_) | ValueRef::Blob(_) => sizes.push((place, size)),
                _ => fixed += size,
            }
        }
        let limit = common_limit(
            sizes.iter().map(|(_, size)| *size).collect(),
            self.max_row_bytes.saturating_sub(fixed),
        );
        out.truncate(start);
        let mut cut = Vec::new();
        for (place, column) in self.columns.iter().enumerate() {
            out.extend_from_slice(&column.label);
            let too_long = sizes.iter().any(|&(p, size)| p == place && size > limit);
            if too_long {
                push_cut(out, row(place), limit);
                cut.push(column.name.clone());
            } else {
                column.push_value(out, row(place));
            }
        }
        out.push(b'}');
        cut
    }
}

/// The largest length such that values cut to it take no more than `budget` together.
fn common_limit(mut sizes: Vec<usize>, budget: usize) -> usize {
    sizes.sort_unstable();
    let mut left = budget;
    for (index, &size) in sizes.iter().enumerate() {
        let share = left / (sizes.len() - index);
        if size > share {
            return share;
        }
        left -= size;
    }
    usize::MAX
}

impl ColumnEncoder {
    fn new(place: usize, exposed: &Exposed) -> ColumnEncoder {
        let mut label = vec![if place == 0 { b'{' } else { b',' }];
        push_string(&mut label, &exposed.name);
        label.push(b':');
        ColumnEncoder {
            label,
            name: exposed.name.clone(),
            json: exposed.json,
            truncate: exposed.truncate,
        }
    }

    fn push_value(&self, out: &mut Vec<u8>, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => out.extend_from_slice(b"null"),
            ValueRef::Integer(i) => push_integer(out, i),
            ValueRef::Real(r) => push_real(out, r),
            ValueRef::Blob(blob) => {
                out.push(b'"');
                out.extend_from_slice(BASE64.encode(blob).as_bytes());
                out.push(b'"');
            }
            ValueRef::Text(text) => self.push_text(out, &String::from_utf8_lossy(text)),
        }
    }

    fn push_text(&self, out: &mut Vec<u8>, text: &str) {
        if self.json && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
            // A line break between tokens is valid JSON but would end an SSE data line.
            match text.contains(['\n', '\r']) {
                false => out.extend_from_slice(text.as_bytes()),
                true => push_without_breaks(out, text),
            }
            return;
        }
        match self.truncate.and_then(|n| text.char_indices().nth(n)) {
            Some((end, _)) => push_string(out, &text[..end]),
            None => push_string(out, text),
        }
    }
}

/// Inside of JSON strings line breaks are always escaped, so those left are between tokens.
fn push_without_breaks(out: &mut Vec<u8>, json: &str) {
    out.extend(json.bytes().filter(|b| !matches!(b, b'\n' | b'\r')));
}

fn push_integer(out: &mut Vec<u8>, i: i64) {
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

fn push_real(out: &mut Vec<u8>, r: f64) {
    // SQLite turns NaN into NULL, so infinities are all that JSON has no number for.
    match r {
        f64::INFINITY => out.extend_from_slice(b"\"Infinity\""),
        f64::NEG_INFINITY => out.extend_from_slice(b"\"-Infinity\""),
        _ => push_json(out, &r),
    }
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    push_json(out, text);
}

fn push_json(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    // Writing strings, numbers and lists of strings into memory can't fail.
    let _ = serde_json::to_writer(out, value);
}

/// Appends a text or blob cut to `limit` bytes of JSON, at a character.
fn push_cut(out: &mut Vec<u8>, value: ValueRef<'_>, limit: usize) {
    let budget = limit.saturating_sub(2);
    match value {
        ValueRef::Blob(blob) => {
            let bytes = (budget / 4 * 3).min(blob.len());
            out.push(b'"');
            out.extend_from_slice(BASE64.encode(&blob[..bytes]).as_bytes());
            out.push(b'"');
        }
        ValueRef::Text(text) => {
            let text = String::from_utf8_lossy(text);
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

/// An id as it stands in JSON, for maps keyed by it.
pub fn id_label(id: i64) -> String {
    Cursor(id).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::ColumnKind;

    fn column(json: bool, truncate: Option<usize>) -> ColumnEncoder {
        ColumnEncoder::new(
            0,
            &Exposed {
                name: "c".into(),
                kind: ColumnKind::Any,
                json,
                truncate,
            },
        )
    }

    fn encoded(column: &ColumnEncoder, value: ValueRef<'_>) -> String {
        let mut out = vec![];
        column.push_value(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    fn encoder(columns: Vec<ColumnEncoder>, max_row_bytes: usize) -> Encoder {
        Encoder {
            prefix: b"{\"type\":\"t\",\"event\":".to_vec(),
            columns,
            max_row_bytes,
            ends: vec![],
        }
    }

    #[test]
    fn values_are_worded_as_promised() {
        let plain = column(false, None);
        for (value, json) in [
            (ValueRef::Null, "null"),
            (ValueRef::Integer(9007199254740991), "9007199254740991"),
            (ValueRef::Integer(9007199254740992), "\"9007199254740992\""),
            (ValueRef::Integer(i64::MIN), "\"-9223372036854775808\""),
            (ValueRef::Real(0.1), "0.1"),
            (ValueRef::Real(5.0), "5.0"),
            (ValueRef::Real(f64::NEG_INFINITY), "\"-Infinity\""),
            (
                ValueRef::Text("a\"\n\u{1}é😀".as_bytes()),
                "\"a\\\"\\n\\u0001é😀\"",
            ),
            (ValueRef::Text(b"a\xffb"), "\"a\u{fffd}b\""),
            (ValueRef::Blob(&[0, 1, 255]), "\"AAH/\""),
        ] {
            assert_eq!(encoded(&plain, value), json);
        }
    }

    #[test]
    fn json_columns_embed_what_is_valid() {
        let json = column(true, Some(3));
        assert_eq!(
            encoded(&json, ValueRef::Text(b"{\"a\":\n[1, 2]}")),
            "{\"a\":[1, 2]}"
        );
        assert_eq!(encoded(&json, ValueRef::Text(b"{oops}")), "\"{oo\"");
    }

    #[test]
    fn text_is_cut_by_code_points() {
        let cut = column(false, Some(3));
        assert_eq!(
            encoded(&cut, ValueRef::Text("é😀xy".as_bytes())),
            "\"é😀x\""
        );
        assert_eq!(encoded(&cut, ValueRef::Text("é😀x".as_bytes())), "\"é😀x\"");
    }

    #[test]
    fn a_row_too_large_is_cut_at_its_longest_values_and_says_so() {
        let named = |place, name: &str| {
            ColumnEncoder::new(
                place,
                &Exposed {
                    name: name.into(),
                    kind: ColumnKind::Any,
                    json: false,
                    truncate: None,
                },
            )
        };
        let columns = vec![
            named(0, "id"),
            named(1, "short"),
            named(2, "long"),
            named(3, "blob"),
        ];
        let mut encoder = encoder(columns, 400);
        let (long, blob) = ("\u{1}é".repeat(300), vec![7u8; 5000]);
        let row = |place| match place {
            0 => ValueRef::Integer(7),
            1 => ValueRef::Text(b"whole"),
            2 => ValueRef::Text(long.as_bytes()),
            _ => ValueRef::Blob(&blob),
        };
        let mut out = vec![];
        encoder.message(&mut out, row);
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["event"]["short"], "whole");
        assert_eq!(json["truncated"], serde_json::json!(["long", "blob"]));
        assert!(
            json["event"]["long"]
                .as_str()
                .unwrap()
                .starts_with("\u{1}é\u{1}")
        );
        assert!(
            out.len() <= 400 + ",\"truncated\":[\"long\",\"blob\"]".len() && out.len() > 380,
            "{}",
            out.len()
        );
    }
}

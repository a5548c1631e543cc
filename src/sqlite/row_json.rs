//! A row as JSON: the values of the contract, cut where the feed says so and where a row is too large to send.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::types::ValueRef;

use crate::config::FeedConfig;
use crate::model::position::{Cursor, MAX_SAFE_INTEGER};
use crate::sqlite::table::{Exposed, Schema};

/// What stands before the list of columns that were cut.
const MARKER: &str = ",\"truncated\":";

/// Words one feed's rows. Holds the bytes that are the same for every row. What a row takes of memory is bounded by the
/// limit on its size, not by the values in it.
#[derive(Debug)]
pub struct RowEncoder {
    /// `{"type":"remediation_event","event":`
    prefix: Vec<u8>,
    columns: Vec<ColumnEncoder>,
    max_row_bytes: usize,
}

#[derive(Debug)]
struct ColumnEncoder {
    /// `"name":`, with `{` or `,` before it.
    label: Vec<u8>,
    name: String,
    json: bool,
    /// Where the row has the text of a value that is JSONB.
    jsonb: Option<usize>,
    truncate: Option<usize>,
}

impl RowEncoder {
    pub fn new(feed: &FeedConfig, schema: &Schema, max_row_bytes: usize) -> RowEncoder {
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
        let mut columns: Vec<ColumnEncoder> = columns.collect();
        // As `Schema::select_list` has them.
        let embedded = columns.iter_mut().filter(|column| column.json);
        for (n, column) in embedded.enumerate() {
            column.jsonb = Some(schema.exposed.len() + n);
        }
        RowEncoder {
            prefix,
            columns,
            max_row_bytes,
        }
    }

    /// Appends the message of a row: `{"type":…,"event":{…}}`.
    pub fn message<'r>(&self, out: &mut Vec<u8>, row: impl Fn(usize) -> ValueRef<'r>) {
        out.extend_from_slice(&self.prefix);
        // The envelope counts towards the limit, too.
        let overhead = self.prefix.len() + 1;
        let cut = self.object(
            out,
            row,
            self.max_row_bytes.saturating_sub(overhead),
            MARKER,
        );
        if !cut.is_empty() {
            out.extend_from_slice(MARKER.as_bytes());
            push_json(out, &cut);
        }
        out.push(b'}');
    }

    /// Appends the row alone, `{…}`, in at most `limit` bytes where the feed's own limit is not smaller still, and says
    /// which columns were cut because it was too large.
    pub fn item<'r>(
        &self,
        out: &mut Vec<u8>,
        row: impl Fn(usize) -> ValueRef<'r>,
        limit: usize,
    ) -> Vec<String> {
        self.object(out, row, limit.min(self.max_row_bytes), "")
    }

    fn object<'r>(
        &self,
        out: &mut Vec<u8>,
        row: impl Fn(usize) -> ValueRef<'r>,
        limit: usize,
        marker: &str,
    ) -> Vec<String> {
        let start = out.len();
        for (place, column) in self.columns.iter().enumerate() {
            out.extend_from_slice(&column.label);
            let value = column.value(place, &row);
            // A value that can't fit is not encoded first: it may be a thousand times the limit.
            if out.len() - start + column.least_size(value, limit) >= limit {
                out.truncate(start);
                return self.shrink(out, row, limit, marker);
            }
            column.push_value(out, value, limit);
        }
        out.push(b'}');
        if out.len() - start <= limit {
            return Vec::new();
        }
        out.truncate(start);
        self.shrink(out, row, limit, marker)
    }

    /// Encodes the row with its longest texts and blobs cut to a common length that makes it fit.
    #[cold]
    fn shrink<'r>(
        &self,
        out: &mut Vec<u8>,
        row: impl Fn(usize) -> ValueRef<'r>,
        limit: usize,
        marker: &str,
    ) -> Vec<String> {
        let mut sizes = Vec::with_capacity(self.columns.len());
        // The brace, and the marker with its brackets.
        let mut fixed = 1 + if marker.is_empty() {
            0
        } else {
            marker.len() + 2
        };
        for (place, column) in self.columns.iter().enumerate() {
            let value = column.value(place, &row);
            let size = column.size(out, value, limit);
            fixed += column.label.len();
            match value {
                ValueRef::Text(_) | ValueRef::Blob(_) => {
                    sizes.push((place, size));
                    // Its name in the marker, should it be cut: the label has a colon where the marker has a comma.
                    fixed += if marker.is_empty() {
                        0
                    } else {
                        column.label.len()
                    };
                }
                _ => fixed += size,
            }
        }
        let longest = common_limit(
            sizes.iter().map(|(_, size)| *size).collect(),
            limit.saturating_sub(fixed),
        );
        let mut cut = Vec::new();
        for (place, column) in self.columns.iter().enumerate() {
            out.extend_from_slice(&column.label);
            if sizes.iter().any(|&(p, size)| p == place && size > longest) {
                push_cut(out, column.value(place, &row), longest);
                cut.push(column.name.clone());
            } else {
                column.push_value(out, column.value(place, &row), limit);
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
            jsonb: None,
            truncate: exposed.truncate,
        }
    }

    /// The value to encode: the column's own, or its text where it is JSONB.
    fn value<'r>(&self, place: usize, row: &impl Fn(usize) -> ValueRef<'r>) -> ValueRef<'r> {
        match (row(place), self.jsonb) {
            (blob @ ValueRef::Blob(_), Some(jsonb)) => match row(jsonb) {
                text @ ValueRef::Text(_) => text,
                _ => blob,
            },
            (value, _) => value,
        }
    }

    /// A bound from below, without a look at the value, of what [`push_value`](Self::push_value) appends.
    fn least_size(&self, value: ValueRef<'_>, limit: usize) -> usize {
        match value {
            ValueRef::Blob(blob) => blob.len().div_ceil(3).saturating_mul(4) + 2,
            // Line breaks between its tokens are left out; how many there are is not known.
            ValueRef::Text(text) if self.embeds(text, limit) => 0,
            // Each byte takes one or more, whatever stands for invalid ones included.
            ValueRef::Text(text) => text.len().min(self.truncate.unwrap_or(usize::MAX)) + 2,
            _ => 1,
        }
    }

    /// What [`push_value`](Self::push_value) would append, in bytes; more than `limit` where it is more than that.
    fn size(&self, scratch: &mut Vec<u8>, value: ValueRef<'_>, limit: usize) -> usize {
        let least = self.least_size(value, limit);
        if least > limit {
            return least;
        }
        let start = scratch.len();
        self.push_value(scratch, value, limit);
        let size = scratch.len() - start;
        scratch.truncate(start);
        size
    }

    /// Appends a value. `limit` bounds the row: JSON that is longer can't be embedded and is a text like others.
    fn push_value(&self, out: &mut Vec<u8>, value: ValueRef<'_>, limit: usize) {
        match value {
            ValueRef::Null => out.extend_from_slice(b"null"),
            ValueRef::Integer(i) => push_integer(out, i),
            ValueRef::Real(r) => push_real(out, r),
            ValueRef::Blob(blob) => push_blob(out, blob),
            ValueRef::Text(text) if self.embeds(text, limit) => {
                let text = String::from_utf8_lossy(text);
                match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                    Ok(_) => push_without_breaks(out, &text),
                    Err(_) => self.push_text(out, text.as_bytes()),
                }
            }
            ValueRef::Text(text) => self.push_text(out, text),
        }
    }

    /// Returns whether this text is to be embedded if it is valid JSON.
    fn embeds(&self, text: &[u8], limit: usize) -> bool {
        self.json && text.len() <= limit
    }

    fn push_text(&self, out: &mut Vec<u8>, text: &[u8]) {
        let Some(characters) = self.truncate else {
            return push_string(out, &String::from_utf8_lossy(text));
        };
        let text = String::from_utf8_lossy(head(text, characters.saturating_mul(MAX_CHARACTER)));
        match text.char_indices().nth(characters) {
            Some((end, _)) => push_string(out, &text[..end]),
            None => push_string(out, &text),
        }
    }
}

/// Bytes of the longest character in UTF-8. What stands for an invalid one takes the place of three at most.
const MAX_CHARACTER: usize = 4;

/// The first `bytes` of a text and the next character, so that what is cut off is not seen as an invalid one before.
fn head(text: &[u8], bytes: usize) -> &[u8] {
    &text[..text.len().min(bytes.saturating_add(MAX_CHARACTER))]
}

/// A line break between tokens is valid JSON but would end an SSE data line. Inside of JSON strings they are always
/// escaped, so all there are stand between tokens.
fn push_without_breaks(out: &mut Vec<u8>, json: &str) {
    for line in json.split(['\n', '\r']) {
        out.extend_from_slice(line.as_bytes());
    }
}

fn push_blob(out: &mut Vec<u8>, blob: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(BASE64.encode(blob).as_bytes());
    out.push(b'"');
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

/// An id as it stands in JSON, for maps keyed by it.
pub fn id_label(id: i64) -> String {
    Cursor(id).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(json: bool, truncate: Option<usize>) -> ColumnEncoder {
        ColumnEncoder::new(
            0,
            &Exposed {
                name: "c".into(),
                json,
                truncate,
            },
        )
    }

    fn encoded(column: &ColumnEncoder, value: ValueRef<'_>) -> String {
        let mut out = vec![];
        column.push_value(&mut out, value, usize::MAX);
        String::from_utf8(out).unwrap()
    }

    fn encoder(columns: Vec<ColumnEncoder>, max_row_bytes: usize) -> RowEncoder {
        RowEncoder {
            prefix: b"{\"type\":\"t\",\"event\":".to_vec(),
            columns,
            max_row_bytes,
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
        let encoder = encoder(columns, 400);
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

    fn columns(of: &[(&str, bool, Option<usize>)]) -> Vec<ColumnEncoder> {
        of.iter()
            .enumerate()
            .map(|(place, &(name, json, truncate))| {
                let exposed = Exposed {
                    name: name.into(),
                    json,
                    truncate,
                };
                ColumnEncoder::new(place, &exposed)
            })
            .collect()
    }

    fn item(
        encoder: &RowEncoder,
        values: &[ValueRef<'_>],
        limit: usize,
    ) -> (serde_json::Value, Vec<String>, usize) {
        let mut out = vec![];
        let cut = encoder.item(&mut out, |place| values[place], limit);
        assert!(out.capacity() < 8 * limit.min(encoder.max_row_bytes) + 1024);
        (serde_json::from_slice(&out).unwrap(), cut, out.len())
    }

    #[test]
    fn values_far_above_the_limit_are_cut_without_being_encoded_whole() {
        let encoder = encoder(
            columns(&[
                ("id", false, None),
                ("note", false, Some(5)),
                ("doc", true, None),
                ("text", false, None),
                ("blob", false, None),
            ]),
            1000,
        );
        let (note, doc) = ("ü".repeat(1 << 20), format!("[{}]", " ".repeat(1 << 20)));
        let (text, blob) = ("😀".repeat(1 << 20), vec![0xff; 1 << 20]);
        let values = [
            ValueRef::Integer(7),
            ValueRef::Text(note.as_bytes()),
            ValueRef::Text(doc.as_bytes()),
            ValueRef::Text(text.as_bytes()),
            ValueRef::Blob(&blob),
        ];
        let (json, cut, size) = item(&encoder, &values, usize::MAX);
        assert_eq!(cut, ["doc", "text", "blob"]);
        assert_eq!(json["note"], "üüüüü");
        assert!(json["doc"].as_str().unwrap().starts_with("[  "));
        assert!(json["text"].as_str().unwrap().chars().all(|c| c == '😀'));
        assert!((980..=1000).contains(&size), "{size}");
        // A smaller limit for the page.
        let (_, cut, size) = item(&encoder, &values, 300);
        assert_eq!(cut, ["doc", "text", "blob"]);
        assert!((280..=300).contains(&size), "{size}");
    }

    #[test]
    fn a_row_at_its_limit_is_whole_and_above_it_is_cut() {
        let encoder = encoder(columns(&[("a", false, None), ("b", false, None)]), 1000);
        let row = |size: usize| "x".repeat(size - r#"{"a":1,"b":""}"#.len());
        for (size, expected) in [(999, 0), (1000, 0), (1001, 1)] {
            let text = row(size);
            let values = [ValueRef::Integer(1), ValueRef::Text(text.as_bytes())];
            let (_, cut, length) = item(&encoder, &values, usize::MAX);
            assert_eq!((cut.len(), length), (expected, size.min(1000)));
        }
    }

    #[test]
    fn json_in_many_lines_is_embedded_up_to_the_limit() {
        let encoder = encoder(columns(&[("doc", true, None)]), 100);
        let short = format!("[1,{}2]", "\n".repeat(90));
        let (json, cut, _) = item(&encoder, &[ValueRef::Text(short.as_bytes())], usize::MAX);
        assert_eq!((&json["doc"], cut.len()), (&serde_json::json!([1, 2]), 0));
    }

    #[test]
    fn invalid_text_is_cut_at_a_character_too() {
        let encoder = encoder(columns(&[("t", false, Some(2)), ("u", false, None)]), 60);
        let (t, u) = (
            b"\xf0\x9f\x98\xff\xc3\xa9xyz".repeat(40),
            b"\xff".repeat(500),
        );
        let (json, cut, size) = item(&encoder, &[ValueRef::Text(&t), ValueRef::Text(&u)], 60);
        assert_eq!(json["t"], "\u{fffd}\u{fffd}");
        assert_eq!(cut, ["u"]);
        assert!(size <= 60 && json["u"].as_str().unwrap().chars().all(|c| c == '\u{fffd}'));
    }
}

//! A row whole, as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::types::ValueRef;

use crate::model::position::MAX_SAFE_INTEGER;
use crate::sqlite::row_json::{common_limit, push_json};

/// Bytes of the texts and blobs of a row above which the longest are cut, and named in `"truncated"`: what one row may
/// take of memory on its way. `max_row_bytes`, which bounds what a client gets, does not hold here.
pub const MAX_WHOLE_ROW: usize = 64 << 20;

/// Words the rows of one table whole.
#[derive(Debug)]
pub struct WholeRowEncoder {
    /// `{"type":"row","schema":"…","row":[`
    prefix: Vec<u8>,
    /// `{"type":"change","schema":"…","log":[`
    change_prefix: Vec<u8>,
    columns: Vec<String>,
    max_bytes: usize,
}

/// What is cut of values whose texts and blobs are too large together.
struct Cut<'e> {
    longest: usize,
    names: Vec<&'e str>,
}

impl WholeRowEncoder {
    /// An encoder of rows with these `columns`, as the description does whose fingerprint is `schema`.
    pub fn new(schema: &str, columns: Vec<String>) -> WholeRowEncoder {
        let prefix = |kind: &str, values: &str| {
            let mut prefix = format!("{{\"type\":\"{kind}\",\"schema\":").into_bytes();
            push_json(&mut prefix, schema);
            prefix.extend_from_slice(format!(",\"{values}\":[").as_bytes());
            prefix
        };
        WholeRowEncoder {
            prefix: prefix("row", "row"),
            change_prefix: prefix("change", "log"),
            columns,
            max_bytes: MAX_WHOLE_ROW,
        }
    }

    #[cfg(test)]
    pub(super) fn bounded_by(self, max_bytes: usize) -> WholeRowEncoder {
        WholeRowEncoder { max_bytes, ..self }
    }

    /// Appends the message of a row.
    pub fn message<'r>(&self, out: &mut Vec<u8>, row: impl Fn(usize) -> ValueRef<'r>) {
        out.extend_from_slice(&self.prefix);
        let lengths = (0..self.columns.len()).map(|place| length(row(place)));
        let mut cut = self.cut(lengths.collect());
        cut.values(out, self.columns.iter(), &row);
        cut.end(out);
    }

    /// Appends the message of a change: what the log has of it, of which only rows as they were may be cut, and the row as it
    /// is, where there is one.
    pub fn change<'r>(
        &self,
        out: &mut Vec<u8>,
        (log, columns): (impl Fn(usize) -> ValueRef<'r>, &LogColumns),
        row: Option<impl Fn(usize) -> ValueRef<'r>>,
    ) {
        out.extend_from_slice(&self.change_prefix);
        let mut lengths: Vec<usize> = Vec::new();
        lengths.extend((columns.whole..columns.names.len()).map(|place| length(log(place))));
        if let Some(row) = &row {
            lengths.extend((0..self.columns.len()).map(|place| length(row(place))));
        }
        let mut cut = self.cut(lengths);
        let (whole, rows) = columns.names.split_at(columns.whole);
        let longest = std::mem::replace(&mut cut.longest, usize::MAX);
        cut.values(out, whole.iter(), &log);
        cut.longest = longest;
        if !rows.is_empty() {
            out.push(b',');
            cut.values(out, rows.iter(), &|place| log(columns.whole + place));
        }
        if let Some(row) = &row {
            out.extend_from_slice(b"],\"row\":[");
            cut.values(out, self.columns.iter(), row);
        }
        cut.end(out);
    }

    /// What texts and blobs of these lengths are cut to.
    fn cut(&self, lengths: Vec<usize>) -> Cut<'_> {
        let names = Vec::new();
        let longest = match lengths.iter().sum::<usize>() <= self.max_bytes {
            true => usize::MAX,
            false => common_limit(lengths, self.max_bytes),
        };
        Cut { longest, names }
    }
}

/// The columns of a log of changes.
#[derive(Debug)]
pub struct LogColumns {
    pub names: Vec<String>,
    /// So many of them are never cut: who does not know a key can't tell the row.
    pub whole: usize,
}

impl<'e> Cut<'e> {
    /// Appends values, with commas between them.
    fn values<'r>(
        &mut self,
        out: &mut Vec<u8>,
        names: impl Iterator<Item = &'e String>,
        value: &impl Fn(usize) -> ValueRef<'r>,
    ) {
        for (place, name) in names.enumerate() {
            if place > 0 {
                out.push(b',');
            }
            let value = value(place);
            let shown = cut_to(value, self.longest);
            if length(shown) < length(value) {
                self.names.push(name);
            }
            push_whole(out, shown);
        }
    }

    /// Ends the message.
    fn end(self, out: &mut Vec<u8>) {
        out.push(b']');
        if !self.names.is_empty() {
            out.extend_from_slice(b",\"truncated\":");
            push_json(out, &self.names);
        }
        out.push(b'}');
    }
}

/// Bytes of a text or blob.
fn length(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        _ => 0,
    }
}

/// A text is cut before the character that goes beyond `longest`.
fn cut_to(value: ValueRef<'_>, longest: usize) -> ValueRef<'_> {
    match value {
        ValueRef::Blob(bytes) if bytes.len() > longest => ValueRef::Blob(&bytes[..longest]),
        ValueRef::Text(bytes) if bytes.len() > longest => {
            let is_inside = |at: &usize| bytes[*at] & 0xC0 == 0x80;
            let inside = (0..=longest).rev().take_while(is_inside).count();
            ValueRef::Text(&bytes[..longest - inside])
        }
        other => other,
    }
}

fn push_whole(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => out.extend_from_slice(b"null"),
        ValueRef::Integer(i) if i.unsigned_abs() <= MAX_SAFE_INTEGER as u64 => {
            out.extend_from_slice(itoa::Buffer::new().format(i).as_bytes());
        }
        ValueRef::Integer(i) => {
            push_marked(out, "$int", itoa::Buffer::new().format(i).as_bytes());
        }
        ValueRef::Real(r) if r.is_finite() => push_json(out, &r),
        ValueRef::Real(f64::INFINITY) => push_marked(out, "$real", b"Infinity"),
        ValueRef::Real(f64::NEG_INFINITY) => push_marked(out, "$real", b"-Infinity"),
        // SQLite keeps none, but says NULL.
        ValueRef::Real(_) => push_marked(out, "$real", b"NaN"),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => push_json(out, text),
            Err(_) => push_marked(out, "$text", BASE64.encode(text).as_bytes()),
        },
        ValueRef::Blob(blob) => push_marked(out, "$blob", BASE64.encode(blob).as_bytes()),
    }
}

/// Appends an object whose one key says what its text is. `text` needs no escapes.
fn push_marked(out: &mut Vec<u8>, mark: &str, text: &[u8]) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(mark.as_bytes());
    out.extend_from_slice(b"\":\"");
    out.extend_from_slice(text);
    out.extend_from_slice(b"\"}");
}

//! One column of a feed as JSON: its label, and its values embedded or cut as the feed says.

use rusqlite::types::ValueRef;

use super::label;
use super::value::{MAX_CHARACTER, head, push_string, push_value, push_without_breaks};
use crate::sqlite::table::Exposed;

#[derive(Debug)]
pub(super) struct ColumnEncoder {
    /// `"name":`, with `{` or `,` before it.
    pub(super) label: Vec<u8>,
    pub(super) name: String,
    pub(super) json: bool,
    /// Where the row has the text of a value that is JSONB.
    pub(super) jsonb: Option<usize>,
    truncate: Option<usize>,
}

impl ColumnEncoder {
    pub(super) fn new(place: usize, exposed: &Exposed) -> ColumnEncoder {
        ColumnEncoder {
            label: label(place, &exposed.name),
            name: exposed.name.clone(),
            json: exposed.json,
            jsonb: None,
            truncate: exposed.truncate,
        }
    }

    /// The value to encode: the column's own, or its text where it is JSONB.
    pub(super) fn value<'r>(
        &self,
        place: usize,
        row: &impl Fn(usize) -> ValueRef<'r>,
    ) -> ValueRef<'r> {
        match (row(place), self.jsonb) {
            (blob @ ValueRef::Blob(_), Some(jsonb)) => match row(jsonb) {
                text @ ValueRef::Text(_) => text,
                _ => blob,
            },
            (value, _) => value,
        }
    }

    /// A bound from below, without a look at the value, of what [`push_value`](Self::push_value) appends.
    pub(super) fn least_size(&self, value: ValueRef<'_>, limit: usize) -> usize {
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
    pub(super) fn size(&self, scratch: &mut Vec<u8>, value: ValueRef<'_>, limit: usize) -> usize {
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
    pub(super) fn push_value(&self, out: &mut Vec<u8>, value: ValueRef<'_>, limit: usize) {
        match value {
            ValueRef::Text(text) if self.embeds(text, limit) => {
                let text = String::from_utf8_lossy(text);
                match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                    Ok(_) => push_without_breaks(out, &text),
                    Err(_) => self.push_text(out, text.as_bytes()),
                }
            }
            ValueRef::Text(text) => self.push_text(out, text),
            other => push_value(out, other),
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

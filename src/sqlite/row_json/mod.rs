//! A row as JSON: its values as clients are promised them, cut where the feed says so and where a row is too large to send.

mod column;
#[cfg(test)]
mod tests;
mod value;

use rusqlite::types::ValueRef;

use self::column::ColumnEncoder;
use self::value::{push_cut, push_string};
pub use self::value::{push_integer, push_json, push_value};
use crate::config::FeedConfig;
use crate::model::position::Cursor;
use crate::sqlite::table::Schema;

/// What stands before the list of columns that were cut.
pub const MARKER: &str = ",\"truncated\":";

/// Words one feed's rows. Holds the bytes that are the same for every row. What a row takes of memory is bounded by the
/// limit on its size, not by the values in it.
#[derive(Debug)]
pub struct RowEncoder {
    /// `{"type":"remediation_event","event":`
    prefix: Vec<u8>,
    columns: Vec<ColumnEncoder>,
    max_row_bytes: usize,
}

impl RowEncoder {
    /// An encoder of the feed's rows as `schema` shows them, each of at most `max_row_bytes`.
    pub fn new(feed: &FeedConfig, schema: &Schema, max_row_bytes: usize) -> RowEncoder {
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
            prefix: message_prefix(feed),
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

    /// Appends the row alone, in at most `limit` bytes with what `marker` and the names of cut columns take. Returns these.
    pub fn object<'r>(
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

/// Returns what every message of the feed begins with: `{"type":"remediation_event","event":`
pub fn message_prefix(feed: &FeedConfig) -> Vec<u8> {
    let mut prefix = b"{\"type\":".to_vec();
    push_string(&mut prefix, &feed.message_type);
    prefix.push(b',');
    push_string(&mut prefix, &feed.message_body);
    prefix.push(b':');
    prefix
}

/// Returns `"name":` with what stands before it in an object, of which it is the member at `place`.
pub fn label(place: usize, name: &str) -> Vec<u8> {
    let mut label = vec![if place == 0 { b'{' } else { b',' }];
    push_string(&mut label, name);
    label.push(b':');
    label
}

/// The largest length such that values cut to it take no more than `budget` together.
pub(crate) fn common_limit(mut sizes: Vec<usize>, budget: usize) -> usize {
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

/// An id as it stands in JSON, for maps keyed by it.
pub fn id_label(id: i64) -> String {
    Cursor(id).to_string()
}

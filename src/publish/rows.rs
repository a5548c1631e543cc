//! Rows of a page, or changes, as the bodies of messages.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::link::Part;
use crate::model::position::Cursor;
use crate::wire::block::Block;
use crate::wire::frame::payload;

/// Rows of one message, at most.
pub(super) const MOST_ROWS: usize = 64;
/// Bytes of rows after which none is added to a message.
const MOST_BYTES: usize = 64 * 1024;

/// What rows are of, ready to be sent before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description {
    message: Arc<str>,
    fingerprint: String,
    /// What each of their messages begins with.
    begins: String,
}

impl Description {
    /// Of the message that says it; `None` where that says nothing of the kind.
    pub(super) fn of(message: &Arc<str>) -> Option<Description> {
        #[derive(Deserialize)]
        struct Known {
            schema: String,
            changes: Option<IgnoredAny>,
        }
        let Known { schema, changes } = serde_json::from_str(message).ok()?;
        let (message, kind) = match changes {
            None => (Arc::clone(message), "row"),
            Some(_) => (of_changes(message)?.into(), "change"),
        };
        Some(Description {
            begins: format!("{{\"type\":\"{kind}\",\"schema\":\"{schema}\""),
            message,
            fingerprint: schema,
        })
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns whether the rows of a page, which are all read under one schema, are of this.
    pub(super) fn describes(&self, page: &Block) -> bool {
        if page.entries.is_empty() {
            return true;
        }
        payload(&page.bytes[page.span(0)]).starts_with(self.begins.as_bytes())
    }
}

/// The description of a captured table as a stream has it. Who reads streams of rows and knows of no others, as edges of
/// earlier versions, finds no table there, and takes nothing for one.
fn of_changes(message: &str) -> Option<String> {
    let rest = message.strip_prefix("{\"type\":\"table\"")?;
    Some(format!("{{\"type\":\"changes\"{rest}"))
}

/// The body of one message: the description of the table, then the rows, each on a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Body {
    /// The id of its first row.
    pub(super) first: Cursor,
    /// The id of its last row.
    pub(super) last: Cursor,
    pub(super) rows: usize,
    pub(super) bytes: Bytes,
}

/// Takes the next message out of a page: its rows from the entry `from` on. `None`: there are none left.
pub(super) fn next_body(page: &Block, from: usize, description: &str) -> Option<Body> {
    let first = page.entries.get(from)?;
    let start = page.span(from).start;
    let fits = |index: &usize| {
        *index == from || index - from < MOST_ROWS && page.span(*index).end - start <= MOST_BYTES
    };
    let rows = (from..page.entries.len()).take_while(fits).count();
    let end = page.span(from + rows - 1).end;
    let mut bytes = BytesMut::with_capacity(description.len() + 1 + end - start + rows);
    bytes.extend_from_slice(description.as_bytes());
    for index in from..from + rows {
        bytes.extend_from_slice(b"\n");
        bytes.extend_from_slice(payload(&page.bytes[page.span(index)]));
    }
    Some(Body {
        first: Cursor(first.id),
        last: Cursor(page.entries[from + rows - 1].id),
        rows,
        bytes: bytes.freeze(),
    })
}

/// Cuts a body into parts of at most `most` bytes; nothing is copied.
pub(super) fn parts(body: &Bytes, most: usize) -> impl Iterator<Item = (Part, Bytes)> {
    let most = most.max(1);
    let of = body.len().div_ceil(most).max(1);
    (0..of).map(move |index| {
        let (start, end) = (index * most, body.len().min((index + 1) * most));
        // A row has 64 MiB at most, and a part thousands of bytes.
        let part = Part {
            number: index as u32 + 1,
            of: of as u32,
        };
        (part, body.slice(start..end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::block_builder::BlockBuilder;
    use std::time::Instant;

    fn page(rows: impl Iterator<Item = (i64, usize)>) -> Block {
        let mut builder = BlockBuilder::new(Cursor(0), Instant::now());
        let mut last = 0;
        for (id, bytes) in rows {
            builder.push(id, "x".repeat(bytes).as_bytes());
            last = id;
        }
        builder.finish(Cursor(last), None)
    }

    fn bodies(page: &Block) -> Vec<(i64, i64, usize)> {
        let (mut from, mut found) = (0, vec![]);
        while let Some(body) = next_body(page, from, "{}") {
            let lines: Vec<_> = body.bytes.split(|byte| *byte == b'\n').collect();
            assert_eq!((lines[0], lines.len()), (&b"{}"[..], body.rows + 1));
            found.push((body.first.0, body.last.0, body.rows));
            from += body.rows;
        }
        found
    }

    #[test]
    fn a_message_holds_so_many_rows_and_so_many_bytes() {
        let small = page((1..=150).map(|id| (id * 2, 10)));
        assert_eq!(
            bodies(&small),
            [(2, 128, 64), (130, 256, 64), (258, 300, 22)]
        );
        let large = page((1..=5).map(|id| (id, 30_000)));
        assert_eq!(bodies(&large), [(1, 2, 2), (3, 4, 2), (5, 5, 1)]);
        let huge = page((1..=2).map(|id| (id, 200_000)));
        assert_eq!(
            bodies(&huge),
            [(1, 1, 1), (2, 2, 1)],
            "a large row goes alone"
        );
        assert_eq!(bodies(&page(std::iter::empty())), []);
    }

    #[test]
    fn parts_put_together_are_the_body() {
        let body = Bytes::from_static(b"0123456789");
        for most in [1, 3, 5, 10, 11] {
            let parts: Vec<_> = parts(&body, most).collect();
            let whole: Vec<u8> = parts.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
            assert_eq!(whole, &body[..]);
            assert!(parts.iter().all(|(_, bytes)| bytes.len() <= most));
            let numbers: Vec<u32> = parts.iter().map(|(part, _)| part.number).collect();
            assert_eq!(numbers, (1..=parts.len() as u32).collect::<Vec<_>>());
            assert!(
                parts
                    .iter()
                    .all(|(part, _)| part.of as usize == parts.len())
            );
        }
    }
}

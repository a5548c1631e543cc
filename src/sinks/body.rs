//! What is posted: rows as a WebSocket's frames carry them, with the feed and the history they are of.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use crate::catchup::PAGE;
use crate::model::filter::FilterId;
use crate::model::position::{Cursor, Epoch};
use crate::session::{Batch, BatchLimits};
use crate::wire::block::Block;
use crate::wire::frame::payload;

/// Most rows in one body.
pub(super) const MOST_ROWS: usize = 100;
/// Bytes after which no further row is added: as much as one read of the table brings, so that what is read again for
/// another attempt is the same. A row that is larger goes alone.
pub(super) const MOST_BYTES: usize = PAGE.bytes;

/// How much one body may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    /// Bytes after which no further row is added.
    pub(super) bytes: usize,
    /// No row above this one is added: another attempt at what was posted already. `None`: any.
    pub(super) upto: Option<Cursor>,
}

/// What a body says before its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heading<'h> {
    pub(super) feed: &'h str,
    pub(super) epoch: &'h Epoch,
    /// The table as it is follows: whoever holds what came before is to drop it.
    pub(super) snapshot: bool,
}

impl Heading<'_> {
    fn json(self) -> String {
        let (feed, epoch) = (json!(self.feed), json!(self.epoch));
        let snapshot = match self.snapshot {
            true => ",\"snapshot\":true",
            false => "",
        };
        format!("{{\"feed\":{feed},\"epoch\":{epoch}{snapshot},\"rows\":[")
    }
}

/// Rows that follow a position, perhaps none.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) json: Bytes,
    pub(super) rows: usize,
    /// The id of the last row.
    pub(super) last: Option<Cursor>,
    /// The position once they are delivered; `None` where the blocks have nothing to say of this filter.
    pub(super) reaches: Option<Cursor>,
}

impl Body {
    /// Gathers what `filter` takes of `blocks` above `position`, as far as it fits.
    pub(super) fn gather<'a>(
        heading: Heading<'_>,
        blocks: impl Iterator<Item = &'a Arc<Block>>,
        filter: FilterId,
        position: Cursor,
        limits: BodyLimits,
    ) -> Body {
        let batch = Batch::gather(
            blocks,
            filter,
            position,
            BatchLimits {
                runs: MOST_ROWS,
                bytes: limits.bytes,
            },
        );
        let mut json = heading.json().into_bytes();
        let (mut rows, mut last, mut whole) = (0, None, true);
        for (id, frame) in batch.runs.iter().flat_map(|run| run.frames()) {
            let message = payload(frame);
            let full = rows == MOST_ROWS || rows > 0 && json.len() + message.len() > limits.bytes;
            // Where all that was posted is gone meanwhile, what follows is something new.
            let beyond = rows > 0 && limits.upto.is_some_and(|upto| Cursor(id) > upto);
            if full || beyond {
                whole = false;
                break;
            }
            if rows > 0 {
                json.push(b',');
            }
            json.extend_from_slice(message);
            (rows, last) = (rows + 1, Some(Cursor(id)));
        }
        json.extend_from_slice(b"]}");
        Body {
            json: Bytes::from(json),
            rows,
            last,
            reaches: if whole { batch.reaches } else { last },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::block_builder::BlockBuilder;
    use std::time::Instant;

    const ANY: BodyLimits = BodyLimits {
        bytes: MOST_BYTES,
        upto: None,
    };

    /// A block of these rows, each a message of so many bytes, that covers up to `last`.
    fn block(after: i64, ids: impl Iterator<Item = i64>, bytes: usize, last: i64) -> Arc<Block> {
        let mut builder = BlockBuilder::new(Cursor(after), Instant::now());
        for id in ids {
            builder.push(
                id,
                format!("{{\"id\":{id},\"x\":\"{}\"}}", "x".repeat(bytes)).as_bytes(),
            );
        }
        Arc::new(builder.finish(Cursor(last), None))
    }

    fn gather(
        blocks: &[Arc<Block>],
        position: i64,
        limits: BodyLimits,
    ) -> (Vec<i64>, Option<Cursor>) {
        let epoch = Epoch::new("e\"1");
        let of = Heading {
            feed: "orders",
            epoch: &epoch,
            snapshot: position == 0,
        };
        let body = Body::gather(of, blocks.iter(), FilterId::NONE, Cursor(position), limits);
        let json: serde_json::Value = serde_json::from_slice(&body.json).unwrap();
        assert_eq!(json.get("snapshot").is_some(), position == 0);
        assert_eq!(
            (&json["feed"], &json["epoch"]),
            (&json!("orders"), &json!("e\"1"))
        );
        let rows = json["rows"].as_array().unwrap();
        let ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        assert_eq!(
            (body.rows, body.last),
            (ids.len(), ids.last().map(|id| Cursor(*id)))
        );
        (ids, body.reaches)
    }

    #[test]
    fn a_body_holds_at_most_a_hundred_rows_and_so_many_bytes() {
        let blocks = [block(0, 1..=150, 1, 150), block(150, 151..=160, 1, 170)];
        assert_eq!(
            gather(&blocks, 0, ANY),
            ((1..=100).collect(), Some(Cursor(100)))
        );
        assert_eq!(
            gather(&blocks, 100, ANY),
            ((101..=160).collect(), Some(Cursor(170)))
        );
        let large = [block(0, 1..=5, MOST_BYTES / 2, 5)];
        assert_eq!(gather(&large, 0, ANY), (vec![1], Some(Cursor(1))));
        let huge = [block(0, 1..=2, MOST_BYTES * 2, 2)];
        assert_eq!(
            gather(&huge, 0, ANY),
            (vec![1], Some(Cursor(1))),
            "a large row goes alone"
        );
    }

    #[test]
    fn another_attempt_ends_where_the_first_did() {
        let upto = |id| BodyLimits {
            upto: Some(Cursor(id)),
            ..ANY
        };
        let blocks = [block(0, 1..=50, 1, 50)];
        assert_eq!(
            gather(&blocks, 0, upto(3)),
            (vec![1, 2, 3], Some(Cursor(3)))
        );
        assert_eq!(gather(&blocks, 3, upto(3)).0.len(), 1, "all of it is gone");
    }

    #[test]
    fn blocks_without_rows_move_the_position() {
        let nothing = [Arc::new(Block::passing(Cursor(3), Cursor(9)))];
        assert_eq!(gather(&nothing, 3, ANY), (vec![], Some(Cursor(9))));
        assert_eq!(gather(&[], 3, ANY), (vec![], None));
    }
}

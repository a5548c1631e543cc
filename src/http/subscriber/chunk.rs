//! Rows in the words of a transport, ready to be sent.

use bytes::Bytes;

use crate::model::position::Cursor;
use crate::session::Batch;
use crate::wire::frame::payload;

/// The JSON of a row beyond this many bytes goes out by itself, as it stands in the log.
const LARGE: usize = 16 * 1024;

/// Rows as bytes, ready to send.
pub(in crate::http) struct Chunk {
    /// Nearly always one; around a large row several, for it is shared with whoever else takes it.
    pub pieces: Vec<Bytes>,
    pub rows: u64,
    /// The position once they are sent; `None` where the blocks have nothing to say to this subscriber.
    pub reaches: Option<Cursor>,
}

impl Chunk {
    /// The rows of a batch. `before` adds what stands before the JSON of a row with this id and of so many bytes, and
    /// `after` follows it.
    pub(in crate::http) fn of(
        batch: &Batch<'_>,
        before: impl Fn(&mut Vec<u8>, i64, usize),
        after: &[u8],
    ) -> Chunk {
        let (mut pieces, mut text) = (Vec::new(), Vec::new());
        for run in &batch.runs {
            let block = run.block();
            for (id, span) in run.spans() {
                let data = payload(&block.bytes[span.clone()]);
                before(&mut text, id, data.len());
                if data.len() > LARGE {
                    pieces.push(Bytes::from(std::mem::take(&mut text)));
                    pieces.push(block.keep(span.end - data.len()..span.end));
                } else {
                    text.extend_from_slice(data);
                }
                text.extend_from_slice(after);
            }
        }
        if !text.is_empty() {
            pieces.push(Bytes::from(text));
        }
        Chunk {
            pieces,
            rows: batch.rows as u64,
            reaches: batch.reaches,
        }
    }
}

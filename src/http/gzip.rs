//! Answers and streams in gzip (RFC 1952), for clients that take it. What that costs is bounded: answers are compressed a few
//! at a time beside the runtime, and go as they are while those are at work; a stream keeps no state but a checksum.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::GzEncoder;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use warp::http::{HeaderValue, header};
use warp::reply::Response;

use crate::http::peer::Peer;
use crate::http::state::App;
use crate::hub::Feed;
use crate::telemetry::metrics::Metrics;

/// Answers that are compressed at once; what else is asked for meanwhile goes as it is.
const AT_ONCE: usize = 2;
/// Compressors that are kept, of 270 KB each: as many as the runtime has threads to use them.
const KEPT: usize = 2;
/// Nearly as small as with the highest level, in a fraction of its time.
const LEVEL: u32 = 3;
/// What a stream compresses in one go: less than a millisecond of work.
const PIECE: usize = 32 * 1024;
/// Magic, deflate, no flags, no time, nothing said of the level, of no system in particular.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// A block that holds nothing and calls itself the last.
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

/// What compressing takes, shared by all answers and streams.
pub(super) struct Gzip {
    permits: Arc<Semaphore>,
    compressors: Mutex<Vec<Compress>>,
    metrics: Arc<Metrics>,
}

impl Gzip {
    pub(super) fn new(metrics: Arc<Metrics>) -> Gzip {
        Gzip {
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            compressors: Mutex::default(),
            metrics,
        }
    }

    /// Returns an answer compressed; `None` where others are being compressed, or it would not get smaller.
    pub(super) async fn answer(&self, answer: &Bytes) -> Option<Vec<u8>> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let text = answer.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            whole(&text, Compression::new(LEVEL))
        });
        // An error is a panic, which is logged; the answer goes as it is.
        let compressed = work.await.ok()?;
        let metrics = &self.metrics.compression;
        metrics.made("answers", answer.len() as u64, compressed.len() as u64);
        (compressed.len() < answer.len()).then_some(compressed)
    }

    /// So many bytes of an answer did not have to be sent.
    pub(super) fn saved(&self, bytes: usize) {
        self.metrics.compression.saved("http", bytes);
    }

    /// Appends text as deflated blocks that end with a flush, and refer to nothing before them.
    fn deflate(&self, text: &[u8], out: &mut Vec<u8>) {
        let kept = self.compressors.lock().pop();
        let mut stream = kept.unwrap_or_else(|| Compress::new(Compression::new(LEVEL), false));
        stream.reset();
        loop {
            let rest = &text[stream.total_in() as usize..];
            out.reserve(rest.len() / 2 + 64);
            let status = stream.compress_vec(rest, out, FlushCompress::Sync);
            let is_whole = stream.total_in() == text.len() as u64 && out.len() < out.capacity();
            // A buffer without room is the only trouble there can be, and it is given more.
            if is_whole || !matches!(status, Ok(Status::Ok | Status::BufError)) {
                break;
            }
        }
        let mut compressors = self.compressors.lock();
        if compressors.len() < KEPT {
            compressors.push(stream);
        }
    }
}

/// Returns a text as a whole gzip file.
pub(super) fn whole(text: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), level);
    // Writing to memory does not fail.
    let _ = encoder.write_all(text);
    encoder.finish().unwrap_or_default()
}

/// A stream of events in gzip. Every piece is flushed, so that a client sees it at once, and compressed by itself: nothing
/// of it has to be kept, and no event is compressed together with an earlier one.
pub(super) struct GzipStream {
    checksum: Crc,
    /// Smaller pieces are sent as they are, in bytes.
    smallest: usize,
    has_begun: bool,
}

impl GzipStream {
    pub(super) fn new(smallest: usize) -> GzipStream {
        GzipStream {
            checksum: Crc::new(),
            smallest,
            has_begun: false,
        }
    }

    /// Returns how a text is cut into what [`piece`](Self::piece) takes.
    pub(super) fn cut(text: &Bytes) -> impl Iterator<Item = Bytes> + use<> {
        let mut rest = text.clone();
        std::iter::from_fn(move || {
            let next = rest.split_to(rest.len().min(PIECE));
            (!next.is_empty()).then_some(next)
        })
    }

    /// Returns the bytes for a piece of text, at most [`PIECE`] of it.
    pub(super) fn piece(&mut self, text: &[u8], gzip: &Gzip) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER.len() + 5 + text.len().min(self.smallest));
        if !std::mem::replace(&mut self.has_begun, true) {
            out.extend_from_slice(&HEADER);
        }
        self.checksum.update(text);
        if text.len() < self.smallest {
            push_stored(&mut out, text);
        } else {
            gzip.deflate(text, &mut out);
        }
        let metrics = &gzip.metrics.compression;
        metrics.made("events", text.len() as u64, out.len() as u64);
        metrics.saved("sse", text.len().saturating_sub(out.len()));
        out
    }

    /// Returns what ends the stream.
    pub(super) fn end(&self) -> Vec<u8> {
        let mut out = LAST_BLOCK.to_vec();
        out.extend_from_slice(&self.checksum.sum().to_le_bytes());
        out.extend_from_slice(&self.checksum.amount().to_le_bytes());
        out
    }
}

/// Appends text as a block that is not compressed (RFC 1951, section 3.2.4); each block before it has ended with a byte.
fn push_stored(out: &mut Vec<u8>, text: &[u8]) {
    // A piece is shorter than a block may be.
    let length = text.len() as u16;
    out.push(0);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(text);
}

/// Returns the size in bytes from which rows of a feed are compressed together for this client, as histories and streams of
/// events have them; `None`: they are not.
///
/// Where clients can put rows of their own into a feed that others read by their grants, one could guess at what is in the
/// others' rows by the size of what both are compressed into (BREACH). There nothing of several rows is compressed.
pub(super) fn gzip_from(app: &App, feed: &Feed, peer: &Peer) -> Option<usize> {
    let mixes = feed.config.ingest && app.gate.asks();
    let smallest = app.compression.smallest_of(&feed.config);
    smallest.filter(|_| peer.takes_gzip && !mixes)
}

/// Says in an answer that another client may get it in another form.
pub(super) fn varies_by_encoding(response: &mut Response) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read as _;

    fn gzip() -> Gzip {
        Gzip::new(Metrics::new().expect("metrics are named once"))
    }

    #[test]
    fn a_stream_is_one_gzip_file_of_pieces_that_can_each_be_read_when_they_come() {
        let gzip = gzip();
        let mut stream = GzipStream::new(100);
        let long: String = (0..20_000).map(|n| format!("{} ", n * n % 977)).collect();
        let texts = ["retry: 2000\n", ":\n", &long, "data: {}\n\n", &long[..3000]];
        let (mut sent, mut told) = (Vec::new(), String::new());
        for text in texts {
            for piece in GzipStream::cut(&Bytes::copy_from_slice(text.as_bytes())) {
                sent.extend(stream.piece(&piece, &gzip));
            }
            told.push_str(text);
            let mut seen = String::new();
            // It ends too early, which is told after what there is.
            let _ = GzDecoder::new(&sent[..]).read_to_string(&mut seen);
            assert_eq!(seen.len(), told.len(), "after {:.20}", text);
        }
        sent.extend(stream.end());
        let mut all = String::new();
        let whole = GzDecoder::new(&sent[..]).read_to_string(&mut all);
        assert_eq!(whole.ok(), Some(told.len()), "and its checksum holds");
        assert_eq!(all, told);
        assert!(sent.len() < told.len() / 2);
        assert!(gzip.compressors.lock().len() <= KEPT);
    }

    #[tokio::test]
    async fn while_others_are_compressed_an_answer_goes_as_it_is() {
        let gzip = gzip();
        let answer = Bytes::from("word ".repeat(1000));
        let compressed = gzip.answer(&answer).await.expect("nobody else asks");
        let mut again = Vec::new();
        GzDecoder::new(&compressed[..])
            .read_to_end(&mut again)
            .expect("it is gzip");
        assert_eq!(again, answer);
        let busy = Arc::clone(&gzip.permits).acquire_many_owned(AT_ONCE as u32);
        let busy = busy.await.expect("it is never closed");
        assert_eq!(gzip.answer(&answer).await, None);
        drop(busy);
        assert!(gzip.answer(&answer).await.is_some());
        assert_eq!(
            gzip.answer(&Bytes::from("x")).await,
            None,
            "smaller it is not"
        );
    }
}

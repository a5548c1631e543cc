//! How long a client of HTTP/2 may take for what it was sent on one stream. Streams share a socket, so its clock does not tell: a
//! client may hold one of them back by its window and take the others.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::http::timeouts::{Answering, SLOWEST};

/// The clock of one stream: it runs while bytes are under way that the client has not taken.
#[derive(Debug)]
pub(super) struct StreamClock {
    state: Mutex<Running>,
    changed: Notify,
    write_timeout: Duration,
    /// The connection is not idle while the stream's bytes are under way.
    _answering: Answering,
}

#[derive(Debug, Default)]
struct Running {
    /// Pieces that are under way.
    pieces: usize,
    /// When the last of them was taken, or the first handed on.
    since: Option<Instant>,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// The client has taken everything, or did not want it.
    Taken,
    /// It took too little; the stream was reset.
    Reset,
    /// It took too little of the last piece, which can't be called back any more.
    Stuck,
}

/// A piece of an answer, under way for as long as this lives.
struct Piece {
    bytes: Bytes,
    clock: Arc<StreamClock>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.clock.taken();
    }
}

impl StreamClock {
    pub(super) fn new(write_timeout: Duration, answering: Answering) -> Arc<StreamClock> {
        Arc::new(StreamClock {
            state: Mutex::default(),
            changed: Notify::new(),
            write_timeout,
            _answering: answering,
        })
    }

    /// The most bytes that go out as one piece: those that a client takes in the write timeout if it is barely fast enough.
    pub(super) fn most(&self) -> usize {
        let bytes = SLOWEST as f64 * self.write_timeout.as_secs_f64();
        (bytes as usize).max(1024)
    }

    /// Hands on a piece; the clock hears when it was taken.
    pub(super) fn hand_on(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let mut state = self.state.lock();
        state.pieces += 1;
        state.since.get_or_insert_with(Instant::now);
        drop(state);
        self.changed.notify_one();
        Bytes::from_owner(Piece {
            bytes,
            clock: Arc::clone(self),
        })
    }

    fn taken(&self) {
        let mut state = self.state.lock();
        state.pieces -= 1;
        state.since = (state.pieces > 0).then(Instant::now);
        drop(state);
        self.changed.notify_one();
    }

    /// Drives a stream to its end and until its last byte was taken, or until the client has taken too little for too long.
    pub(super) async fn drive(&self, stream: impl Future<Output = ()>) -> StreamEnd {
        let mut stream = pin!(stream);
        let mut is_over = false;
        loop {
            let since = self.state.lock().since;
            if is_over && since.is_none() {
                return StreamEnd::Taken;
            }
            tokio::select! {
                // Whether it is over decides what can still be done.
                biased;
                () = stream.as_mut(), if !is_over => is_over = true,
                () = self.changed.notified() => {}
                () = passes(since.map(|since| since + self.write_timeout)) => {
                    return match is_over {
                        true => StreamEnd::Stuck,
                        false => StreamEnd::Reset,
                    };
                }
            }
        }
    }
}

/// Resolves at a point in time; never where there is none.
async fn passes(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::timeouts::Timeouts;

    fn clock(write_timeout: Duration) -> Arc<StreamClock> {
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let timeouts = Timeouts::start(&socket, Arc::new(Mutex::new(write_timeout)));
        StreamClock::new(write_timeout, timeouts.answering())
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(test)
    }

    #[test]
    fn a_stream_ends_when_its_last_piece_was_taken() {
        run(async {
            let clock = clock(Duration::from_secs(60));
            let last = clock.hand_on(Bytes::from_static(b"last"));
            let driven = clock.drive(async {});
            let taken = async { drop(last) };
            let (end, ()) = tokio::join!(driven, taken);
            assert_eq!(end, StreamEnd::Taken);
        });
    }

    #[test]
    fn a_piece_that_nobody_takes_resets_the_stream_or_ends_its_connection() {
        run(async {
            let clock = clock(Duration::from_millis(5));
            let _held = clock.hand_on(Bytes::from_static(b"held"));
            let open = clock.drive(std::future::pending());
            assert_eq!(open.await, StreamEnd::Reset);
            assert_eq!(clock.drive(async {}).await, StreamEnd::Stuck);
        });
    }
}

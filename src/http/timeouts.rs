//! When a connection that speaks HTTP has to end by itself: without a request for too long, or with a client that takes
//! no bytes. Nothing here wakes anyone: the state changes only while hyper is polled, so whoever polls it looks at the
//! deadline afterwards.

use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use crate::os::send_queue::{peer_has_closed, unsent};

/// A request head must be here, whole, this soon after the connection was made, the time not counted in which the daemon had
/// others to serve first.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// A kept-alive connection without a request is closed after this.
const IDLE_PATIENCE: Duration = Duration::from_secs(60);

/// A deadline noticed so much later than it came tells that the process did not run meanwhile: it or its machine was
/// stopped. That time does not count.
const STANDSTILL: Duration = Duration::from_secs(2);
/// An answer that a client takes more slowly than this, over the write timeout, is cut: it is held for as long. In bytes
/// a second; a telephone line is faster.
pub(super) const SLOWEST: u64 = 4 * 1024;
/// How often it is looked whether a client still waits for an answer that takes a while.
const LOOK: Duration = Duration::from_millis(40);

/// Why the daemon ended a connection that speaks HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lapse {
    /// No request came.
    Idle,
    /// The client took no byte of an answer for the write timeout, or too few of them.
    Stalled,
}

/// What one connection is waiting for, and until when.
#[derive(Debug)]
pub(super) struct Timeouts {
    state: Mutex<TimeoutState>,
    write_timeout: Arc<Mutex<Duration>>,
    /// Asked only while hyper holds the socket.
    socket: RawFd,
}

#[derive(Debug)]
struct TimeoutState {
    /// A request has come. What is written before is no answer: it belongs to the handshake of TLS.
    asked: bool,
    /// Requests that are being answered: over HTTP/2 several at once.
    answering: usize,
    /// The connection speaks HTTP/2.
    multiplexed: bool,
    /// What is being answered is a stream without an end, of which only the next piece is held.
    streaming: bool,
    /// It is the daemon that has others to serve first.
    in_line: bool,
    /// Counts while nothing is being answered.
    idle_until: Instant,
    stall: Option<Stall>,
    drain: Option<Drain>,
    /// Bytes that the kernel was given in all.
    written: u64,
}

/// An answer that could not be handed to the kernel at once is being taken, fast enough or not.
#[derive(Debug, Clone, Copy)]
struct Drain {
    since: Instant,
    until: Instant,
    /// Bytes that the client had taken in all when this began.
    taken: u64,
}

/// A time in which the socket took no byte.
#[derive(Debug, Clone, Copy)]
struct Stall {
    until: Instant,
    /// Bytes the kernel held for the client when it was last looked at.
    held: usize,
}

impl Timeouts {
    /// A connection was made on `socket`. `write_timeout` is how long its client may take nothing.
    pub(super) fn start(
        socket: &impl AsRawFd,
        write_timeout: Arc<Mutex<Duration>>,
    ) -> Arc<Timeouts> {
        let state = TimeoutState {
            asked: false,
            answering: 0,
            multiplexed: false,
            streaming: false,
            in_line: false,
            idle_until: Instant::now() + HEAD_PATIENCE,
            stall: None,
            drain: None,
            written: 0,
        };
        Arc::new(Timeouts {
            state: Mutex::new(state),
            write_timeout,
            socket: socket.as_raw_fd(),
        })
    }

    /// HTTP/2 was agreed on: each stream has a clock of its own, and what is written need be no answer.
    pub(super) fn multiplex(&self) {
        let mut state = self.state.lock();
        (state.multiplexed, state.streaming) = (true, true);
    }

    /// A request is being answered for as long as the guard lives.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        let mut state = self.state.lock();
        state.asked = true;
        state.answering += 1;
        drop(state);
        Answering(Arc::clone(self))
    }

    /// Waits until it is this connection's turn. That time is not the client's: it does not count.
    pub(super) async fn wait_in_line<T>(&self, turn: impl Future<Output = T>) -> T {
        let since = Instant::now();
        self.state.lock().in_line = true;
        let turn = turn.await;
        let mut state = self.state.lock();
        state.in_line = false;
        state.idle_until += since.elapsed();
        turn
    }

    /// Returns whether the client has closed the connection. To be asked while the socket is there.
    pub(super) fn has_client_gone(&self) -> bool {
        peer_has_closed(self.socket)
    }

    /// Bytes that the kernel holds for the client. To be asked while the socket is there.
    pub(super) fn held(&self) -> usize {
        unsent(self.socket)
    }

    /// Resolves when the client has closed the connection. hyper does not see that while something it sent before, such as
    /// a further request, was not read yet. To be asked while hyper holds the socket.
    pub(super) async fn client_is_gone(&self) {
        while !self.has_client_gone() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Drives `serving` to its end, or until the connection has to end.
    pub(super) async fn run<F: Future>(
        &self,
        mut serving: Pin<&mut F>,
    ) -> Result<F::Output, Lapse> {
        let mut timer = std::pin::pin!(sleep_until(Instant::now()));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = serving.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            while let Some(deadline) = self.deadline() {
                if timer.deadline() != deadline {
                    timer.as_mut().reset(deadline);
                }
                ready!(timer.as_mut().poll(cx));
                if let Some(lapse) = self.lapse() {
                    return Poll::Ready(Err(lapse));
                }
            }
            Poll::Pending
        })
        .await
    }

    fn deadline(&self) -> Option<Instant> {
        let state = self.state.lock();
        let idle = (state.answering == 0 && !state.in_line).then_some(state.idle_until);
        let taken = state.stall.map(|stall| stall.until);
        let taken = taken
            .into_iter()
            .chain(state.drain.map(|drain| drain.until));
        taken.min().or(idle)
    }

    /// The deadline has come: does the connection end, or has the client taken something after all?
    fn lapse(&self) -> Option<Lapse> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let stood_still = |deadline: Instant| now - deadline >= STANDSTILL;
        if state.stall.is_none() && state.drain.is_none() {
            if stood_still(state.idle_until) {
                state.idle_until = now + HEAD_PATIENCE;
                return None;
            }
            return Some(Lapse::Idle);
        }
        // The kernel says that a socket can be written only when a third of its buffer is free, which with a slow
        // client takes longer than a byte does.
        let held = unsent(self.socket);
        if let Some(stall) = state.stall
            && now >= stall.until
        {
            if held >= stall.held && !stood_still(stall.until) {
                return Some(Lapse::Stalled);
            }
            state.stall = Some(self.stall(held));
        }
        if let Some(drain) = state.drain
            && now >= drain.until
        {
            let next = self.drain(&state, held);
            let seconds = now.duration_since(drain.since).as_secs_f64();
            let taken = next.taken.saturating_sub(drain.taken) as f64;
            if taken < SLOWEST as f64 * seconds && !stood_still(drain.until) {
                return Some(Lapse::Stalled);
            }
            state.drain = Some(next);
        }
        None
    }

    fn stall(&self, held: usize) -> Stall {
        Stall {
            until: Instant::now() + *self.write_timeout.lock(),
            held,
        }
    }

    fn drain(&self, state: &TimeoutState, held: usize) -> Drain {
        let since = Instant::now();
        Drain {
            since,
            until: since + *self.write_timeout.lock(),
            taken: state.written.saturating_sub(held as u64),
        }
    }

    /// Whether it waits for its turn.
    #[cfg(test)]
    pub(super) fn is_in_line(&self) -> bool {
        self.state.lock().in_line
    }

    /// Has the time for a request run out.
    #[cfg(test)]
    pub(super) fn run_out(&self) {
        self.state.lock().idle_until = Instant::now();
    }

    fn wrote(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.stall = None;
        state.written += bytes as u64;
        // An answer may leave the socket long after its last byte was handed to hyper.
        if state.asked && state.answering == 0 && !state.multiplexed {
            state.idle_until = Instant::now() + IDLE_PATIENCE;
        }
    }

    fn blocked(&self) {
        let mut state = self.state.lock();
        if state.stall.is_some() {
            return;
        }
        let held = unsent(self.socket);
        state.stall = Some(self.stall(held));
        if state.drain.is_none() && !state.streaming {
            state.drain = Some(self.drain(&state, held));
        }
    }

    /// Notes that the kernel took all that there was to write.
    fn wrote_all(&self) {
        self.state.lock().drain = None;
    }
}

/// While this lives a request is being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Timeouts>);

impl Answering {
    /// The answer is a stream without an end.
    pub(super) fn streams(&self) {
        self.0.state.lock().streaming = true;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.answering -= 1;
        state.streaming = state.multiplexed;
        state.idle_until = Instant::now() + IDLE_PATIENCE;
    }
}

/// A socket whose clock hears of every write.
#[derive(Debug)]
pub(super) struct WatchedSocket<S> {
    socket: S,
    timeouts: Arc<Timeouts>,
    /// Something was read.
    begun: bool,
}

/// How a client begins that speaks HTTP/2 without having asked.
const HTTP_2: &[u8] = b"PRI * HTTP/2.0";

impl<S> WatchedSocket<S> {
    pub(super) fn new(socket: S, timeouts: Arc<Timeouts>) -> WatchedSocket<S> {
        WatchedSocket {
            socket,
            timeouts,
            begun: false,
        }
    }

    pub(super) fn socket(&self) -> &S {
        &self.socket
    }

    pub(super) fn timeouts(&self) -> &Arc<Timeouts> {
        &self.timeouts
    }

    pub(super) fn into_inner(self) -> S {
        self.socket
    }

    fn heard(&self, write: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &write {
            Poll::Ready(written) => self.timeouts.wrote(*written.as_ref().unwrap_or(&0)),
            Poll::Pending => self.timeouts.blocked(),
        }
        write
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if !self.begun && buffer.filled().len() > before {
            self.begun = true;
            // hyper leaves those who begin so without an answer. Of the first line alone it says that it is malformed.
            if buffer.filled()[before..].starts_with(HTTP_2) {
                buffer.set_filled(before + HTTP_2.len());
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.heard(write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.heard(write)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper asks for this when it has nothing left to write.
        self.timeouts.wrote_all();
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

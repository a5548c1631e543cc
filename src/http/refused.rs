//! Connections above a limit: told so at once, unless they ask for the daemon's health.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};
use warp::http::HeaderValue;
use warp::http::header::CONNECTION;
use warp::reply::Response;

use crate::http::error::HttpError;
use crate::net::connection_limits::OverLimit;

/// Paths that are answered above the connection limits too.
const EXEMPT: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
/// Bytes in which the path that is asked for must be seen.
const LOOKED_AT: usize = 4096;
/// A connection whose place others need is kept for so long after it was made: its request may be on its way.
const GRACE: Duration = Duration::from_millis(20);
/// How long an answer may take into a socket that has room for it.
const HURRY: Duration = Duration::from_millis(100);

/// How long is waited for a client above a limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until its request line is here.
    pub request: Duration,
    /// Until it closes its side, once it was told. Who closes first, with bytes of the other unread, takes the answer away
    /// from it.
    pub close: Duration,
}

impl Patience {
    /// For one of a few that have a place each.
    pub(super) const PLACED: Patience = Patience {
        request: Duration::from_secs(10),
        close: Duration::from_millis(100),
    };
    /// Where all have the same place, one after the other.
    pub(super) const IN_TURN: Patience = Patience {
        request: Duration::from_millis(50),
        close: Duration::ZERO,
    };
}

/// Returns whether a request for this path is answered above the limits.
pub(super) fn is_exempt(path: &str) -> bool {
    EXEMPT.contains(&path)
}

/// Has the connection closed after this answer.
pub(super) fn closing(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Reads the first request line of a connection above a limit. Gives the connection back, with what was read of it,
/// where it asks for the daemon's health; any other is answered and closed, here.
pub(super) async fn first_request<S>(
    mut stream: S,
    refusal: &OverLimit,
    patience: Patience,
) -> Option<Rewound<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let made = Instant::now();
    let mut read = BytesMut::with_capacity(1024);
    let asked = tokio::select! {
        asked = timeout(patience.request, request_line(&mut stream, &mut read)) => match asked {
            Ok(Ok(true)) => FirstRequest::Health,
            Ok(Ok(false)) => FirstRequest::Otherwise,
            Ok(Err(_)) | Err(_) => FirstRequest::Nothing,
        },
        () = evicted(refusal, made) => FirstRequest::Nothing,
    };
    match asked {
        FirstRequest::Health => return Some(Rewound { read, stream }),
        FirstRequest::Otherwise => {
            tell(&mut stream, refusal.limit).await;
            tokio::select! {
                biased;
                () = linger(&mut stream, patience.close) => {}
                () = refusal.evicted.notified() => {}
            }
        }
        FirstRequest::Nothing => {
            tell(&mut stream, refusal.limit).await;
            linger(&mut stream, Duration::ZERO).await;
        }
    }
    None
}

/// Drives what comes before the first request, within the same patience; `None` where it took too long.
pub(super) async fn in_time<T>(
    before: impl Future<Output = T>,
    refusal: &OverLimit,
    patience: Patience,
) -> Option<T> {
    let made = Instant::now();
    tokio::select! {
        done = timeout(patience.request, before) => done.ok(),
        () = evicted(refusal, made) => None,
    }
}

/// What the first request line of a connection was.
enum FirstRequest {
    Health,
    Otherwise,
    /// It did not come in time.
    Nothing,
}

/// Resolves when others need the place, and the connection has had the time that each gets.
async fn evicted(refusal: &OverLimit, made: Instant) {
    refusal.evicted.notified().await;
    sleep_until(made + GRACE).await;
}

/// Reads up to the end of the request line. Returns whether it asks for the daemon's health.
async fn request_line<S>(stream: &mut S, read: &mut BytesMut) -> io::Result<bool>
where
    S: AsyncRead + Unpin,
{
    while read.len() < LOOKED_AT {
        if stream.read_buf(read).await? == 0 {
            return Ok(false);
        }
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            return Ok(target_of(&read[..end]).is_some_and(is_exempt));
        }
    }
    Ok(false)
}

/// The path that a request line asks for, without its query.
fn target_of(line: &[u8]) -> Option<&str> {
    let target = std::str::from_utf8(line).ok()?.split(' ').nth(1)?;
    target.split('?').next()
}

/// Answers, and has nothing more to say.
async fn tell<S>(stream: &mut S, limit: &'static str)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = written(HttpError::at_capacity(limit));
    // A client that is gone needs no answer, and a socket on which nothing was sent yet has room for this one.
    let _ = timeout(HURRY, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
}

/// Takes what the client has sent, and for so long what it still sends, until it closes.
async fn linger<S>(stream: &mut S, time: Duration)
where
    S: AsyncRead + Unpin,
{
    let mut rest = [0; 4096];
    let closed = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    // Either way it is closed now.
    let _ = timeout(time, closed).await;
}

/// An error as bytes of HTTP, for where there is nothing but the socket.
pub(super) fn written(error: HttpError) -> String {
    let (status, body) = (error.status(), error.body());
    let retry_after = error.retry_after();
    let retry_after = retry_after.map(|seconds| format!("retry-after: {seconds}\r\n"));
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\n{}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        retry_after.unwrap_or_default(),
        body.len()
    )
}

/// A connection of which the beginning was read already.
#[derive(Debug)]
pub(super) struct Rewound<S> {
    read: BytesMut,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let taken = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..taken]);
        self.read.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_request_line_is_found() {
        for (line, exempt) in [
            ("GET /healthz HTTP/1.1\r", true),
            ("HEAD /metrics?x=1 HTTP/1.1\r", true),
            ("GET /metrics/ HTTP/1.1\r", false),
            ("GET /api/feeds HTTP/1.1\r", false),
            ("nonsense", false),
        ] {
            let found = target_of(line.as_bytes()).is_some_and(is_exempt);
            assert_eq!(found, exempt, "{line}");
        }
    }
}

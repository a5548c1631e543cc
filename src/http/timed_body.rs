//! The body of an answer, whose time is counted until it is out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use warp::reply::Response;

use crate::http::stream_clock::StreamClock;
use crate::http::timeouts::Answering;

type Body = <Response as IntoBody>::Body;

/// Names the type of warp's bodies, which it does not export.
trait IntoBody {
    type Body;
}

impl<B> IntoBody for http::Response<B> {
    type Body = B;
}

/// The body of an answer, which is being given until hyper has taken all of it.
pub(super) struct TimedBody {
    body: Body,
    time: Time,
}

/// How the time of a body is counted.
enum Time {
    /// That of the connection, which has nothing else to give.
    OfConnection { _answering: Answering },
    /// That of one stream of HTTP/2: the body goes out in pieces that the clock hears of. Boxed, for it is the rarer one.
    OfStream(Box<Pieces>),
}

struct Pieces {
    clock: Arc<StreamClock>,
    /// What is left of the last frame.
    rest: Bytes,
}

impl TimedBody {
    /// Makes the body of a response one.
    pub(super) fn of(response: Response, answering: Answering) -> http::Response<TimedBody> {
        let time = Time::OfConnection {
            _answering: answering,
        };
        response.map(|body| TimedBody { body, time })
    }

    /// The same on a stream of HTTP/2.
    pub(super) fn of_stream(
        response: Response,
        clock: Arc<StreamClock>,
    ) -> http::Response<TimedBody> {
        let rest = Bytes::new();
        let time = Time::OfStream(Box::new(Pieces { clock, rest }));
        response.map(|body| TimedBody { body, time })
    }
}

impl hyper::body::Body for TimedBody {
    type Data = Bytes;
    type Error = warp::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let TimedBody { body, time } = &mut *self;
        let pieces = match time {
            Time::OfConnection { .. } => return Pin::new(body).poll_frame(cx),
            Time::OfStream(pieces) => pieces,
        };
        if pieces.rest.is_empty() {
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(data) => pieces.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        let length = pieces.rest.len().min(pieces.clock.most());
        let piece = pieces.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(pieces.clock.hand_on(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.time {
            Time::OfStream(pieces) if !pieces.rest.is_empty() => false,
            _ => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.time {
            // Asked before the first piece.
            Time::OfStream(pieces) if !pieces.rest.is_empty() => SizeHint::default(),
            _ => self.body.size_hint(),
        }
    }
}

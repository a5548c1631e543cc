//! Connections to receivers, with a bound on the time that it takes to make one.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use tower_service::Service;

/// How long a connection may take to be made: name, TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(5);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A connector that gives up after [`CONNECT`].
#[derive(Debug, Clone)]
pub(super) struct InTime<C>(pub(super) C);

/// No connection was made in time.
#[derive(Debug)]
pub(super) struct TookTooLong;

impl std::error::Error for TookTooLong {}

impl fmt::Display for TookTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection within {} s", CONNECT.as_secs())
    }
}

impl<C> Service<Uri> for InTime<C>
where
    C: Service<Uri>,
    C::Error: Into<Error>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(TookTooLong.into()),
            }
        })
    }
}

//! Errors as clients see them: a status, a code for programs and a message for people, as JSON.

use crate::access::AuthFailure;
use crate::wire::control::CloseCode;
use bytes::Bytes;
use serde_json::json;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::{Reply, Response};

/// An error as clients get it: a status, a code for programs and a message for people.
#[derive(Debug)]
pub struct HttpError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Seconds after which trying again makes sense.
    retry_after: Option<u32>,
    /// What a browser is told that asked for a WebSocket: it can't see the rest.
    close: Option<CloseCode>,
}

impl HttpError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> HttpError {
        HttpError {
            status,
            code,
            message: message.into(),
            retry_after: None,
            close: None,
        }
    }

    /// A parameter of the query is wrong.
    pub fn bad_parameter(message: impl Into<String>) -> HttpError {
        HttpError::new(StatusCode::BAD_REQUEST, "bad_parameter", message)
    }

    pub fn not_found(message: impl Into<String>) -> HttpError {
        HttpError::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// It can't be done now, but later.
    pub fn unavailable(message: impl Into<String>) -> HttpError {
        let error = HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
        HttpError {
            retry_after: Some(1),
            ..error
        }
    }

    /// The same; a browser that asked for a WebSocket is told so by this code.
    pub fn closing(self, code: CloseCode) -> HttpError {
        let close = Some(code);
        HttpError { close, ..self }
    }

    /// What a browser is told that asked for a WebSocket.
    pub fn close_code(&self) -> Option<CloseCode> {
        self.close
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Seconds after which trying again makes sense.
    pub fn retry_after(&self) -> Option<u32> {
        self.retry_after
    }

    /// Returns the JSON body: `{"error":{"code":…,"message":…}}`.
    pub fn body(&self) -> String {
        json!({ "error": { "code": self.code, "message": self.message } }).to_string()
    }

    /// The code for programs.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The message for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// No rows were found in time; `message` says why, and what helps.
    pub fn search_too_long(message: String) -> HttpError {
        let error = HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "search_too_long", message);
        HttpError {
            retry_after: Some(60),
            ..error
        }
    }

    /// As much as may be is under way.
    pub fn at_capacity(message: impl Into<String>) -> HttpError {
        let error = HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "at_capacity", message);
        HttpError {
            retry_after: Some(5),
            ..error
        }
    }
}

impl From<AuthFailure> for HttpError {
    fn from(refusal: AuthFailure) -> HttpError {
        let (status, close) = match refusal {
            AuthFailure::Differ => (StatusCode::BAD_REQUEST, CloseCode::Revoked),
            AuthFailure::NotFromProxy(_) => (StatusCode::FORBIDDEN, CloseCode::Revoked),
            AuthFailure::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, CloseCode::TryAgainLater),
            AuthFailure::Expired => (StatusCode::UNAUTHORIZED, CloseCode::Expired),
            AuthFailure::Missing
            | AuthFailure::Invalid
            | AuthFailure::InAddress
            | AuthFailure::UnknownCertificate
            | AuthFailure::ClaimMissing(_) => (StatusCode::UNAUTHORIZED, CloseCode::Revoked),
        };
        let error = HttpError::new(status, refusal.code(), refusal.message()).closing(close);
        let retry_after = match refusal {
            // A minute at most.
            AuthFailure::TooMany(wait) => Some(wait.as_secs() as u32 + 1),
            _ => None,
        };
        HttpError {
            retry_after,
            ..error
        }
    }
}

impl Reply for HttpError {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, self.body());
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// A JSON answer that no cache keeps: all of them are about now.
pub(super) fn json_response(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(body.into().into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

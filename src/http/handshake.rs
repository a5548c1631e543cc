//! The handshake of WebSocket (RFC 6455, section 4.2): what a request for one has to be, and how it is answered.

use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tungstenite::handshake::derive_accept_key;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::{Reply, Response};

use crate::http::error::HttpError;
use crate::wire::control::CloseCode;
use crate::wire::frame::push_close;
use crate::wire::{EDGE_SUBPROTOCOL, MULTI_SUBPROTOCOL, SUBPROTOCOL};

/// How long a client that is refused may take to go.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Base64 as clients write it: the last digit may hold bits that say nothing, as in an example of RFC 6455 itself.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Refuses a request. A browser that asks for a WebSocket can't see why it is refused one; it is given one that is closed
/// at once, where there is a code for it.
pub(super) fn refuse(
    error: HttpError,
    headers: &HeaderMap,
    on_upgrade: Option<OnUpgrade>,
) -> Response {
    let is_page = headers.contains_key(header::ORIGIN) && asks_for_websocket(headers);
    let (Some(code), Some(on_upgrade), true) = (error.close_code(), on_upgrade, is_page) else {
        return error.into_response();
    };
    let (Ok(key), Ok(())) = (websocket_key(headers), has_no_body(headers)) else {
        return error.into_response();
    };
    tokio::spawn(async move {
        // A client that is gone before its handshake is over needs no answer.
        if let Ok(upgraded) = on_upgrade.await {
            let _ = tokio::time::timeout(LAST_WORD, close(upgraded, code)).await;
        }
    });
    let known = [EDGE_SUBPROTOCOL, SUBPROTOCOL, MULTI_SUBPROTOCOL];
    switching_protocols(key, spoken(headers, &known))
}

/// Says why, and waits for the other end to go.
async fn close(upgraded: Upgraded, code: CloseCode) -> std::io::Result<()> {
    let mut socket = TokioIo::new(upgraded);
    let mut frame = Vec::new();
    push_close(&mut frame, Some(code.code()));
    socket.write_all(&frame).await?;
    socket.shutdown().await?;
    let mut rest = [0; 512];
    while socket.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Returns whether this is a WebSocket handshake of the version there is.
pub(super) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let has = |name: header::HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .any(|value| {
                value
                    .split(',')
                    .any(|part| part.trim().eq_ignore_ascii_case(token))
            })
    };
    has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && has(header::SEC_WEBSOCKET_VERSION, "13")
}

/// The client's key: one header, 16 bytes in base64 (RFC 6455, section 4.2.1).
pub(super) fn websocket_key(headers: &HeaderMap) -> Result<&HeaderValue, HttpError> {
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    if let (Some(key), None) = (keys.next(), keys.next())
        && let Ok(bytes) = BASE64.decode(key.as_bytes())
        && bytes.len() == 16
    {
        return Ok(key);
    }
    let message = "Sec-WebSocket-Key must be there once, with 16 bytes in base64; a WebSocket library makes one for each \
                   connection";
    Err(HttpError::new(
        StatusCode::BAD_REQUEST,
        "bad_handshake",
        message,
    ))
}

/// Bytes of a body would be read as frames.
pub(super) fn has_no_body(headers: &HeaderMap) -> Result<(), HttpError> {
    let length = headers.get(header::CONTENT_LENGTH);
    if headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
    {
        let message =
            "a WebSocket handshake has no body: leave out Content-Length and Transfer-Encoding";
        return Err(HttpError::new(
            StatusCode::BAD_REQUEST,
            "bad_handshake",
            message,
        ));
    }
    Ok(())
}

/// Tells who does not ask for a WebSocket to do so, and what else there is for him.
pub(super) fn upgrade_required(remedy: &str) -> Response {
    let message = format!("this path speaks WebSocket (version 13); {remedy}");
    let mut response =
        HttpError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message).into_response();
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(
        header::SEC_WEBSOCKET_VERSION,
        HeaderValue::from_static("13"),
    );
    response
}

/// Agrees to go on as a WebSocket, in this subprotocol.
pub(super) fn switching_protocols(key: &HeaderValue, spoken: Option<&'static str>) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    // Base64 is always a valid header.
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(spoken) = spoken {
        let spoken = HeaderValue::from_static(spoken);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, spoken);
    }
    response
}

/// The first of these subprotocols that the client offers. A browser takes none that it did not offer.
pub(super) fn spoken(headers: &HeaderMap, known: &[&'static str]) -> Option<&'static str> {
    known.iter().copied().find(|name| offers(headers, name))
}

/// Returns whether the client would speak this subprotocol.
pub(super) fn offers(headers: &HeaderMap, subprotocol: &str) -> bool {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offers = offers.filter_map(|v| v.to_str().ok());
    offers.any(|value| value.split(',').any(|offer| offer.trim() == subprotocol))
}

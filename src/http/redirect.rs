//! Where no TLS is spoken: the way to where it is.

use warp::http::{HeaderValue, Request, StatusCode, header};
use warp::reply::Response;

use crate::address::Host;
use crate::http::error::HttpError;
use crate::http::request_line::ASTERISK;

/// The port that `https` implies.
const USUAL: u16 = 443;

/// Sends a client, which has named this host, to the same path at the port where TLS is spoken. For good: a browser need not ask
/// here again.
pub(super) fn to<B>(port: u16, request: &Request<B>) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| Host::parse(host.to_str().ok()?));
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let location = host.filter(|_| target != ASTERISK).and_then(|host| {
        let port = match port {
            USUAL => String::new(),
            port => format!(":{port}"),
        };
        HeaderValue::try_from(format!("https://{}{port}{target}", host.name)).ok()
    });
    let message = "this address only tells where TLS is spoken: ask for https:// and wss://";
    let mut response = warp::reply::Reply::into_response(HttpError::new(
        StatusCode::BAD_REQUEST,
        "tls_required",
        message,
    ));
    if let Some(location) = location {
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(port: u16, host: &str, target: &str) -> (u16, Option<String>) {
        let request = Request::builder().uri(target).header("host", host);
        let response = to(port, &request.body(()).unwrap());
        let location = response.headers().get("location");
        let location = location.map(|location| location.to_str().unwrap().to_owned());
        (response.status().as_u16(), location)
    }

    #[test]
    fn the_same_path_is_shown_at_the_port_of_tls() {
        for (port, host, target, expected) in [
            (443, "a.example", "/", "https://a.example/"),
            (
                443,
                "a.example:80",
                "/ws/x?a=b",
                "https://a.example/ws/x?a=b",
            ),
            (8443, "127.0.0.1:8080", "/x", "https://127.0.0.1:8443/x"),
            (443, "[::1]:80", "/", "https://[::1]/"),
        ] {
            assert_eq!(sent(port, host, target), (308, Some(expected.to_owned())));
        }
        assert_eq!(sent(443, "a/b", "/"), (400, None));
    }
}

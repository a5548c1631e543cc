//! Who may come in: browser origins and CORS. Authentication belongs here, too, once there are tokens: what a request
//! may read is decided before a handler sees it.

use warp::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use warp::reply::{Reply, Response};

use crate::http::error::HttpError;

/// Seconds a browser may remember what a preflight allowed; browsers cap it at two hours or less.
const PREFLIGHT_SECS: u32 = 7200;

/// What is decided of a request before it is routed.
pub enum Verdict {
    /// Serve it; the origin is to be named in the answer where there is one.
    Pass(Option<HeaderValue>),
    /// This is the answer.
    Answer(Box<Response>),
}

/// Checks the browser's origin and answers preflights. `allowed` are the origins of the configuration.
pub fn check<B>(request: &Request<B>, allowed: &[String]) -> Verdict {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return Verdict::Pass(None);
    };
    // The dashboard's own files hold nothing of anyone's, and behind a proxy that changes the host they are what can
    // explain the refusal of the rest: browsers send an origin with module scripts.
    let path = request.uri().path();
    let public = path == "/" || path.starts_with("/dashboard/");
    if !public && !origin_allowed(origin, request.headers(), allowed) {
        let shown = String::from_utf8_lossy(origin.as_bytes()).into_owned();
        let message =
            format!("origin {shown} is not allowed; add it to `origins` in the configuration");
        return Verdict::Answer(Box::new(
            HttpError::new(StatusCode::FORBIDDEN, "origin_not_allowed", message).into_response(),
        ));
    }
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD);
    if request.method() == Method::OPTIONS && asked.is_some() {
        return Verdict::Answer(Box::new(preflight(origin, request.headers())));
    }
    Verdict::Pass((!public).then(|| origin.clone()))
}

/// Names the origin in an answer to it.
pub fn name_origin(response: &mut Response, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("retry-after"),
        );
    }
}

/// Any header may be sent: which ones a front end adds for its own proxies is not ours to know.
fn preflight(origin: &HeaderValue, asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, OPTIONS"),
    );
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from(PREFLIGHT_SECS),
    );
    name_origin(&mut response, Some(origin.clone()));
    response
}

/// Same origin, loopback, or listed.
fn origin_allowed(origin: &HeaderValue, headers: &HeaderMap, allowed: &[String]) -> bool {
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    if allowed
        .iter()
        .any(|a| a == "*" || a.trim_end_matches('/').eq_ignore_ascii_case(origin))
    {
        return true;
    }
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    if !matches!(scheme, "http" | "https") {
        return false;
    }
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    host.is_some_and(|host| same_authority(host, authority, scheme)) || is_loopback(authority)
}

/// Browsers leave out the port that the scheme implies; proxies may not.
fn same_authority(host: &str, authority: &str, scheme: &str) -> bool {
    let default = if scheme == "https" { ":443" } else { ":80" };
    let bare = |text: &str| {
        text.strip_suffix(default)
            .unwrap_or(text)
            .to_ascii_lowercase()
    };
    bare(host) == bare(authority)
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: &str, host: &str, list: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        let list: Vec<String> = list.iter().map(|s| s.to_string()).collect();
        origin_allowed(&origin.parse().unwrap(), &headers, &list)
    }

    #[test]
    fn same_origin_loopback_and_listed_origins_pass() {
        assert!(allowed(
            "https://console.example.com",
            "console.example.com",
            &[]
        ));
        assert!(allowed(
            "https://console.example.com",
            "console.example.com:443",
            &[]
        ));
        assert!(allowed("http://localhost:5173", "127.0.0.1:8010", &[]));
        assert!(allowed("http://127.0.0.1:5173", "walcast.example.com", &[]));
        assert!(allowed("http://[::1]:5173", "x", &[]));
        assert!(allowed("https://a.example", "x", &["https://a.example"]));
        assert!(allowed("https://a.example", "x", &["*"]));
        for origin in [
            "https://evil.example",
            "http://console.example.com:8080",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "null",
            "file://",
            "ftp://localhost",
        ] {
            assert!(
                !allowed(origin, "console.example.com", &["https://a.example"]),
                "{origin}"
            );
        }
    }
}

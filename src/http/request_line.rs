//! Request lines: what a client may write as the target of a request, and what the routes are asked for.

use warp::http::uri::{PathAndQuery, Uri};
use warp::http::{Method, Request, StatusCode};

use crate::http::error::HttpError;

/// The target of `OPTIONS *`, which asks about the daemon as a whole.
pub(super) const ASTERISK: &str = "*";
/// Every method that some route takes.
pub(super) const EVERY_METHOD: &str = "GET, HEAD, POST, OPTIONS";

/// Brings the target of a request into the form the routes know: a path with one slash at its beginning, and perhaps a
/// query. Gives the host that an absolute target names.
///
/// # Errors
/// There is no path to look at, as in `CONNECT a:1` and `GET healthz`.
pub(super) fn origin_form<B>(request: &mut Request<B>) -> Result<Option<String>, HttpError> {
    let uri = request.uri();
    let host = match (uri.scheme_str(), uri.authority()) {
        (None, None) => None,
        (Some("http" | "https" | "ws" | "wss"), Some(authority)) => Some(authority.to_string()),
        _ => return Err(no_path()),
    };
    let path = uri.path();
    if path == ASTERISK && host.is_none() {
        return match *request.method() {
            Method::OPTIONS => Ok(None),
            _ => Err(no_path()),
        };
    }
    if !path.starts_with('/') {
        return Err(no_path());
    }
    // A proxy that puts a prefix before what it passes on easily doubles the slash.
    let single = path.strip_prefix('/').filter(|rest| rest.starts_with('/'));
    if host.is_some() || single.is_some() {
        let path = single.unwrap_or(path);
        let target = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let target = PathAndQuery::try_from(target).map_err(|_| no_path())?;
        *request.uri_mut() = Uri::from(target);
    }
    Ok(host)
}

fn no_path() -> HttpError {
    let message =
        "the request line names no path of this server; ask for one such as `GET /api/feeds`";
    HttpError::new(StatusCode::BAD_REQUEST, "bad_request", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formed(method: Method, target: &str) -> Option<(String, Option<String>)> {
        let uri: Uri = target.parse().expect("hyper lets it through");
        let mut request = Request::new(());
        (*request.method_mut(), *request.uri_mut()) = (method, uri);
        let host = origin_form(&mut request).ok()?;
        Some((request.uri().to_string(), host))
    }

    #[test]
    fn every_form_comes_to_a_path() {
        for (target, path, host) in [
            ("/api/feeds?a=b", "/api/feeds?a=b", None),
            ("//ws/x?a", "/ws/x?a", None),
            ("//", "/", None),
            ("/a//b/", "/a//b/", None),
            ("http://localhost:80", "/", Some("localhost:80")),
            ("http://localhost?q", "/?q", Some("localhost")),
            ("ws://a.example//ws/x", "/ws/x", Some("a.example")),
        ] {
            let expected = Some((path.to_owned(), host.map(str::to_owned)));
            assert_eq!(formed(Method::GET, target), expected, "{target}");
        }
        let whole = Some(("*".to_owned(), None));
        assert_eq!(formed(Method::OPTIONS, "*"), whole);
    }

    #[test]
    fn what_has_no_path_is_refused() {
        for (method, target) in [
            (Method::CONNECT, "a:1"),
            (Method::GET, "healthz"),
            (Method::GET, "*"),
            (Method::GET, "ftp://localhost/"),
        ] {
            assert_eq!(formed(method, target), None, "{target}");
        }
    }
}

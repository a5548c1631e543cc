//! `/walcast.js`: the browser's client as one module, embedded in the binary, for pages that have no build step.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

pub(super) const PATH: &str = "/walcast.js";

/// What `npm run bundle` in `web/client` made of the package.
const SCRIPT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/web/client/browser/walcast.js"
));

/// Bytes of the script's hash that its tag shows: more than enough to tell two versions apart.
const TAG_BYTES: usize = 16;

/// The tag of this version of the script, in its quotation marks.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let hash = digest::digest(&digest::SHA256, SCRIPT.as_bytes());
    let digits = hash.as_ref().iter().take(TAG_BYTES);
    let digits: String = digits.map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
});

/// The route. A page of another origin may load it wherever its origin may use the feeds.
pub(super) fn script() -> BoxedFilter<(Response,)> {
    let get = warp::get().or(warp::head()).unify();
    warp::path!("walcast.js")
        .and(get)
        .and(warp::header::headers_cloned())
        .and_then(|headers| async move { Ok::<_, Rejection>(serve(&headers)) })
        .boxed()
}

fn serve(asked: &HeaderMap) -> Response {
    let mut response = match is_known(asked) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Response::new(SCRIPT.into()),
    };
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/javascript; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    // A new version of the daemon brings a new script under the same name.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Hexadecimal digits in quotation marks are always a valid header.
    if let Ok(tag) = HeaderValue::from_str(&TAG) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// Returns whether the browser says that it has this version.
fn is_known(asked: &HeaderMap) -> bool {
    let mut tags = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim);
    // Compared weakly (RFC 9110, 13.1.2): a proxy that compresses makes the tag a weak one.
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == *TAG)
}

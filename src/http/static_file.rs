//! Files that are embedded in the binary, and served as they are or in gzip.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use bytes::Bytes;
use flate2::Compression;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::{Reply, Response};

use crate::http::accept_encoding::takes_gzip;
use crate::http::gzip;

/// Bytes of a file's hash that its tag shows: more than enough to tell two versions apart.
const TAG_BYTES: usize = 16;

/// A file, its tags, and what it is in gzip: found out once, when it is first asked for.
pub(super) struct StaticFile {
    text: &'static str,
    kind: &'static str,
    made: LazyLock<Made, Box<dyn FnOnce() -> Made + Send + Sync>>,
}

struct Made {
    /// Of the file as it is, in quotation marks. One form of a file has another tag than the other (RFC 9110, 8.8.3).
    tag: String,
    gzip_tag: String,
    gzip: Bytes,
}

impl StaticFile {
    /// A text of this media type.
    pub(super) fn new(kind: &'static str, text: &'static str) -> StaticFile {
        StaticFile {
            text,
            kind,
            made: LazyLock::new(Box::new(move || Made::of(text))),
        }
    }

    /// Returns the answer to a request with these headers. `smallest`: the size in bytes from which files are compressed,
    /// where any are.
    pub(super) fn answer(&self, asked: &HeaderMap, smallest: Option<usize>) -> Response {
        let worth_it = smallest.is_some_and(|smallest| self.text.len() >= smallest)
            && self.made.gzip.len() < self.text.len();
        let compressed = worth_it && takes_gzip(asked);
        let tag = match compressed {
            true => &self.made.gzip_tag,
            false => &self.made.tag,
        };
        let mut response = match (is_known(asked, tag), compressed) {
            (true, _) => StatusCode::NOT_MODIFIED.into_response(),
            (false, true) => Response::new(self.made.gzip.clone().into()),
            (false, false) => Response::new(self.text.into()),
        };
        if smallest.is_some() {
            gzip::varies_by_encoding(&mut response);
        }
        let headers = response.headers_mut();
        if compressed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        // A new version of the daemon brings a new file under the same name.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Hexadecimal digits in quotation marks are always a valid header.
        if let Ok(tag) = HeaderValue::from_str(tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

impl Made {
    fn of(text: &'static str) -> Made {
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let digits = hash.as_ref().iter().take(TAG_BYTES);
        let digits: String = digits.map(|byte| format!("{byte:02x}")).collect();
        Made {
            tag: format!("\"{digits}\""),
            gzip_tag: format!("\"{digits}-gzip\""),
            gzip: gzip::whole(text.as_bytes(), Compression::best()).into(),
        }
    }
}

/// Returns whether the browser says that it has this version.
fn is_known(asked: &HeaderMap, own: &str) -> bool {
    let mut tags = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim);
    // Compared weakly (RFC 9110, 13.1.2): a proxy that compresses makes the tag a weak one.
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own)
}

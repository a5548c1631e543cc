//! Where credentials come in: the Authorization header, a WebSocket subprotocol, a cookie, the address.

use percent_encoding::percent_decode_str;
use warp::http::{HeaderMap, header};

use super::refusal::AuthFailure;

/// A subprotocol that begins so carries a credential: all that a browser can send with a WebSocket's handshake.
pub const BEARER_PROTOCOL: &str = "walcast.bearer.";
/// The parameter that carries a credential, where it is allowed to.
const PARAMETER: &str = "token";

/// A credential as it was sent, in one way or in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented<'r>(&'r str);

impl<'r> Presented<'r> {
    /// Finds the credential of a request; `None` where there is none. `cookie` is the name of the cookie that counts.
    ///
    /// # Errors
    /// There are two that differ, or one that can't be read.
    pub fn find(
        headers: &'r HeaderMap,
        cookie: Option<&str>,
        parameter: Option<&'r str>,
    ) -> Result<Option<Presented<'r>>, AuthFailure> {
        let bearer = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
            let text = value.to_str().ok()?;
            let (scheme, credential) = text.split_once(' ')?;
            let is_bearer = scheme.eq_ignore_ascii_case("bearer");
            is_bearer.then(|| credential.trim())
        });
        let offered = lists(headers, header::SEC_WEBSOCKET_PROTOCOL, ',');
        let protocol = offered.filter_map(|offer| Some(Some(offer.strip_prefix(BEARER_PROTOCOL)?)));
        let pairs = lists(headers, header::COOKIE, ';').filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            (Some(name) == cookie).then_some(Some(value.trim_matches('"')))
        });
        let mut found: Option<&str> = None;
        for credential in bearer
            .chain(protocol)
            .chain(pairs)
            .chain(parameter.map(Some))
        {
            // Another scheme is a credential that is not understood: never nobody's.
            let credential = credential.filter(|text| !text.is_empty());
            let credential = credential.ok_or(AuthFailure::Invalid)?;
            match found {
                Some(known) if known != credential => return Err(AuthFailure::Differ),
                _ => found = Some(credential),
            }
        }
        Ok(found.map(Presented))
    }

    /// The credential itself: a secret, not to be shown or logged.
    pub fn text(self) -> &'r str {
        self.0
    }
}

/// The parts of a header that is a list, however many headers it stands in.
fn lists(
    headers: &HeaderMap,
    name: header::HeaderName,
    separator: char,
) -> impl Iterator<Item = &str> {
    let texts = headers.get_all(name).into_iter();
    texts
        .filter_map(|value| value.to_str().ok())
        .flat_map(move |text| text.split(separator))
        .map(str::trim)
}

/// Returns the credential in a query string. Where it is given twice, the first one and that they differ.
///
/// # Errors
/// It is there twice, and not the same.
pub(super) fn parameter(query: &str) -> Result<Option<String>, AuthFailure> {
    let mut found: Option<String> = None;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if percent_decode_str(name).decode_utf8_lossy() != PARAMETER {
            continue;
        }
        let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
        match &found {
            Some(known) if *known != value => return Err(AuthFailure::Differ),
            _ => found = Some(value),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn find(
        list: &[(&'static str, &str)],
        parameter: Option<&str>,
    ) -> Result<Option<String>, AuthFailure> {
        let headers = headers(list);
        let found = Presented::find(&headers, Some("walcast"), parameter)?;
        Ok(found.map(|found| found.text().to_owned()))
    }

    #[test]
    fn one_credential_is_found_wherever_it_stands() {
        let one = || Ok(Some("t".to_owned()));
        assert_eq!(find(&[], None), Ok(None));
        assert_eq!(find(&[("authorization", "bearer t")], None), one());
        let offers = ("sec-websocket-protocol", "walcast.v1, walcast.bearer.t");
        assert_eq!(find(&[offers], None), one());
        assert_eq!(
            find(&[("cookie", "a=b; walcast=t; walcast2=c")], None),
            one()
        );
        assert_eq!(find(&[("cookie", "other=t")], None), Ok(None));
        assert_eq!(find(&[], Some("t")), one());
        let same = [
            offers,
            ("authorization", "Bearer t"),
            ("cookie", "walcast=t"),
        ];
        assert_eq!(find(&same, Some("t")), one());
    }

    #[test]
    fn two_that_differ_and_what_is_no_credential_are_refused() {
        for list in [
            vec![("authorization", "Bearer a"), ("authorization", "Bearer b")],
            vec![("authorization", "Bearer a"), ("cookie", "walcast=b")],
            vec![("cookie", "walcast=a; walcast=b")],
            vec![(
                "sec-websocket-protocol",
                "walcast.bearer.a,walcast.bearer.b",
            )],
        ] {
            assert_eq!(find(&list, None), Err(AuthFailure::Differ), "{list:?}");
        }
        for list in [
            ("authorization", "Basic eDp5"),
            ("authorization", "Bearer "),
            ("authorization", "t"),
            ("sec-websocket-protocol", "walcast.bearer."),
            ("cookie", "walcast="),
        ] {
            assert_eq!(find(&[list], None), Err(AuthFailure::Invalid), "{list:?}");
        }
        assert_eq!(find(&[], Some("")), Err(AuthFailure::Invalid));
        assert_eq!(
            parameter("a=b&token=x%2Fy&token=x/y"),
            Ok(Some("x/y".to_owned()))
        );
        assert_eq!(parameter("token=x&token=y"), Err(AuthFailure::Differ));
        assert_eq!(parameter("tokens=x"), Ok(None));
    }
}

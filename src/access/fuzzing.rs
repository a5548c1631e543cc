//! What fuzzers ask of what says who somebody is. Each function panics where something does not hold.

use serde_json::Value;
use warp::http::header::AUTHORIZATION;
use warp::http::{HeaderMap, HeaderName, HeaderValue};

use super::claims::{self, Said, feed_grant};
use super::credential::{Presented, parameter};
use super::grant::FeedGrant;
use super::jwt;
use super::mtls;
use super::refusal::AuthFailure;
use super::token::PresentedToken;
use super::token_file::TokenFile;
use crate::config::{ClaimSource, FeedScope};
use crate::model::filter::{MAX_SCOPE_VALUES, ScopeValue};

/// The query string in the first line, and headers in the others: there is one credential, none, or an error.
pub fn credentials(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let query = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let headers = headers(lines);
    if let Ok(in_address) = parameter(&query) {
        match Presented::find(&headers, Some("walcast"), in_address.as_deref()) {
            Ok(Some(presented)) => {
                assert!(!presented.text().is_empty());
                // Whether it is a token or not, it can be asked.
                let _ = PresentedToken::parse(presented.text());
            }
            Ok(None) => assert!(in_address.is_none() && !headers.contains_key(AUTHORIZATION)),
            Err(failure) => {
                assert!(matches!(
                    failure,
                    AuthFailure::Invalid | AuthFailure::Differ
                ));
            }
        }
    }
    for name in ["X-Auth-User", "X-Tenant"] {
        match claims::header(&headers, name) {
            Ok(Some(said)) => {
                assert!(!said.is_empty() && headers.get_all(name).iter().count() == 1);
            }
            Ok(None) => assert!(!headers.contains_key(name)),
            Err(_) => assert!(headers.contains_key(name)),
        }
    }
}

fn headers<'l>(lines: impl Iterator<Item = &'l [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    headers
}

/// A file of tokens, of what is revoked, or of clients with certificates: it is understood, or refused in words, and what is written is read again.
pub fn access_files(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match TokenFile::parse(text) {
        Ok(file) => {
            // Parts of a second are not written.
            let again = file.text().and_then(|text| TokenFile::parse(&text));
            if let Ok(again) = again {
                assert_eq!(
                    again.text().and_then(|text| TokenFile::parse(&text)),
                    Ok(again)
                );
            }
        }
        Err(problem) => assert!(!problem.is_empty()),
    }
    if let Err(problem) = jwt::parse_revoked(text) {
        assert!(!problem.is_empty());
    }
    if let Err(problem) = mtls::parse_clients(text) {
        assert!(!problem.is_empty());
    }
}

/// The claims of a JWT: a row is allowed by what one of them says, and by nothing else.
pub fn claims(bytes: &[u8]) {
    let Ok(Value::Object(claims)) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let columns = ["customer", "branch"].map(|name| {
        let source = ClaimSource::Claim(name.to_owned());
        (name.to_owned(), source)
    });
    let scope = FeedScope::Columns(columns.to_vec());
    match feed_grant(&scope, Said::Claims(&claims)) {
        Some(FeedGrant::Rows(scope)) => {
            assert!(scope.value_count() <= MAX_SCOPE_VALUES);
            assert_eq!(scope.columns().count(), columns.len());
            for (column, values) in scope.terms() {
                assert!(values.iter().all(|value| is_said(&claims[column], value)));
            }
        }
        Some(FeedGrant::ClaimMissing(column)) => {
            let plain = |value: &Value| value.is_string() || value.is_i64();
            assert!(!claims.get(&column).is_some_and(plain), "{column} is there");
        }
        None => panic!("the feed has a scope"),
    }
}

fn is_said(claim: &Value, value: &ScopeValue) -> bool {
    let is = |said: &Value| match value {
        ScopeValue::Text(text) => said.as_str() == Some(text),
        ScopeValue::Integer(integer) => said.as_i64() == Some(*integer),
    };
    is(claim) || claim.as_array().is_some_and(|items| items.iter().any(is))
}

//! What a feed's scope makes of what a credential says.

use serde_json::{Map, Value};
use warp::http::HeaderMap;

use super::grant::FeedGrant;
use super::refusal::AuthFailure;
use crate::config::{ClaimSource, FeedScope};
use crate::model::filter::{MAX_SCOPE_VALUES, Scope, ScopeValue};

/// What a credential says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Said<'s> {
    /// By the claims of a JWT.
    Claims(&'s Map<String, Value>),
    /// By the headers that a proxy adds.
    Headers(&'s HeaderMap),
}

impl Said<'_> {
    /// Demands of a column what is said there. Returns whether anything is.
    fn demand(self, scope: &mut Scope, column: &str, source: &ClaimSource) -> bool {
        match (self, source) {
            (Said::Claims(claims), ClaimSource::Claim(name)) => {
                match claims.get(name).and_then(values) {
                    Some(values) => scope.demand(column, values),
                    None => return false,
                }
            }
            (Said::Headers(headers), ClaimSource::Header(name)) => match header(headers, name) {
                Ok(Some(text)) => scope.demand_text(column, [text]),
                Ok(None) | Err(_) => return false,
            },
            // A proxy makes no claims, and of a JWT no header says anything.
            (Said::Claims(_), ClaimSource::Header(_))
            | (Said::Headers(_), ClaimSource::Claim(_)) => {
                return false;
            }
        }
        true
    }
}

/// Returns what whoever says this may read of a feed; `None` where the feed is not for them.
pub(super) fn feed_grant(scope: &FeedScope, said: Said<'_>) -> Option<FeedGrant> {
    let columns = match scope {
        FeedScope::Unsaid => return None,
        FeedScope::Everything => return Some(FeedGrant::Rows(Scope::default())),
        FeedScope::Columns(columns) => columns,
    };
    let mut demanded = Scope::default();
    for (column, source) in columns {
        if !said.demand(&mut demanded, column, source) {
            return Some(FeedGrant::ClaimMissing(column.clone()));
        }
        // More than a filter may have; a token of the size of a request's head hardly holds as many.
        if demanded.value_count() > MAX_SCOPE_VALUES {
            return Some(FeedGrant::ClaimMissing(column.clone()));
        }
    }
    Some(FeedGrant::Rows(demanded))
}

/// What a claim allows a column to hold: a text, an integer, or one of a list of these. `None` for anything else.
fn values(claim: &Value) -> Option<Vec<ScopeValue>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(ScopeValue::Text(text.clone())),
        Value::Number(number) => number.as_i64().map(ScopeValue::Integer),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match claim {
        Value::Array(items) => items.iter().map(one).collect(),
        claim => one(claim).map(|value| vec![value]),
    }
}

/// Returns what a proxy says in a header; `None` where it says nothing.
///
/// # Errors
/// The header is there twice, so that one of them may be somebody else's; or it is empty, or not UTF-8.
pub(super) fn header<'h>(
    headers: &'h HeaderMap,
    name: &str,
) -> Result<Option<&'h str>, AuthFailure> {
    let mut all = headers.get_all(name).iter();
    let Some(value) = all.next() else {
        return Ok(None);
    };
    if all.next().is_some() {
        return Err(AuthFailure::Differ);
    }
    let text = std::str::from_utf8(value.as_bytes()).ok().map(str::trim);
    match text.filter(|text| !text.is_empty()) {
        Some(text) => Ok(Some(text)),
        None => Err(AuthFailure::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn granted(claims: Value) -> Option<FeedGrant> {
        let scope = FeedScope::Columns(vec![(
            "customer".to_owned(),
            ClaimSource::Claim("tenant".to_owned()),
        )]);
        let claims = claims.as_object().cloned().unwrap_or_default();
        feed_grant(&scope, Said::Claims(&claims))
    }

    fn demanded(values: &[ScopeValue]) -> Option<FeedGrant> {
        let mut scope = Scope::default();
        scope.demand("customer", values.iter().cloned());
        Some(FeedGrant::Rows(scope))
    }

    #[test]
    fn a_claim_is_compared_as_what_it_is() {
        let text = |text: &str| ScopeValue::Text(text.to_owned());
        for (claim, values) in [
            (json!("5"), vec![text("5")]),
            (json!(5), vec![ScopeValue::Integer(5)]),
            (json!(""), vec![text("")]),
            (json!(["a", 7]), vec![text("a"), ScopeValue::Integer(7)]),
            (json!([]), vec![]),
        ] {
            let found = granted(json!({ "tenant": claim }));
            assert_eq!(found, demanded(&values), "{claim}");
        }
    }

    #[test]
    fn what_could_be_no_value_is_missing() {
        let missing = Some(FeedGrant::ClaimMissing("customer".to_owned()));
        for claim in [
            json!(null),
            json!(true),
            json!(1.5),
            json!(1e3),
            json!(u64::MAX),
            json!({"a": 1}),
            json!(["a", null]),
            json!([["a"]]),
        ] {
            assert_eq!(granted(json!({ "tenant": claim })), missing, "{claim}");
        }
        assert_eq!(granted(json!({"Tenant": "a"})), missing, "names are exact");
        let many: Vec<usize> = (0..=MAX_SCOPE_VALUES).collect();
        assert_eq!(granted(json!({ "tenant": many })), missing);
    }

    #[test]
    fn a_feed_without_a_scope_is_for_nobody_who_is_not_named() {
        let none = Map::new();
        assert_eq!(feed_grant(&FeedScope::Unsaid, Said::Claims(&none)), None);
        let everything = feed_grant(&FeedScope::Everything, Said::Claims(&none));
        assert_eq!(everything, Some(FeedGrant::Rows(Scope::default())));
    }

    #[test]
    fn headers_that_are_there_twice_or_say_nothing_are_refused() {
        let mut headers = HeaderMap::new();
        assert_eq!(header(&headers, "X-Tenant"), Ok(None));
        headers.append("x-tenant", "acme".parse().unwrap());
        assert_eq!(header(&headers, "X-Tenant"), Ok(Some("acme")));
        headers.append("x-tenant", "acme".parse().unwrap());
        assert_eq!(header(&headers, "X-Tenant"), Err(AuthFailure::Differ));
        headers.insert("x-tenant", " ".parse().unwrap());
        assert_eq!(header(&headers, "X-Tenant"), Err(AuthFailure::Invalid));
    }
}

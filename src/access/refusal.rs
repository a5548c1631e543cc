//! Why somebody is not let in: as they are told it, and as the log has it.

use std::time::Duration;

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthFailure {
    /// It presents nothing, and nobody may come in so.
    Missing,
    /// It presents something that is not good, or not any more.
    Invalid,
    Expired,
    /// The credential does not say what the scope of the feed compares this column with.
    ClaimMissing(String),
    /// Its connection was made with a certificate by which nobody is known.
    UnknownCertificate,
    /// It presents two credentials that differ.
    Differ,
    /// It presents one in its address, where that is not allowed.
    InAddress,
    /// A header of this name, in which only a proxy may say who somebody is, came from somewhere else.
    NotFromProxy(String),
    /// Too many were wrong that came from there.
    TooMany(Duration),
}

impl AuthFailure {
    /// Returns the code of the error, which is also the label of `walcast_auth_failures_total`.
    pub fn code(&self) -> &'static str {
        match self {
            AuthFailure::Missing => "token_missing",
            AuthFailure::Invalid | AuthFailure::InAddress => "token_invalid",
            AuthFailure::Expired => "token_expired",
            AuthFailure::ClaimMissing(_) => "claim_missing",
            AuthFailure::UnknownCertificate => "certificate_unknown",
            AuthFailure::Differ => "credentials_differ",
            AuthFailure::NotFromProxy(_) => "proxy_header_refused",
            AuthFailure::TooMany(_) => "too_many_failures",
        }
    }

    /// Returns what whoever asked has to do.
    pub fn message(&self) -> String {
        match self {
            AuthFailure::Missing => {
                "send a token: `Authorization: Bearer …`, or from a page the WebSocket subprotocol \
                                 `walcast.bearer.…`"
                    .to_owned()
            }
            AuthFailure::Invalid => "the token is not good here; ask for another".to_owned(),
            AuthFailure::Expired => "the token has expired; come back with a fresh one".to_owned(),
            AuthFailure::ClaimMissing(column) => {
                format!("the token does not say which {column} it is for; ask for one that does")
            }
            AuthFailure::UnknownCertificate => {
                "nobody is known here by the certificate of this connection; show another, or none and send a token"
                    .to_owned()
            }
            AuthFailure::Differ => {
                "the request presents two different credentials; send one".to_owned()
            }
            AuthFailure::InAddress => {
                "tokens are not taken from the address (`auth.query_token`); send `Authorization: \
                                   Bearer …`, or the WebSocket subprotocol `walcast.bearer.…`"
                    .to_owned()
            }
            AuthFailure::NotFromProxy(header) => {
                format!(
                    "only a proxy that is trusted here may send {header}; leave it out, or have walcast know the \
                         proxy by `trusted_proxies`"
                )
            }
            AuthFailure::TooMany(_) => {
                "too many credentials from this address were wrong; wait, and send a good one"
                    .to_owned()
            }
        }
    }
}

/// All labels of `walcast_auth_failures_total`.
pub const AUTH_FAILURES: [&str; 8] = [
    "certificate_unknown",
    "claim_missing",
    "credentials_differ",
    "proxy_header_refused",
    "token_expired",
    "token_invalid",
    "token_missing",
    "too_many_failures",
];

/// Why a credential is not good, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub failure: AuthFailure,
    /// As the log calls who holds it, as far as that is certain.
    pub name: Option<String>,
    /// More than whoever presents it is told; for the log, and for who keeps the keys.
    pub detail: Option<&'static str>,
}

impl Refusal {
    pub(super) fn of(failure: AuthFailure, name: &str, detail: &'static str) -> Refusal {
        Refusal {
            name: Some(name.to_owned()),
            ..Refusal::unnamed(failure, detail)
        }
    }

    pub(super) fn unnamed(failure: AuthFailure, detail: &'static str) -> Refusal {
        Refusal {
            detail: Some(detail),
            ..Refusal::from(failure)
        }
    }
}

impl From<AuthFailure> for Refusal {
    fn from(failure: AuthFailure) -> Refusal {
        Refusal {
            failure,
            name: None,
            detail: None,
        }
    }
}

//! JSON Web Tokens: whose are good here, for how long, and what they say of whoever presents them.

mod keys;
mod live;
mod revoked;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation, decode, decode_header};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::files::{AccessFileError, Owners, ReloadedFile};
use super::grant::Grant;
use super::refusal::{AuthFailure, Refusal};
use super::times::LAST;
use crate::config::{JwtKeys, JwtRules};
use keys::{Fingerprint, KeySet};
use live::LiveGrants;
use revoked::Revoked;

/// Characters of a subject that are shown as the name of a credential.
const SHOWN: usize = 64;

/// What tells one JWT from others, for whoever revokes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JwtIdentity {
    /// `jti`
    id: Option<String>,
    /// `sub`
    subject: Option<String>,
    /// `iat`
    issued: Option<SystemTime>,
}

/// What a JWT says whose signature is good, and which is good now.
#[derive(Debug)]
pub(super) struct VerifiedJwt {
    /// Whose it is, as the log says it.
    pub(super) name: String,
    pub(super) claims: Map<String, Value>,
    /// Until when it is good: its `exp` and the leeway.
    pub(super) expires: SystemTime,
    identity: JwtIdentity,
    key: Fingerprint,
}

/// Takes JWTs in.
#[derive(Debug)]
pub(super) struct JwtGate {
    rules: JwtRules,
    owners: Owners,
    validation: Validation,
    key_file: ReloadedFile,
    keys: Mutex<Arc<KeySet>>,
    revoked_file: Option<ReloadedFile>,
    revoked: Mutex<Arc<Revoked>>,
    live: LiveGrants,
}

impl JwtGate {
    /// Reads keys, and what was revoked.
    ///
    /// # Errors
    /// One of the files can't be read, or no key fits.
    pub(super) fn open(rules: &JwtRules, owners: Owners) -> Result<JwtGate, AccessFileError> {
        let (key, path) = match &rules.keys {
            JwtKeys::KeyFile(path) => ("auth.jwt.key_file", path),
            JwtKeys::JwksFile(path) => ("auth.jwt.jwks_file", path),
        };
        let read = |_: &Path| KeySet::read(rules, owners);
        let (key_file, keys) = ReloadedFile::open(key, path, "keys of JWTs", read)?;
        let (revoked_file, revoked) = match &rules.revoked_file {
            None => (None, Revoked::default()),
            Some(path) => {
                let (key, holds) = ("auth.jwt.revoked_file", "revoked JWTs");
                let read = |path: &Path| Revoked::read(path, owners);
                let (file, revoked) = ReloadedFile::open(key, path, holds, read)?;
                (Some(file), revoked)
            }
        };
        Ok(JwtGate {
            validation: validation(rules),
            rules: rules.clone(),
            owners,
            key_file,
            keys: Mutex::new(Arc::new(keys)),
            revoked_file,
            revoked: Mutex::new(Arc::new(revoked)),
            live: LiveGrants::default(),
        })
    }

    /// Returns what a token stands for: what others have that came with the same one, or what `grant` makes of it.
    ///
    /// # Errors
    /// It is not good.
    pub(super) fn grant(
        &self,
        text: &str,
        now: SystemTime,
        grant: impl FnOnce(&VerifiedJwt) -> Grant,
    ) -> Result<Arc<Grant>, Refusal> {
        let name = live::name_of(text);
        if let Some(known) = self.live.get(&name, now) {
            return Ok(known);
        }
        let token = self.verify(text, now)?;
        let made = Arc::new(grant(&token));
        // What was read anew since it was verified is asked again, once it is known to whoever reads anew from now on.
        self.live
            .keep(
                name,
                token.identity.clone(),
                token.key,
                made,
                |identity, key| self.keys.lock().has(key) && !self.revoked.lock().covers(identity),
            )
            .ok_or_else(|| Refusal::of(AuthFailure::Invalid, &token.name, "it is good no more"))
    }

    /// Returns what a token says.
    ///
    /// # Errors
    /// It is not good; why is told in words.
    pub(super) fn verify(&self, text: &str, now: SystemTime) -> Result<VerifiedJwt, Refusal> {
        let invalid = |why: &'static str| Refusal::unnamed(AuthFailure::Invalid, why);
        let header = decode_header(text).map_err(|_| {
            invalid("it is no JWT with an algorithm that is known here; \"none\" is not")
        })?;
        let keys = Arc::clone(&self.keys.lock());
        let key = self.key_for(&header, &keys).map_err(invalid)?;
        let token = decode::<Map<String, Value>>(text, &key.key, &self.validation);
        let claims = token.map_err(|e| invalid(reason(e.kind())))?.claims;
        let identity = JwtIdentity {
            id: text_claim(&claims, "jti"),
            subject: text_claim(&claims, "sub"),
            issued: claims.get("iat").and_then(time),
        };
        let name = shown_name(identity.subject.as_deref());
        // `jsonwebtoken` has seen that it is there, and a number.
        let end = claims.get("exp").and_then(time);
        let end = end.ok_or_else(|| invalid("its exp is no time"))?;
        let expires = end + self.rules.leeway;
        if expires <= now {
            return Err(Refusal::of(AuthFailure::Expired, &name, "its exp is over"));
        }
        if self.revoked.lock().covers(&identity) {
            return Err(Refusal::of(AuthFailure::Invalid, &name, "it was revoked"));
        }
        Ok(VerifiedJwt {
            name,
            claims,
            expires,
            identity,
            key: key.fingerprint,
        })
    }

    /// The key for a token with this header. Keys and addresses of keys that it brings along itself count for nothing.
    fn key_for<'k>(
        &self,
        header: &Header,
        keys: &'k KeySet,
    ) -> Result<&'k keys::VerifyingKey, &'static str> {
        // Whoever does not understand what must be understood has to refuse it (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err("its header demands what is not understood here (crit)");
        }
        if !self.rules.algorithms.contains(&header.alg) {
            return Err("its algorithm is not one of auth.jwt.algorithms");
        }
        keys.choose(header.alg, header.kid.as_deref())
    }

    /// Reads again what has changed, and ends the grants of tokens that are good no more; blocks. Returns whether
    /// anything has changed.
    pub(super) fn look(&self) -> bool {
        let keys = self
            .key_file
            .changed(|_| KeySet::read(&self.rules, self.owners));
        if let Some(keys) = &keys {
            tracing::info!("keys of JWTs read again: {} are in force", keys.len());
            *self.keys.lock() = Arc::new(keys.clone());
        }
        let revoked = self.revoked_file.as_ref();
        let revoked =
            revoked.and_then(|file| file.changed(|path| Revoked::read(path, self.owners)));
        if let Some(revoked) = &revoked {
            tracing::info!("revoked JWTs read again");
            *self.revoked.lock() = Arc::new(revoked.clone());
        }
        if keys.is_none() && revoked.is_none() {
            return false;
        }
        let (keys, revoked) = (
            Arc::clone(&self.keys.lock()),
            Arc::clone(&self.revoked.lock()),
        );
        self.live.end(|identity, key, grant| {
            if revoked.covers(identity) {
                grant.end(None);
            } else if !keys.has(key) {
                // The issuer has another key now, and other tokens for the same clients.
                grant.end(Some(grant));
            }
        });
        true
    }

    /// Has the files read again, changed or not.
    pub(super) fn forget(&self) {
        self.key_file.forget();
        if let Some(file) = &self.revoked_file {
            file.forget();
        }
    }
}

/// Returns how many keys JWTs are verified with.
///
/// # Errors
/// No JWT could be verified: a file can't be read, or no key fits.
pub fn jwt_keys(rules: &JwtRules, owners: Owners) -> Result<usize, AccessFileError> {
    JwtGate::open(rules, owners).map(|gate| gate.keys.lock().len())
}

/// Reads what is revoked; the error says what is wrong and where.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn parse_revoked(text: &str) -> Result<(), String> {
    Revoked::parse(text).map(drop)
}

fn validation(rules: &JwtRules) -> Validation {
    let mut validation = Validation {
        algorithms: rules.algorithms.clone(),
        validate_nbf: true,
        leeway: rules.leeway.as_secs(),
        // Of an expired token it is to be known whose it is, so its end is looked at afterwards.
        validate_exp: false,
        ..Validation::default()
    };
    validation.set_issuer(&[&rules.issuer]);
    validation.set_audience(&[&rules.audience]);
    // Each of them has to be there, and of the right type.
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation
}

/// Why a token was refused; nothing of the token is repeated.
fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "its signature is not good",
        ErrorKind::InvalidIssuer => "its iss is not auth.jwt.issuer",
        ErrorKind::InvalidAudience => "its aud is not auth.jwt.audience",
        ErrorKind::ImmatureSignature => "its nbf is yet to come",
        ErrorKind::MissingRequiredClaim(name) => match name.as_str() {
            "exp" => "it has no exp, or none that is a number",
            "iss" => "it has no iss",
            "aud" => "it has no aud",
            _ => "a claim is missing",
        },
        ErrorKind::InvalidAlgorithm => "its algorithm is not one of auth.jwt.algorithms",
        _ => "it is malformed",
    }
}

fn text_claim(claims: &Map<String, Value>, name: &str) -> Option<String> {
    claims.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// The time of a claim: seconds since 1970, not after 9999.
fn time(value: &Value) -> Option<SystemTime> {
    let seconds = value.as_f64()?;
    let fits = (0.0..=LAST as f64).contains(&seconds);
    fits.then(|| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

fn shown_name(subject: Option<&str>) -> String {
    match subject {
        None | Some("") => "a JWT without sub".to_owned(),
        Some(subject) => subject.chars().take(SHOWN).collect(),
    }
}

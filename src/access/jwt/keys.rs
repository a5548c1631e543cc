//! The keys that signatures of JWTs are verified with, as far as they fit the algorithms that are taken.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa::PublicKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use serde_json::Value;

use super::super::files::{self, AccessFileError, Owners, Readers};
use crate::config::{JwtKeys, JwtRules};

/// Larger files hold no keys.
const MAX_BYTES: u64 = 1 << 20;
/// Bytes of the modulus of an RSA key of 2048 and of 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// What a PEM block begins with.
const PEM_MARK: &str = "-----BEGIN ";

/// Tells a key from others.
pub(super) type Fingerprint = [u8; 32];

/// A key, and what it may verify.
#[derive(Debug, Clone)]
pub(super) struct VerifyingKey {
    /// Its `kid`.
    id: Option<String>,
    /// Of the algorithms that are taken, those that it fits.
    algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
    pub(super) fingerprint: Fingerprint,
}

/// All keys there are.
#[derive(Debug, Clone)]
pub(super) struct KeySet {
    keys: Vec<VerifyingKey>,
    /// Whether they have ids by which tokens name them.
    by_id: bool,
}

impl KeySet {
    /// Reads the keys.
    ///
    /// # Errors
    /// They can't be read, or none of them fits.
    pub(super) fn read(rules: &JwtRules, owners: Owners) -> Result<KeySet, AccessFileError> {
        match &rules.keys {
            JwtKeys::KeyFile(path) => one_key(path, rules, owners),
            JwtKeys::JwksFile(path) => key_set(path, rules, owners),
        }
    }

    /// The key for a token of this algorithm and `kid`. The `kid` chooses among the keys that are here, and does nothing
    /// else: it is no path, no address and no part of a query.
    pub(super) fn choose(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<&VerifyingKey, &'static str> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| key.algorithms.contains(&algorithm));
        if !self.by_id {
            return fitting.next().ok_or("the key does not fit its algorithm");
        }
        if let Some(id) = id {
            let mut named = fitting.filter(|key| key.id.as_deref() == Some(id));
            return named.next().ok_or("no key with its kid fits its algorithm");
        }
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err("no key fits its algorithm"),
            (Some(_), Some(_)) => Err("it has no kid, and several keys fit its algorithm"),
        }
    }

    /// Returns whether that key is among these.
    pub(super) fn has(&self, fingerprint: &Fingerprint) -> bool {
        self.keys.iter().any(|key| key.fingerprint == *fingerprint)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

fn family_of(rules: &JwtRules) -> AlgorithmFamily {
    // The configuration takes one family, and at least one algorithm of it.
    rules
        .algorithms
        .first()
        .map_or(AlgorithmFamily::Rsa, |algorithm| algorithm.family())
}

/// Secrets are nobody else's business; public keys only have to be the right ones.
fn readers(family: AlgorithmFamily) -> Readers {
    match family {
        AlgorithmFamily::Hmac => Readers::Few,
        AlgorithmFamily::Rsa | AlgorithmFamily::Ec | AlgorithmFamily::Ed => Readers::Anyone,
    }
}

fn one_key(path: &Path, rules: &JwtRules, owners: Owners) -> Result<KeySet, AccessFileError> {
    let failed = |problem: String| AccessFileError::of(path, problem);
    let family = family_of(rules);
    let bytes = files::read(path, (readers(family), owners), MAX_BYTES)?;
    let key = match family {
        AlgorithmFamily::Hmac => secret(&bytes),
        AlgorithmFamily::Rsa | AlgorithmFamily::Ec | AlgorithmFamily::Ed => public(&bytes, family),
    };
    let key = key.map_err(failed)?;
    let algorithms = fitting(&key, &rules.algorithms);
    if algorithms.is_empty() {
        return Err(failed(format!(
            "the key does not fit {}; {}",
            names(&rules.algorithms),
            wanted(family)
        )));
    }
    Ok(KeySet {
        keys: vec![verifying(None, algorithms, key)],
        by_id: false,
    })
}

/// The secret as it stands in the file, but for the newline that editors leave at its end.
fn secret(bytes: &[u8]) -> Result<DecodingKey, String> {
    let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    match String::from_utf8_lossy(secret).contains(PEM_MARK) {
        // Whoever knows the public key could sign.
        true => Err(
            "is a key in PEM, no secret; name the algorithm that it is for, e.g. algorithms = [\"RS256\"]"
                .to_owned(),
        ),
        false => Ok(DecodingKey::from_secret(secret)),
    }
}

fn public(bytes: &[u8], family: AlgorithmFamily) -> Result<DecodingKey, String> {
    let text = String::from_utf8_lossy(bytes);
    let kinds: Vec<&str> = text
        .split(PEM_MARK)
        .skip(1)
        .filter_map(|block| block.split_once("-----").map(|(kind, _)| kind))
        .collect();
    match *kinds.as_slice() {
        [kind] if kind.ends_with("PRIVATE KEY") => {
            return Err(
                "is a private key, which only the issuer should have; write its public half: openssl pkey -in FILE -pubout"
                    .to_owned(),
            );
        }
        ["CERTIFICATE"] => {
            return Err(
                "is a certificate, of which nobody would see the end; write its key: openssl x509 -in FILE -pubkey -noout"
                    .to_owned(),
            );
        }
        ["PUBLIC KEY" | "RSA PUBLIC KEY"] => {}
        [] => {
            return Err(format!("is no key in PEM; {}", wanted(family)));
        }
        [kind] => return Err(format!("is no public key but {kind:?}; {}", wanted(family))),
        _ => {
            return Err(
                "holds several keys; put them into a JSON Web Key Set (jwks_file)".to_owned(),
            );
        }
    }
    let key = match family {
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(bytes),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(bytes),
        AlgorithmFamily::Rsa | AlgorithmFamily::Hmac => DecodingKey::from_rsa_pem(bytes),
    };
    key.map_err(|_| format!("the key does not fit the algorithms; {}", wanted(family)))
}

fn wanted(family: AlgorithmFamily) -> &'static str {
    match family {
        AlgorithmFamily::Hmac => {
            "a secret has at least as many bytes as the hash: 32 for HS256, 48 for HS384, 64 for HS512 (openssl rand -hex 64)"
        }
        AlgorithmFamily::Rsa => {
            "RS* and PS* want an RSA public key of 2048 to 8192 bits (-----BEGIN PUBLIC KEY-----)"
        }
        AlgorithmFamily::Ec => {
            "ES256 wants a public key on P-256, ES384 one on P-384 (-----BEGIN PUBLIC KEY-----)"
        }
        AlgorithmFamily::Ed => "EdDSA wants an Ed25519 public key (-----BEGIN PUBLIC KEY-----)",
    }
}

fn key_set(path: &Path, rules: &JwtRules, owners: Owners) -> Result<KeySet, AccessFileError> {
    let failed = |problem: String| AccessFileError::of(path, problem);
    let family = family_of(rules);
    let bytes = files::read(path, (readers(family), owners), MAX_BYTES)?;
    // What is wrong is told by line and column: the text around it may be a secret.
    let set: Value = serde_json::from_slice(&bytes)
        .map_err(|e| failed(format!("line {}: is not JSON", e.line())))?;
    let entries = set
        .get("keys")
        .and_then(Value::as_array)
        .ok_or_else(|| failed("is no JSON Web Key Set; write {\"keys\": […]}".to_owned()))?;
    let mut keys: Vec<VerifyingKey> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        if entry.get("d").is_some() {
            return Err(failed(format!(
                "key {} is a private one, which only the issuer should have; leave out its d, p, q, dp, dq and qi",
                index + 1
            )));
        }
        let Some(key) = usable(entry, rules) else {
            continue;
        };
        if keys.iter().any(|other| other.id == key.id) {
            let named = key.id.as_deref().unwrap_or_default();
            return Err(failed(format!(
                "key {} has the kid {named:?} of another; give each its own",
                index + 1
            )));
        }
        keys.push(key);
    }
    match keys.is_empty() {
        true => Err(failed(format!(
            "none of its {} keys is for {}; {}",
            entries.len(),
            names(&rules.algorithms),
            wanted(family)
        ))),
        false => Ok(KeySet { keys, by_id: true }),
    }
}

/// The key, where it is one to verify with by an algorithm that is taken. Sets hold keys for other purposes too.
fn usable(entry: &Value, rules: &JwtRules) -> Option<VerifyingKey> {
    let jwk: Jwk = serde_json::from_value(entry.clone()).ok()?;
    let common = &jwk.common;
    let signs = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let of_family = matches!(
        (&jwk.algorithm, family_of(rules)),
        (AlgorithmParameters::OctetKey(_), AlgorithmFamily::Hmac)
            | (AlgorithmParameters::RSA(_), AlgorithmFamily::Rsa)
            | (AlgorithmParameters::EllipticCurve(_), AlgorithmFamily::Ec)
            | (AlgorithmParameters::OctetKeyPair(_), AlgorithmFamily::Ed)
    );
    if !signs || !of_family {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let mut algorithms = fitting(&key, &rules.algorithms);
    if let Some(own) = common.key_algorithm {
        let own = Algorithm::try_from(own).ok()?;
        algorithms.retain(|algorithm| *algorithm == own);
    }
    (!algorithms.is_empty()).then(|| verifying(common.key_id.clone(), algorithms, key))
}

fn verifying(id: Option<String>, algorithms: Vec<Algorithm>, key: DecodingKey) -> VerifyingKey {
    let bytes = match key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => bytes.clone(),
        DecodingKeyKind::RsaModulusExponent { n, e } => [n.as_slice(), e].concat(),
    };
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, &bytes).as_ref());
    VerifyingKey {
        id,
        algorithms,
        key,
        fingerprint,
    }
}

fn fitting(key: &DecodingKey, algorithms: &[Algorithm]) -> Vec<Algorithm> {
    let fits = |algorithm: &&Algorithm| fits(key.kind(), **algorithm);
    algorithms.iter().filter(fits).copied().collect()
}

/// Whether signatures by this algorithm can be verified with the key. `jsonwebtoken` looks only when it has a signature.
fn fits(key: &DecodingKeyKind, algorithm: Algorithm) -> bool {
    let bytes = match key {
        DecodingKeyKind::SecretOrDer(bytes) => bytes,
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            let leading = n.iter().take_while(|byte| **byte == 0).count();
            return RSA_BYTES.contains(&(n.len() - leading)) && !e.is_empty();
        }
    };
    match algorithm {
        // As many bytes as the hash has (RFC 7518, 3.2).
        Algorithm::HS256 => bytes.len() >= 32,
        Algorithm::HS384 => bytes.len() >= 48,
        Algorithm::HS512 => bytes.len() >= 64,
        Algorithm::ES256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).is_ok(),
        Algorithm::ES384 => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, bytes).is_ok(),
        Algorithm::EdDSA => ParsedPublicKey::new(&ED25519, bytes).is_ok(),
        _ => PublicKey::from_der(bytes).is_ok_and(|key| RSA_BYTES.contains(&key.modulus_len())),
    }
}

fn names(algorithms: &[Algorithm]) -> String {
    let names: Vec<String> = algorithms.iter().map(|one| format!("{one:?}")).collect();
    names.join(", ")
}

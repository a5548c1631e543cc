//! Somebody who issues JWTs, and the files by which a daemon knows that they are his.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::common::secrets;

const NAME: &str = "https://id.example.com";

pub struct Issuer {
    key: EncodingKey,
    public: String,
}

impl Issuer {
    pub fn new() -> Issuer {
        let pair = Ed25519KeyPair::generate().expect("a key can be made");
        let public: PublicKeyX509Der<'_> =
            pair.public_key().as_der().expect("a key can be written");
        let private = pair.to_pkcs8v1().expect("a key can be written");
        let body = STANDARD.encode(public.as_ref());
        Issuer {
            key: EncodingKey::from_ed_der(private.as_ref()),
            public: format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"),
        }
    }

    /// Writes the files into this directory, and returns the `[auth.jwt]` that names them.
    pub fn settle(&self, directory: &Path) -> String {
        self.publish(directory);
        revoke(directory, "");
        format!(
            "[auth.jwt]\nalgorithms = [\"EdDSA\"]\nkey_file = {:?}\nissuer = \"{NAME}\"\naudience = \"walcast\"\n\
             leeway = 0\nrevoked_file = {:?}\n",
            key_file(directory),
            revoked_file(directory)
        )
    }

    /// Makes the key of this issuer the one that counts.
    pub fn publish(&self, directory: &Path) {
        replace(&key_file(directory), &self.public);
    }

    /// A token that says this too, or instead; `null` leaves a claim out.
    pub fn token(&self, said: Value) -> String {
        let mut claims = json!({"iss": NAME, "aud": "walcast", "sub": "alice", "iat": now(), "exp": now() + 600});
        let all = claims.as_object_mut().expect("an object");
        all.extend(said.as_object().expect("an object").clone());
        all.retain(|_, value| !value.is_null());
        let header = Header::new(Algorithm::EdDSA);
        let token = encode(&header, &claims, &self.key).expect("it can be signed");
        secrets::keep_those_in(&token);
        token
    }

    /// A token for a customer's rows.
    pub fn customer(&self, name: &str) -> String {
        self.token(json!({"sub": name, "customer": name}))
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is later than 1970").as_secs()
}

/// Writes what is revoked, in place of what was.
pub fn revoke(directory: &Path, text: &str) {
    replace(&revoked_file(directory), text);
}

fn key_file(directory: &Path) -> PathBuf {
    directory.join("jwt.pem")
}

fn revoked_file(directory: &Path) -> PathBuf {
    directory.join("revoked.toml")
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a file can be written");
    fs::rename(new, path).expect("a file can be renamed");
}

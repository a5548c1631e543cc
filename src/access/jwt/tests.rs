//! What is let in, and by what tricks nobody is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64URL};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, encode};
use serde_json::json;
use tempfile::TempDir;

use super::*;

const ISSUER: &str = "https://id.example.com";
/// The moment at which tokens are looked at, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

/// An RSA key of 1024 bits, which are too few.
const SHORT_RSA: &str = "-----BEGIN PUBLIC KEY-----\n\
    MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC5gJfID4OvBXbZZLfEBovo7LJ8zC0HCZOffN6QyU1VsVP2ilAJJ6xC0q1GZBzWJvBeIf5l\n\
    rHr46bKxizh4iUpgRLmMw2EgpM6VEGcUZIRNku8DfFazJj6Ybhpmjp5IpxMfZRPXnNp7FTFlxFiXm0ehkL1yB5U0+8ksAYu7zmi9AQIDAQAB\n\
    -----END PUBLIC KEY-----\n";

/// Whoever signs.
struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
    /// Its public half, or the secret, as a key file holds it.
    file: String,
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
}

impl Signer {
    fn new(algorithm: Algorithm) -> Signer {
        let (key, file) = match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                let secret = "s".repeat(64);
                (EncodingKey::from_secret(secret.as_bytes()), secret)
            }
            Algorithm::ES256 => of_curve(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => of_curve(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
                let private = pair.to_pkcs8v1().unwrap();
                let file = pem("PUBLIC KEY", public.as_ref());
                (EncodingKey::from_ed_der(private.as_ref()), file)
            }
            _ => of_rsa(KeySize::Rsa2048),
        };
        Signer {
            algorithm,
            key,
            file,
        }
    }

    fn header(&self) -> Header {
        Header::new(self.algorithm)
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }

    fn sign_as(&self, header: &Header, claims: &Value) -> String {
        encode(header, claims, &self.key).unwrap()
    }

    /// The key as an entry of a set.
    fn jwk(&self, id: &str) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }
}

fn of_curve(curve: &'static aws_lc_rs::signature::EcdsaSigningAlgorithm) -> (EncodingKey, String) {
    let pair = EcdsaKeyPair::generate(curve).unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let private = pair.to_pkcs8v1().unwrap();
    let file = pem("PUBLIC KEY", public.as_ref());
    (EncodingKey::from_ec_der(private.as_ref()), file)
}

fn of_rsa(size: KeySize) -> (EncodingKey, String) {
    let pair = RsaKeyPair::generate(size).unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let file = pem("PUBLIC KEY", public.as_ref());
    let text = pem("PRIVATE KEY", private.as_ref());
    (EncodingKey::from_rsa_pem(text.as_bytes()).unwrap(), file)
}

/// Files that say whose tokens are good.
struct Place {
    directory: TempDir,
    rules: JwtRules,
}

impl Place {
    fn new(algorithms: &[Algorithm], key: &str) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let place = Place {
            rules: JwtRules {
                algorithms: algorithms.to_vec(),
                keys: JwtKeys::KeyFile(path),
                issuer: ISSUER.to_owned(),
                audience: "walcast".to_owned(),
                leeway: Duration::from_secs(30),
                revoked_file: None,
            },
            directory,
        };
        place.write("key", key, 0o600);
        place
    }

    fn of_set(algorithms: &[Algorithm], keys: &[Value]) -> Place {
        let mut place = Place::new(algorithms, &json!({ "keys": keys }).to_string());
        place.rules.keys = JwtKeys::JwksFile(place.directory.path().join("key"));
        place
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn gate(&self) -> JwtGate {
        JwtGate::open(&self.rules, Owners::RootAndSelf).unwrap()
    }

    fn refusal(&self) -> String {
        JwtGate::open(&self.rules, Owners::RootAndSelf)
            .unwrap_err()
            .to_string()
    }
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "walcast", "sub": "alice", "exp": NOW + 60, "iat": NOW - 60})
}

/// The claims, with this one in place of what it was; `null` leaves it out.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => claims.as_object_mut().unwrap().remove(name),
        value => claims
            .as_object_mut()
            .unwrap()
            .insert(name.to_owned(), value),
    };
    claims
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

#[track_caller]
fn refused(gate: &JwtGate, token: &str) -> Refusal {
    gate.verify(token, now()).expect_err("it must be refused")
}

#[test]
fn tokens_of_every_algorithm_are_taken_and_others_are_not() {
    let all = [
        [Algorithm::HS256, Algorithm::HS512].as_slice(),
        &[Algorithm::RS256, Algorithm::PS256],
        &[Algorithm::ES256],
        &[Algorithm::ES384],
        &[Algorithm::EdDSA],
    ];
    for algorithms in all {
        let signer = Signer::new(algorithms[0]);
        let gate = Place::new(algorithms, &signer.file).gate();
        for algorithm in algorithms {
            let token = signer.sign_as(&Header::new(*algorithm), &claims());
            let token = gate.verify(&token, now()).unwrap();
            assert_eq!(token.name, "alice", "{algorithm:?}");
            assert_eq!(token.expires, now() + Duration::from_secs(90));
        }
        let stranger = Signer::new(algorithms[0]);
        if algorithms[0] != Algorithm::HS256 {
            let refusal = refused(&gate, &stranger.sign(&claims()));
            assert_eq!(refusal.detail, Some("its signature is not good"));
        }
    }
}

#[test]
fn no_algorithm_and_another_family_are_refused() {
    let signer = Signer::new(Algorithm::RS256);
    let gate = Place::new(&[Algorithm::RS256], &signer.file).gate();
    let part = |value: Value| BASE64URL.encode(value.to_string());
    let payload = part(claims());
    for algorithm in ["none", "None", "NONE", ""] {
        let header = part(json!({"alg": algorithm, "typ": "JWT"}));
        for signature in ["", "e30"] {
            refused(&gate, &format!("{header}.{payload}.{signature}"));
        }
    }
    refused(
        &gate,
        &format!("{}.{payload}.", part(json!({"typ": "JWT"}))),
    );
    // Signed with what everybody knows: the public key, as a secret.
    let secret = EncodingKey::from_secret(signer.file.as_bytes());
    let forged = encode(&Header::new(Algorithm::HS256), &claims(), &secret).unwrap();
    let refusal = refused(&gate, &forged);
    assert_eq!(
        refusal.detail,
        Some("its algorithm is not one of auth.jwt.algorithms")
    );
    // Of the same family, but not taken.
    refused(
        &gate,
        &signer.sign_as(&Header::new(Algorithm::RS512), &claims()),
    );
    let elliptic = Signer::new(Algorithm::ES256);
    refused(&gate, &elliptic.sign(&claims()));
}

#[test]
fn claims_that_have_to_be_there_and_right_are_asked_for() {
    let signer = Signer::new(Algorithm::EdDSA);
    let gate = Place::new(&[Algorithm::EdDSA], &signer.file).gate();
    for (name, value, detail) in [
        (
            "exp",
            Value::Null,
            "it has no exp, or none that is a number",
        ),
        (
            "exp",
            json!("2000000000"),
            "it has no exp, or none that is a number",
        ),
        (
            "exp",
            json!(1e300),
            "it has no exp, or none that is a number",
        ),
        ("exp", json!(u64::MAX), "its exp is no time"),
        ("aud", Value::Null, "it has no aud"),
        ("aud", json!("other"), "its aud is not auth.jwt.audience"),
        ("aud", json!([]), "its aud is not auth.jwt.audience"),
        ("aud", json!(["other"]), "its aud is not auth.jwt.audience"),
        ("aud", json!(5), "it has no aud"),
        ("iss", Value::Null, "it has no iss"),
        (
            "iss",
            json!("https://id.example.com/"),
            "its iss is not auth.jwt.issuer",
        ),
        ("nbf", json!(u64::from(u32::MAX)), "its nbf is yet to come"),
    ] {
        let refusal = refused(&gate, &signer.sign(&with(name, value.clone())));
        assert_eq!(
            (refusal.failure, refusal.detail),
            (AuthFailure::Invalid, Some(detail)),
            "{name} {value}"
        );
    }
    let listed = signer.sign(&with("aud", json!(["other", "walcast"])));
    assert!(gate.verify(&listed, now()).is_ok());
    let nobody = signer.sign(&with("sub", Value::Null));
    assert_eq!(
        gate.verify(&nobody, now()).unwrap().name,
        "a JWT without sub"
    );
}

#[test]
fn the_end_comes_after_the_leeway() {
    let signer = Signer::new(Algorithm::EdDSA);
    let gate = Place::new(&[Algorithm::EdDSA], &signer.file).gate();
    let ends = |at: u64| signer.sign(&with("exp", json!(at)));
    assert!(gate.verify(&ends(NOW - 29), now()).is_ok());
    for at in [NOW - 30, NOW - 3600, 0] {
        let refusal = refused(&gate, &ends(at));
        assert_eq!(refusal.failure, AuthFailure::Expired);
        assert_eq!(
            refusal.name.as_deref(),
            Some("alice"),
            "the log may name it"
        );
    }
}

#[test]
fn headers_bring_no_keys_and_demand_nothing() {
    let signer = Signer::new(Algorithm::EdDSA);
    let eve = Signer::new(Algorithm::EdDSA);
    let gate = Place::of_set(&[Algorithm::EdDSA], &[signer.jwk("one"), eve_free(&signer)]).gate();
    let mut good = signer.header();
    good.kid = Some("one".to_owned());
    assert!(
        gate.verify(&signer.sign_as(&good, &claims()), now())
            .is_ok()
    );
    let mut own_key = eve.header();
    own_key.kid = Some("one".to_owned());
    own_key.jwk = serde_json::from_value(eve.jwk("one")).unwrap();
    refused(&gate, &eve.sign_as(&own_key, &claims()));
    let mut address = eve.header();
    address.jku = Some("http://127.0.0.1/keys".to_owned());
    address.x5u = address.jku.clone();
    refused(&gate, &eve.sign_as(&address, &claims()));
    for id in ["", "One", "../one", "one\0", "/dev/null", "' OR 1 --"] {
        let mut header = signer.header();
        header.kid = Some(id.to_owned());
        let refusal = refused(&gate, &signer.sign_as(&header, &claims()));
        assert_eq!(
            refusal.detail,
            Some("no key with its kid fits its algorithm"),
            "{id}"
        );
    }
    let mut critical = good.clone();
    critical.crit = Some(vec!["exp".to_owned()]);
    let refusal = refused(&gate, &signer.sign_as(&critical, &claims()));
    assert_eq!(
        refusal.detail,
        Some("its header demands what is not understood here (crit)")
    );
}

/// Another key for the same algorithm.
fn eve_free(signer: &Signer) -> Value {
    Signer::new(signer.algorithm).jwk("two")
}

#[test]
fn a_set_is_chosen_from_by_kid_and_holds_what_is_of_no_use_too() {
    let (one, two) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256));
    let mut encrypts = Signer::new(Algorithm::ES256).jwk("enc");
    encrypts["use"] = json!("enc");
    let others = [
        encrypts,
        Signer::new(Algorithm::RS256).jwk("rsa"),
        json!({"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}),
        json!({"kty": "unheard-of", "kid": "x"}),
        json!(5),
    ];
    let keys = [[one.jwk("one"), two.jwk("two")].as_slice(), &others].concat();
    let place = Place::of_set(&[Algorithm::ES256], &keys);
    assert_eq!(jwt_keys(&place.rules, Owners::RootAndSelf).ok(), Some(2));
    let gate = place.gate();
    let refusal = refused(&gate, &one.sign(&claims()));
    assert_eq!(
        refusal.detail,
        Some("it has no kid, and several keys fit its algorithm")
    );
    let mut wrong = one.header();
    wrong.kid = Some("two".to_owned());
    refused(&gate, &one.sign_as(&wrong, &claims()));
    let alone = Place::of_set(&[Algorithm::ES256], &[one.jwk("one")]).gate();
    assert!(alone.verify(&one.sign(&claims()), now()).is_ok());
}

#[test]
fn a_token_that_was_touched_is_refused() {
    let signer = Signer::new(Algorithm::HS256);
    let gate = Place::new(&[Algorithm::HS256], &signer.file).gate();
    let token = signer.sign(&claims());
    let [header, _, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("a token has three parts");
    };
    let payload = BASE64URL.encode(with("sub", json!("admin")).to_string());
    for touched in [
        format!("{header}.{payload}.{signature}"),
        token[..token.len() - 1].to_owned(),
        format!("{token}."),
        format!("{token}.{signature}"),
        format!(" {token}"),
        token.replace('.', ".."),
        String::new(),
        "..".to_owned(),
    ] {
        refused(&gate, &touched);
    }
}

#[test]
fn keys_that_could_not_work_are_told_with_the_remedy() {
    let rsa = Signer::new(Algorithm::RS256);
    let elliptic = Signer::new(Algorithm::ES256);
    let secret = "s".repeat(31);
    let private = pem("PRIVATE KEY", rsa.key.as_bytes());
    for (algorithm, file, says) in [
        (Algorithm::HS256, secret.as_str(), "32 for HS256"),
        (Algorithm::HS512, &"s".repeat(63), "64 for HS512"),
        (Algorithm::HS256, &rsa.file, "algorithms = [\"RS256\"]"),
        (Algorithm::RS256, &elliptic.file, "RSA public key"),
        (Algorithm::ES256, &rsa.file, "P-256"),
        (Algorithm::ES384, &elliptic.file, "P-384"),
        (Algorithm::EdDSA, &elliptic.file, "Ed25519"),
        (Algorithm::RS256, &private, "-pubout"),
        (Algorithm::RS256, &pem("CERTIFICATE", b"x"), "x509"),
        (
            Algorithm::RS256,
            &pem("PUBLIC KEY", b"nonsense"),
            "does not fit",
        ),
        (Algorithm::RS256, &format!("{0}{0}", rsa.file), "jwks_file"),
        (Algorithm::RS256, SHORT_RSA, "2048"),
        (Algorithm::RS256, "", "no key in PEM"),
    ] {
        let refusal = Place::new(&[algorithm], file).refusal();
        assert!(refusal.contains(says), "{algorithm:?}: {refusal}");
        assert!(refusal.starts_with("auth.jwt.key_file: /"), "{refusal}");
        let leaks = refusal.contains(&secret) || refusal.contains("MII");
        assert!(!leaks, "no part of a key is shown: {refusal}");
    }
    let mut private = elliptic.jwk("one");
    private["d"] = json!("x");
    for (keys, says) in [
        (vec![], "none of its 0 keys"),
        (vec![rsa.jwk("one")], "none of its 1 keys is for ES256"),
        (vec![private], "private"),
        (
            vec![elliptic.jwk("a"), eve_free(&elliptic), elliptic.jwk("a")],
            "of another",
        ),
    ] {
        let refusal = Place::of_set(&[Algorithm::ES256], &keys).refusal();
        assert!(refusal.contains(says), "{refusal}");
    }
}

#[test]
fn files_that_others_can_write_or_secrets_they_can_read_are_refused() {
    let (secret, public) = (Signer::new(Algorithm::HS256), Signer::new(Algorithm::EdDSA));
    for (signer, mode, good) in [
        (&secret, 0o640, true),
        (&secret, 0o644, false),
        (&public, 0o644, true),
        (&public, 0o664, false),
        (&public, 0o646, false),
    ] {
        let place = Place::new(&[signer.algorithm], &signer.file);
        place.write("key", &signer.file, mode);
        assert_eq!(
            JwtGate::open(&place.rules, Owners::RootAndSelf).is_ok(),
            good,
            "{mode:o}"
        );
    }
}

#[test]
fn what_changes_in_the_files_ends_grants_and_what_is_broken_changes_nothing() {
    let signer = Signer::new(Algorithm::EdDSA);
    let mut place = Place::of_set(&[Algorithm::EdDSA], &[signer.jwk("one")]);
    place.rules.revoked_file = Some(place.directory.path().join("revoked"));
    place.write("revoked", "", 0o644);
    let gate = place.gate();
    let grant = |jti: &str| {
        let token = signer.sign(&with("jti", json!(jti)));
        gate.grant(&token, now(), |token| {
            Grant::of(&token.name, Default::default()).until(Some(token.expires))
        })
    };
    let (stays, goes) = (grant("a").unwrap(), grant("b").unwrap());
    assert!(Arc::ptr_eq(&stays, &grant("a").unwrap()), "one is shared");
    assert!(!gate.look(), "nothing has changed");
    place.write("revoked", "jti = [\"b\"]", 0o644);
    assert!(gate.look());
    assert!(stays.holds(now()) && !goes.holds(now()));
    assert_eq!(grant("b").unwrap_err().detail, Some("it was revoked"));
    for broken in ["jti = \"b\"", "jti = ["] {
        place.write("revoked", broken, 0o644);
        assert!(!gate.look());
        assert!(grant("b").is_err() && grant("a").is_ok(), "{broken}");
    }
    fs::remove_file(place.directory.path().join("revoked")).unwrap();
    assert!(!gate.look() && grant("b").is_err());
    place.write("key", "{}", 0o644);
    assert!(!gate.look() && stays.holds(now()));
    let other = Signer::new(Algorithm::EdDSA);
    let set = json!({ "keys": [other.jwk("two")] });
    place.write("key", &set.to_string(), 0o644);
    assert!(gate.look());
    assert!(!stays.holds(now()), "its key is gone");
    assert!(grant("a").is_err());
}

//! `[auth.jwt]`: whose JWTs are good here, `[auth.proxy]`: what a proxy says of whom it asks for, and `[auth.mtls]`: whose
//! certificates are.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::declaration::Declaration;
use super::kinds;
use super::layers::{Layers, ValueSource};
use super::parse::{self, path, text, texts};
use super::setting::settings;
use super::written::WrittenValue;

settings! {
    /// Whose JWTs are good.
    #[derive(Debug, Clone, PartialEq)]
    pub struct JwtRules {
        /// By which they may be signed: one at least, all of one family.
        "auth.jwt.algorithms" algorithms: Vec<Algorithm> = Vec::new(),
            algorithms_of_one_family().required("algorithms = [\"RS256\"]");

        /// Where the keys are that signatures are verified with.
        "auth.jwt.key_file" | "auth.jwt.jwks_file" keys: JwtKeys = JwtKeys::KeyFile(PathBuf::new()),
            JwtKeys::in_key_file(), JwtKeys::in_jwks_file();

        /// What `iss` must be.
        "auth.jwt.issuer" issuer: String = String::new(),
            kinds::text().required("issuer = \"https://id.example.com\"");

        /// What `aud` must be or hold.
        "auth.jwt.audience" audience: String = String::new(),
            kinds::text().required("audience = \"walcast\"");

        /// How long after `exp`, and before `nbf`, they are good.
        "auth.jwt.leeway" leeway: Duration = Duration::from_secs(30),
            kinds::time_or_zero().read_by(leeway);

        /// The file that names those that are good no more.
        "auth.jwt.revoked_file" revoked_file: Option<PathBuf> = None,
            kinds::path().optional("they are good until they expire");
    }
}

settings! {
    /// What a proxy says that authenticates.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ProxyRules {
        /// The header that names the user.
        "auth.proxy.user" user: String = String::new(),
            kinds::text().read_by(|value| header(&text(value)?)).required("user = \"X-Auth-User\"");
    }
}

settings! {
    /// Whose certificates are good, and whose they are.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct MtlsRules {
        /// The PEM file of the authorities that sign clients' certificates.
        "auth.mtls.ca" ca: PathBuf = PathBuf::new(),
            kinds::path().required("ca = \"/etc/walcast/clients-ca.pem\"");

        /// The file that says who is who.
        "auth.mtls.clients" clients: PathBuf = PathBuf::new(),
            kinds::path().required("clients = \"/etc/walcast/clients.toml\"");
    }
}

/// The most that clocks may be apart: beyond it an end is none.
const MOST_LEEWAY: Duration = Duration::from_secs(600);

/// All algorithms there are, family by family. Keys of one family are of no use to another.
const FAMILIES: [&[Algorithm]; 4] = [
    &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
    &[
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
    ],
    &[Algorithm::ES256, Algorithm::ES384],
    &[Algorithm::EdDSA],
];

/// Headers that mean something else already.
const TAKEN_HEADERS: [&str; 6] = [
    "authorization",
    "cookie",
    "forwarded",
    "host",
    "origin",
    "x-forwarded-for",
];

/// Where the keys are that signatures are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// One public key in PEM, or a secret as it stands in the file.
    KeyFile(PathBuf),
    /// A JSON Web Key Set.
    JwksFile(PathBuf),
}

impl JwtKeys {
    fn in_key_file() -> Declaration<Self> {
        let read = |value: &_| path(value).map(Self::KeyFile);
        Declaration::perhaps("FILE", read, |keys: &Self| match keys {
            Self::KeyFile(file) => Some(WrittenValue::path(file)),
            Self::JwksFile(_) => None,
        })
    }

    fn in_jwks_file() -> Declaration<Self> {
        let read = |value: &_| path(value).map(Self::JwksFile);
        Declaration::perhaps("FILE", read, |keys: &Self| match keys {
            Self::KeyFile(_) => None,
            Self::JwksFile(file) => Some(WrittenValue::path(file)),
        })
    }
}

/// Refuses JWTs whose keys are nowhere, or in two places.
pub(super) fn check_keys(layers: &mut Layers<'_>) {
    let Some(node) = layers.node("auth.jwt") else {
        return;
    };
    let problem = match (node.get("key_file"), node.get("jwks_file")) {
        (Some(_), Some(_)) => {
            "auth.jwt: key_file and jwks_file are both there; leave one of them out"
        }
        (None, None) if matches!(node.value, WrittenValue::Table(_)) => {
            "auth.jwt: names no keys; write key_file = \"/etc/walcast/jwt.pem\", or jwks_file for a JSON Web Key Set"
        }
        _ => return,
    };
    layers.problem(&ValueSource::File(node.line), problem);
}

fn algorithms_of_one_family() -> Declaration<Vec<Algorithm>> {
    Declaration::new("NAME", algorithms, |algorithms: &Vec<Algorithm>| {
        WrittenValue::texts(algorithms.iter().map(|one| format!("{one:?}")))
    })
}

fn algorithms(value: &WrittenValue) -> Result<Vec<Algorithm>, String> {
    let all = || FAMILIES.iter().copied().flatten();
    let named = |name: String| {
        let found = all().find(|algorithm| format!("{algorithm:?}") == name);
        found.copied().ok_or_else(|| {
            let names: Vec<String> = all().map(|algorithm| format!("{algorithm:?}")).collect();
            format!(
                "{name:?} is no algorithm that is taken; there are {}",
                names.join(", ")
            )
        })
    };
    let algorithms: Vec<Algorithm> = texts(value)?
        .into_iter()
        .map(named)
        .collect::<Result<_, _>>()?;
    let of_one = |family: &&[Algorithm]| algorithms.iter().all(|one| family.contains(one));
    match algorithms.is_empty() {
        true => Err("names no algorithm; write [\"RS256\"]".to_owned()),
        false if FAMILIES.iter().any(of_one) => Ok(algorithms),
        false => Err(
            "are of several families, whose keys can be mistaken for each other; name those of one: HS*, RS* and PS*, \
             ES*, or EdDSA"
                .to_owned(),
        ),
    }
}

fn leeway(value: &WrittenValue) -> Result<Duration, String> {
    match parse::duration_or_zero(value)? {
        leeway if leeway <= MOST_LEEWAY => Ok(leeway),
        _ => Err("is too long, tokens would hardly end; at most 10m".to_owned()),
    }
}

/// Returns the name of a header in which a proxy may say something.
pub(super) fn header(name: &str) -> Result<String, String> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(letter) {
        return Err("is no name of a header; write e.g. \"X-Auth-User\"".to_owned());
    }
    match TAKEN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        true => Err(
            "is a header with a meaning of its own; choose another, e.g. \"X-Auth-User\""
                .to_owned(),
        ),
        false => Ok(name.to_owned()),
    }
}

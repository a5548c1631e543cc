//! `[auth.jwt]`: whose JWTs are good here, and `[auth.proxy]`: what a proxy says of whom it asks for.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::layers::{Layers, Meaning, ValueSource, WrittenValue};
use super::parse::{self, path, text, texts};

/// How far clocks may be apart where nothing is said.
const LEEWAY: Duration = Duration::from_secs(30);
/// The most they may: beyond it an end is none.
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

/// Whose JWTs are good.
#[derive(Debug, Clone, PartialEq)]
pub struct JwtRules {
    /// By which they may be signed: one at least, all of one family.
    pub algorithms: Vec<Algorithm>,
    pub keys: JwtKeys,
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be or hold.
    pub audience: String,
    /// How long after `exp`, and before `nbf`, they are good.
    pub leeway: Duration,
    /// The file that names those that are good no more.
    pub revoked_file: Option<PathBuf>,
}

/// Where the keys are that signatures are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// One public key in PEM, or a secret as it stands in the file.
    KeyFile(PathBuf),
    /// A JSON Web Key Set.
    JwksFile(PathBuf),
}

/// What a proxy says that authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRules {
    /// The header that names the user.
    pub user: String,
}

pub(super) fn jwt(layers: &mut Layers<'_>) -> Option<JwtRules> {
    let node = layers.node("auth.jwt")?;
    if !matches!(node.value, WrittenValue::Table(_)) {
        return None;
    }
    let some_path: Meaning<Option<PathBuf>> = |value| path(value).map(Some);
    let some_text: Meaning<Option<String>> = |value| text(value).map(Some);
    let key_file = layers.file_setting("auth.jwt.key_file", some_path, None);
    let jwks_file = layers.file_setting("auth.jwt.jwks_file", some_path, None);
    let algorithms = required(
        layers,
        "auth.jwt.algorithms",
        |value| algorithms(value).map(Some),
        "algorithms = [\"RS256\"]",
    );
    let issuer = "issuer = \"https://id.example.com\"";
    let issuer = required(layers, "auth.jwt.issuer", some_text, issuer);
    let audience = "audience = \"walcast\"";
    let audience = required(layers, "auth.jwt.audience", some_text, audience);
    let leeway = layers.file_setting("auth.jwt.leeway", leeway, LEEWAY);
    let revoked_file = layers.file_setting("auth.jwt.revoked_file", some_path, None);
    let keys = match (key_file, jwks_file) {
        (Some(file), None) => Some(JwtKeys::KeyFile(file)),
        (None, Some(file)) => Some(JwtKeys::JwksFile(file)),
        (Some(_), Some(_)) => {
            let problem = "auth.jwt: key_file and jwks_file are both there; leave one of them out";
            layers.problem(&ValueSource::File(node.line), problem);
            None
        }
        (None, None) => {
            if node.get("key_file").or(node.get("jwks_file")).is_none() {
                let problem = "auth.jwt: names no keys; write key_file = \"/etc/walcast/jwt.pem\", or jwks_file for a \
                               JSON Web Key Set";
                layers.problem(&ValueSource::File(node.line), problem);
            }
            None
        }
    };
    Some(JwtRules {
        algorithms: algorithms?,
        keys: keys?,
        issuer: issuer?,
        audience: audience?,
        leeway,
        revoked_file,
    })
}

/// The value of a key that has to be there; `None` where it was complained of.
fn required<T>(
    layers: &mut Layers<'_>,
    key: &str,
    meaning: Meaning<Option<T>>,
    example: &str,
) -> Option<T> {
    if layers.node(key).is_none() {
        let place = layers.place(key);
        layers.problem(&place, &format!("{key}: is missing; write {example}"));
    }
    layers.file_setting(key, meaning, None)
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

pub(super) fn proxy(layers: &mut Layers<'_>) -> Option<ProxyRules> {
    let node = layers.node("auth.proxy")?;
    if !matches!(node.value, WrittenValue::Table(_)) {
        return None;
    }
    let named: Meaning<Option<String>> = |value| header(&text(value)?).map(Some);
    let user = required(layers, "auth.proxy.user", named, "user = \"X-Auth-User\"");
    user.map(|user| ProxyRules { user })
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

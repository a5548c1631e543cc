//! What a token is made of: `wct_<id>_<secret>`. The id tells which one it is and is no secret; of the secret, 256 random
//! bits, only the SHA-256 is kept, which is as good as they are: nobody can try them all.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

/// What every token begins with, so that a stray one can be found and told from other secrets.
const PREFIX: &str = "wct_";
/// Bytes of a secret; 43 characters in base64url.
const SECRET_BYTES: usize = 32;
/// Characters of a secret.
const SECRET_CHARS: usize = 43;
/// Letters and digits that can't be mistaken for each other.
const ID_LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Letters of an id: 40 random bits, so that no two of a file are the same.
const ID_CHARS: usize = 8;

/// The part of a token that names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(String);

impl TokenId {
    /// Returns the id that is written so; `None` where it could be none.
    pub fn parse(text: &str) -> Option<TokenId> {
        let fits = text.len() == ID_CHARS && text.bytes().all(|byte| ID_LETTERS.contains(&byte));
        fits.then(|| TokenId(text.to_owned()))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash([u8; 32]);

/// Of a hash nothing is shown: it is of no use to whoever reads a log.
impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

impl SecretHash {
    fn of(secret: &[u8]) -> SecretHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
        SecretHash(hash)
    }

    /// Returns the hash that is written as 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<SecretHash> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(SecretHash(hash))
    }

    /// Returns it as 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A token as somebody presents it.
pub struct PresentedToken {
    pub id: TokenId,
    hash: SecretHash,
}

impl PresentedToken {
    /// Returns the token that is written so; `None` where it is not of the form of one.
    pub fn parse(text: &str) -> Option<PresentedToken> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let decoded = BASE64URL.decode(secret).ok()?;
        (secret.len() == SECRET_CHARS && decoded.len() == SECRET_BYTES).then_some(())?;
        Some(PresentedToken {
            id: TokenId::parse(id)?,
            hash: SecretHash::of(&decoded),
        })
    }

    /// Returns whether its secret is the one that was kept, in a time that tells nothing of where they differ.
    pub fn is(&self, kept: &SecretHash) -> bool {
        verify_slices_are_equal(&self.hash.0, &kept.0).is_ok()
    }
}

/// A token that was just made: the only moment at which its secret is known.
pub struct NewToken {
    pub id: TokenId,
    pub hash: SecretHash,
    text: String,
}

impl NewToken {
    /// Makes one.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn make() -> anyhow::Result<NewToken> {
        let (mut secret, mut letters) = ([0; SECRET_BYTES], [0; ID_CHARS]);
        let filled = rand::fill(&mut secret).and_then(|()| rand::fill(&mut letters));
        filled.map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        let letter = |byte: &u8| char::from(ID_LETTERS[usize::from(*byte) % ID_LETTERS.len()]);
        let id = TokenId(letters.iter().map(letter).collect());
        Ok(NewToken {
            text: format!("{PREFIX}{id}_{}", BASE64URL.encode(secret)),
            hash: SecretHash::of(&secret),
            id,
        })
    }

    /// Returns the whole token, to be shown once.
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash_and_no_other_is() {
        let (one, other) = (NewToken::make().unwrap(), NewToken::make().unwrap());
        let presented = PresentedToken::parse(one.text()).unwrap();
        assert!(presented.id == one.id && presented.is(&one.hash) && !presented.is(&other.hash));
        assert_eq!(one.text().len(), PREFIX.len() + ID_CHARS + 1 + SECRET_CHARS);
        assert_eq!(SecretHash::parse(&one.hash.hex()), Some(one.hash));
        assert!(!format!("{:?}", one.hash).contains(&one.hash.hex()[..8]));
    }

    #[test]
    fn what_is_not_of_the_form_is_no_token() {
        let good = NewToken::make().unwrap().text().to_owned();
        let cut = &good[..good.len() - 1];
        for bad in [
            "",
            "wct_",
            cut,
            &format!("{good}A"),
            &good.replace("wct_", "wcT_"),
            &good.replacen('_', "-", 1),
            &format!("{good}="),
            &format!(" {good}"),
            "wct_aaaaaaaa_é",
        ] {
            assert!(PresentedToken::parse(bad).is_none(), "{bad}");
        }
        for bad in ["", "zz", &"g".repeat(64), &"é".repeat(32), &"+1".repeat(32)] {
            assert!(SecretHash::parse(bad).is_none(), "{bad}");
        }
    }
}

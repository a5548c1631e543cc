//! Signatures of webhooks, in the form of Standard Webhooks: HMAC-SHA256 over id, time and body.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// What secrets begin with in text.
const PREFIX: &str = "whsec_";
/// Bytes of a secret, as Standard Webhooks has them.
const LEAST: usize = 24;
const MOST: usize = 64;
/// Secrets in one file: the new one and the old one while they are changed, and some more.
const MOST_SECRETS: usize = 8;

/// The secrets that a sink signs with. One signs; while it is being changed for another, both do.
pub(super) struct Secrets(Vec<hmac::Key>);

/// Tells how many there are, and nothing else.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Secrets {
    /// Reads one secret a line. Empty lines and those that begin with `#` are none.
    ///
    /// # Errors
    /// A line is no secret, or there is none, or there are too many. The error does not repeat what stands there.
    pub(super) fn parse(text: &str) -> Result<Secrets, String> {
        let lines = text.lines().map(str::trim).zip(1..);
        let written = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        let keys = written.map(|(line, number)| {
            key(line).map_err(|problem| format!("line {number} {problem}; {REMEDY}"))
        });
        let keys: Vec<hmac::Key> = keys.collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err(format!("holds no secret; {REMEDY}")),
            1..=MOST_SECRETS => Ok(Secrets(keys)),
            many => Err(format!(
                "holds {many} secrets; leave the newest and those that receivers still know, {MOST_SECRETS} at most"
            )),
        }
    }

    /// Returns the value of `webhook-signature`: a signature for each secret.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let signed = |key: &hmac::Key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            format!("v1,{}", BASE64.encode(context.sign()))
        };
        let signatures: Vec<String> = self.0.iter().map(signed).collect();
        signatures.join(" ")
    }
}

const REMEDY: &str = "make one: printf 'whsec_%s\\n' \"$(head -c 32 /dev/urandom | base64)\"";

fn key(line: &str) -> Result<hmac::Key, String> {
    let encoded = line
        .strip_prefix(PREFIX)
        .ok_or_else(|| format!("does not begin with {PREFIX}"))?;
    let bytes = BASE64
        .decode(encoded)
        .map_err(|_| format!("is not base64 after {PREFIX}"))?;
    match bytes.len() {
        LEAST..=MOST => Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
        length => Err(format!(
            "is a secret of {length} bytes, which should be {LEAST} to {MOST}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn a_signature_is_that_of_the_specification() {
        // The example of Standard Webhooks' own libraries.
        let signed = Secrets::parse(SECRET).unwrap().sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_of_a_file_signs() {
        let other = format!("whsec_{}", BASE64.encode([7; 32]));
        let both = Secrets::parse(&format!("# new\n{other}\n\n# old\n{SECRET}\n")).unwrap();
        let signed = both.sign("a:1", 5, b"{}");
        let alone = |secret| Secrets::parse(secret).unwrap().sign("a:1", 5, b"{}");
        assert_eq!(signed, format!("{} {}", alone(&other), alone(SECRET)));
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_repeated() {
        let short = format!("whsec_{}", BASE64.encode([7; 23]));
        let long = format!("whsec_{}", BASE64.encode([7; 65]));
        for (text, why) in [
            ("", "holds no secret"),
            ("# only words\n\n", "holds no secret"),
            ("hunter2hunter2", "line 1 does not begin with whsec_"),
            ("\nwhsec_!!!", "line 2 is not base64"),
            (&short, "line 1 is a secret of 23 bytes"),
            (&long, "line 1 is a secret of 65 bytes"),
        ] {
            let error = Secrets::parse(text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
            assert!(
                !error.contains("hunter2") && !error.contains("BwcH"),
                "{error}"
            );
        }
        let many = [SECRET; 9].join("\n");
        assert!(
            Secrets::parse(&many)
                .unwrap_err()
                .starts_with("holds 9 secrets")
        );
    }
}

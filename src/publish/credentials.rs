//! What is presented to NATS servers.

use std::fmt;

use async_nats::ConnectOptions;

/// What the file has to hold.
const REMEDY: &str = "it is to hold what `nsc generate creds` prints, the seed of an NKey (SU…), or USER:PASSWORD on one line";

/// What is presented, of one of the kinds that NATS knows.
pub(super) enum Credentials {
    /// A JWT and the seed that proves it.
    Creds(String),
    /// The seed of an NKey.
    Seed(String),
    User {
        name: String,
        password: String,
    },
}

/// Tells the kind, and nothing else.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::Creds(_) => "a JWT",
            Credentials::Seed(_) => "an NKey",
            Credentials::User { .. } => "a user and a password",
        })
    }
}

impl Credentials {
    /// Reads the text of a file of credentials.
    ///
    /// # Errors
    /// It holds none. The error does not repeat what stands there.
    pub(super) fn parse(text: &str) -> Result<Credentials, String> {
        if text.contains("BEGIN NATS USER JWT") {
            return match ConnectOptions::with_credentials(text) {
                Ok(_) => Ok(Credentials::Creds(text.to_owned())),
                Err(_) => Err(format!("its JWT or its seed is damaged; {REMEDY}")),
            };
        }
        let mut lines = text.lines().map(str::trim);
        let mut lines = lines
            .by_ref()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(format!("holds no credentials, or several; {REMEDY}"));
        };
        match line.split_once(':') {
            Some((name, password)) if !name.is_empty() && !password.is_empty() => {
                Ok(Credentials::User {
                    name: name.to_owned(),
                    password: password.to_owned(),
                })
            }
            None if line.starts_with("SU") => Ok(Credentials::Seed(line.to_owned())),
            _ => Err(format!("holds no credentials; {REMEDY}")),
        }
    }

    /// Has a connection present them.
    pub(super) fn apply(&self, options: ConnectOptions) -> ConnectOptions {
        match self {
            // They could be read when they were parsed.
            Credentials::Creds(text) => options
                .credentials(text)
                .unwrap_or_else(|_| ConnectOptions::new()),
            Credentials::Seed(seed) => options.nkey(seed.clone()),
            Credentials::User { name, password } => {
                options.user_and_password(name.clone(), password.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_of_three_kinds() {
        let kind = |text: &str| format!("{:?}", Credentials::parse(text).unwrap());
        assert_eq!(
            kind("# of the origin\norigin:s3cret:more\n"),
            "a user and a password"
        );
        assert_eq!(
            kind("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n"),
            "an NKey"
        );
    }

    #[test]
    fn what_is_none_is_refused_and_not_repeated() {
        for text in [
            "",
            "# nothing\n",
            "hunter2",
            "a:\n",
            ":b",
            "a:b\nc:d",
            "-----BEGIN NATS USER JWT-----\nhunter2\n",
        ] {
            let error = Credentials::parse(text).unwrap_err();
            assert!(
                error.contains("nsc generate creds") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}

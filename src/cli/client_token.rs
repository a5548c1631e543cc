//! The token that commands present to a daemon. It is no argument: those can be seen in the list of processes.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueHint};

/// The variable that holds the token where no file is named.
const VARIABLE: &str = "WALCAST_TOKEN";

/// Where the token is.
#[derive(Debug, Clone, Default, Args)]
pub struct ClientToken {
    /// File with the token that a daemon asks for; without it the variable WALCAST_TOKEN is read
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    token_file: Option<PathBuf>,
}

impl ClientToken {
    /// The token in this file; without one that in the variable.
    pub fn in_file(token_file: Option<PathBuf>) -> ClientToken {
        ClientToken { token_file }
    }

    /// Returns the token as it is now; `None` where there is none.
    ///
    /// # Errors
    /// The file can't be read, or there is no token in it.
    pub fn read(&self) -> anyhow::Result<Option<String>> {
        let (text, place) = match &self.token_file {
            Some(file) => {
                let place = file.display().to_string();
                let text = std::fs::read_to_string(file);
                (
                    text.with_context(|| format!("--token-file {place}"))?,
                    place,
                )
            }
            None => match std::env::var(VARIABLE) {
                Ok(text) if !text.is_empty() => (text, VARIABLE.to_owned()),
                _ => return Ok(None),
            },
        };
        let token = text.trim();
        // What could not stand in a header is not shown: it may be a secret all the same.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!("{place} holds no token; it must be one line, as `walcast token add` prints it");
        }
        Ok(Some(token.to_owned()))
    }
}

//! What is wrong with a configuration.

use std::fmt;

use crate::text::harmless::harmless;

/// Everything that is wrong with the configuration, a line each: place, value, remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// A key may hold whatever TOML can write. What would move a terminal's cursor or begin another line is shown as an
    /// escape.
    pub(super) fn new(problems: Vec<String>) -> Self {
        let problems = problems.iter();
        Self {
            problems: problems.map(|p| harmless(p).into_owned()).collect(),
        }
    }

    /// The problems, each a sentence of its own. Never empty.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

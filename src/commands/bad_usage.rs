//! An error that is the user's: what was typed can't be what was meant.

use std::fmt;

/// What was typed leads nowhere, and what would. The program ends with exit code 2.
#[derive(Debug)]
pub struct BadUsage(pub(super) String);

impl fmt::Display for BadUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadUsage {}

//! Where a subscriber stands, and in which history.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// The largest integer a JavaScript number holds exactly, 2^53 − 1; beyond it integers travel as strings.
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// A position in a table: the id of the last row that was taken. The rows that follow have higher ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor(pub i64);

impl Cursor {
    /// Before every row, also one with the lowest id there can be. Shown as 0.
    pub const MIN: Cursor = Cursor(i64::MIN);

    /// The position just below the row with this id.
    pub fn before(id: i64) -> Cursor {
        Cursor(id.saturating_sub(1))
    }

    fn shown(self) -> i64 {
        match self {
            Cursor::MIN => 0,
            Cursor(id) => id,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().fmt(f)
    }
}

/// A JSON number where JavaScript can hold it, else a string.
impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = self.shown();
        if shown.unsigned_abs() <= MAX_SAFE_INTEGER as u64 {
            serializer.serialize_i64(shown)
        } else {
            serializer.collect_str(&shown)
        }
    }
}

/// Names one unbroken history of a table. Opaque; compared, never ordered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Epoch(pub Arc<str>);

impl Epoch {
    /// The epoch of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Epoch {
        Epoch(name.into())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_beyond_javascript_become_strings() {
        let json = |id| serde_json::to_string(&Cursor(id)).unwrap();
        assert_eq!(json(MAX_SAFE_INTEGER), "9007199254740991");
        assert_eq!(json(MAX_SAFE_INTEGER + 1), "\"9007199254740992\"");
        assert_eq!(json(-MAX_SAFE_INTEGER), "-9007199254740991");
        assert_eq!(json(i64::MIN + 1), "\"-9223372036854775807\"");
        assert_eq!(json(i64::MIN), "0", "before every row");
    }
}

//! An id as a client reads it.

use serde::de::{self, Deserialize, Deserializer};

/// An id: a number, or a string where JavaScript could not hold the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub i64);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(id) => Ok(Id(id)),
            Written::Text(text) => text.parse().map(Id).map_err(de::Error::custom),
        }
    }
}

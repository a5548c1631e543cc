//! A whole row, read from its message.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, Value};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A row as it travelled.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct WholeRow {
    /// Fingerprint of the description that its values are in the order of.
    pub schema: String,
    /// The values, in the order of the described columns.
    #[serde(rename = "row")]
    pub values: Vec<WholeValue>,
    /// Columns whose values were cut, for the row was larger than any that can travel.
    #[serde(default)]
    pub truncated: Vec<String>,
}

/// A change as it travelled.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct WholeChange {
    /// Fingerprint of the description that its values are in the order of.
    pub schema: String,
    /// What the log has of it.
    pub log: Vec<WholeValue>,
    /// The row as it is, in the order of the described columns, where the log does not have it; `None` where there is none.
    #[serde(default)]
    pub row: Option<Vec<WholeValue>>,
    /// Columns whose values were cut.
    #[serde(default)]
    pub truncated: Vec<String>,
}

impl WholeChange {
    /// Its number; `None` where it has none, and can't be taken in.
    pub fn seq(&self) -> Option<i64> {
        self.log.first().and_then(WholeValue::integer)
    }
}

/// A value as SQLite holds it.
#[derive(Debug, Clone, PartialEq)]
pub enum WholeValue {
    /// All there is but the next.
    Value(Value),
    /// Bytes that SQLite has for a text, and that are no UTF-8.
    RawText(Vec<u8>),
}

impl WholeValue {
    /// The integer, where it is one.
    pub fn integer(&self) -> Option<i64> {
        match self {
            WholeValue::Value(Value::Integer(i)) => Some(*i),
            _ => None,
        }
    }
}

impl ToSql for WholeValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            WholeValue::Value(value) => value.to_sql(),
            WholeValue::RawText(bytes) => Ok(ToSqlOutput::Borrowed(
                rusqlite::types::ValueRef::Text(bytes),
            )),
        }
    }
}

impl<'de> Deserialize<'de> for WholeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WholeValue, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = WholeValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, a number, a text, or an object that says what its text is")
    }

    fn visit_unit<E: de::Error>(self) -> Result<WholeValue, E> {
        Ok(WholeValue::Value(Value::Null))
    }

    fn visit_i64<E: de::Error>(self, i: i64) -> Result<WholeValue, E> {
        Ok(WholeValue::Value(Value::Integer(i)))
    }

    fn visit_u64<E: de::Error>(self, i: u64) -> Result<WholeValue, E> {
        let i = i64::try_from(i).map_err(|_| E::custom("an integer beyond 64 bits"))?;
        self.visit_i64(i)
    }

    fn visit_f64<E: de::Error>(self, r: f64) -> Result<WholeValue, E> {
        Ok(WholeValue::Value(Value::Real(r)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<WholeValue, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<WholeValue, E> {
        Ok(WholeValue::Value(Value::Text(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WholeValue, A::Error> {
        let Some((mark, text)) = map.next_entry::<String, String>()? else {
            return Err(de::Error::custom("an object without a mark"));
        };
        if map.next_key::<String>()?.is_some() {
            return Err(de::Error::custom("an object with more than a mark"));
        }
        marked(&mark, text).map_err(de::Error::custom)
    }
}

fn marked(mark: &str, text: String) -> Result<WholeValue, String> {
    let bytes = || BASE64.decode(&text).map_err(|e| format!("{mark}: {e}"));
    Ok(WholeValue::Value(match mark {
        "$blob" => Value::Blob(bytes()?),
        "$text" => return bytes().map(WholeValue::RawText),
        "$int" => Value::Integer(text.parse().map_err(|e| format!("{mark}: {e}"))?),
        "$real" => Value::Real(match text.as_str() {
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            "NaN" => f64::NAN,
            _ => return Err(format!("{mark}: neither infinite nor no number")),
        }),
        _ => return Err(format!("the mark {mark:?} is not known to this version")),
    }))
}

//! Rows to be inserted: from a request's JSON to values as the table's columns take them. SQLite would take anything;
//! a typo must not be stored.

mod target;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;

use rusqlite::types::Value;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde_json::value::RawValue;

use self::target::InsertTarget;
use self::value::excerpt;
use crate::model::filter::Scope;
use crate::sqlite::table::Schema;

/// Most rows of one request: its transaction holds the database's lock for some tens of milliseconds.
pub const MAX_ROWS: usize = 10_000;

/// Why rows of a request can't be inserted; names the field.
#[derive(Debug, PartialEq, Eq)]
pub enum BadRows {
    /// Names the field and what it takes.
    Invalid(String),
    /// More than [`MAX_ROWS`].
    TooMany,
}

/// A row ready to insert.
#[derive(Debug, PartialEq)]
pub struct NewRow {
    /// By index in the table's columns, in ascending order.
    fields: Vec<(usize, Value)>,
}

impl NewRow {
    /// Indices of the columns that are given, in the order of [`values`](Self::values).
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.fields.iter().map(|(column, _)| *column)
    }

    /// The values, in the order of [`columns`](Self::columns).
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.fields.iter().map(|(_, value)| value)
    }

    /// Returns whether the same columns are given in both.
    pub fn has_columns_of(&self, other: &NewRow) -> bool {
        self.columns().eq(other.columns())
    }
}

/// Reads a body: one object or an array of them. Columns of the scope of which nothing is said are filled with the only
/// value it allows.
pub fn parse_rows(schema: &Schema, scope: &Scope, body: &[u8]) -> Result<Vec<NewRow>, BadRows> {
    let broken =
        |e: &dyn fmt::Display| BadRows::Invalid(format!("the body is not valid JSON: {e}"));
    let text = std::str::from_utf8(body).map_err(|e| broken(&e))?;
    let target = InsertTarget::new(schema, scope);
    match text.trim_start().as_bytes().first() {
        Some(b'{') => {
            let row = serde_json::from_str(text).map_err(|e| broken(&e))?;
            Ok(vec![target.row(&row).map_err(BadRows::Invalid)?])
        }
        Some(b'[') => {
            let mut rows = Rows {
                target: &target,
                refusal: None,
            };
            let mut json = serde_json::Deserializer::from_str(text);
            let parsed = (&mut rows).deserialize(&mut json);
            let parsed = parsed.and_then(|rows| json.end().map(|()| rows));
            match (rows.refusal, parsed) {
                (Some(refusal), _) => Err(refusal),
                (None, Err(e)) => Err(broken(&e)),
                (None, Ok(rows)) if rows.is_empty() => Err(BadRows::Invalid(
                    "the array is empty; send at least one object".into(),
                )),
                (None, Ok(rows)) => Ok(rows),
            }
        }
        _ => match serde_json::from_str::<&RawValue>(text) {
            Ok(other) => Err(BadRows::Invalid(format!(
                "the body must be an object or an array of objects, not {}",
                excerpt(other.get())
            ))),
            Err(e) => Err(broken(&e)),
        },
    }
}

/// An array of rows, each taken in before the next is looked at: a large body makes no large tree.
struct Rows<'t, 's> {
    target: &'t InsertTarget<'s>,
    /// What is wrong with a row, apart from JSON.
    refusal: Option<BadRows>,
}

impl<'de> DeserializeSeed<'de> for &mut Rows<'_, '_> {
    type Value = Vec<NewRow>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Rows<'_, '_> {
    type Value = Vec<NewRow>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut rows = Vec::new();
        while let Some(raw) = array.next_element::<&RawValue>()? {
            let row = match rows.len() {
                MAX_ROWS => Err(BadRows::TooMany),
                index => self
                    .target
                    .raw_row(raw.get())
                    .map_err(|e| BadRows::Invalid(format!("row {index}: {e}"))),
            };
            match row {
                Ok(row) => rows.push(row),
                Err(refusal) => {
                    self.refusal = Some(refusal);
                    return Err(serde::de::Error::custom("a row is refused"));
                }
            }
        }
        Ok(rows)
    }
}

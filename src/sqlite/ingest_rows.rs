//! Rows to be inserted: from a request's JSON to values as the table's columns take them. SQLite would take anything;
//! a typo must not be stored.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::types::Value;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::model::filter::Scope;
use crate::sqlite::table::{Column, Schema};
use crate::text::json_object::Object;

/// Most rows of one request: its transaction holds the database's lock for some tens of milliseconds.
pub const MAX_ROWS: usize = 10_000;
/// Deepest nesting of a document, as most parsers bound it.
const MAX_DEPTH: usize = 128;
/// Characters of a wrong value that its refusal shows.
const SHOWN: usize = 60;

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

/// A table, as it takes rows.
struct InsertTarget<'s> {
    schema: &'s Schema,
    /// Of each of the table's columns, whether it holds JSON; `None` where it can't be given.
    columns: Vec<Option<bool>>,
    /// Columns that must be given.
    required: Vec<usize>,
    /// What columns hold where nothing is given.
    filled: Vec<(usize, Value)>,
}

impl<'s> InsertTarget<'s> {
    fn new(schema: &'s Schema, scope: &Scope) -> InsertTarget<'s> {
        let table = &schema.table;
        let places = table.columns.iter().enumerate().map(|(index, column)| {
            let place = schema.place(&column.name)?;
            let given = index != table.key && !column.generated;
            given.then_some(schema.exposed[place].json)
        });
        let required = table.columns.iter().enumerate().filter(|(index, c)| {
            c.not_null && !c.has_default && !c.generated && *index != table.key
        });
        let filled = table
            .columns
            .iter()
            .enumerate()
            .filter_map(|(index, column)| {
                let writable = index != table.key && !column.generated;
                let value = scope.sole_value(&column.name).filter(|_| writable)?;
                Some((index, value))
            });
        InsertTarget {
            schema,
            filled: filled.collect(),
            columns: places.collect(),
            required: required.map(|(index, _)| index).collect(),
        }
    }

    fn raw_row(&self, raw: &str) -> Result<NewRow, String> {
        if !raw.starts_with('{') {
            return Err(format!("{} is not an object", excerpt(raw)));
        }
        // The whole array was found to be JSON; what can be wrong still is a name that is no text.
        let row =
            serde_json::from_str(raw).map_err(|e| format!("a name is not valid JSON: {e}"))?;
        self.row(&row)
    }

    fn row(&self, row: &Object<'_>) -> Result<NewRow, String> {
        if row.0.is_empty() {
            return Err("the object is empty; name at least one column".into());
        }
        let columns = &self.schema.table.columns;
        let mut fields: Vec<(usize, Value)> = Vec::with_capacity(row.0.len());
        for (name, value) in &row.0 {
            let index = self.column(name)?;
            let json = self.columns[index].unwrap_or_default();
            let value = sql_value(&columns[index], json, value.get())?;
            let place = fields.partition_point(|(given, _)| *given < index);
            if fields.get(place).is_some_and(|(given, _)| *given == index) {
                return Err(format!("column \"{name}\" is given more than once"));
            }
            fields.insert(place, (index, value));
        }
        for (index, value) in &self.filled {
            let place = fields.partition_point(|(given, _)| given < index);
            if fields.get(place).is_none_or(|(given, _)| given != index) {
                fields.insert(place, (*index, value.clone()));
            }
        }
        for &required in &self.required {
            let given = fields.iter().find(|(index, _)| *index == required);
            if matches!(given, None | Some((_, Value::Null))) {
                return Err(format!(
                    "column \"{}\" is NOT NULL and must be given",
                    columns[required].name
                ));
            }
        }
        Ok(NewRow { fields })
    }

    /// The index of the column with this name, which must be one that can be given.
    fn column(&self, name: &str) -> Result<usize, String> {
        let table = &self.schema.table;
        if name == table.key_name() {
            return Err(format!(
                "column \"{name}\" is the key; leave it out, the database gives it"
            ));
        }
        let writable = |index: &usize| self.columns[*index].is_some();
        let found = table.columns.iter().position(|c| c.name == name);
        found.filter(writable).ok_or_else(|| {
            let there = (0..table.columns.len()).filter(writable);
            let there: Vec<&str> = there.map(|i| table.columns[i].name.as_str()).collect();
            format!("unknown column \"{name}\"; there are {}", there.join(", "))
        })
    }
}

/// What a column's declared type wants, by SQLite's own rules ("Determination Of Column Affinity") in their order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Integer,
    Text,
    Blob,
    Real,
    Boolean,
    Anything,
}

impl Wants {
    fn of(declared: &str) -> Wants {
        let has = |part: &str| declared.contains(part);
        if has("INT") {
            Wants::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Wants::Text
        } else if has("BLOB") {
            Wants::Blob
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Wants::Real
        } else if has("BOOL") {
            Wants::Boolean
        } else {
            Wants::Anything
        }
    }
}

/// The value as the column wants it. `raw` is JSON.
fn sql_value(column: &Column, json: bool, raw: &str) -> Result<Value, String> {
    let name = &column.name;
    let wrong = || {
        let wanted = match column.declared.as_str() {
            "" => "a string or a number",
            declared => declared,
        };
        Err(format!(
            "column \"{name}\" takes {wanted}, not {}",
            excerpt(raw)
        ))
    };
    if raw == "null" {
        return match column.not_null {
            true => Err(format!("column \"{name}\" is NOT NULL")),
            false => Ok(Value::Null),
        };
    }
    if json {
        return match depth(raw) <= MAX_DEPTH {
            true => Ok(Value::Text(raw.to_owned())),
            false => Err(format!(
                "column \"{name}\" takes JSON of {MAX_DEPTH} levels at most"
            )),
        };
    }
    let wants = Wants::of(&column.declared);
    match raw.as_bytes().first() {
        Some(b'"') => {
            let text: String = serde_json::from_str(raw)
                .map_err(|e| format!("column \"{name}\": not a valid string: {e}"))?;
            match string_value(wants, text) {
                Ok(Some(value)) => Ok(value),
                Ok(None) => wrong(),
                Err(e) => Err(format!("column \"{name}\" takes base64: {e}")),
            }
        }
        Some(b't' | b'f') if wants == Wants::Boolean => Ok(Value::Integer((raw == "true").into())),
        Some(b'-' | b'0'..=b'9') if !matches!(wants, Wants::Text | Wants::Blob) => {
            number_value(wants, raw).map_or_else(wrong, Ok)
        }
        _ => wrong(),
    }
}

/// `None` where the column takes no such text.
fn string_value(wants: Wants, text: String) -> Result<Option<Value>, base64::DecodeError> {
    Ok(match wants {
        Wants::Text | Wants::Anything => Some(Value::Text(text)),
        Wants::Blob => Some(Value::Blob(BASE64.decode(&text)?)),
        // What is sent to subscribers as a string is taken as one.
        Wants::Integer => text.parse().ok().map(Value::Integer),
        Wants::Real => match text.as_str() {
            "Infinity" => Some(Value::Real(f64::INFINITY)),
            "-Infinity" => Some(Value::Real(f64::NEG_INFINITY)),
            _ => None,
        },
        Wants::Boolean => None,
    })
}

/// `None` where the column can't hold the number as it is.
fn number_value(wants: Wants, raw: &str) -> Option<Value> {
    let whole = !raw.contains(['.', 'e', 'E']);
    if let (true, Ok(integer)) = (whole, raw.parse()) {
        return Some(Value::Integer(integer));
    }
    if wants == Wants::Integer || (whole && wants != Wants::Real) {
        return None;
    }
    raw.parse()
        .ok()
        .filter(|r: &f64| r.is_finite())
        .map(Value::Real)
}

/// How many arrays and objects of valid JSON are within each other.
fn depth(raw: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(inner) = bytes.next() {
                    match inner {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// The beginning of a value, for a message.
fn excerpt(raw: &str) -> String {
    match raw.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &raw[..end]),
        None => raw.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::table::{Exposed, Table};
    use rusqlite::Connection;

    fn schema() -> Schema {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, ts TEXT NOT NULL, n INTEGER, r REAL, b BLOB, ok BOOLEAN, j TEXT, any, ts2 TEXT, d TEXT NOT NULL DEFAULT 'x',
             g TEXT AS (ts))",
        )
        .unwrap();
        let table = Table::introspect(&db, "t", None).unwrap();
        let exposed = table
            .columns
            .iter()
            .map(|c| Exposed {
                name: c.name.clone(),
                json: c.name == "j",
                truncate: None,
            })
            .collect();
        Schema {
            version: 1,
            table,
            exposed,
            key_place: 0,
            hidden: Vec::new(),
        }
    }

    fn parsed(body: &str) -> Vec<NewRow> {
        parse_rows(&schema(), &Scope::default(), body.as_bytes()).unwrap()
    }

    fn value(name: &str, json: &str) -> Value {
        let row = parsed(&format!(r#"{{"ts":"a","{name}":{json}}}"#)).remove(0);
        let column = schema().table.columns.iter().position(|c| c.name == name);
        let mut fields = row.fields.into_iter();
        fields.find(|(c, _)| Some(*c) == column).unwrap().1
    }

    #[test]
    fn good_rows_become_values() {
        let text = |text: &str| Value::Text(text.into());
        for (name, json, expected) in [
            (
                "n",
                r#""9007199254740993""#,
                Value::Integer(9007199254740993),
            ),
            ("n", "-9223372036854775808", Value::Integer(i64::MIN)),
            ("n", "null", Value::Null),
            ("b", r#""AAE=""#, Value::Blob(vec![0, 1])),
            ("ok", "true", Value::Integer(1)),
            ("r", r#""-Infinity""#, Value::Real(f64::NEG_INFINITY)),
            (
                "r",
                "12345678901234567890123",
                Value::Real(12345678901234567890123.0),
            ),
            ("r", "1e3", Value::Real(1000.0)),
            ("ts2", r#""\u00e9\u0000""#, text("é\0")),
            ("any", "9223372036854775807", Value::Integer(i64::MAX)),
            (
                "j",
                r#"{"k": [12345678901234567890123, 1.0],"k":2}"#,
                text(r#"{"k": [12345678901234567890123, 1.0],"k":2}"#),
            ),
            ("j", r#""text""#, text(r#""text""#)),
        ] {
            assert_eq!(value(name, json), expected, "{name} {json}");
        }
        let rows = parsed(r#" [{"ts":"a","n":1}, {"n":2,"ts":"b"}, {"ts":"c"}] "#);
        assert!(rows[0].has_columns_of(&rows[1]) && !rows[1].has_columns_of(&rows[2]));
    }

    #[test]
    fn bad_rows_are_refused_naming_the_field() {
        let deep = format!(
            r#"{{"ts":"a","j":{}1{}}}"#,
            "[".repeat(129),
            "]".repeat(129)
        );
        for (body, names) in [
            (r#"{"ts":"a","nope":1}"#, "nope"),
            (r#"{"ts":"a","TS":"b"}"#, "TS"),
            (r#"{"ts":5}"#, "ts"),
            (r#"{"ts":null}"#, "ts"),
            (r#"{"ts":"a","ts":"a"}"#, "more than once"),
            (r#"{"ts":"a","t\u0073":"a"}"#, "\"ts\" is given more"),
            (r#"{"n":1}"#, "ts"),
            (r#"{"ts":"a","n":1.5}"#, "n"),
            (r#"{"ts":"a","n":"five"}"#, "n"),
            (
                r#"{"ts":"a","n":9223372036854775808}"#,
                "\"n\" takes INTEGER",
            ),
            (r#"{"ts":"a","n":true}"#, "n"),
            (r#"{"ts":"a","any":12345678901234567890123}"#, "any"),
            (r#"{"ts":"a","r":1e999}"#, "r"),
            (r#"{"ts":"a","r":NaN}"#, "JSON"),
            (r#"{"ts":"a","r":"NaN"}"#, "\"r\" takes REAL"),
            (r#"{"ts":"a","ok":"yes"}"#, "ok"),
            (r#"{"ts":"a","b":"!"}"#, "b"),
            (r#"{"ts":"a","d":null}"#, "d"),
            (r#"{"ts":"a","r":[1]}"#, "r"),
            (r#"{"ts":"\ud800"}"#, "ts"),
            (r#"{"ts":"a","g":"x"}"#, "g"),
            (r#"{"id":1,"ts":"a"}"#, "id"),
            (&deep, "128 levels"),
            (r#"[{"ts":"a"},{"ts":7}]"#, "row 1"),
            (r#"[{"ts":"a"},7]"#, "row 1"),
            (r#"[{"ts":"a"}]7"#, "JSON"),
            (r#"[{"ts":"a"},]"#, "JSON"),
            ("[]", "empty"),
            ("{}", "empty"),
            ("7", "object"),
            ("{", "JSON"),
            ("", "JSON"),
        ] {
            match parse_rows(&schema(), &Scope::default(), body.as_bytes()) {
                Err(BadRows::Invalid(error)) => assert!(error.contains(names), "{body}: {error}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        let long = format!(r#"{{"ts":[{}]}}"#, "é".repeat(10_000).escape_debug());
        assert!(parse_rows(&schema(), &Scope::default(), long.as_bytes()).is_err());
    }

    #[test]
    fn ten_thousand_rows_are_taken_and_no_more() {
        let body = |rows: usize| format!("[{}]", vec![r#"{"ts":""}"#; rows].join(","));
        assert_eq!(parsed(&body(MAX_ROWS)).len(), MAX_ROWS);
        let refused = parse_rows(&schema(), &Scope::default(), body(MAX_ROWS + 1).as_bytes());
        assert_eq!(refused, Err(BadRows::TooMany));
    }

    #[test]
    fn depth_does_not_count_what_stands_in_strings() {
        assert_eq!(depth(r#"{"a[{\"[":[1,{"b":"]"}]}"#), 3);
        assert_eq!(depth("7"), 0);
    }
}

//! A value of JSON as a column takes it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::types::Value;

use crate::sqlite::table::Column;

/// Deepest nesting of a document, as most parsers bound it.
const MAX_DEPTH: usize = 128;
/// Characters of a wrong value that its refusal shows.
const SHOWN: usize = 60;

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
pub(super) fn sql_value(column: &Column, json: bool, raw: &str) -> Result<Value, String> {
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
pub(super) fn depth(raw: &str) -> usize {
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
pub(super) fn excerpt(raw: &str) -> String {
    match raw.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &raw[..end]),
        None => raw.to_owned(),
    }
}

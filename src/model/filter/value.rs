//! What a filter's value stands for in each of SQLite's storage classes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::types::Value;

/// What a column may hold, as it is stored, for a filter's value to match it: the text, the number it is written as, and
/// the blob it is the base64 of.
pub(super) fn stored(value: &str) -> impl Iterator<Item = Value> {
    let blob = BASE64.decode(value).ok().map(Value::Blob);
    let others = number(value).into_iter().chain(blob);
    std::iter::once(Value::Text(value.to_owned())).chain(others)
}

fn number(text: &str) -> Option<Value> {
    // Rust's float parser also takes "inf" and "nan"; a stored infinity is written "Infinity" in JSON.
    match text {
        "Infinity" => return Some(Value::Real(f64::INFINITY)),
        "-Infinity" => return Some(Value::Real(f64::NEG_INFINITY)),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.') {
        return None;
    }
    if let Ok(integer) = text.parse() {
        return Some(Value::Integer(integer));
    }
    let real: f64 = text.parse().ok()?;
    real.is_finite().then_some(Value::Real(real))
}

/// A number under which all that SQLite compares as equal to it are found, and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Exact {
    Integer(i64),
    /// The bits of a fraction, an infinity, or a number beyond all integers.
    Real(u64),
}

impl Exact {
    pub(super) fn of_real(real: f64) -> Exact {
        // 2^63, which is no i64; its negative is one. A cast of what lies between loses a fraction and nothing else.
        const BEYOND: f64 = 9_223_372_036_854_775_808.0;
        let integer = real as i64;
        match (-BEYOND..BEYOND).contains(&real) && integer as f64 == real {
            true => Exact::Integer(integer),
            false => Exact::Real(real.to_bits()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_that_sqlite_compares_as_equal() {
        let exact = [
            (5.0, Exact::Integer(5)),
            (-0.0, Exact::Integer(0)),
            (9_007_199_254_740_992.0, Exact::Integer(1 << 53)),
            (-9_223_372_036_854_775_808.0, Exact::Integer(i64::MIN)),
        ];
        for (real, key) in exact {
            assert_eq!(Exact::of_real(real), key);
        }
        for real in [5.5, 9_223_372_036_854_775_808.0, f64::INFINITY] {
            assert_eq!(Exact::of_real(real), Exact::Real(real.to_bits()));
        }
    }
}

//! Whether the values of a column can be had from the ids of their rows: a running number, `id % n`, `id / n`, a label
//! with such a number in it, a time of day that goes on with every row, values that take turns. Another history would
//! have the same values under the same ids, so that they agree proves nothing.

use super::sample::{PlainValue, SampledValue};

/// From so many rows on, a remainder or a quotient is told from a coincidence.
const ENOUGH_FOR_REMAINDERS: usize = 6;
/// So many pairs of rows that are a period apart have the same value where values take turns.
const ENOUGH_TURNS: usize = 3;
/// Reals are compared in these parts of one: microseconds, where they are seconds.
const PARTS: f64 = 1e6;
/// A real, and what it was computed from, may each be off by half a part.
const ROUNDED: i64 = 2;

/// Returns whether each value follows from its row's id, as far as these rows tell. Of two rows everything can be said
/// that has a number in it.
pub(super) fn follows_from_id(rows: &[(i64, &SampledValue)]) -> bool {
    if take_turns(rows) {
        return true;
    }
    let ids: Vec<i64> = rows.iter().map(|(id, _)| *id).collect();
    let numbers = rows.iter().map(|(_, cell)| match cell.plain {
        PlainValue::Number(number) => Some(number),
        _ => None,
    });
    if let Some(numbers) = numbers.collect::<Option<Vec<i64>>>() {
        return is_number_of(&ids, &numbers) || is_quotient_of(&ids, &numbers, 1);
    }
    let parts = rows.iter().map(|(_, cell)| cell.plain.parts());
    if let Some(parts) = parts.collect::<Option<Vec<i64>>>() {
        return is_number_of(&ids, &parts) || is_quotient_of(&ids, &parts, ROUNDED);
    }
    let labels = rows.iter().map(|(_, cell)| match &cell.plain {
        PlainValue::Label(label) => Some(label.as_str()),
        _ => None,
    });
    labels
        .collect::<Option<Vec<&str>>>()
        .is_some_and(|labels| is_label_of(&ids, &labels))
}

impl PlainValue {
    /// A number in [`PARTS`] of one.
    fn parts(&self) -> Option<i64> {
        let value = match self {
            PlainValue::Number(number) => *number as f64,
            PlainValue::Real(real) => *real,
            _ => return None,
        };
        let parts = (value * PARTS).round();
        // Beyond that, parts are not told apart.
        (parts.abs() < 2f64.powi(53)).then_some(parts as i64)
    }
}

/// Returns whether the values come again at one distance of ids: one of a few workers in turn, a day of the week.
fn take_turns(rows: &[(i64, &SampledValue)]) -> bool {
    let furthest = rows.len().saturating_sub(ENOUGH_TURNS) as u64;
    (2..=furthest).any(|period| {
        let mut pairs = 0;
        let mut again = rows.iter().enumerate().flat_map(|(place, (id, cell))| {
            let apart = move |(other, _): &&(i64, &SampledValue)| {
                id.abs_diff(*other).is_multiple_of(period)
            };
            let others = rows[place + 1..].iter().filter(apart);
            others.map(|(_, other)| other.fingerprint == cell.fingerprint)
        });
        again.all(|same| {
            pairs += 1;
            same
        }) && pairs >= ENOUGH_TURNS
    })
}

/// `(a * id + b) / c`, rounded: `a` and `b` can be found so that no value is off by `width` or more.
fn is_quotient_of(ids: &[i64], values: &[i64], width: i64) -> bool {
    let (mut least, mut most) = (f64::NEG_INFINITY, f64::INFINITY);
    for (place, (id, value)) in ids.iter().zip(values).enumerate() {
        for (other_id, other) in ids.iter().zip(values).skip(place + 1) {
            let run = (i128::from(*id) - i128::from(*other_id)) as f64;
            let rise = i128::from(*value) - i128::from(*other);
            let slope = |off: i64| (rise + i128::from(off)) as f64 / run;
            let (a, b) = (slope(width), slope(-width));
            (least, most) = (least.max(a.min(b)), most.min(a.max(b)));
        }
    }
    values.len() >= ENOUGH_FOR_REMAINDERS && least < most
}

/// `a * id + b`, or the remainder of that: all values lie within one period.
fn is_number_of(ids: &[i64], values: &[i64]) -> bool {
    if values.len() <= 2 {
        return true;
    }
    let (Some(least), Some(most)) = (values.iter().min(), values.iter().max()) else {
        return true;
    };
    let range = (i128::from(*most) - i128::from(*least)).unsigned_abs();
    let with_slope = |slope: i128| {
        let offset = |place: usize| {
            let step = slope.checked_mul(i128::from(ids[place]) - i128::from(ids[0]))?;
            (i128::from(values[place]) - i128::from(values[0])).checked_sub(step)
        };
        let period = (0..ids.len()).try_fold(0, |period, place| {
            Some(greatest_divisor(period, offset(place)?.unsigned_abs()))
        });
        period.is_some_and(|period| {
            period == 0 || (period > range && values.len() >= ENOUGH_FOR_REMAINDERS)
        })
    };
    let mut slopes: Vec<i128> = ids
        .windows(2)
        .zip(values.windows(2))
        .filter_map(|(ids, values)| {
            let run = i128::from(ids[0]) - i128::from(ids[1]);
            let rise = i128::from(values[0]) - i128::from(values[1]);
            (run != 0 && rise % run == 0).then(|| rise / run)
        })
        .collect();
    slopes.sort_unstable();
    slopes.dedup();
    slopes.into_iter().any(with_slope)
}

fn greatest_divisor(a: u128, b: u128) -> u128 {
    match b {
        0 => a,
        _ => greatest_divisor(b, a % b),
    }
}

/// The same text with numbers in it that follow from the id; or one number, written to another base.
fn is_label_of(ids: &[i64], labels: &[&str]) -> bool {
    let parts: Vec<_> = labels.iter().map(|label| numbers_in(label)).collect();
    let same_text = parts.windows(2).all(|pair| pair[0].0 == pair[1].0);
    if same_text && !parts.is_empty() {
        let columns = (0..parts[0].1.len())
            .map(|place| parts.iter().map(|(_, numbers)| numbers[place]).collect());
        let columns: Vec<Vec<i64>> = columns.collect();
        let follows = |numbers: &Vec<i64>| {
            !is_constant(numbers) && (is_number_of(ids, numbers) || is_quotient_of(ids, numbers, 1))
        };
        let stands = |numbers: &Vec<i64>| is_constant(numbers) || is_slow(numbers);
        let mut moving = columns.iter().filter(|numbers| !is_constant(numbers));
        return columns
            .iter()
            .all(|numbers| stands(numbers) || follows(numbers))
            && (moving.next().is_none() || columns.iter().any(follows));
    }
    [16, 36].into_iter().any(|base| {
        let own = own_parts(labels);
        let numbers = own.iter().map(|part| i64::from_str_radix(part, base).ok());
        numbers
            .collect::<Option<Vec<i64>>>()
            .is_some_and(|numbers| is_number_of(ids, &numbers))
    })
}

fn is_constant(numbers: &[i64]) -> bool {
    numbers.windows(2).all(|pair| pair[0] == pair[1])
}

/// The hours of a time whose minutes go on with every row.
fn is_slow(numbers: &[i64]) -> bool {
    let changes = numbers.windows(2).filter(|pair| pair[0] != pair[1]).count();
    changes * 4 <= numbers.len()
}

/// A text with its runs of digits taken out, and these.
fn numbers_in(label: &str) -> (String, Vec<i64>) {
    let (mut text, mut numbers) = (String::new(), Vec::new());
    let mut rest = label;
    while let Some(first) = rest.chars().next() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        match rest[..end].parse() {
            Ok(number) => {
                numbers.push(number);
                text.push('\0');
                rest = &rest[end..];
            }
            // No digit, or a number beyond all ids.
            Err(_) => {
                let end = end.max(first.len_utf8());
                text.push_str(&rest[..end]);
                rest = &rest[end..];
            }
        }
    }
    (text, numbers)
}

/// What is left of each label without what all begin and end with.
fn own_parts<'a>(labels: &[&'a str]) -> Vec<&'a str> {
    let Some(first) = labels.first() else {
        return Vec::new();
    };
    let common = |a: &mut dyn Iterator<Item = char>, b: &mut dyn Iterator<Item = char>| -> usize {
        let pairs = a.zip(b).take_while(|(a, b)| a == b);
        pairs.map(|(a, _)| a.len_utf8()).sum()
    };
    let begin = labels
        .iter()
        .map(|label| common(&mut first.chars(), &mut label.chars()));
    let begin = begin.min().unwrap_or(0);
    let rest = labels.iter().map(|label| &label[begin..]);
    let rest: Vec<&str> = rest.collect();
    let end = rest
        .iter()
        .map(|label| common(&mut rest[0].chars().rev(), &mut label.chars().rev()));
    let end = end.min().unwrap_or(0);
    rest.iter()
        .map(|label| &label[..label.len() - end])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follows(value: impl Fn(i64) -> PlainValue) -> bool {
        let cell = |id: i64| {
            let plain = value(id);
            let fingerprint =
                crate::sqlite::fingerprint::fingerprint(format!("{plain:?}").as_bytes());
            (id, SampledValue { fingerprint, plain })
        };
        let rows: Vec<(i64, SampledValue)> = (85..=100).rev().map(cell).collect();
        let rows: Vec<(i64, &SampledValue)> = rows.iter().map(|(id, cell)| (*id, cell)).collect();
        follows_from_id(&rows)
    }

    fn number(value: impl Fn(i64) -> i64) -> bool {
        follows(|id| PlainValue::Number(value(id)))
    }

    fn real(value: impl Fn(i64) -> f64) -> bool {
        follows(|id| PlainValue::Real(value(id)))
    }

    fn label(value: impl Fn(i64) -> String) -> bool {
        follows(|id| PlainValue::Label(value(id)))
    }

    /// As good as random, and the same for the same id.
    fn hash(id: i64) -> i64 {
        (crate::sqlite::fingerprint::fingerprint(&id.to_le_bytes()) >> 2) as i64
    }

    #[test]
    fn what_the_id_gives_is_known() {
        assert!(number(|id| id));
        assert!(number(|id| 5000 - 3 * id));
        assert!(number(|id| id % 16));
        assert!(number(|id| (id * 7 + 3) % 12));
        assert!(number(|id| (id * 7 + 3) / 5));
        assert!(real(|id| 1_767_225_600.0 + 0.5 * id as f64));
        assert!(real(|id| 0.1 * id as f64));
        assert!(real(|id| (id % 40) as f64 / 8.0));
        assert!(label(|id| format!("{:.2}", 0.37 * id as f64)));
        assert!(label(|id| format!(
            "2026-01-{:02}T{:02}",
            id / 4,
            id % 4 * 6
        )));
        assert!(label(|id| [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"
        ][(id % 10) as usize]
            .into()));
        assert!(label(|id| format!("evt-{id}")));
        assert!(label(|id| format!("order {id:08} of shard {}", id % 4)));
        assert!(label(|id| format!("{id:x}")));
        assert!(label(|id| format!("job-{id:x}-z")));
        let at = |id: i64| (id / 60, id % 60);
        assert!(label(|id| format!(
            "2026-01-01T{:02}:{:02}:07Z",
            at(id).0,
            at(id).1
        )));
        assert!(label(|id| format!(
            "2026-01-01T00:{:02}:{:02}Z",
            at(id * 5).0,
            at(id * 5).1
        )));
    }

    #[test]
    fn what_is_the_row_s_own_is_told_from_it() {
        assert!(!number(hash));
        assert!(!number(|id| hash(id) % 1000));
        assert!(!number(|id| id * id));
        assert!(!number(|id| 60 * id + hash(id) % 5));
        assert!(!real(|id| id as f64 + (hash(id) % 1000) as f64 / 1e3));
        assert!(!real(|id| (id as f64).sqrt()));
        assert!(!label(|id| format!("{:016x}", hash(id))));
        assert!(!label(|id| format!(
            "2026-01-01T00:{:02}:07.{:03}Z",
            id % 60,
            hash(id) % 1000
        )));
        assert!(!label(|id| format!("host-{}", hash(id) % 100)));
        assert!(!label(|id| format!(
            "{} did it",
            ["amy", "bo", "cy", "di"][(hash(id) % 4) as usize]
        )));
    }
}

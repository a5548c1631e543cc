//! A change as JSON.

use std::io::Write as _;
use std::ops::Range;

use rusqlite::types::ValueRef;
use time::OffsetDateTime;

use super::{Change, ChangeLog, Op, Wording};
use crate::config::FeedConfig;
use crate::sqlite::row_json::{
    MARKER, RowEncoder, label, message_prefix, push_integer, push_json, push_value,
};
use crate::sqlite::table::Schema;

/// The day that Unix time begins, in Julian days.
const UNIX_EPOCH: f64 = 2_440_587.5;
const MILLISECONDS_A_DAY: f64 = 86_400_000.0;
/// The days of the years 0 to 9999, which is as far as SQLite's own times go.
const DAYS: Range<f64> = 1_721_059.5..5_373_484.5;

/// Words one feed's changes, and the rows that its subscribers begin with.
#[derive(Debug)]
pub struct ChangeEncoder {
    /// `{"type":"orders_change","change":`
    prefix: Vec<u8>,
    /// `"name":` of each column of the key, with `{` or `,` before it.
    key: Vec<Vec<u8>>,
    row: RowEncoder,
    max_row_bytes: usize,
}

/// Where the values of a row stand that is shown.
type Places<'p> = &'p [usize];

impl ChangeEncoder {
    pub fn new(
        feed: &FeedConfig,
        schema: &Schema,
        log: &ChangeLog,
        max_row_bytes: usize,
    ) -> ChangeEncoder {
        let names = log.key.iter().enumerate();
        ChangeEncoder {
            prefix: message_prefix(feed),
            key: names.map(|(place, name)| label(place, name)).collect(),
            row: RowEncoder::new(feed, schema, max_row_bytes),
            max_row_bytes,
        }
    }

    /// Appends the message of a change: `{"type":…,"change":{…}}`.
    pub fn message<'r, R: Fn(usize) -> ValueRef<'r> + Copy>(
        &self,
        out: &mut Vec<u8>,
        change: &Change<'_, R>,
        wording: Wording,
    ) {
        self.enveloped(out, |out, limit| {
            self.body(out, change, wording, (limit, MARKER))
        });
    }

    /// Appends the change alone, `{…}`, its rows in about `limit` bytes where the feed's own limit is not smaller still,
    /// and says which columns were cut because they were too large.
    pub fn item<'r, R: Fn(usize) -> ValueRef<'r> + Copy>(
        &self,
        out: &mut Vec<u8>,
        change: &Change<'_, R>,
        wording: Wording,
        limit: usize,
    ) -> Vec<String> {
        let limit = limit.min(self.max_row_bytes);
        self.body(out, change, wording, (limit, ""))
    }

    /// Appends the message of a row of the table as it is: `row` has the columns shown, the key stands at `key`.
    pub fn present_row<'r, R: Fn(usize) -> ValueRef<'r> + Copy>(
        &self,
        out: &mut Vec<u8>,
        row: R,
        key: Places<'_>,
    ) {
        self.enveloped(out, |out, limit| {
            let start = out.len();
            out.extend_from_slice(b"{\"op\":\"r\",\"key\":");
            self.push_key(out, row, key);
            out.extend_from_slice(b",\"after\":");
            let limit = limit.saturating_sub(out.len() - start + 1);
            let cut = self.row.object(out, row, limit, MARKER);
            out.push(b'}');
            cut
        });
    }

    /// Appends a message around what `body` appends, which is told how long that may be.
    fn enveloped(&self, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>, usize) -> Vec<String>) {
        out.extend_from_slice(&self.prefix);
        let overhead = self.prefix.len() + 1;
        let cut = body(out, self.max_row_bytes.saturating_sub(overhead));
        if !cut.is_empty() {
            out.extend_from_slice(MARKER.as_bytes());
            push_json(out, &cut);
        }
        out.push(b'}');
    }

    fn body<'r, R: Fn(usize) -> ValueRef<'r> + Copy>(
        &self,
        out: &mut Vec<u8>,
        change: &Change<'_, R>,
        wording: Wording,
        (limit, marker): (usize, &str),
    ) -> Vec<String> {
        let (start, layout, row) = (out.len(), change.layout, change.row);
        self.head(out, change, wording);
        if wording == Wording::Left {
            out.extend_from_slice(b",\"left\":true}");
            return Vec::new();
        }
        let after = Some(&*layout.after).filter(|_| change.has_row);
        let told_before = wording == Wording::Whole && change.op != Op::Created;
        let before = Some(&*layout.before).filter(|before| told_before && !before.is_empty());
        let shown = [("after", after), ("before", before)];
        let shown = shown
            .into_iter()
            .filter_map(|(name, places)| Some((name, places?)));
        let shown: Vec<(&str, Places<'_>)> = shown.collect();
        let fixed = out.len() - start + 1;
        let budget = limit.saturating_sub(fixed);
        let at = out.len();
        let mut cut = self.rows(out, row, &shown, (budget, marker));
        if shown.len() > 1 && (out.len() - at > budget || !cut.is_empty()) {
            out.truncate(at);
            cut = self.rows(out, row, &shown, (budget / shown.len(), marker));
        }
        out.push(b'}');
        cut
    }

    /// Appends what a change is told with, however it is worded: `{"seq":…,"op":…,"at":…,"key":…`
    fn head<'r, R: Fn(usize) -> ValueRef<'r> + Copy>(
        &self,
        out: &mut Vec<u8>,
        change: &Change<'_, R>,
        wording: Wording,
    ) {
        let (layout, row) = (change.layout, change.row);
        out.extend_from_slice(b"{\"seq\":");
        if let ValueRef::Integer(seq) = row(layout.seq) {
            push_integer(out, seq);
        }
        // A row that is gone by now is not there to be shown; how it went follows.
        let op = match (change.op, change.has_row) {
            (Op::Deleted, _) | (_, false) => b'd',
            _ if wording == Wording::Left => b'd',
            (Op::Created, _) => b'c',
            (Op::Updated, _) => b'u',
        };
        out.extend_from_slice(b",\"op\":\"");
        out.push(op);
        out.extend_from_slice(b"\",\"at\":");
        push_time(out, row(layout.at));
        out.extend_from_slice(b",\"key\":");
        match (wording, change.old_key) {
            // By which this subscriber knew it: the new one is none of theirs.
            (Wording::Left, Some(old_key)) => self.push_key(out, row, old_key),
            (Wording::Whole, Some(old_key)) => {
                self.push_key(out, row, change.key);
                out.extend_from_slice(b",\"old_key\":");
                self.push_key(out, row, old_key);
            }
            _ => self.push_key(out, row, change.key),
        }
    }

    /// Appends rows, each under its name and in at most `limit` bytes. Returns the columns that were cut.
    fn rows<'r, R: Fn(usize) -> ValueRef<'r> + Copy>(
        &self,
        out: &mut Vec<u8>,
        row: R,
        shown: &[(&str, Places<'_>)],
        (limit, marker): (usize, &str),
    ) -> Vec<String> {
        let mut cut: Vec<String> = Vec::new();
        for (name, places) in shown {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            let limit = limit.saturating_sub(name.len() + 4);
            let value = |place: usize| places.get(place).map_or(ValueRef::Null, |&at| row(at));
            for column in self.row.object(out, value, limit, marker) {
                if !cut.contains(&column) {
                    cut.push(column);
                }
            }
        }
        cut
    }

    /// Appends a key, whole whatever its length: who does not know it can't tell the row.
    fn push_key<'r>(&self, out: &mut Vec<u8>, row: impl Fn(usize) -> ValueRef<'r>, at: Places<'_>) {
        for (label, &place) in self.key.iter().zip(at) {
            out.extend_from_slice(label);
            push_value(out, row(place));
        }
        out.push(b'}');
    }
}

/// Appends the time of a change, which the log has in Julian days; null where it holds anything else.
fn push_time(out: &mut Vec<u8>, at: ValueRef<'_>) {
    let days = match at {
        ValueRef::Real(days) => days,
        ValueRef::Integer(days) => days as f64,
        _ => f64::NAN,
    };
    if !DAYS.contains(&days) {
        return out.extend_from_slice(b"null");
    }
    let milliseconds = ((days - UNIX_EPOCH) * MILLISECONDS_A_DAY).round() as i128;
    // Within these days there is a time for each.
    let time = OffsetDateTime::from_unix_timestamp_nanos(milliseconds * 1_000_000);
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, clock) = (time.date(), time.time());
    let (month, day) = (u8::from(date.month()), date.day());
    let (hour, minute, second, millisecond) = clock.as_hms_milli();
    // Writing into memory can't fail.
    let _ = write!(
        out,
        "\"{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z\"",
        date.year()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(at: ValueRef<'_>) -> String {
        let mut out = Vec::new();
        push_time(&mut out, at);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_time_is_told_to_the_millisecond_and_nonsense_as_nothing() {
        for (at, shown) in [
            (ValueRef::Real(2_440_587.5), "\"1970-01-01T00:00:00.000Z\""),
            (
                ValueRef::Real(2_460_310.999_999_988),
                "\"2024-01-01T11:59:59.999Z\"",
            ),
            (ValueRef::Integer(2_451_545), "\"2000-01-01T12:00:00.000Z\""),
            (ValueRef::Real(f64::INFINITY), "null"),
            (ValueRef::Real(-1e300), "null"),
            (ValueRef::Real(1e300), "null"),
            (ValueRef::Real(f64::NAN), "null"),
            (ValueRef::Integer(i64::MAX), "null"),
            (ValueRef::Null, "null"),
            (ValueRef::Text(b"now"), "null"),
        ] {
            assert_eq!(time(at), shown);
        }
    }
}

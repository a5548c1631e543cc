//! One change as it was read, and whose it is.

use rusqlite::types::ValueRef;

use super::Layout;
use crate::model::filter::{FilterId, FilterIndex};
use crate::sqlite::fingerprint::fingerprint;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Created,
    Updated,
    Deleted,
}

/// How a change is told: to whom has the row as it was, as it is, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wording {
    /// All that is known of it.
    Whole,
    /// Without what the row was: that was none of this subscriber's.
    Entered,
    /// The row is none of this subscriber's any more.
    Left,
}

/// A change, through a function that gives the value at a place.
#[derive(Clone, Copy)]
pub struct Change<'l, R> {
    pub(super) layout: &'l Layout,
    pub(super) row: R,
    pub op: Op,
    /// Whether there is a row to show of it.
    pub(super) has_row: bool,
    /// Where the key stands by which clients know the row.
    pub(super) key: &'l [usize],
    /// Where the key stands by which they knew it before, where that is another.
    pub(super) old_key: Option<&'l [usize]>,
}

impl<'l, 'r, R: Fn(usize) -> ValueRef<'r> + Copy> Change<'l, R> {
    /// `None` where no key names the row, or the log holds what walcast does not write there. A row whose key has NULL in
    /// it is like many others, and none of the feed's.
    pub fn of(layout: &'l Layout, row: R) -> Option<Change<'l, R>> {
        let op = match row(layout.op) {
            ValueRef::Text(b"c") => Op::Created,
            ValueRef::Text(b"u") => Op::Updated,
            ValueRef::Text(b"d") => Op::Deleted,
            _ => return None,
        };
        let names = |places: &[usize]| !places.iter().any(|&place| row(place) == ValueRef::Null);
        let has_moved = !matches!(row(layout.moved), ValueRef::Null | ValueRef::Integer(0));
        let (key, old_key) = (&*layout.key, &*layout.old_key);
        let old_key = Some(old_key).filter(|old_key| has_moved && names(old_key));
        let (op, key, old_key) = match names(key) {
            true => (op, key, old_key),
            // Its key was made NULL: to clients it is gone.
            false => (Op::Deleted, old_key?, None),
        };
        let is_there = |place: usize| row(place) == ValueRef::Integer(1);
        Some(Change {
            layout,
            row,
            op,
            has_row: op != Op::Deleted && layout.is_there.is_none_or(is_there),
            key,
            old_key,
        })
    }

    /// The position of a change in its log.
    pub fn seq(layout: &Layout, row: R) -> rusqlite::Result<i64> {
        row(layout.seq).as_i64().map_err(Into::into)
    }

    /// Of what the log has of a change, to know it by.
    pub fn fingerprint(layout: &Layout, row: R) -> u64 {
        let mut bytes = Vec::with_capacity(64);
        let log = [layout.op, layout.at, layout.moved];
        for &place in log.iter().chain(&layout.key).chain(&layout.old_key) {
            match row(place) {
                ValueRef::Null => bytes.push(0),
                ValueRef::Integer(integer) => bytes.extend_from_slice(&integer.to_le_bytes()),
                ValueRef::Real(real) => bytes.extend_from_slice(&real.to_le_bytes()),
                ValueRef::Text(value) | ValueRef::Blob(value) => bytes.extend_from_slice(value),
            }
        }
        fingerprint(&bytes)
    }

    /// Calls `found` once for each filter that the change concerns, with how it is told there.
    pub fn each_match(&self, filters: &FilterIndex, mut found: impl FnMut(FilterId, Wording)) {
        if filters.is_empty() {
            return;
        }
        let (row, recorded) = (self.row, &self.layout.recorded);
        let takes = |place: &dyn Fn(usize) -> usize| {
            let mut taken = Vec::new();
            filters.each_match(|index| row(place(index)), |filter| taken.push(filter));
            taken.sort_unstable();
            taken
        };
        let mut new = match self.has_row {
            true => takes(&|index| recorded[index].new),
            false => Vec::new(),
        };
        if self.layout.is_there.is_some() && !new.is_empty() {
            // What is sent is the row as it is now.
            let now = takes(&|index| recorded[index].now);
            new.retain(|filter| now.binary_search(filter).is_ok());
        }
        let old = match self.op {
            Op::Created => Vec::new(),
            _ => takes(&|index| recorded[index].old),
        };
        for filter in &new {
            let had_it = old.binary_search(filter).is_ok();
            found(
                *filter,
                if had_it {
                    Wording::Whole
                } else {
                    self.wording_of_entry()
                },
            );
        }
        let left = match self.op {
            Op::Deleted => Wording::Whole,
            _ => Wording::Left,
        };
        for filter in old {
            if new.binary_search(&filter).is_err() {
                found(filter, left);
            }
        }
    }

    /// How it is told to whom the row as it was was none of theirs.
    fn wording_of_entry(&self) -> Wording {
        let tells_more = self.old_key.is_some() || !self.layout.before.is_empty();
        match self.op == Op::Updated && tells_more {
            true => Wording::Entered,
            false => Wording::Whole,
        }
    }
}

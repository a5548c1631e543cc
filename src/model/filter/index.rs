//! All filters in use, asked together about each row.
//!
//! For each value that a filter names there is the set of filters it is one of. A filter takes a row when, for each column
//! that any filter names, it is in the set of the row's value there or does not name that column: an intersection of sets,
//! done 64 filters at a time. So what a row costs hardly grows with the filters there are, however many values they share,
//! and what is left at the end are exactly those that take it.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use rusqlite::types::{Value, ValueRef};

use super::posting::{Bits, Posting};
use super::value::{Exact, stored};
use super::{Filter, FilterColumn, FilterId};

/// The filters in use, by their values.
#[derive(Debug, Default)]
pub struct FilterIndex {
    slots: HashMap<FilterId, u32>,
    /// By slot.
    members: Vec<Option<Member>>,
    /// The lowest go first, so that the sets stay short.
    free: BinaryHeap<Reverse<u32>>,
    alive: Bits,
    columns: Vec<FilteredColumn>,
    scratch: RefCell<Scratch>,
}

#[derive(Debug)]
struct Member {
    id: FilterId,
    filter: Arc<Filter>,
    /// Of the columns that the filter names, in its order.
    places: Vec<ValuePlace>,
}

/// Where in a row a value is that filters ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ValuePlace {
    index: usize,
    /// Whether it is asked for as scopes do: nothing is converted.
    exact: bool,
}

/// The values that a filter names at each of its places, as they are stored.
fn values_at<'f>(
    filter: &'f Filter,
    places: &'f [ValuePlace],
) -> impl Iterator<Item = (ValuePlace, Vec<Value>)> + 'f {
    let asked = filter
        .terms()
        .map(|(_, values)| values.iter().flat_map(|value| stored(value)).collect());
    let scope = filter.scope().terms();
    let exact = scope.map(|(_, values)| values.iter().map(|value| value.stored()).collect());
    places.iter().copied().zip(asked.chain(exact))
}

/// Kept from row to row, so that none costs an allocation.
#[derive(Debug, Default)]
struct Scratch {
    left: Vec<u64>,
    kept: Vec<u32>,
}

impl FilterIndex {
    /// Returns whether no filter was taken in.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes in a filter. `place` gives a column's place in a row; a filter of a column that has none takes no row and is
    /// left out.
    pub fn insert(
        &mut self,
        id: FilterId,
        filter: &Arc<Filter>,
        place: impl Fn(FilterColumn<'_>) -> Option<usize>,
    ) {
        let places = filter.columns().map(|column| {
            let exact = matches!(column, FilterColumn::Scope(_));
            place(column).map(|index| ValuePlace { index, exact })
        });
        let places: Option<Vec<ValuePlace>> = places.collect();
        let Some(places) = places else { return };
        let slot = match self.free.pop() {
            Some(Reverse(slot)) => slot,
            None => {
                self.members.push(None);
                // Filters are bounded, far below 2^32.
                (self.members.len() - 1) as u32
            }
        };
        for column in &mut self.columns {
            match places.contains(&column.place) {
                true => drop(column.indifferent.remove(slot)),
                false => drop(column.indifferent.insert(slot)),
            }
        }
        for (place, values) in values_at(filter, &places) {
            let column = self.column(place);
            column.users += 1;
            for value in values {
                if let Value::Text(text) = &value {
                    column.longest = column.longest.max(text.len());
                }
                column.values.insert(value, slot);
            }
        }
        self.alive.insert(slot);
        self.slots.insert(id, slot);
        let filter = Arc::clone(filter);
        self.members[slot as usize] = Some(Member { id, filter, places });
    }

    /// Forgets a filter; nothing happens where it is unknown.
    pub fn remove(&mut self, id: FilterId) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        let Some(member) = self.members[slot as usize].take() else {
            return;
        };
        if self.slots.is_empty() {
            *self = FilterIndex::default();
            return;
        }
        for (place, values) in values_at(&member.filter, &member.places) {
            let column = self.column(place);
            column.users -= 1;
            for value in values {
                column.values.remove(&value, slot);
            }
        }
        self.columns.retain(|column| column.users > 0);
        self.alive.remove(slot);
        self.alive.trim();
        self.free.push(Reverse(slot));
    }

    /// Calls `found` once for each filter that takes the row.
    pub fn each_match<'r>(
        &self,
        row: impl Fn(usize) -> ValueRef<'r>,
        mut found: impl FnMut(FilterId),
    ) {
        if self.is_empty() {
            return;
        }
        let mut scratch = self.scratch.take();
        let Scratch { left, kept } = &mut scratch;
        left.clear();
        left.extend_from_slice(&self.alive.0);
        for column in &self.columns {
            let is_any_left = column.narrow(row(column.place.index), left, kept);
            if !is_any_left {
                break;
            }
        }
        let left = Bits(std::mem::take(left));
        for slot in left.iter() {
            if let Some(member) = &self.members[slot as usize] {
                found(member.id);
            }
        }
        scratch.left = left.0;
        self.scratch.replace(scratch);
    }

    /// The column at this place, newly in use where it was not: no filter there is so far names it.
    fn column(&mut self, place: ValuePlace) -> &mut FilteredColumn {
        let index = match self.columns.iter().position(|column| column.place == place) {
            Some(index) => index,
            None => {
                self.columns.push(FilteredColumn {
                    place,
                    users: 0,
                    indifferent: self.alive.clone(),
                    longest: 0,
                    values: Values::default(),
                });
                self.columns.len() - 1
            }
        };
        &mut self.columns[index]
    }
}

/// The filters that name one column, by the values they ask for.
#[derive(Debug)]
struct FilteredColumn {
    place: ValuePlace,
    /// Filters that name it.
    users: usize,
    /// Those that do not, and whatever is left of those that are gone.
    indifferent: Bits,
    /// Bytes of the longest value there ever was. To hash a text or blob that is longer would be for nothing: no blob is
    /// longer than its base64.
    longest: usize,
    values: Values,
}

impl FilteredColumn {
    /// Leaves of `left` only filters that take this value here; says whether there are any.
    fn narrow(&self, value: ValueRef<'_>, left: &mut [u64], kept: &mut Vec<u32>) -> bool {
        let found = match value {
            ValueRef::Text(text) if text.len() <= self.longest => self.values.texts.get(text),
            ValueRef::Blob(blob) if blob.len() <= self.longest => self.values.blobs.get(blob),
            ValueRef::Integer(integer) => self.values.numbers.get(&Exact::Integer(integer)),
            ValueRef::Real(real) if !self.place.exact => {
                self.values.numbers.get(&Exact::of_real(real))
            }
            _ => None,
        };
        match found {
            None => and(left, &self.indifferent.0, &[]),
            Some(Posting::Many { bits, .. }) => and(left, &self.indifferent.0, &bits.0),
            Some(Posting::Few(slots)) => {
                kept.clear();
                let is_left = |slot: &u32| {
                    let word = left.get((slot / 64) as usize);
                    word.is_some_and(|bits| bits >> (slot % 64) & 1 == 1)
                };
                kept.extend(slots.iter().filter(|slot| is_left(slot)));
                let is_any_left = and(left, &self.indifferent.0, &[]);
                for slot in kept.iter() {
                    left[(slot / 64) as usize] |= 1 << (slot % 64);
                }
                is_any_left || !kept.is_empty()
            }
        }
    }
}

/// Leaves of `left` what is in one of the others; says whether that is anything.
fn and(left: &mut [u64], one: &[u64], other: &[u64]) -> bool {
    let mut any = 0;
    let both = one.len().min(other.len()).min(left.len());
    for ((word, a), b) in left.iter_mut().zip(one).zip(other) {
        *word &= a | b;
        any |= *word;
    }
    let (longer, rest) = match one.len() > other.len() {
        true => (one, &mut left[both..]),
        false => (other, &mut left[both..]),
    };
    let longer = longer.iter().skip(both).chain(std::iter::repeat(&0));
    for (word, bits) in rest.iter_mut().zip(longer) {
        *word &= bits;
        any |= *word;
    }
    any != 0
}

/// The values of one column and the filters they are of, by storage class: a value is looked up where it lies, without a
/// copy.
#[derive(Debug, Default)]
struct Values {
    texts: HashMap<Box<[u8]>, Posting>,
    numbers: HashMap<Exact, Posting>,
    blobs: HashMap<Box<[u8]>, Posting>,
}

impl Values {
    fn insert(&mut self, value: Value, slot: u32) {
        let posting = match value {
            Value::Text(text) => self.texts.entry(text.into_bytes().into()).or_default(),
            Value::Blob(blob) => self.blobs.entry(blob.into()).or_default(),
            Value::Integer(integer) => self.numbers.entry(Exact::Integer(integer)).or_default(),
            Value::Real(real) => self.numbers.entry(Exact::of_real(real)).or_default(),
            // No text stands for it.
            Value::Null => return,
        };
        posting.insert(slot);
    }

    fn remove(&mut self, value: &Value, slot: u32) {
        match value {
            Value::Text(text) => leave(&mut self.texts, text.as_bytes(), slot),
            Value::Blob(blob) => leave(&mut self.blobs, blob.as_slice(), slot),
            Value::Integer(integer) => leave(&mut self.numbers, &Exact::Integer(*integer), slot),
            Value::Real(real) => leave(&mut self.numbers, &Exact::of_real(*real), slot),
            Value::Null => {}
        }
    }
}

fn leave<K, Q>(values: &mut HashMap<K, Posting>, key: &Q, slot: u32)
where
    K: Eq + Hash + Borrow<Q>,
    Q: Eq + Hash + ?Sized,
{
    if let Some(posting) = values.get_mut(key) {
        posting.remove(slot);
        if posting.is_empty() {
            values.remove(key);
        }
    }
}

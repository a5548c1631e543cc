//! Which rows a subscriber asked for: equality on columns, parsed from a query string, matched in memory on live
//! rows and rendered as SQL with bound parameters on replay. Both must agree on every value.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::types::{Value, ValueRef};

/// Words of a query string that are never column filters.
pub const RESERVED: [&str; 7] = [
    "since", "last", "epoch", "limit", "before", "after", "token",
];

/// Most values in one filter; more cost SQL and memory out of proportion to their use.
pub const MAX_VALUES: usize = 100;

/// Names a registered filter for as long as somebody uses it; never given twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FilterId(pub u64);

impl FilterId {
    /// No filter: every row. Known to every block.
    pub const NONE: FilterId = FilterId(0);
}

/// A conjunction of columns, each with the values it may have. Empty: every row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Filter {
    /// Column → accepted values, sorted and without doubles, so that equal filters compare equal.
    terms: BTreeMap<String, Vec<String>>,
}

impl Filter {
    /// Adds `column = value`; several values of one column mean *or*.
    pub fn accept(&mut self, column: &str, value: &str) {
        let values = self.terms.entry(column.to_owned()).or_default();
        if let Err(place) = values.binary_search_by(|v| v.as_str().cmp(value)) {
            values.insert(place, value.to_owned());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Number of values over all columns.
    pub fn value_count(&self) -> usize {
        self.terms.values().map(Vec::len).sum()
    }

    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.terms.keys().map(String::as_str)
    }

    /// Each column with the values it may have.
    pub fn terms(&self) -> impl Iterator<Item = (&str, &[String])> {
        let terms = self.terms.iter();
        terms.map(|(column, values)| (column.as_str(), values.as_slice()))
    }

    /// SQL that holds for exactly the rows [`Predicate::matches`] takes, to be joined with `AND`, and its parameters.
    /// `column` gives a column's place; `None` means there is no such column any more.
    pub fn sql(&self, column: impl Fn(&str) -> Option<ColumnKind>) -> Option<(String, Vec<Value>)> {
        let (mut sql, mut params) = (String::new(), Vec::new());
        for (name, values) in &self.terms {
            let kind = column(name)?;
            let quoted = quote_identifier(name);
            let alternatives: Vec<String> = values
                .iter()
                .map(|value| alternative(&quoted, kind, value, &mut params))
                .collect();
            sql.push_str(&format!(" AND ({})", alternatives.join(" OR ")));
        }
        Some((sql, params))
    }

    /// The filter with its columns resolved to places in a row; `None` where one is gone.
    pub fn resolve(&self, place: impl Fn(&str) -> Option<usize>) -> Option<Predicate> {
        self.terms
            .iter()
            .map(|(name, values)| {
                let accepted = values.iter().map(|v| Accepted::new(v)).collect();
                Some((place(name)?, accepted))
            })
            .collect::<Option<Vec<_>>>()
            .map(|terms| Predicate { terms })
    }
}

/// How SQLite stores what is put into a column (its type affinity), as far as comparing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    Text,
    /// INTEGER, REAL or NUMERIC affinity.
    Number,
    /// BLOB or no affinity: values stay as they were given.
    Any,
}

/// One `column = value` in SQL. Comparisons must not let SQLite convert a text parameter to a number on its own
/// terms (`' 5'` is 5 to it), hence the `typeof`; and a column's own collation (NOCASE) does not count.
fn alternative(column: &str, kind: ColumnKind, value: &str, params: &mut Vec<Value>) -> String {
    let mut bind = |value: Value| {
        params.push(value);
        "?"
    };
    let text = Value::Text(value.to_owned());
    let number = Number::parse(value).map(|number| match number {
        Number::Integer(i) => Value::Integer(i),
        Number::Real(r) => Value::Real(r),
    });
    // What looks like a number is never stored as text in such a column; infinities, which have no literal, are.
    let finite = !matches!(
        number,
        None | Some(Value::Real(f64::INFINITY | f64::NEG_INFINITY))
    );
    let mut sql = match kind {
        ColumnKind::Number if finite => String::new(),
        ColumnKind::Number => format!(
            "typeof({column}) = 'text' AND {column} = {} COLLATE BINARY",
            bind(text)
        ),
        _ => format!("{column} = {} COLLATE BINARY", bind(text)),
    };
    let mut or = |value: Option<Value>| {
        if let Some(value) = value {
            let separator = if sql.is_empty() { "" } else { " OR " };
            sql.push_str(&format!("{separator}{column} = {}", bind(value)));
        }
    };
    or(number.filter(|_| kind != ColumnKind::Text));
    or(BASE64.decode(value).ok().map(Value::Blob));
    sql
}

/// Quotes a name for SQL, whatever is in it.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    Integer(i64),
    Real(f64),
}

impl Number {
    fn parse(text: &str) -> Option<Number> {
        // Rust's float parser also takes "inf" and "nan"; a stored infinity is written "Infinity" in JSON.
        match text {
            "Infinity" => return Some(Number::Real(f64::INFINITY)),
            "-Infinity" => return Some(Number::Real(f64::NEG_INFINITY)),
            _ => {}
        }
        if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.') {
            return None;
        }
        if let Ok(integer) = text.parse() {
            return Some(Number::Integer(integer));
        }
        let real: f64 = text.parse().ok()?;
        real.is_finite().then_some(Number::Real(real))
    }

    fn as_f64(self) -> f64 {
        match self {
            Number::Integer(i) => i as f64,
            Number::Real(r) => r,
        }
    }
}

/// A value of a filter, parsed once for comparing.
#[derive(Debug, Clone)]
struct Accepted {
    text: String,
    number: Option<Number>,
    /// What the text stands for as base64.
    blob: Option<Vec<u8>>,
}

impl Accepted {
    fn new(text: &str) -> Accepted {
        Accepted {
            text: text.to_owned(),
            number: Number::parse(text),
            blob: BASE64.decode(text).ok(),
        }
    }

    fn takes(&self, value: ValueRef<'_>) -> bool {
        match value {
            ValueRef::Null => false,
            ValueRef::Text(text) => text == self.text.as_bytes(),
            ValueRef::Integer(i) => match self.number {
                Some(Number::Integer(n)) => n == i,
                Some(Number::Real(r)) => same_number(i, r),
                None => false,
            },
            ValueRef::Real(r) => self.number.is_some_and(|n| match n {
                Number::Integer(i) => same_number(i, r),
                Number::Real(n) => n == r,
            }),
            ValueRef::Blob(blob) => self.blob.as_deref() == Some(blob),
        }
    }
}

/// Exactly, as SQLite compares: an integer beyond 2^53 is not the float it would round to.
fn same_number(integer: i64, real: f64) -> bool {
    integer as f64 == real && real as i128 == i128::from(integer)
}

/// A filter bound to the columns of one schema.
#[derive(Debug, Clone)]
pub struct Predicate {
    terms: Vec<(usize, Vec<Accepted>)>,
}

impl Predicate {
    pub fn matches<'r>(&self, row: impl Fn(usize) -> ValueRef<'r>) -> bool {
        self.terms
            .iter()
            .all(|(place, accepted)| accepted.iter().any(|a| a.takes(row(*place))))
    }
}

/// All filters in use, so that one look at a row's values finds those that take it: the cost of a row is in
/// proportion to the filters it matches, not to the filters there are.
#[derive(Debug, Default)]
pub struct FilterIndex {
    filters: HashMap<FilterId, Indexed>,
    /// For each column that some filter is found by: value → filters.
    columns: Vec<(usize, Lookup)>,
}

/// A filter and the one of its terms that it is found by.
#[derive(Debug)]
struct Indexed {
    predicate: Predicate,
    term: usize,
}

impl FilterIndex {
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Takes in a filter, to be found by the term that shares its values with the fewest others: of
    /// `action=restart&tenant=t7` that is the tenant when thousands ask for the same action.
    pub fn insert(&mut self, id: FilterId, predicate: Predicate) {
        let crowd = |&(place, ref accepted): &(usize, Vec<Accepted>)| {
            let lookup = self.columns.iter().find(|(p, _)| *p == place);
            lookup.map_or(0, |(_, lookup)| lookup.crowd(accepted))
        };
        let term = (0..predicate.terms.len()).min_by_key(|&term| crowd(&predicate.terms[term]));
        if let Some((place, accepted)) = term.map(|term| &predicate.terms[term]) {
            self.column(*place).insert(id, accepted);
        }
        let term = term.unwrap_or_default();
        self.filters.insert(id, Indexed { predicate, term });
    }

    pub fn remove(&mut self, id: FilterId) {
        let Some(Indexed { predicate, term }) = self.filters.remove(&id) else {
            return;
        };
        if let Some((place, accepted)) = predicate.terms.get(term) {
            self.column(*place).remove(id, accepted);
        }
        self.columns.retain(|(_, lookup)| !lookup.is_empty());
    }

    /// Calls `found` once for each filter that takes the row.
    pub fn each_match<'r>(
        &self,
        row: impl Fn(usize) -> ValueRef<'r> + Copy,
        mut found: impl FnMut(FilterId),
    ) {
        for (place, lookup) in &self.columns {
            for id in lookup.filters(row(*place)) {
                if self.filters[id].predicate.matches(row) {
                    found(*id);
                }
            }
        }
    }

    fn column(&mut self, place: usize) -> &mut Lookup {
        let index = match self.columns.iter().position(|(p, _)| *p == place) {
            Some(index) => index,
            None => {
                self.columns.push((place, Lookup::default()));
                self.columns.len() - 1
            }
        };
        &mut self.columns[index].1
    }
}

/// Filters by the values of one column, by storage class: a value is looked up where it lies, without a copy.
#[derive(Debug, Default)]
struct Lookup {
    texts: HashMap<Box<[u8]>, Vec<FilterId>>,
    /// However a number is written, its key is one; two integers beyond 2^53 may share one.
    numbers: HashMap<u64, Vec<FilterId>>,
    blobs: HashMap<Box<[u8]>, Vec<FilterId>>,
    /// Bytes of the longest text or blob there ever was. To hash a value that is longer would be for nothing.
    longest: usize,
}

impl Lookup {
    fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.numbers.is_empty() && self.blobs.is_empty()
    }

    fn insert(&mut self, id: FilterId, accepted: &[Accepted]) {
        for value in accepted {
            // No blob is longer than its base64.
            self.longest = self.longest.max(value.text.len());
            enter(&mut self.texts, value.text.as_bytes().into(), id);
            if let Some(number) = value.number {
                enter(&mut self.numbers, number_key(number.as_f64()), id);
            }
            if let Some(blob) = &value.blob {
                enter(&mut self.blobs, blob.as_slice().into(), id);
            }
        }
    }

    fn remove(&mut self, id: FilterId, accepted: &[Accepted]) {
        for value in accepted {
            leave(&mut self.texts, value.text.as_bytes(), id);
            if let Some(number) = value.number {
                leave(&mut self.numbers, &number_key(number.as_f64()), id);
            }
            if let Some(blob) = &value.blob {
                leave(&mut self.blobs, blob.as_slice(), id);
            }
        }
    }

    /// How many filters rows with these values are compared with already.
    fn crowd(&self, accepted: &[Accepted]) -> usize {
        let size = |filters: Option<&Vec<FilterId>>| filters.map_or(0, Vec::len);
        let crowds = accepted.iter().map(|value| {
            let number = value.number.map(|n| number_key(n.as_f64()));
            size(self.texts.get(value.text.as_bytes()))
                + size(number.and_then(|key| self.numbers.get(&key)))
                + size(value.blob.as_deref().and_then(|blob| self.blobs.get(blob)))
        });
        crowds.sum()
    }

    /// The filters that may take this value.
    fn filters(&self, value: ValueRef<'_>) -> &[FilterId] {
        let found = match value {
            ValueRef::Text(text) if text.len() <= self.longest => self.texts.get(text),
            ValueRef::Integer(i) => self.numbers.get(&number_key(i as f64)),
            ValueRef::Real(r) => self.numbers.get(&number_key(r)),
            ValueRef::Blob(blob) if blob.len() <= self.longest => self.blobs.get(blob),
            _ => None,
        };
        found.map_or(&[], Vec::as_slice)
    }
}

fn enter<K: Eq + Hash>(values: &mut HashMap<K, Vec<FilterId>>, key: K, id: FilterId) {
    let filters = values.entry(key).or_default();
    // `5` and `5.0` of one filter share a key; a filter must be asked once.
    if filters.last() != Some(&id) {
        filters.push(id);
    }
}

fn leave<K, Q>(values: &mut HashMap<K, Vec<FilterId>>, key: &Q, id: FilterId)
where
    K: Eq + Hash + Borrow<Q>,
    Q: Eq + Hash + ?Sized,
{
    if let Some(filters) = values.get_mut(key) {
        filters.retain(|&filter| filter != id);
        if filters.is_empty() {
            values.remove(key);
        }
    }
}

/// −0.0 and 0.0 are equal, their bits are not.
fn number_key(number: f64) -> u64 {
    (number + 0.0).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(terms: &[(&str, &str)]) -> Filter {
        let mut filter = Filter::default();
        for (column, value) in terms {
            filter.accept(column, value);
        }
        filter
    }

    #[test]
    fn equal_filters_are_equal_however_they_are_written() {
        assert_eq!(
            filter(&[("a", "2"), ("b", "x"), ("a", "1")]),
            filter(&[("b", "x"), ("a", "1"), ("a", "2"), ("a", "1")])
        );
    }

    /// Memory and SQL must take the same rows; SQLite itself is the judge.
    #[test]
    fn memory_and_sql_agree_on_every_value() {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        db.execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, txt TEXT COLLATE NOCASE, num INTEGER, re REAL, nu NUMERIC, bl BLOB, no);
             CREATE TABLE v(x);
             INSERT INTO v VALUES (NULL), (''), ('5'), (5), (5.0), (5.5), ('5.0'), (' 5'), ('abc'), ('ABC'), ('Infinity'),
               (9e999), (-9e999), (9007199254740993), ('9007199254740993'), (x'0001'), (x''), ('AAE='), (0), (-0.0), ('é'),
               ('1e2'), (100), ('-'), ('inf'), ('nan'), (9223372036854775807), (cast(x'ff' as text));
             INSERT INTO t(txt, num, re, nu, bl, no) SELECT x, x, x, x, x, x FROM v;",
        )
        .unwrap();
        let columns = [
            ("txt", ColumnKind::Text),
            ("num", ColumnKind::Number),
            ("re", ColumnKind::Number),
            ("nu", ColumnKind::Number),
            ("bl", ColumnKind::Any),
            ("no", ColumnKind::Any),
        ];
        let values = [
            "",
            "5",
            "5.0",
            "5.5",
            " 5",
            "abc",
            "ABC",
            "Infinity",
            "-Infinity",
            "9007199254740993",
            "AAE=",
            "0",
            "-0",
            "é",
            "1e2",
            "100",
            "-",
            "inf",
            "nan",
            "9223372036854775807",
            ".5e1",
        ];
        for (column, kind) in columns {
            for value in values {
                let filter = filter(&[(column, value)]);
                let (sql, params) = filter.sql(|_| Some(kind)).unwrap();
                let by_sql: Vec<i64> = db
                    .prepare(&format!("SELECT id FROM t WHERE 1 {sql} ORDER BY id"))
                    .unwrap()
                    .query_map(rusqlite::params_from_iter(params), |row| row.get(0))
                    .unwrap()
                    .collect::<Result<_, _>>()
                    .unwrap();

                let predicate = filter.resolve(|_| Some(0)).unwrap();
                let mut index = FilterIndex::default();
                index.insert(FilterId(1), predicate.clone());
                let (mut by_predicate, mut by_index) = (vec![], vec![]);
                let mut statement = db
                    .prepare(&format!("SELECT {column}, id FROM t ORDER BY id"))
                    .unwrap();
                let mut rows = statement.query([]).unwrap();
                while let Some(row) = rows.next().unwrap() {
                    let id: i64 = row.get(1).unwrap();
                    let value_at = |place| row.get_ref(place).unwrap();
                    if predicate.matches(value_at) {
                        by_predicate.push(id);
                    }
                    index.each_match(value_at, |_| by_index.push(id));
                }
                assert_eq!(by_predicate, by_sql, "{column} = {value:?}");
                assert_eq!(by_index, by_sql, "{column} = {value:?} by index");
            }
        }
    }

    #[test]
    fn an_index_forgets_what_was_removed() {
        let mut index = FilterIndex::default();
        let predicate = filter(&[("a", "1"), ("a", "2")])
            .resolve(|_| Some(0))
            .unwrap();
        index.insert(FilterId(1), predicate.clone());
        index.insert(FilterId(2), predicate);
        index.remove(FilterId(1));
        let mut found = vec![];
        index.each_match(|_| ValueRef::Integer(2), |id| found.push(id));
        assert_eq!(found, [FilterId(2)]);
        index.remove(FilterId(2));
        assert!(index.is_empty() && index.columns.is_empty());
    }

    #[test]
    fn filters_that_share_a_value_are_found_by_another() {
        const FILTERS: u64 = 1000;
        let mut index = FilterIndex::default();
        let place = |name: &str| Some(usize::from(name == "tenant"));
        for n in 1..=FILTERS {
            let both = filter(&[("action", "restart"), ("tenant", &format!("t{n}"))]);
            index.insert(FilterId(n), both.resolve(place).unwrap());
        }
        let row = |place| match place {
            0 => ValueRef::Text(b"restart"),
            _ => ValueRef::Text(b"t700"),
        };
        let asked: usize = index
            .columns
            .iter()
            .map(|(place, lookup)| lookup.filters(row(*place)).len())
            .sum();
        assert!(asked <= 2, "{asked} filters asked about one row");
        let mut found = vec![];
        index.each_match(row, |id| found.push(id));
        assert_eq!(found, [FilterId(700)]);
        // The term chosen at insertion is the one to be removed, however crowded it is by then.
        for n in 1..=FILTERS {
            index.remove(FilterId(n));
        }
        assert!(index.is_empty() && index.columns.is_empty());
    }
}

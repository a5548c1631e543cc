//! Which rows a subscriber asked for: equality on columns, parsed from a query string, looked up in an index of all
//! filters for live rows and rendered as SQL with bound parameters on replay. Both must agree on every value.

mod index;
mod posting;
mod scope;
mod value;

use std::collections::BTreeMap;

use rusqlite::types::Value;

pub use index::FilterIndex;
pub use scope::{MAX_SCOPE_VALUES, Scope, ScopeValue};
use value::stored;

/// Words of a query string that are never column filters.
pub const RESERVED: [&str; 7] = [
    "since", "last", "epoch", "limit", "before", "after", "token",
];

/// Most values in one filter; more cost SQL and memory out of proportion to their use.
pub const MAX_VALUES: usize = 1_000;
/// Most values in the filters of all subscribers of a feed: some 30 MB.
pub const MAX_FEED_VALUES: usize = 100_000;

/// Names a registered filter for as long as somebody uses it; never given twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FilterId(pub u64);

impl FilterId {
    /// No filter: every row. Known to every block.
    pub const NONE: FilterId = FilterId(0);
    /// Stands in the numbers of those who take rows whole. No filter's own number gets there.
    const WHOLE: u64 = 1 << 63;

    /// The same filter for who takes rows whole: no block of the log knows it, for what stands there is cut and worded
    /// for clients.
    pub fn whole(self) -> FilterId {
        FilterId(self.0 | Self::WHOLE)
    }

    /// Returns whether rows are taken whole.
    pub fn is_whole(self) -> bool {
        self.0 & Self::WHOLE != 0
    }

    /// Returns whether every row is taken.
    pub fn takes_all(self) -> bool {
        self.0 & !Self::WHOLE == 0
    }
}

/// A conjunction of columns, each with the values it may have, and of the scope of whoever asks. Empty: every row. The
/// scope is part of what a filter is, so nothing that is kept for one filter serves another scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Filter {
    /// Column → accepted values, sorted and without doubles, so that equal filters compare equal.
    terms: BTreeMap<String, Vec<String>>,
    scope: Scope,
}

/// A column that a filter looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterColumn<'f> {
    /// One that was asked for.
    Asked(&'f str),
    /// One of the scope, which need not be shown.
    Scope(&'f str),
}

impl<'f> FilterColumn<'f> {
    /// The column's name, as whoever asked wrote it.
    pub fn name(self) -> &'f str {
        match self {
            FilterColumn::Asked(name) | FilterColumn::Scope(name) => name,
        }
    }
}

impl Filter {
    /// Adds `column = value`; several values of one column mean *or*.
    pub fn accept(&mut self, column: &str, value: &str) {
        let values = self.terms.entry(column.to_owned()).or_default();
        if let Err(place) = values.binary_search_by(|v| v.as_str().cmp(value)) {
            values.insert(place, value.to_owned());
        }
    }

    /// The same filter for whoever may see no more than this.
    pub fn within(self, scope: Scope) -> Filter {
        Filter { scope, ..self }
    }

    /// The part that is demanded of the subscriber, whatever it asked for.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Returns whether every row matches.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty() && self.scope.is_everything()
    }

    /// Returns the number of values that the filter compares with, over all columns.
    pub fn value_count(&self) -> usize {
        self.terms.values().map(Vec::len).sum::<usize>() + self.scope.value_count()
    }

    /// All columns that it looks at, those that were asked for first, in the order of [`terms`](Self::terms).
    pub fn columns(&self) -> impl Iterator<Item = FilterColumn<'_>> {
        let asked = self.terms.keys().map(|name| FilterColumn::Asked(name));
        asked.chain(self.scope.columns().map(FilterColumn::Scope))
    }

    /// Each column that was asked for, with the values it may have.
    pub fn terms(&self) -> impl Iterator<Item = (&str, &[String])> {
        let terms = self.terms.iter();
        terms.map(|(column, values)| (column.as_str(), values.as_slice()))
    }

    /// SQL that holds for exactly the rows that [`FilterIndex`] finds the filter for, to be joined with `AND`, and its
    /// parameters. `column` gives the SQL for a column's value; `None`, here as there, where it is not there any more.
    ///
    /// Values are compared as they are stored. The `+` takes its affinity from the column, by which SQLite would convert
    /// what it is compared with (`' 5'` would be 5); and a collation, which may be one that only the writer knows, does
    /// not count.
    pub fn sql(
        &self,
        column: impl Fn(FilterColumn<'_>) -> Option<String>,
    ) -> Option<(String, Vec<Value>)> {
        let (mut sql, mut params) = (String::new(), Vec::new());
        for (name, values) in &self.terms {
            let before = params.len();
            params.extend(values.iter().flat_map(|value| stored(value)));
            // A list, not a chain of OR: SQLite bounds the depth of an expression.
            let marks = vec!["?"; params.len() - before].join(", ");
            let column = column(FilterColumn::Asked(name))?;
            sql.push_str(&format!(" AND +{column} COLLATE BINARY IN ({marks})"));
        }
        let (scope, values) = self.scope.sql(|name| column(FilterColumn::Scope(name)))?;
        sql.push_str(&scope);
        params.extend(values);
        Some((sql, params))
    }
}

/// Quotes a name for SQL, whatever is in it.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests;

//! The rows that whoever asks is allowed, as a predicate on columns: beside what was asked for, and compared exactly.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::{Value, ValueRef};

/// Most values of one scope, over all its columns, as of a filter.
pub const MAX_SCOPE_VALUES: usize = super::MAX_VALUES;

/// What a column must hold. Nothing is converted: a text is only the same text, an integer only the same integer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScopeValue {
    Integer(i64),
    Text(String),
}

impl ScopeValue {
    /// Returns whether this is the value that is stored.
    pub fn is(&self, stored: ValueRef<'_>) -> bool {
        match (self, stored) {
            (ScopeValue::Integer(wanted), ValueRef::Integer(integer)) => *wanted == integer,
            (ScopeValue::Text(wanted), ValueRef::Text(text)) => wanted.as_bytes() == text,
            _ => false,
        }
    }

    /// Returns the value as it is stored.
    pub fn stored(&self) -> Value {
        match self {
            ScopeValue::Integer(integer) => Value::Integer(*integer),
            ScopeValue::Text(text) => Value::Text(text.clone()),
        }
    }
}

/// A conjunction of columns, each with the values a row may have there. Without a column it allows every row; a column
/// without a value allows none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Scope {
    terms: BTreeMap<String, BTreeSet<ScopeValue>>,
}

impl Scope {
    /// Demands one of these values of a column, besides what is demanded already.
    pub fn demand(&mut self, column: &str, values: impl IntoIterator<Item = ScopeValue>) {
        let values = values.into_iter().collect();
        self.terms
            .entry(column.to_owned())
            .and_modify(|known| *known = known.intersection(&values).cloned().collect())
            .or_insert(values);
    }

    /// Demands what was given as a text: by a person, or in a header, which have no types. It stands for that text, and
    /// where it is written as SQLite writes an integer, for that integer. A column with a type holds only one of the two.
    pub fn demand_text<'v>(&mut self, column: &str, values: impl IntoIterator<Item = &'v str>) {
        let both = values.into_iter().flat_map(|text| {
            let integer: Option<i64> = text.parse().ok();
            let written = integer.filter(|integer| integer.to_string() == text);
            std::iter::once(ScopeValue::Text(text.to_owned()))
                .chain(written.map(ScopeValue::Integer))
        });
        self.demand(column, both);
    }

    /// Returns whether every row is allowed.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Returns the columns that are compared.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.terms.keys().map(String::as_str)
    }

    /// Returns each column with the values it may have.
    pub fn terms(&self) -> impl Iterator<Item = (&str, &BTreeSet<ScopeValue>)> {
        let terms = self.terms.iter();
        terms.map(|(column, values)| (column.as_str(), values))
    }

    /// Returns the number of values that the filter compares with, over all columns.
    pub fn value_count(&self) -> usize {
        self.terms.values().map(BTreeSet::len).sum()
    }

    /// Returns what a new row gets in a column where nothing is given: the only value it may have.
    pub fn sole_value(&self, column: &str) -> Option<Value> {
        let mut found = self.terms.iter();
        let (_, values) = found.find(|(name, _)| name.eq_ignore_ascii_case(column))?;
        // A text that is written as an integer stands beside it.
        let only = match values.iter().collect::<Vec<_>>().as_slice() {
            [only] => Some((*only).clone()),
            [ScopeValue::Integer(integer), ScopeValue::Text(text)]
                if integer.to_string() == *text =>
            {
                Some(ScopeValue::Text(text.clone()))
            }
            _ => None,
        };
        only.map(|value| value.stored())
    }

    /// SQL that holds for exactly the rows that are allowed, to be joined with `AND`, and its parameters. `column` gives the
    /// SQL for a column's value; `None`, here as there, where it is not there.
    pub fn sql(&self, column: impl Fn(&str) -> Option<String>) -> Option<(String, Vec<Value>)> {
        let (mut sql, mut params) = (String::new(), Vec::new());
        for (name, values) in &self.terms {
            let column = column(name)?;
            let is_text = |value: &&ScopeValue| matches!(value, ScopeValue::Text(_));
            let (texts, integers): (Vec<_>, Vec<_>) = values.iter().partition(is_text);
            let mut kinds = Vec::new();
            for (kind, values) in [("text", texts), ("integer", integers)] {
                if values.is_empty() {
                    continue;
                }
                // The `+` takes its affinity from the column, and a collation of the writer's own does not count.
                let marks = vec!["?"; values.len()].join(", ");
                params.extend(values.into_iter().map(ScopeValue::stored));
                kinds.push(format!(
                    "(typeof({column}) = '{kind}' AND +{column} COLLATE BINARY IN ({marks}))"
                ));
            }
            match kinds.is_empty() {
                true => sql.push_str(" AND 0"),
                false => sql.push_str(&format!(" AND ({})", kinds.join(" OR "))),
            }
        }
        Some((sql, params))
    }
}

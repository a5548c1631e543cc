//! A table, as it takes rows: which columns can be given, must be given, and are filled where they are not.

use rusqlite::types::Value;

use super::NewRow;
use super::value::{excerpt, sql_value};
use crate::model::filter::Scope;
use crate::sqlite::table::Schema;
use crate::text::json_object::Object;

/// A table, as it takes rows.
pub(super) struct InsertTarget<'s> {
    schema: &'s Schema,
    /// Of each of the table's columns, whether it holds JSON; `None` where it can't be given.
    columns: Vec<Option<bool>>,
    /// Columns that must be given.
    required: Vec<usize>,
    /// What columns hold where nothing is given.
    filled: Vec<(usize, Value)>,
}

impl<'s> InsertTarget<'s> {
    pub(super) fn new(schema: &'s Schema, scope: &Scope) -> InsertTarget<'s> {
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

    pub(super) fn raw_row(&self, raw: &str) -> Result<NewRow, String> {
        if !raw.starts_with('{') {
            return Err(format!("{} is not an object", excerpt(raw)));
        }
        // The whole array was found to be JSON; what can be wrong still is a name that is no text.
        let row =
            serde_json::from_str(raw).map_err(|e| format!("a name is not valid JSON: {e}"))?;
        self.row(&row)
    }

    pub(super) fn row(&self, row: &Object<'_>) -> Result<NewRow, String> {
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

//! The indexes of a table, asked for the rows that a filter may take. What they know is looked at again under the whole
//! condition, so they need not know exactly.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::Condition;
use super::walk::{Order, Range};
use crate::model::filter::{Filter, quote_identifier};
use crate::model::position::Cursor;
use crate::sqlite::deadline::is_interruption;
use crate::sqlite::table::Table;

/// Rows that are asked for at once.
const BATCH: usize = 1024;
/// Most combinations of values that are looked up, some microseconds each.
const MOST_LOOKUPS: usize = 4096;
/// An index that was too slow so many times is not asked again: it knows the rows, but not in the order of the key.
const STRIKES: u8 = 2;

/// A set of rows that an index finds without a search.
#[derive(Debug)]
pub(super) struct IndexedRows {
    /// In the order of the walk; all that there may be within the range.
    pub ids: Vec<i64>,
    /// From where the walk stands, as far as `ids` go.
    pub within: Range,
}

/// A column that a filter names, and what it may hold in a row that the filter takes.
pub(super) type Term = (String, Vec<Value>);

/// The indexes of one table.
#[derive(Debug)]
pub(super) struct Indexes {
    table: String,
    /// `None`: not looked up yet.
    known: Option<Vec<Index>>,
}

#[derive(Debug)]
struct Index {
    name: String,
    /// Columns and their collations, those that the index is sorted by first at the beginning.
    columns: Vec<(String, String)>,
    strikes: u8,
}

impl Indexes {
    pub(super) fn of(table: &Table) -> Indexes {
        Indexes {
            table: table.name.clone(),
            known: None,
        }
    }

    /// None that could be asked.
    pub(super) fn none() -> Indexes {
        Indexes {
            table: String::new(),
            known: Some(Vec::new()),
        }
    }

    /// What the index that gets furthest knows of a range. `source` is the table, its key and what leaves out rows
    /// without a position.
    pub(super) fn next(
        &mut self,
        connection: &Connection,
        source: (&str, &str, &str),
        condition: &Condition,
        range: Range,
        order: Order,
    ) -> rusqlite::Result<Option<IndexedRows>> {
        let indexes = match &mut self.known {
            Some(indexes) => indexes,
            known => known.insert(look_up(connection, &self.table)?),
        };
        let mut best: Option<IndexedRows> = None;
        for index in indexes.iter_mut().filter(|index| index.strikes < STRIKES) {
            let lookups = index.lookups(&condition.terms);
            if lookups.columns == 0 {
                continue;
            }
            let sql = index.query(source, lookups.columns, order);
            match lookups.ask(connection, &sql, range, order) {
                Ok(known) => {
                    let further = |best: &IndexedRows| match order {
                        Order::OldestFirst => known.within.upto > best.within.upto,
                        Order::NewestFirst => known.within.after < best.within.after,
                    };
                    if best.as_ref().is_none_or(further) {
                        best = Some(known);
                    }
                }
                Err(e) if is_interruption(&e) => index.strikes += 1,
                // SQLite can't use it for this after all, whatever the reason; the walk does without.
                Err(_) => index.strikes = STRIKES,
            }
        }
        Ok(best)
    }
}

/// The indexes that can be asked: those of all rows, on plain columns.
fn look_up(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Index>> {
    let names: Vec<String> = connection
        .prepare("SELECT name FROM pragma_index_list(?1) WHERE NOT partial")?
        .query_map([table], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut indexes = Vec::new();
    for name in names {
        let columns: Vec<(Option<String>, String)> = connection
            .prepare("SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno")?
            .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        // Beyond an expression, or a collation that only the writer knows, it can't be followed.
        let built_in = ["BINARY", "NOCASE", "RTRIM"];
        let columns: Vec<_> = columns
            .into_iter()
            .map_while(|(column, collation)| Some((column?, collation)))
            .take_while(|(_, collation)| built_in.contains(&collation.to_uppercase().as_str()))
            .collect();
        if !columns.is_empty() {
            indexes.push(Index {
                name,
                columns,
                strikes: 0,
            });
        }
    }
    Ok(indexes)
}

/// What an index is asked for: combinations of values of its first columns.
struct Lookups<'t> {
    columns: usize,
    combinations: Vec<Vec<&'t Value>>,
}

impl Index {
    /// The values of as many of its first columns as the filter names.
    fn lookups<'t>(&self, terms: &'t [Term]) -> Lookups<'t> {
        let mut lookups = Lookups {
            columns: 0,
            combinations: vec![vec![]],
        };
        for (column, _) in &self.columns {
            let Some((_, values)) = terms.iter().find(|(name, _)| name == column) else {
                break;
            };
            if lookups.combinations.len() * values.len() > MOST_LOOKUPS {
                break;
            }
            let longer = lookups.combinations.iter().flat_map(|combination| {
                values.iter().map(|value| {
                    let mut longer = combination.clone();
                    longer.push(value);
                    longer
                })
            });
            lookups.combinations = longer.collect();
            lookups.columns += 1;
        }
        lookups
    }

    fn query(
        &self,
        (table, key, positioned): (&str, &str, &str),
        columns: usize,
        order: Order,
    ) -> String {
        let name = quote_identifier(&self.name);
        let equal: String = self.columns[..columns]
            .iter()
            // Whatever the collation: values that are the same are equal to it.
            .map(|(column, collation)| {
                format!("{} = ? COLLATE {collation} AND ", quote_identifier(column))
            })
            .collect();
        let order = order.sql();
        format!(
            "SELECT {key} FROM {table} INDEXED BY {name} WHERE {equal}{key} > ? AND {key} <= ?{positioned} \
             ORDER BY {key} {order} LIMIT {BATCH}"
        )
    }
}

impl Lookups<'_> {
    /// The first rows of the range that any combination has.
    fn ask(
        &self,
        connection: &Connection,
        sql: &str,
        mut range: Range,
        order: Order,
    ) -> rusqlite::Result<IndexedRows> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut ids: Vec<i64> = Vec::new();
        for combination in &self.combinations {
            let bounds = range.bounds();
            let params = combination.iter().copied().chain(&bounds);
            let found = statement.query_map(params_from_iter(params), |row| row.get(0))?;
            for id in found {
                ids.push(id?);
            }
            if ids.len() >= BATCH {
                sort(&mut ids, order);
                ids.truncate(BATCH);
            }
            // No more than a batch is wanted of all together.
            if let Some(&last) = ids.get(BATCH - 1) {
                match order {
                    Order::OldestFirst => range.upto = Cursor(last),
                    Order::NewestFirst => range.after = Cursor::before(last),
                }
            }
        }
        sort(&mut ids, order);
        Ok(IndexedRows { ids, within: range })
    }
}

fn sort(ids: &mut Vec<i64>, order: Order) {
    ids.sort_unstable();
    ids.dedup();
    if order == Order::NewestFirst {
        ids.reverse();
    }
}

/// The statement that makes the index which would answer a filter at once.
pub fn index_for(table: &str, filter: &Filter) -> String {
    let scope = filter.scope().columns();
    let columns: Vec<&str> = scope
        .chain(filter.terms().map(|(column, _)| column))
        .collect();
    create_index(table, &columns)
}

/// The statement that makes an index on these columns.
pub fn create_index(table: &str, columns: &[&str]) -> String {
    let name = format!("{table}_{}", columns.join("_"));
    let columns: Vec<String> = columns.iter().map(|column| plain(column)).collect();
    format!(
        "CREATE INDEX {} ON {}({})",
        plain(&name),
        plain(table),
        columns.join(", ")
    )
}

/// A name as people write it in SQL, quoted only where it has to be.
fn plain(name: &str) -> String {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(letters);
    match is_word && !KEYWORDS.contains(&name.to_ascii_lowercase().as_str()) {
        true => name.to_owned(),
        false => quote_identifier(name),
    }
}

/// Words that a column may well be named after and that SQL means something else by.
const KEYWORDS: [&str; 20] = [
    "check",
    "commit",
    "default",
    "delete",
    "from",
    "group",
    "in",
    "index",
    "insert",
    "limit",
    "not",
    "null",
    "order",
    "select",
    "set",
    "table",
    "to",
    "transaction",
    "update",
    "values",
];

/// What each column that the filter names may hold in a row it takes, as SQLite stores it, and perhaps some more.
pub(super) fn terms(filter: &Filter) -> Vec<Term> {
    let stored = |value: &String| {
        let number = match (value.parse::<i64>(), value.parse::<f64>()) {
            (Ok(integer), _) => Some(Value::Integer(integer)),
            (Err(_), Ok(real)) => Some(Value::Real(real)),
            (Err(_), Err(_)) => None,
        };
        let blob = BASE64.decode(value).ok().map(Value::Blob);
        let text = std::iter::once(Value::Text(value.clone()));
        text.chain(number).chain(blob).collect::<Vec<_>>()
    };
    let asked = filter
        .terms()
        .map(|(column, values)| (column.to_owned(), values.iter().flat_map(stored).collect()));
    // Of a column that is named twice the first is looked up; the scope's values are fewer, mostly one.
    let scope = filter.scope().terms().map(|(column, values)| {
        let values = values.iter().map(|value| value.stored());
        (column.to_owned(), values.collect())
    });
    scope.chain(asked).collect()
}

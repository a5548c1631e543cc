//! By what `REPLACE` finds the rows that it deletes: SQLite fires no trigger for them, unless the writer has
//! `recursive_triggers` on.

use rusqlite::Connection;

use crate::model::filter::quote_identifier;
use crate::sqlite::capture::sql_words::{IndexParts, index_parts, words};
use crate::sqlite::capture::subject::TableColumn;
use crate::sqlite::table::TableError;

/// A constraint that no two rows may break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unique {
    pub(super) terms: Vec<Term>,
    /// SQL that holds for the rows of the table that the constraint is about.
    pub(super) predicate: Option<String>,
    /// Columns that SQLite lets a migration drop as soon as the constraint is gone, though the triggers still name them.
    pub(super) droppable: StandIns,
    /// Columns that columns of the constraint may be computed from.
    sources: Vec<String>,
    /// The only columns by whose change an update could come into conflict; `None` where that is not told by their names.
    watched: Option<Vec<String>>,
}

/// What is compared: SQL of the rows of the table, of the new row, and of the row before an update. The rows of the table go by
/// the name [`HELD`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) existing: String,
    pub(super) new: String,
    /// `None` where it is not told from the value alone whether an update could come into conflict.
    pub(super) old: Option<String>,
    pub(super) collation: String,
}

/// How many columns SQLite leaves out where a trigger does not name them: the first ones; those after them it always loads.
const LEFT_OUT: usize = 32;

/// The name in triggers of the table whose rows are compared with the new one.
pub(super) const HELD: &str = "held";

/// Columns that may be gone when a trigger fires, or when SQLite asks whether it could: `ALTER TABLE … DROP COLUMN` fails where a
/// trigger names what is gone. So an empty column of the same name stands behind each, in a row beside those that are asked: SQLite
/// looks for a name in the nearest query first, and takes that of the left side of a natural join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StandIns(Vec<String>);

impl StandIns {
    /// Those of several constraints, each once.
    pub(super) fn of_all(uniques: &[Unique]) -> StandIns {
        let mut all: Vec<String> = Vec::new();
        for name in uniques.iter().flat_map(|unique| &unique.droppable.0) {
            if !all.contains(name) {
                all.push(name.clone());
            }
        }
        StandIns(all)
    }

    /// SQL of the row that stands beside, under the name of a row that the trigger sees (`new`, `old`); nothing where no column
    /// can be dropped.
    pub(super) fn beside(&self, join: &str, side: &str) -> String {
        let columns = self.0.iter();
        let columns = columns.map(|name| format!("NULL AS {}", quote_identifier(name)));
        let columns = columns.collect::<Vec<_>>().join(", ");
        match columns.as_str() {
            "" => String::new(),
            columns => format!(" {join} (SELECT {columns}) AS \"{side}\""),
        }
    }

    /// SQL of what a trigger sees of a row, in a query that has the row beside: in a query of its own, where what the trigger sees
    /// is nearer.
    pub(super) fn seen(&self, sql: &str) -> String {
        match self.0.is_empty() {
            true => sql.to_owned(),
            false => format!("(SELECT {sql})"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns the columns by whose change an update could come into conflict with any of the constraints; `None` where any may.
pub(super) fn watched(uniques: &[Unique]) -> Option<Vec<&str>> {
    let mut watched: Vec<&str> = Vec::new();
    for unique in uniques {
        watched.extend(unique.watched.as_ref()?.iter().map(String::as_str));
    }
    watched.sort_unstable();
    watched.dedup();
    Some(watched).filter(|watched| !watched.is_empty())
}

impl Unique {
    /// SQL that holds for the rows that the new row can't stand beside.
    pub(super) fn conflict(&self) -> String {
        let equal = self.terms.iter().map(|term| {
            let Term {
                existing,
                new,
                collation,
                ..
            } = term;
            let (new, collation) = (self.droppable.seen(new), quote_identifier(collation));
            format!("{existing} = {new} COLLATE {collation}")
        });
        let predicate = self.predicate.iter().map(|sql| format!("({sql}\n)"));
        equal.chain(predicate).collect::<Vec<_>>().join(" AND ")
    }

    /// SQL, to be joined with `AND`, that always holds and names the columns that those of the constraint may be computed from. Before an
    /// update SQLite loads for a trigger only those that the trigger names, and computes the generated ones of what it loaded.
    pub(super) fn sources(&self) -> String {
        let sources = self.sources.iter().map(|name| {
            let is_null = format!("NEW.{} IS NULL", quote_identifier(name));
            format!("{} OR ", self.droppable.seen(&is_null))
        });
        let sources: String = sources.collect();
        match sources.as_str() {
            "" => sources,
            _ => format!(" AND ({sources}1)"),
        }
    }

    /// SQL that holds where an update may have brought about a conflict; `None` where any may.
    pub(super) fn changed(&self) -> Option<String> {
        let old = self.terms.iter().map(|term| term.old.as_ref());
        let old = old.collect::<Option<Vec<_>>>()?;
        let terms = self.terms.iter().zip(old);
        let changed = terms.map(|(term, old)| {
            let (new, old) = (self.droppable.seen(&term.new), self.droppable.seen(old));
            format!("{new} IS NOT {old} COLLATE BINARY")
        });
        Some(format!("({})", changed.collect::<Vec<_>>().join(" OR ")))
    }
}

/// What is asked of a table's constraints.
pub(super) struct Asked<'a> {
    pub(super) table: &'a str,
    pub(super) columns: &'a [TableColumn],
    /// The columns of the key, in its order.
    pub(super) key: &'a [&'a TableColumn],
    /// Names of the columns whose values are recorded.
    pub(super) recorded: &'a [&'a str],
}

impl Asked<'_> {
    /// The constraints by which a row can be deleted unseen. Where another row of the same key takes its place, and nothing of
    /// the deleted one is wanted, that is none.
    ///
    /// # Errors
    /// An index can't be worded within a trigger; says which. Or as SQLite has them.
    pub(super) fn uniques(&self, connection: &Connection) -> Result<Vec<Unique>, TableError> {
        let mut uniques = Vec::new();
        uniques.extend(self.rowid(connection)?);
        let indexes: Vec<(String, String)> = connection
            .prepare(
                "SELECT name, origin FROM pragma_index_list(?1) WHERE \"unique\" ORDER BY seq DESC",
            )?
            .query_map([self.table], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (name, origin) in indexes {
            let index = Index::of(connection, name)?;
            let is_told_by_key = match origin.as_str() {
                "pk" => self.recorded.is_empty() && self.holds_key(&index),
                _ => self.holds_key(&index),
            };
            if !is_told_by_key {
                uniques.push(self.unique(&index)?);
            }
        }
        Ok(uniques)
    }

    /// The rowid, by the name of the integer primary key or else its own, if no column has taken that.
    fn rowid(&self, connection: &Connection) -> rusqlite::Result<Option<Unique>> {
        let has_rowid: bool = connection.query_row(
            "SELECT NOT EXISTS (SELECT 1 FROM pragma_table_list WHERE schema = 'main' AND name = ?1 AND wr)",
            [self.table],
            |row| row.get(0),
        )?;
        let has_index: bool = connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')",
            [self.table],
            |row| row.get(0),
        )?;
        let name = match self.key {
            _ if !has_rowid => return Ok(None),
            [_] if !has_index && self.recorded.is_empty() => return Ok(None),
            [key] if !has_index => quote_identifier(&key.captured.name),
            _ => {
                let taken = |name: &str| {
                    let mut columns = self.columns.iter();
                    columns.any(|column| column.captured.name.eq_ignore_ascii_case(name))
                };
                match ["rowid", "_rowid_", "oid"]
                    .into_iter()
                    .find(|name| !taken(name))
                {
                    Some(name) => name.to_owned(),
                    None => return Ok(None),
                }
            }
        };
        let term = Term {
            existing: format!("{HELD}.{name}"),
            new: format!("NEW.{name}"),
            old: Some(format!("OLD.{name}")),
            collation: "BINARY".to_owned(),
        };
        Ok(Some(Unique {
            terms: vec![term],
            predicate: None,
            droppable: StandIns::default(),
            sources: Vec::new(),
            // It has several names.
            watched: None,
        }))
    }

    /// Whether two rows that conflict have the same key, so that nothing is lost but what the key's own constraint finds.
    fn holds_key(&self, index: &Index) -> bool {
        let holds = |key: &&TableColumn| {
            let mut columns = index.columns.iter();
            columns.any(|(name, collation)| {
                let same = |name: &String| name.eq_ignore_ascii_case(&key.captured.name);
                name.as_ref().is_some_and(same) && collation.eq_ignore_ascii_case("BINARY")
            })
        };
        self.key.iter().all(holds) && self.key.iter().all(|key| key.captured.has_one_type())
    }

    fn unique(&self, index: &Index) -> Result<Unique, TableError> {
        let parts = index.sql.as_deref().map(|sql| {
            index_parts(sql).ok_or_else(|| self.unworded(index, "its SQL is of no known form"))
        });
        let parts = parts.transpose()?;
        let predicate = parts.as_ref().and_then(|parts| parts.predicate);
        let mut named: Vec<&str> = index
            .columns
            .iter()
            .filter_map(|(name, _)| name.as_deref())
            .collect();
        let expressions = parts
            .iter()
            .flat_map(|parts| parts.items.iter().copied().chain(predicate));
        for expression in expressions {
            named.extend(self.columns_of(index, expression)?);
        }
        let sources = self.sources(&named);
        // A column of the key may be the rowid, and be given a value under that name.
        let is_told = sources.is_empty() && named.iter().all(|name| self.may_go(name));
        let watched = is_told.then(|| named.iter().map(|&name| name.to_owned()).collect());
        named.extend(sources.iter().map(String::as_str));
        let droppable = self.droppable(&named);
        let terms = index.columns.iter().enumerate();
        let terms = terms.map(|(place, (name, collation))| match name {
            Some(name) => self.column_term(name, collation, predicate.is_some()),
            None => self.expression_term(index, parts.as_ref(), place, collation),
        });
        Ok(Unique {
            terms: terms.collect::<Result<_, _>>()?,
            predicate: predicate.map(str::to_owned),
            droppable,
            sources,
            watched,
        })
    }

    /// What the columns may be computed from: of a generated one SQLite does not tell, so that is all that are not.
    fn sources(&self, named: &[&str]) -> Vec<String> {
        let is_named = |column: &TableColumn| {
            let name = &column.captured.name;
            named.iter().any(|named| named.eq_ignore_ascii_case(name))
        };
        let mut generated = self.columns.iter().filter(|column| column.is_generated);
        if !generated.any(is_named) {
            return Vec::new();
        }
        let left_out = self.columns.iter().take(LEFT_OUT);
        let given = left_out.filter(|column| !column.is_generated);
        given.map(|column| column.captured.name.clone()).collect()
    }

    /// Those of the columns that a migration may drop: none of the key, and none whose values are recorded.
    fn droppable(&self, named: &[&str]) -> StandIns {
        let columns = self
            .columns
            .iter()
            .map(|column| column.captured.name.as_str());
        let is_named = |column: &&str| named.iter().any(|name| name.eq_ignore_ascii_case(column));
        let droppable = columns
            .filter(is_named)
            .filter(|column| self.may_go(column));
        StandIns(droppable.map(str::to_owned).collect())
    }

    fn may_go(&self, name: &str) -> bool {
        let key = self.key.iter().map(|column| column.captured.name.as_str());
        let mut kept = key.chain(self.recorded.iter().copied());
        !kept.any(|kept| kept.eq_ignore_ascii_case(name))
    }

    fn column_term(&self, name: &str, collation: &str, partial: bool) -> Result<Term, TableError> {
        let quoted = quote_identifier(name);
        let column = self.columns.iter().find(|c| c.captured.name == name);
        // Where NULL may not stand, REPLACE puts the default in its place.
        let default = column.and_then(|column| column.put_for_null.as_deref());
        Ok(Term {
            existing: match self.may_go(name) {
                true => quoted.clone(),
                false => format!("{HELD}.{quoted}"),
            },
            new: match default {
                Some(default) => {
                    format!("CASE WHEN NEW.{quoted} IS NULL THEN {default} ELSE NEW.{quoted} END")
                }
                None => format!("NEW.{quoted}"),
            },
            old: (!partial).then(|| format!("OLD.{quoted}")),
            collation: collation.to_owned(),
        })
    }

    /// The expression, computed of the rows of the table, and of a row that holds the new values under the same names.
    fn expression_term(
        &self,
        index: &Index,
        parts: Option<&IndexParts<'_>>,
        place: usize,
        collation: &str,
    ) -> Result<Term, TableError> {
        let expression = parts.and_then(|parts| parts.items.get(place));
        let expression = expression.ok_or_else(|| {
            self.unworded(
                index,
                "it is over an expression that is not found in its SQL",
            )
        })?;
        let columns = self.columns_of(index, expression)?;
        let columns = columns.iter().map(|column| {
            let name = quote_identifier(column);
            format!("NEW.{name} AS {name}")
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        // An expression may be the same for all rows, of which there is then one at most.
        let of_new = match columns.as_str() {
            "" => String::new(),
            columns => format!(" FROM (SELECT {columns})"),
        };
        Ok(Term {
            existing: format!("({expression}\n)"),
            new: format!("(SELECT {expression}\n{of_new})"),
            old: None,
            collation: collation.to_owned(),
        })
    }

    /// The columns that an expression names. What is in double quotes and no column, SQLite takes for a text where it may:
    /// within a trigger that depends on the writer.
    fn columns_of(&self, index: &Index, expression: &str) -> Result<Vec<&str>, TableError> {
        let mut named: Vec<&str> = Vec::new();
        for word in words(expression) {
            let Some(name) = word.name() else { continue };
            let mut columns = self.columns.iter().map(|c| c.captured.name.as_str());
            match columns.find(|column| column.eq_ignore_ascii_case(&name)) {
                Some(column) if !named.contains(&column) => named.push(column),
                None if word.text.starts_with('"') => {
                    let why = format!("it has the text {} in double quotes", word.text);
                    return Err(self.unworded(index, &why));
                }
                Some(_) | None => {}
            }
        }
        Ok(named)
    }

    fn unworded(&self, index: &Index, why: &str) -> TableError {
        TableError::Unfit(format!(
            "table {} has a unique index {}, by which REPLACE could delete rows unseen, and no trigger can look into it: {why}; \
             write the index otherwise",
            self.table, index.name
        ))
    }
}

struct Index {
    name: String,
    sql: Option<String>,
    /// Name, or none for an expression; and the collation.
    columns: Vec<(Option<String>, String)>,
}

impl Index {
    fn of(connection: &Connection, name: String) -> rusqlite::Result<Index> {
        let columns = connection
            .prepare("SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno")?
            .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let sql = connection.query_row(
            "SELECT max(sql) FROM sqlite_schema WHERE type = 'index' AND name = ?1",
            [&name],
            |row| row.get(0),
        )?;
        Ok(Index { name, sql, columns })
    }
}

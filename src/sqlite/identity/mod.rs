//! Which history a table holds: tells a table that went on from one that was replaced, restored or started over,
//! by rows sampled earlier.
//!
//! A false "another" costs subscribers a replay, a false "same" loses rows for good: where it can't be told, it is another.

mod follows;
mod newest;
mod sample;

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;

use crate::sqlite::file::FileId;
use crate::sqlite::fingerprint::fingerprint;
use crate::sqlite::table::Table;
use follows::follows_from_id;
pub use newest::{Newest, given};
use sample::{Resampled, SampledValue};
pub use sample::{SAMPLE_ROWS, Sample};

/// What may have happened to the table since it was sampled, or what was seen to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The path names another file than the one sampled, or it is not known which that was.
    OtherFile,
    /// The same file, which nobody watched for a while.
    Unwatched,
    /// The same open file, whose schema changed: an ALTER or VACUUM, or a restore in place.
    Reshaped,
    /// The same open file, whose newest row is not what it was: most likely an update or a deletion.
    Edited,
    /// The newest row of a log, in which none is ever edited, is not what it was: the log was emptied and filled again.
    Rewritten,
    /// An id up to the head was given again, after its row was deleted.
    GivenAgain,
    /// The head is the largest id there is, and rows came below it: SQLite gives ids at random then, in no order.
    Exhausted,
}

/// Asks whether a table still holds the history that was sampled.
#[derive(Debug)]
pub struct Question<'a> {
    pub table: &'a Table,
    /// The newest rows up to `sampled_to`, as they were; `None` where no history is known.
    pub sample: Option<&'a Sample>,
    /// The highest id given when they were sampled; [`i64::MIN`] for none.
    pub sampled_to: i64,
    /// The highest id given, as far as is known by now. Not below `sampled_to`.
    pub head: i64,
    pub doubt: Doubt,
}

/// Whether a table still holds the history that was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Same,
    Another,
}

impl Verdict {
    fn same_if(same: bool) -> Verdict {
        match same {
            true => Verdict::Same,
            false => Verdict::Another,
        }
    }
}

impl Question<'_> {
    /// Compares the table with the sample. To be called within one snapshot.
    ///
    /// # Errors
    /// The table can't be read.
    pub fn answer(&self, connection: &Connection) -> rusqlite::Result<Verdict> {
        match (self.doubt, self.sample) {
            (Doubt::Rewritten | Doubt::GivenAgain | Doubt::Exhausted, _) => Ok(Verdict::Another),
            (_, Some(sample)) => self.compare(connection, sample),
            // Nothing is known that it could be another than.
            (_, None) => Ok(Verdict::Same),
        }
    }

    fn compare(&self, connection: &Connection, sample: &Sample) -> rusqlite::Result<Verdict> {
        let now = sample.again(connection, self.table)?;
        let compared = Compared::new(sample, &now);
        let signs = Signs::look(self, sample, connection, &now)?;
        if signs.fell && !(self.doubt == Doubt::Reshaped && signs.keeps_all && compared.is_whole())
        {
            return Ok(Verdict::Another);
        }
        if now.rows.is_empty() {
            return Ok(self.with_nothing_left(&signs));
        }
        Ok(match self.doubt {
            Doubt::Edited => Verdict::same_if(!(signs.rose && compared.newest_are_foreign(2))),
            Doubt::Reshaped => Verdict::same_if(!compared.newest_are_foreign(1)),
            _ if signs.strangers => Verdict::Another,
            // Then there is nothing that anybody could have missed.
            _ if compared.is_whole() => Verdict::Same,
            Doubt::Unwatched => Verdict::same_if(
                !compared.some_column_is_foreign() && !compared.newest_are_foreign(1),
            ),
            _ => Verdict::same_if(!compared.some_column_is_foreign() && compared.newest_is_known()),
        })
    }

    /// Every row that was sampled is gone, or there never was one.
    fn with_nothing_left(&self, signs: &Signs) -> Verdict {
        if self.head == i64::MIN {
            return Verdict::Same;
        }
        match self.doubt {
            // Rows are deleted; ids given again are noticed when that happens.
            Doubt::Edited => Verdict::Same,
            // Ids go on above those given: rows were pruned. A dropped table's sequence goes with it, and a restored one
            // would have to have pruned the very rows sampled here.
            Doubt::Reshaped => Verdict::same_if(signs.remembers),
            Doubt::Unwatched => Verdict::same_if(signs.remembers && !signs.strangers),
            // Nothing below the head was put in the place of what was there.
            _ => Verdict::same_if(signs.remembers && signs.nothing_below),
        }
    }
}

/// What the ids alone say about the history.
#[derive(Debug)]
struct Signs {
    /// Ids up to the head are being given again, or will be.
    fell: bool,
    /// SQLite remembers having given the head.
    remembers: bool,
    /// Every row sampled is there, and none above them.
    keeps_all: bool,
    /// Rows came above the head, or up to it where there was none.
    rose: bool,
    /// Among the ids that were sampled there are some that were not there.
    strangers: bool,
    /// There is no row up to the head.
    nothing_below: bool,
}

impl Signs {
    fn look(
        question: &Question<'_>,
        sample: &Sample,
        connection: &Connection,
        now: &Resampled,
    ) -> rusqlite::Result<Signs> {
        let Question {
            table,
            sampled_to,
            head,
            ..
        } = *question;
        let max = table.max_key(connection)?;
        let given = max.max(table.sequence(connection)?);
        let sampled = |id: i64| sample.rows.iter().any(|(sampled, _)| *sampled == id);
        // Only what AUTOINCREMENT gave is remembered, and it gives nothing below 1. Without it, a deleted newest row looks
        // like a head that fell; ids were given again where the highest row is not one of those that were there.
        let fell = match table.autoincrement && head > 0 {
            true => given < Some(head),
            false => max.is_some_and(|max| max < head && max <= sampled_to && !sampled(max)),
        };
        let covered = (sample.covers_from(), sampled_to);
        let above_sample = sample
            .newest()
            .map_or(i64::MIN, |newest| newest.saturating_add(1));
        let found = now.rows.len() as i64;
        let count = |range| table.count_within(connection, range, SAMPLE_ROWS as i64 + 1);
        Ok(Signs {
            fell,
            remembers: table.autoincrement && head > 0 && given >= Some(head),
            keeps_all: max == sample.newest() && now.rows.len() == sample.len(),
            rose: given > Some(head) || count((above_sample, sampled_to))? > 0,
            strangers: count(covered)? > found,
            nothing_below: table.min_key(connection)?.is_none_or(|min| min > head),
        })
    }
}

/// The sampled rows that still exist beside what they were, newest first, on the columns of both.
struct Compared {
    rows: usize,
    columns: Vec<ComparedColumn>,
    /// There were columns, and none of them is left.
    unrelated: bool,
}

/// One column of the rows compared.
struct ComparedColumn {
    /// Whether each row's value is what it was.
    agrees: Vec<bool>,
    /// Whether it is what it was, as it may well be in another history: NULL, or a value that many of the rows have.
    is_silent: Vec<bool>,
    /// The values were mostly the rows' own, and they are.
    was_own: bool,
    is_own: bool,
    /// It agrees in the newest row in which it is not silent, as it would in another history: by the id.
    follows_from_id: bool,
    /// It agrees in some rows, and is silent in each of them.
    agrees_by_chance: bool,
}

impl ComparedColumn {
    fn new(
        before: &[(i64, u64)],
        now: &[(i64, &SampledValue)],
        sampled: &HashSet<u64>,
        rows: usize,
    ) -> ComparedColumn {
        let agrees: Vec<bool> = before
            .iter()
            .zip(now)
            .map(|((_, before), (_, now))| *before == now.fingerprint)
            .collect();
        let is_silent = |((_, cell), agrees): (&(i64, &SampledValue), &bool)| {
            let same = |(_, other): &&(i64, &SampledValue)| other.fingerprint == cell.fingerprint;
            let having = now.iter().filter(same).count();
            *agrees && (cell.is_null() || is_common(having, now.len()))
        };
        let is_silent: Vec<bool> = now.iter().zip(&agrees).map(is_silent).collect();
        let speaks = agrees
            .iter()
            .zip(&is_silent)
            .map(|(agrees, is_silent)| *agrees && !is_silent);
        let speaking = now.iter().zip(speaks).filter(|(_, speaks)| *speaks);
        let speaking: Vec<(i64, &SampledValue)> = speaking.map(|(row, _)| *row).collect();
        let agrees_by_chance = speaking.is_empty() && agrees.contains(&true);
        let mut not_silent = agrees
            .iter()
            .zip(&is_silent)
            .filter(|(_, silent)| !**silent);
        let newest_agrees = not_silent.next().is_some_and(|(agrees, _)| *agrees);
        let distinct: HashSet<u64> = now.iter().map(|(_, cell)| cell.fingerprint).collect();
        ComparedColumn {
            was_own: are_own(sampled.len(), rows),
            is_own: are_own(distinct.len(), now.len()),
            follows_from_id: newest_agrees && follows_from_id(&speaking),
            agrees_by_chance,
            agrees,
            is_silent,
        }
    }

    /// Returns whether another history would most likely have other values here.
    fn is_telling(&self) -> bool {
        let has_own = match self.agrees_by_chance {
            // A few rows of which one was updated have different values now, where they had the same.
            true => self.was_own && self.is_own,
            false => self.was_own || self.is_own,
        };
        has_own && !self.follows_from_id
    }
}

/// Returns whether values are mostly their rows' own: not a status, nor the time of a whole transaction.
fn are_own(distinct: usize, rows: usize) -> bool {
    distinct * 2 >= rows.max(4)
}

/// Returns whether so many of the rows that have a value in common are too many to tell one of them by it.
fn is_common(having: usize, rows: usize) -> bool {
    having > 1 && having * 4 > rows
}

impl Compared {
    fn new(before: &Sample, now: &Resampled) -> Compared {
        let was: HashMap<i64, &Vec<u64>> = before
            .rows
            .iter()
            .map(|(id, values)| (*id, values))
            .collect();
        let of_before = |place: usize| -> Vec<(i64, u64)> {
            let rows = now
                .rows
                .iter()
                .filter_map(|(id, _)| Some((*id, was.get(id)?[place])));
            rows.collect()
        };
        let of_now = |place: usize| -> Vec<(i64, &SampledValue)> {
            now.rows
                .iter()
                .map(|(id, cells)| (*id, &cells[place]))
                .collect()
        };
        // A column of another name with the same values was renamed.
        let renamed = |place: usize| {
            let mut gone = before.columns.iter().enumerate();
            gone.position(|(was, name)| {
                let mut values = of_before(was).into_iter().zip(of_now(place));
                !now.columns.contains(name)
                    && values.all(|((_, was), (_, is))| was == is.fingerprint)
            })
        };
        let columns: Vec<ComparedColumn> = (0..now.columns.len())
            .filter_map(|place| {
                let same_name = |name: &String| *name == now.columns[place];
                let found = before.columns.iter().position(same_name);
                let was = found.or_else(|| renamed(place))?;
                let sampled = before.rows.iter().map(|(_, values)| values[was]).collect();
                Some(ComparedColumn::new(
                    &of_before(was),
                    &of_now(place),
                    &sampled,
                    before.len(),
                ))
            })
            .collect();
        Compared {
            rows: now.rows.len(),
            unrelated: columns.is_empty() && !before.columns.is_empty(),
            columns,
        }
    }

    /// Every row is in every column what it was.
    fn is_whole(&self) -> bool {
        !self.unrelated
            && self
                .columns
                .iter()
                .all(|column| column.agrees.iter().all(|agrees| *agrees))
    }

    fn telling(&self) -> impl Iterator<Item = &ComparedColumn> {
        self.columns.iter().filter(|column| column.is_telling())
    }

    /// The rows of which something says whether they are what they were, newest first.
    fn witnesses(&self) -> impl Iterator<Item = usize> {
        let speaks = |row: &usize| self.telling().any(|column| !column.is_silent[*row]);
        (0..self.rows).filter(speaks)
    }

    /// Returns whether the newest rows that tell, `upto` of them, differ in all that tells: an update of one's own leaves
    /// something. Where nothing tells, every row has to differ in every column.
    fn newest_are_foreign(&self, upto: usize) -> bool {
        let is_foreign = |row: usize| {
            let mut telling = self.telling();
            telling.all(|column| !column.agrees[row] || column.is_silent[row])
        };
        match self.telling().next() {
            Some(_) => {
                let mut newest = self.witnesses().take(upto).peekable();
                newest.peek().is_some() && newest.all(is_foreign)
            }
            None => {
                self.unrelated || {
                    let differs =
                        |column: &ComparedColumn| !column.agrees.iter().any(|agrees| *agrees);
                    !self.columns.is_empty() && self.columns.iter().all(differs)
                }
            }
        }
    }

    /// Returns whether there is a column of the rows' own values, then and now, in which no row is what it was.
    fn some_column_is_foreign(&self) -> bool {
        let mut own = self
            .columns
            .iter()
            .filter(|column| column.was_own && column.is_own);
        self.rows > 1 && own.any(|column| !column.agrees.iter().any(|agrees| *agrees))
    }

    /// Returns whether the newest row that tells agrees in all that tells.
    fn newest_is_known(&self) -> bool {
        let mut newest = self.witnesses().take(1);
        newest.any(|row| self.telling().all(|column| column.agrees[row]))
    }
}

/// A name for a new history: unguessable enough never to collide.
pub fn new_epoch() -> String {
    use std::hash::{BuildHasher, RandomState};
    // RandomState is seeded by the system's randomness once a thread and counts on from there; time and process id
    // keep apart what the seed might not.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let random = RandomState::new().hash_one((now.as_nanos(), std::process::id()));
    format!("{:x}-{random:016x}", now.as_secs())
}

/// A name derived from the file, for when no state can be kept: survives restarts, tells a replaced file, but not one
/// restored in place while the daemon was down.
pub fn derived_epoch(file: FileId, table: &str) -> String {
    let FileId {
        device,
        inode,
        born,
    } = file;
    format!(
        "f-{:016x}",
        fingerprint(format!("{device}:{inode}:{born}:{table}").as_bytes())
    )
}

#[cfg(test)]
mod tests;

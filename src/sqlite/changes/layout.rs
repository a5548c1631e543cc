//! Where in a row that was read each part of a change stands.

use super::{ChangeLog, after, before, logged, present};
use crate::sqlite::table::{Exposed, jsonb_text};

/// What is selected of each change, and where it stands.
#[derive(Debug)]
pub struct Layout {
    /// SQL.
    pub columns: String,
    pub seq: usize,
    pub(super) op: usize,
    pub(super) at: usize,
    pub(super) moved: usize,
    /// Whether there is a row of this key; `None` where the log has it itself.
    pub(super) is_there: Option<usize>,
    pub(super) key: Vec<usize>,
    pub(super) old_key: Vec<usize>,
    /// Of the exposed columns, and of the texts of those embedded as JSON.
    pub(super) after: Vec<usize>,
    /// The same before the change; empty where that is not in the log.
    pub(super) before: Vec<usize>,
    pub(super) recorded: Vec<RecordedPlace>,
}

/// Where the values stand of a column by which it is decided whose a change is.
#[derive(Debug)]
pub(super) struct RecordedPlace {
    pub old: usize,
    pub new: usize,
    pub now: usize,
}

/// A list of columns in the making. What is asked for twice is read once.
#[derive(Default)]
struct SelectList(Vec<String>);

impl SelectList {
    fn place(&mut self, sql: String) -> usize {
        let known = self.0.iter().position(|known| *known == sql);
        known.unwrap_or_else(|| {
            self.0.push(sql);
            self.0.len() - 1
        })
    }
}

impl Layout {
    /// Of a feed that shows the `exposed` columns. JSONB of more than `longest` bytes is not read as text.
    pub fn new(log: &ChangeLog, exposed: &[Exposed], longest: usize) -> Layout {
        let mut list = SelectList::default();
        let mut row = |column: &dyn Fn(&str) -> String| -> Vec<usize> {
            let plain = exposed.iter().map(|e| column(&e.name));
            let embedded = exposed.iter().filter(|e| e.json);
            let texts = embedded.map(|e| jsonb_text(&column(&e.name), longest));
            let all: Vec<String> = plain.chain(texts).collect();
            all.into_iter().map(|sql| list.place(sql)).collect()
        };
        let (after, before) = match log.is_full {
            true => (
                row(&|name| logged(&after(name))),
                row(&|name| logged(&before(name))),
            ),
            false => (row(&present), Vec::new()),
        };
        let mut keys = |prefix: &str| -> Vec<usize> {
            let names = (0..log.key.len()).map(|n| logged(&format!("{prefix}{n}")));
            let names: Vec<String> = names.collect();
            names.into_iter().map(|sql| list.place(sql)).collect()
        };
        let (key, old_key) = (keys("k"), keys("old_k"));
        let recorded = log.recorded.iter().map(|column| RecordedPlace {
            old: list.place(column.old.clone()),
            new: list.place(column.new.clone()),
            now: list.place(column.now.as_ref().unwrap_or(&column.new).clone()),
        });
        let recorded = recorded.collect();
        let is_there = (!log.is_full).then(|| list.place(log.is_there()));
        let [seq, op, at, moved] =
            ["seq", "op", "at", "moved"].map(|name| list.place(logged(name)));
        Layout {
            columns: list.0.join(", "),
            seq,
            op,
            at,
            moved,
            is_there,
            key,
            old_key,
            after,
            before,
            recorded,
        }
    }
}

//! Changes as a person reads them: a line each, with the columns of the row beside what happened to it.

use std::borrow::Cow;

use time::OffsetDateTime;

use super::output::ShownCell;
use crate::text::json_object::Object;

/// What is shown where a row's value before a change is another than after it.
const BECAME: &str = " → ";

/// Lays changes out in lines. A row that is gone is shown as it was, where that is known.
#[derive(Debug, Default)]
pub(super) struct ChangeLines {
    /// The columns of the row that was shown last, without those of its key: those of a change that shows none are left empty.
    columns: Vec<String>,
}

impl ChangeLines {
    /// Returns the names and cells of a line.
    pub(super) fn line(&mut self, change: &Object<'_>) -> (Vec<String>, Vec<ShownCell>) {
        let today = OffsetDateTime::now_utc().date().to_string();
        self.line_on(&today, change)
    }

    fn line_on(&mut self, today: &str, change: &Object<'_>) -> (Vec<String>, Vec<ShownCell>) {
        let nested = |name: &str| -> Option<Object<'_>> {
            serde_json::from_str(change.get(name)?.get()).ok()
        };
        let (after, before) = (nested("after"), nested("before"));
        let key = (nested("key"), nested("old_key"));
        let shown = after.as_ref().or(before.as_ref());
        if let Some(row) = shown {
            let is_of_key = |name: &str| key.0.as_ref().is_some_and(|key| key.get(name).is_some());
            let names = row.0.iter().map(|(name, _)| name.clone().into_owned());
            self.columns = names.filter(|name| !is_of_key(name)).collect();
        }
        let mut line = vec![
            ("seq", cell(change, "seq")),
            ("at", time_of(change, today)),
            ("change", ShownCell::of_text(word(change))),
            ("key", ShownCell::of_text(key_text(&key))),
        ];
        line.extend(self.columns.iter().map(|name| {
            let now = shown.and_then(|row| row.get(name)).map(ShownCell::new);
            let now = now.unwrap_or_else(|| ShownCell::of_text(Cow::Borrowed("")));
            let was = match (&after, &before) {
                (Some(_), Some(before)) => before.get(name).map(ShownCell::new),
                _ => None,
            };
            (name.as_str(), now.after(was, BECAME))
        }));
        let (names, cells): (Vec<&str>, Vec<ShownCell>) = line.into_iter().unzip();
        (names.into_iter().map(str::to_owned).collect(), cells)
    }
}

/// What happened, in a word.
fn word<'c>(change: &Object<'c>) -> Cow<'c, str> {
    let op = change.get("op").map_or("", |op| op.get().trim_matches('"'));
    Cow::Borrowed(match op {
        "c" => "insert",
        "u" => "update",
        "d" if change.get("left").is_some() => "left",
        "d" => "delete",
        "r" => "row",
        _ => "?",
    })
}

/// The values of a key, and of the one it was before.
fn key_text((key, old_key): &(Option<Object<'_>>, Option<Object<'_>>)) -> Cow<'static, str> {
    let values = |key: &Object<'_>| {
        let cells = key
            .0
            .iter()
            .map(|(_, value)| ShownCell::new(value).into_text());
        cells.collect::<Vec<_>>().join(", ")
    };
    let key = key.as_ref().map(values).unwrap_or_default();
    Cow::Owned(match old_key.as_ref().map(values) {
        Some(old_key) => format!("{old_key}{BECAME}{key}"),
        None => key,
    })
}

/// When it was, to the second: today without the day.
fn time_of(change: &Object<'_>, today: &str) -> ShownCell {
    let at = cell(change, "at").into_text();
    let shown = at.split_once('T').map(|(day, time)| {
        let seconds = time.split_once('.').map_or(time, |(seconds, _)| seconds);
        let seconds = seconds.trim_end_matches('Z');
        match day == today {
            true => format!("{seconds}Z"),
            false => format!("{day} {seconds}Z"),
        }
    });
    ShownCell::of_text(Cow::Owned(shown.unwrap_or(at)))
}

fn cell(change: &Object<'_>, name: &str) -> ShownCell {
    match change.get(name) {
        Some(value) => ShownCell::new(value),
        None => ShownCell::of_text(Cow::Borrowed("")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(changes: &[&str]) -> Vec<String> {
        let mut lines = ChangeLines::default();
        let line = |change: &&str| {
            let change: Object<'_> = serde_json::from_str(change).unwrap();
            let (_, cells) = lines.line_on("2026-11-26", &change);
            let cells = cells.into_iter().map(ShownCell::into_text);
            cells.collect::<Vec<_>>().join("|")
        };
        changes.iter().map(line).collect()
    }

    #[test]
    fn a_change_is_a_line_that_shows_what_became_of_the_row() {
        let shown = lines(&[
            r#"{"op":"r","key":{"id":7},"after":{"id":7,"n":1}}"#,
            r#"{"seq":1,"op":"u","at":"2026-11-26T22:56:59.312Z","key":{"id":8},"old_key":{"id":7},"after":{"id":8,"n":2},"before":{"id":7,"n":2}}"#,
            r#"{"seq":2,"op":"d","at":"2026-11-25T22:56:59.312Z","key":{"a":"x","b":1},"left":true}"#,
            r#"{"seq":3,"op":"d","at":null,"key":{"id":8},"before":{"id":8,"n":2}}"#,
        ]);
        assert_eq!(
            shown,
            [
                "||row|7|1",
                "1|22:56:59Z|update|7 → 8|2",
                "2|2026-11-25 22:56:59Z|left|x, 1|",
                "3|-|delete|8|2"
            ]
        );
    }
}

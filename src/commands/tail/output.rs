//! Rows on stdout: aligned columns on a terminal, JSON lines everywhere else.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::value::RawValue;

use super::changes::ChangeLines;
use crate::os::terminal;
use crate::text::columns::{cut, width};
use crate::text::harmless::{harmless, harmless_json};
use crate::text::json_object::Object;

/// Rows that are laid out together: enough to find good widths, few enough to appear at once.
const LAID_OUT_AT_ONCE: usize = 200;
/// No column but the last is wider, however long its values are.
const WIDEST: usize = 32;
/// No column is made narrower than this to fit the terminal.
const NARROWEST: usize = 4;
/// Left to the last column before others have to give way.
const LAST_AT_LEAST: usize = 16;
const GAP: &str = "  ";

/// Prints rows, as a table or as JSON lines.
pub(super) struct Output {
    out: BufWriter<Stdout>,
    /// `None`: JSON lines.
    table: Option<TextTable>,
    /// `None`: what comes are rows.
    changes: Option<ChangeLines>,
}

impl Output {
    /// Columns where stdout is a terminal, unless `json`.
    pub(super) fn to_stdout(json: bool) -> Output {
        let stdout = io::stdout();
        let for_people = stdout.is_terminal() && !json;
        let table = for_people.then(|| TextTable {
            colour: terminal::shows_colour(&stdout),
            ..TextTable::default()
        });
        Output {
            out: BufWriter::new(stdout),
            table,
            changes: None,
        }
    }

    /// What comes from now on are changes.
    pub(super) fn of_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// Takes a row object. It is out after the next [`flush`](Self::flush) at the latest.
    pub(super) fn row(&mut self, row: &str) -> io::Result<()> {
        let Some(table) = &mut self.table else {
            return write_json_line(&mut self.out, row);
        };
        let Ok(object) = serde_json::from_str::<Object<'_>>(row) else {
            // Not a row walcast sends; shown as it is, harmless.
            return writeln!(self.out, "{}", harmless(row));
        };
        match &mut self.changes {
            Some(changes) => {
                let (names, cells) = changes.line(&object);
                table.push_line(&names, cells, &mut self.out)?;
            }
            None => table.push(&object, &mut self.out)?,
        }
        if table.pending.len() >= LAID_OUT_AT_ONCE {
            table.lay_out(&mut self.out)?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Some(table) = &mut self.table {
            table.lay_out(&mut self.out)?;
        }
        self.out.flush()
    }

    /// Returns whether whoever read this pipe has gone: nothing would tell of that before the next row.
    pub(super) fn reader_is_gone(&self) -> bool {
        let stdout = io::stdout();
        let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
        let ready = poll(&mut asked, Some(&Timespec::default()));
        ready.is_ok()
            && asked[0]
                .revents()
                .intersects(PollFlags::ERR | PollFlags::NVAL)
    }
}

/// One line a row.
fn write_json_line(out: &mut impl io::Write, row: &str) -> io::Result<()> {
    out.write_all(harmless_json(row).as_bytes())?;
    out.write_all(b"\n")
}

/// A value as it is shown.
#[derive(Debug)]
pub(super) struct ShownCell {
    text: String,
    number: bool,
}

impl ShownCell {
    /// Returns a text as it is shown.
    pub(super) fn of_text(text: Cow<'_, str>) -> ShownCell {
        ShownCell {
            text: text.into_owned(),
            number: false,
        }
    }

    /// Returns what it shows.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Returns the cell with what it `was` before it, where that is something else.
    pub(super) fn after(self, was: Option<ShownCell>, became: &str) -> ShownCell {
        match was.filter(|was| was.text != self.text) {
            Some(was) => ShownCell {
                text: was.text + became + &self.text,
                number: false,
            },
            None => self,
        }
    }

    /// Returns a JSON value as it is shown.
    pub(super) fn new(value: &RawValue) -> ShownCell {
        let json = value.get();
        let number = json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let text = match serde_json::from_str::<String>(json) {
            Ok(text) => harmless(&text).into_owned(),
            Err(_) if json == "null" => "-".to_owned(),
            Err(_) => harmless(json).into_owned(),
        };
        ShownCell { text, number }
    }
}

/// Columns whose widths grow with what they have to show.
#[derive(Debug, Default)]
struct TextTable {
    colour: bool,
    names: Vec<String>,
    widths: Vec<usize>,
    header_due: bool,
    pending: Vec<Vec<ShownCell>>,
}

impl TextTable {
    /// Takes a row. Those before it are laid out first where they have other columns.
    fn push(&mut self, row: &Object<'_>, out: &mut impl io::Write) -> io::Result<()> {
        let names: Vec<&str> = row.0.iter().map(|(name, _)| &**name).collect();
        let cells = row.0.iter().map(|(_, value)| ShownCell::new(value));
        self.push_line(&names, cells.collect(), out)
    }

    /// The same with the cells of a line under these names.
    fn push_line<N: AsRef<str>>(
        &mut self,
        names: &[N],
        cells: Vec<ShownCell>,
        out: &mut impl io::Write,
    ) -> io::Result<()> {
        let named = names.iter().map(AsRef::as_ref);
        if !named.eq(self.names.iter().map(String::as_str)) {
            self.lay_out(out)?;
            self.set_columns(names);
        }
        self.pending.push(cells);
        Ok(())
    }

    fn set_columns<N: AsRef<str>>(&mut self, names: &[N]) {
        let names = names.iter().map(|name| name.as_ref().to_owned());
        self.names = names.collect();
        self.widths = self
            .names
            .iter()
            .map(|name| width(&harmless(name)))
            .collect();
        self.header_due = true;
    }

    fn lay_out(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.pending);
        for row in &rows {
            for (widest, cell) in self.widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(&cell.text).min(WIDEST));
            }
        }
        let widths = fitted(&self.widths, terminal::width());
        if std::mem::take(&mut self.header_due) {
            let names = self.names.iter().map(|name| ShownCell {
                text: harmless(name).into_owned(),
                number: false,
            });
            self.line(out, &names.collect::<Vec<_>>(), &widths, |_, _| "1")?;
        }
        for row in &rows {
            self.line(out, row, &widths, status_colour)?;
        }
        Ok(())
    }

    fn line(
        &self,
        out: &mut impl io::Write,
        cells: &[ShownCell],
        widths: &[usize],
        colour: fn(&str, &str) -> &'static str,
    ) -> io::Result<()> {
        let mut line = String::new();
        for (place, (cell, &wide)) in cells.iter().zip(widths).enumerate() {
            let shown = cut(&cell.text, wide);
            let padding = " ".repeat(wide.saturating_sub(width(&shown)));
            let code = if self.colour {
                colour(&self.names[place], &cell.text)
            } else {
                ""
            };
            let shown = if code.is_empty() {
                shown
            } else {
                format!("\x1b[{code}m{shown}\x1b[0m")
            };
            let last = place + 1 == widths.len();
            match (cell.number, last) {
                (true, true) => line.push_str(&shown),
                (true, false) => line.extend([&*padding, &*shown]),
                (false, true) => line.push_str(&shown),
                (false, false) => line.extend([&*shown, &*padding]),
            }
            if !last {
                line.push_str(GAP);
            }
        }
        writeln!(out, "{line}")
    }
}

/// The widths that fit into `terminal`: the last column takes what is left, and the widest give way first.
fn fitted(widths: &[usize], terminal: usize) -> Vec<usize> {
    let mut widths = widths.to_vec();
    let Some(last) = widths.pop() else {
        return widths;
    };
    let gaps = GAP.len() * widths.len();
    let available = terminal.saturating_sub(gaps + last.min(LAST_AT_LEAST));
    while widths.iter().sum::<usize>() > available {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => break,
        }
    }
    let taken = gaps + widths.iter().sum::<usize>();
    widths.push(terminal.saturating_sub(taken).max(NARROWEST));
    widths
}

/// The colour (SGR code) of a value in a column that says how something went; none for anything else.
fn status_colour(column: &str, value: &str) -> &'static str {
    if !matches!(
        &*column.to_ascii_lowercase(),
        "status" | "state" | "result" | "outcome" | "level" | "severity"
    ) {
        return "";
    }
    match &*value.to_ascii_lowercase() {
        "error" | "failed" | "failure" | "critical" | "fatal" => "31",
        "warning" | "warn" | "pending" | "skipped" => "33",
        "success" | "ok" | "done" | "resolved" => "32",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rows: &[&str]) -> String {
        let mut table = TextTable::default();
        let mut out = Vec::new();
        for row in rows {
            let object: Object<'_> = serde_json::from_str(row).unwrap();
            table.push(&object, &mut out).unwrap();
        }
        table.lay_out(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_and_a_new_column_brings_a_new_header() {
        let rows = [
            r#"{"id":9,"a":"x","d":null}"#,
            r#"{"id":10,"a":"long","d":"y"}"#,
            r#"{"id":11,"b":true}"#,
        ];
        assert_eq!(
            shown(&rows),
            "id  a     d\n 9  x     -\n10  long  y\nid  b\n11  true\n"
        );
    }

    #[test]
    fn nothing_in_a_value_reaches_the_terminal_as_a_command() {
        let row = r#"{"id":1,"a":"\u001b[2J\r\n\u0007\u202e\u009b"}"#;
        let line = shown(&[row]);
        assert!(
            line.ends_with("\\u{1b}[2J\\r\\n\\u{7}\\u{202e}\\u{9b}\n"),
            "{line}"
        );
    }

    #[test]
    fn the_widest_columns_give_way_to_a_narrow_terminal() {
        assert_eq!(fitted(&[2, 10, 5, 100], 80), [2, 10, 5, 57]);
        assert_eq!(fitted(&[2, 32, 30, 100], 60), [2, 18, 18, 16]);
        assert_eq!(fitted(&[8, 8, 8], 10), [4, 4, 4]);
        assert_eq!(fitted(&[8], 20), [20]);
    }

    #[test]
    fn an_embedded_document_stays_on_its_line() {
        let mut out = Vec::new();
        write_json_line(&mut out, "{\"a\":{\n\"b\":\"x\\ny\"}}").unwrap();
        assert_eq!(out, b"{\"a\":{ \"b\":\"x\\ny\"}}\n");
    }
}

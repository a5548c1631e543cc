//! What was found, line by line, with a mark before each.

use std::io::{self, Write as _};
use std::path::Path;

use crate::os::terminal;
use crate::text::columns::{padded, width};
use crate::text::harmless::harmless;
use crate::text::shell::typed;

/// How much a finding of `check` matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Ok,
    /// Good to know; nothing to do.
    Note,
    /// Works, but not as well as it could.
    Warning,
    /// Would not work.
    Problem,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Mark::Ok => "ok",
            Mark::Note => "note",
            Mark::Warning => "warning",
            Mark::Problem => "PROBLEM",
        }
    }

    /// Returns the SGR code of the mark's colour on a terminal.
    fn colour(self) -> &'static str {
        match self {
            Mark::Ok => "32",
            Mark::Note => "36",
            Mark::Warning => "33",
            Mark::Problem => "1;31",
        }
    }
}

#[derive(Debug)]
struct Finding {
    mark: Mark,
    label: String,
    text: String,
    /// What to do, a step each.
    remedy: Vec<String>,
}

/// All findings, in the order they were made.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn ok(&mut self, label: &str, text: impl Into<String>) {
        self.add(Mark::Ok, label, text, &[]);
    }

    /// Good news of several lines.
    pub(super) fn ok_lines(&mut self, label: &str, lines: &[String]) {
        let lines: Vec<_> = lines.iter().map(|line| harmless(line)).collect();
        self.findings.push(Finding {
            mark: Mark::Ok,
            label: label.to_owned(),
            text: lines.join("\n"),
            remedy: Vec::new(),
        });
    }

    pub(super) fn note(&mut self, label: &str, text: impl Into<String>) {
        self.add(Mark::Note, label, text, &[]);
    }

    pub(super) fn warn(&mut self, label: &str, text: impl Into<String>, remedy: &[String]) {
        self.add(Mark::Warning, label, text, remedy);
    }

    pub(super) fn problem(&mut self, label: &str, text: impl Into<String>, remedy: &[String]) {
        self.add(Mark::Problem, label, text, remedy);
    }

    pub(super) fn add(
        &mut self,
        mark: Mark,
        label: &str,
        text: impl Into<String>,
        remedy: &[String],
    ) {
        self.findings.push(Finding {
            mark,
            label: label.to_owned(),
            text: harmless(&text.into()).into_owned(),
            remedy: remedy.to_vec(),
        });
    }

    fn count(&self, mark: Mark) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.mark == mark)
            .count()
    }

    pub(super) fn has_problems(&self) -> bool {
        self.count(Mark::Problem) > 0
    }

    /// Prints it to stdout, in colour on a terminal.
    pub(super) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let text = self.text(terminal::shows_colour(&out));
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn text(&self, colour: bool) -> String {
        let wide = self
            .findings
            .iter()
            .map(|finding| width(&harmless(&finding.label)))
            .max()
            .unwrap_or_default();
        let indent = " ".repeat("PROBLEM".len() + 2 + wide + 2);
        let mut text = String::new();
        for Finding {
            mark,
            label,
            text: found,
            remedy,
        } in &self.findings
        {
            let word = format!("{:<7}", mark.word());
            let word = if colour {
                format!("\x1b[{}m{word}\x1b[0m", mark.colour())
            } else {
                word
            };
            let label = padded(&harmless(label), wide);
            let found = found.replace('\n', &format!("\n{indent}"));
            text.push_str(&format!("{word}  {label}  {found}\n"));
            for step in remedy {
                text.push_str(&format!("{indent}→ {}\n", harmless(step)));
            }
        }
        text.push_str(&format!("\n{}\n", self.summary()));
        text
    }

    fn summary(&self) -> String {
        let counted = |count: usize, one: &str, more: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            n => Some(format!("{n} {more}")),
        };
        let problems = counted(self.count(Mark::Problem), "problem", "problems");
        let warnings = counted(self.count(Mark::Warning), "warning", "warnings");
        match (problems, warnings) {
            (None, None) => "all of this would work".to_owned(),
            (None, Some(warnings)) => format!("this would work, with {warnings}"),
            (Some(problems), None) => format!("{problems}: this would not work"),
            (Some(problems), Some(warnings)) => {
                format!("{problems} and {warnings}: this would not work")
            }
        }
    }
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    typed(&path.to_string_lossy()).into_owned()
}

/// Returns a number of bytes as people write it, e.g. `1.5 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes as f64;
    let mut unit = "bytes";
    for larger in UNITS {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = larger;
    }
    match unit {
        "bytes" => format!("{bytes} bytes"),
        _ => format!("{scaled:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned_and_remedies_stand_below() {
        let mut report = Report::default();
        report.ok("a", "fine");
        report.ok_lines("b", &["one".to_owned(), "two".to_owned()]);
        report.problem("longer", "broken\nmore", &["mend it".to_owned()]);
        let wanted = "ok       a       fine\nok       b       one\n                 two\n\
            PROBLEM  longer  broken\\nmore\n                 → mend it\n\n1 problem: this would not work\n";
        assert_eq!(report.text(false), wanted);
        assert!(report.has_problems() && report.text(true).contains("\x1b[1;31mPROBLEM\x1b[0m"));
    }

    #[test]
    fn sizes_are_read_at_a_glance() {
        assert_eq!(
            (size(0), size(1023), size(4096)),
            ("0 bytes".into(), "1023 bytes".into(), "4.0 KiB".into())
        );
        assert_eq!(size(5 << 30), "5.0 GiB");
    }
}

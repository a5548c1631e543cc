//! Collects the measurements of all rounds and prints them: a table to read, JSON lines to keep.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::server::Subject;
use crate::stats::{median, spread};

/// Cores used by others above which the table warns.
const DISTURBING: f64 = 0.1;

/// What is to be reached, where there is something to reach.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    None,
    AtMost(f64),
    AtLeast(f64),
    /// Times the floor's median.
    AtMostFloor(f64),
}

impl Target {
    fn met(self, walcast: f64, ratio: f64) -> Option<bool> {
        let (value, met) = match self {
            Self::None => return None,
            Self::AtMost(limit) => (walcast, walcast <= limit),
            Self::AtLeast(limit) => (walcast, walcast >= limit),
            Self::AtMostFloor(factor) => (ratio, ratio <= factor),
        };
        (!value.is_nan()).then_some(met)
    }

    fn words(self) -> String {
        match self {
            Self::None => String::new(),
            Self::AtMost(limit) => format!("≤ {}", number(limit)),
            Self::AtLeast(limit) => format!("≥ {}", number(limit)),
            Self::AtMostFloor(factor) => format!("≤ {factor} × floor"),
        }
    }
}

/// The measurements of one quantity.
struct Line {
    scenario: &'static str,
    name: String,
    unit: &'static str,
    target: Target,
    walcast: Vec<f64>,
    floor: Vec<f64>,
}

/// All measurements of a run.
#[derive(Default)]
pub struct Report {
    lines: Vec<Line>,
    index: BTreeMap<(&'static str, String), usize>,
    /// Cores that other programs used during each scenario.
    others: BTreeMap<&'static str, f64>,
}

impl Report {
    /// Adds one round's value of a quantity. The first call for a quantity gives its unit, target and place.
    pub fn add(
        &mut self,
        scenario: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        target: Target,
        subject: Subject,
        value: f64,
    ) {
        let name = name.into();
        eprintln!(
            "  {scenario}: {name}: {} {} {unit}",
            subject.name(),
            number(value)
        );
        let slot = *self
            .index
            .entry((scenario, name.clone()))
            .or_insert(self.lines.len());
        if slot == self.lines.len() {
            self.lines.push(Line {
                scenario,
                name,
                unit,
                target,
                walcast: Vec::new(),
                floor: Vec::new(),
            });
        }
        match subject {
            Subject::Walcast => self.lines[slot].walcast.push(value),
            Subject::Floor => self.lines[slot].floor.push(value),
        }
    }

    /// Notes how many cores other programs used while a scenario ran.
    pub fn note_others(&mut self, scenario: &'static str, cores: f64) {
        self.others.insert(scenario, cores);
    }

    /// The table.
    pub fn table(&self) -> String {
        let width = self
            .lines
            .iter()
            .map(|line| line.name.chars().count() + line.unit.len() + 3)
            .max()
            .unwrap_or(0);
        let mut out = String::new();
        let mut scenario = "";
        for line in &self.lines {
            if line.scenario != scenario {
                scenario = line.scenario;
                let _ = writeln!(
                    out,
                    "\n{scenario:<width$} {:>10} {:>10} {:>7} {:>7}  target",
                    "walcast", "floor", "ratio", "noise"
                ); // writing to a String can't fail
            }
            out.push_str(&line.row(width));
        }
        for (scenario, cores) in self.others.iter().filter(|(_, cores)| **cores > DISTURBING) {
            let _ = writeln!(
                out,
                "\nDISTURBED {scenario}: others used {cores:.2} cores meanwhile, its numbers say little"
            ); // as above
        }
        out
    }

    /// Targets met, and targets in all.
    pub fn score(&self) -> (usize, usize) {
        let met: Vec<bool> = self.lines.iter().filter_map(Line::met).collect();
        (met.iter().filter(|&&met| met).count(), met.len())
    }

    /// Appends one JSON object a line for each quantity to `file`; `run` names the run in each.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn append_json(&self, file: &Path, run: &Value) -> Result<()> {
        let open = OpenOptions::new().create(true).append(true).open(file);
        let mut out = open.with_context(|| format!("--json {}", file.display()))?;
        for line in &self.lines {
            writeln!(out, "{}", line.json(run, self.others.get(line.scenario)))?;
        }
        Ok(())
    }
}

impl Line {
    fn met(&self) -> Option<bool> {
        self.target.met(median(&self.walcast), self.ratio())
    }

    /// How walcast compares with the floor. The machine drifts from round to round by more than what is to be seen, so
    /// each round is compared with the one of the other subject that was measured beside it.
    fn ratio(&self) -> f64 {
        if self.walcast.len() != self.floor.len() {
            return median(&self.walcast) / median(&self.floor);
        }
        let rounds = self.walcast.iter().zip(&self.floor);
        median(
            &rounds
                .map(|(walcast, floor)| walcast / floor)
                .collect::<Vec<_>>(),
        )
    }

    fn row(&self, width: usize) -> String {
        let (walcast, floor) = (median(&self.walcast), median(&self.floor));
        let noise = spread(&self.walcast).max(spread(&self.floor));
        let noise = if self.walcast.len().max(self.floor.len()) > 1 {
            format!("{:.0} %", noise * 100.0)
        } else {
            "".into()
        };
        let ratio = self.ratio();
        let ratio = if ratio.is_finite() {
            format!("{ratio:.2}")
        } else {
            String::new()
        };
        let verdict = match self.met() {
            None => "",
            Some(true) => "  met",
            Some(false) => "  MISSED",
        };
        let name = format!("  {}, {}", self.name, self.unit);
        let target = self.target.words();
        let row = format!(
            "{name:<width$} {:>10} {:>10} {ratio:>7} {noise:>7}  {target}{verdict}",
            number(walcast),
            number(floor)
        );
        format!("{}\n", row.trim_end())
    }

    fn json(&self, run: &Value, others: Option<&f64>) -> Value {
        json!({
            "run": run, "scenario": self.scenario, "name": self.name, "unit": self.unit,
            "others_cores": others,
            "walcast": finite(median(&self.walcast)), "floor": finite(median(&self.floor)),
            "ratio": finite(self.ratio()),
            "walcast_rounds": self.walcast, "floor_rounds": self.floor,
            "target": self.target.words(), "met": self.met(),
        })
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Three significant digits, large numbers in groups; nothing for no number.
fn number(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        String::new()
    } else if size >= 10_000_000.0 {
        format!("{:.1} M", value / 1e6)
    } else if size >= 1_000_000.0 {
        format!("{:.2} M", value / 1e6)
    } else if size >= 10_000.0 {
        format!("{:.0} k", value / 1e3)
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 || size == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

//! One run: which scenarios, how often, where their files lie, and what is printed at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;

use crate::database::{self, STOCK_TABLE};
use crate::others::Others;
use crate::report::{Report, Target};
use crate::scenarios::{self, Scenario};
use crate::server::{Launch, Server, Subject};
use crate::sys;

#[derive(Args)]
pub struct Options {
    /// The daemon's release binary
    #[arg(long, default_value = "target/release/walcast")]
    walcast: PathBuf,
    /// Smaller and fewer: about four minutes, percentiles of few rows
    #[arg(long)]
    quick: bool,
    /// Only these scenarios
    #[arg(long, value_delimiter = ',', value_name = "SCENARIO")]
    only: Vec<String>,
    /// Append the measurements to this file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rounds of each measurement, each subject in turn [default: 5, with --quick 2]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Measure a table of 100 million rows too: 15 GB of disk
    #[arg(long)]
    huge: bool,
    /// Measure only the floor
    #[arg(long)]
    floor_only: bool,
    /// Where the databases are made: a real disk, or the cost of a sync is not seen [default: the temporary directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What a scenario works with.
pub struct Bench {
    pub quick: bool,
    pub huge: bool,
    pub rounds: usize,
    pub report: Report,
    walcast: PathBuf,
    subjects: Vec<Subject>,
    directory: PathBuf,
    /// Files and directories made so far: each has its number in its name.
    made: usize,
}

impl Bench {
    /// `full`, or `quick` in a quick run.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Each round's subjects, in turn the other first: whoever comes second meets a warmer machine.
    pub fn turns(&self, rounds: usize) -> Vec<Subject> {
        let turn = |round: usize| {
            let mut subjects = self.subjects.clone();
            if round % 2 == 1 {
                subjects.reverse();
            }
            subjects
        };
        (0..rounds).flat_map(turn).collect()
    }

    /// Whether walcast is measured, for what the floor has no part in.
    pub fn has_walcast(&self) -> bool {
        self.subjects.contains(&Subject::Walcast)
    }

    pub fn walcast(&self) -> &Path {
        &self.walcast
    }

    /// A new directory of this run.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new_directory(&mut self) -> Result<PathBuf> {
        self.made += 1;
        let directory = self.directory.join(self.made.to_string());
        fs::create_dir(&directory)?;
        Ok(directory)
    }

    /// A new file with the stock table and `rows` rows in it.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new_database(&mut self, rows: u64) -> Result<PathBuf> {
        let path = self.new_directory()?.join("bench.db");
        database::create(&path, &[STOCK_TABLE.to_owned()], rows)?;
        Ok(path)
    }

    /// A file with at least `rows` rows, made once for all scenarios, which may add a few.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn shared_database(&mut self, rows: u64) -> Result<PathBuf> {
        let directory = self.directory.join(format!("rows-{rows}"));
        let path = directory.join("bench.db");
        if !path.exists() {
            fs::create_dir(&directory)?;
            eprintln!("  making a table of {rows} rows");
            database::create(&path, &[STOCK_TABLE.to_owned()], rows)?;
        }
        Ok(path)
    }

    /// Starts a subject on `database` and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(
        &mut self,
        subject: Subject,
        database: &Path,
        config: Option<&Path>,
    ) -> Result<Server> {
        let directory = self.new_directory()?;
        sys::flush_disks();
        let launch = Launch {
            subject,
            walcast: &self.walcast,
            database,
            directory: &directory,
            config,
            upstream: None,
            over_tls: None,
        };
        launch.start().with_context(|| subject.name())
    }

    /// Starts an edge of a daemon and waits until it serves all there is.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_edge(&mut self, origin: &Server) -> Result<Server> {
        let directory = self.new_directory()?;
        let launch = Launch {
            subject: Subject::Walcast,
            walcast: &self.walcast,
            database: &directory.join("spool.db"),
            directory: &directory,
            config: None,
            upstream: Some(origin.address),
            over_tls: None,
        };
        launch.start().context("an edge")
    }

    /// Reports a value of a scenario; see [`Report::add`].
    pub fn add(
        &mut self,
        scenario: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        target: Target,
        subject: Subject,
        value: f64,
    ) {
        self.report
            .add(scenario, name, unit, target, subject, value);
    }
}

/// Removes the run's files, however it ends.
impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory); // left behind in the temporary directory at worst
    }
}

/// Runs the scenarios, prints the table, writes the JSON. False when one broke off: lost rows are no slow rows.
///
/// # Errors
/// When nothing can be measured at all.
pub fn run(options: Options) -> Result<bool> {
    let chosen = choose(&options.only)?;
    let version = if options.floor_only {
        "floor only".to_owned()
    } else {
        version(&options.walcast)?
    };
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let directory = parent.join(format!("walcast-bench-{}", std::process::id()));
    fs::create_dir_all(&directory).with_context(|| format!("{}", directory.display()))?;
    let mut bench = Bench {
        quick: options.quick,
        huge: options.huge,
        rounds: options
            .rounds
            .unwrap_or(if options.quick { 2 } else { 5 })
            .max(1),
        report: Report::default(),
        walcast: options.walcast,
        subjects: if options.floor_only {
            vec![Subject::Floor]
        } else {
            vec![Subject::Walcast, Subject::Floor]
        },
        directory,
        made: 0,
    };
    let failures = run_all(&mut bench, &chosen);
    println!(
        "{version}, {}, medians of up to {} rounds",
        machine(),
        bench.rounds
    );
    print!("{}", bench.report.table());
    let (met, targets) = bench.report.score();
    println!("\n{met} of {targets} targets met");
    for (name, error) in &failures {
        println!("BROKE OFF {name}: {error:#}");
    }
    if let Some(file) = &options.json {
        let at = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs();
        let run =
            json!({ "at": at, "version": version, "machine": machine(), "quick": bench.quick });
        bench.report.append_json(file, &run)?;
    }
    Ok(failures.is_empty())
}

fn run_all(bench: &mut Bench, chosen: &[Scenario]) -> Vec<(&'static str, anyhow::Error)> {
    let mut failures = Vec::new();
    for scenario in chosen {
        let start = Instant::now();
        let others = Others::watch();
        eprintln!("{}", scenario.name);
        if let Err(error) = (scenario.run)(bench) {
            eprintln!("  broke off: {error:#}");
            failures.push((scenario.name, error));
        }
        let cores = others.cores();
        bench.report.note_others(scenario.name, cores);
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("  took {seconds:.0} s, others used {cores:.2} cores");
    }
    failures
}

fn choose(only: &[String]) -> Result<Vec<Scenario>> {
    for name in only {
        let known: Vec<&str> = scenarios::ALL
            .iter()
            .map(|scenario| scenario.name)
            .collect();
        ensure!(
            known.contains(&name.as_str()),
            "--only {name}: no such scenario; there are {}",
            known.join(", ")
        );
    }
    let wanted =
        |scenario: &&Scenario| only.is_empty() || only.iter().any(|name| name == scenario.name);
    Ok(scenarios::ALL.iter().filter(wanted).copied().collect())
}

fn version(walcast: &Path) -> Result<String> {
    let output = Command::new(walcast).arg("--version").output();
    let output = output
        .with_context(|| format!("--walcast {}: build it with benches/run", walcast.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Cores and kernel: without them a number means nothing.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, Linux {}", kernel.trim())
}

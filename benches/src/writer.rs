//! Writers as users have them, each in a process of its own: what they wrote, and when, they tell at the end,
//! so that telling disturbs nothing that is measured.

use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use rusqlite::Connection;

use crate::database::{self, create_table_sql};
use crate::sys::{self, monotonic_ns};

/// How the rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// One connection, `synchronous=NORMAL`, a transaction for each row.
    Normal,
    /// One connection, `synchronous=FULL`, a transaction for each row.
    Full,
    /// For each row: open, `CREATE TABLE IF NOT EXISTS`, insert, commit, close, with default pragmas.
    Fresh,
    /// The same from Python's `sqlite3`.
    Python,
    /// All rows in one transaction of one connection, `synchronous=NORMAL`.
    Bulk,
}

/// What a writer writes.
#[derive(Debug, Clone, Args)]
pub struct Writing {
    #[arg(long)]
    pub db: PathBuf,
    #[arg(long, value_enum)]
    pub mode: Mode,
    /// How many rows.
    #[arg(long)]
    pub rows: u64,
    /// Mean pause between rows in microseconds; each pause is between half and one and a half of it.
    #[arg(long, default_value_t = 0)]
    pub gap_us: u64,
    /// The tables, written in turn.
    #[arg(long, value_delimiter = ',', default_value = database::STOCK_TABLE)]
    pub tables: Vec<String>,
    /// How many tenants the rows are spread over, in turn, from the first row on.
    #[arg(long, default_value_t = 1)]
    pub tenants: u64,
    /// Bytes of text in `action`.
    #[arg(long, default_value_t = 16)]
    pub payload: usize,
    /// Stop before all rows are written when standard input closes.
    #[arg(long)]
    pub until_stdin_closes: bool,
}

impl Writing {
    /// `rows` rows of the stock table.
    pub fn new(db: &Path, mode: Mode, rows: u64, gap: Duration) -> Self {
        Self {
            db: db.to_owned(),
            mode,
            rows,
            gap_us: gap.as_micros() as u64,
            tables: vec![database::STOCK_TABLE.to_owned()],
            tenants: 1,
            payload: 16,
            until_stdin_closes: false,
        }
    }

    /// Writes in a process of its own and waits for it.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn run(&self) -> Result<Vec<Written>> {
        self.spawn()?.finish()
    }

    /// Starts writing in a process of its own.
    ///
    /// # Errors
    /// When the process can't be started.
    pub fn spawn(&self) -> Result<Writer> {
        let mut command = match self.mode {
            Mode::Python => self.python(),
            _ => self.rust()?,
        };
        let stdin = if self.until_stdin_closes {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        sys::end_with_parent(&mut command);
        let child = command.stdin(stdin).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("{:?}", command.get_program()))?;
        let output = child.stdout.take().context("no pipe from the writer")?;
        // Read from the start: a writer with more to tell than a pipe holds would wait for ever.
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let mut output = output;
            output.read_to_string(&mut text).map(|_| text)
        });
        Ok(Writer { child, reader })
    }

    fn rust(&self) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        let mode = self
            .mode
            .to_possible_value()
            .context("a mode without a name")?;
        command
            .args([
                "writer",
                "--mode",
                mode.get_name(),
                "--tables",
                &self.tables.join(","),
            ])
            .arg("--db")
            .arg(&self.db);
        for (flag, value) in [
            ("--rows", self.rows),
            ("--gap-us", self.gap_us),
            ("--tenants", self.tenants),
            ("--payload", self.payload as u64),
        ] {
            command.arg(flag).arg(value.to_string());
        }
        if self.until_stdin_closes {
            command.arg("--until-stdin-closes");
        }
        Ok(command)
    }

    fn python(&self) -> Command {
        let mut command = Command::new("python3");
        command
            .args(["-c", include_str!("writer.py")])
            .arg(&self.db);
        command
            .arg(self.rows.to_string())
            .arg(self.gap_us.to_string());
        command
    }
}

/// One row that was committed. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Position of its table among the writer's.
    pub table: usize,
    pub id: i64,
    /// Before the insert, with the fresh writers before the connection was opened. The row carries it in `details`.
    pub started: u64,
    /// When the commit had returned.
    pub committed: u64,
}

/// A writer at work.
pub struct Writer {
    child: Child,
    reader: std::thread::JoinHandle<io::Result<String>>,
}

impl Writer {
    /// Whether it has told what it wrote, the last thing it does.
    pub fn has_ended(&self) -> bool {
        self.reader.is_finished()
    }

    /// Tells a writer that heeds it to stop, waits for its end, and returns what it wrote.
    ///
    /// # Errors
    /// When it failed.
    pub fn finish(mut self) -> Result<Vec<Written>> {
        drop(self.child.stdin.take());
        let text = self
            .reader
            .join()
            .map_err(|_| anyhow::anyhow!("reading from the writer panicked"))??;
        let status = self.child.wait()?;
        ensure!(status.success(), "the writer failed: {status}");
        text.lines()
            .map(|line| parse(line).with_context(|| format!("the writer said {line:?}")))
            .collect()
    }
}

fn parse(line: &str) -> Option<Written> {
    let mut fields = line.split(' ');
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(Written {
        table: next()? as usize,
        id: next()? as i64,
        started: next()?,
        committed: next()?,
    })
}

/// The writer's process: writes, then prints a line for each row (for a bulk transaction: for its last row).
///
/// # Errors
/// When the database can't be written.
pub fn write(writing: &Writing) -> Result<()> {
    let written = match writing.mode {
        Mode::Bulk => write_bulk(writing)?,
        _ => write_rows(writing)?,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    for row in written {
        writeln!(
            out,
            "{} {} {} {}",
            row.table, row.id, row.started, row.committed
        )?;
    }
    Ok(out.flush()?)
}

fn open(writing: &Writing) -> Result<Connection> {
    let db = Connection::open(&writing.db).with_context(|| format!("{}", writing.db.display()))?;
    db.busy_timeout(Duration::from_secs(10))?;
    match writing.mode {
        Mode::Normal | Mode::Bulk => db.pragma_update(None, "synchronous", "normal")?,
        Mode::Full => db.pragma_update(None, "synchronous", "full")?,
        Mode::Fresh | Mode::Python => {}
    }
    Ok(db)
}

fn write_bulk(writing: &Writing) -> Result<Vec<Written>> {
    let mut db = open(writing)?;
    let started = monotonic_ns();
    let transaction = db.transaction()?;
    database::insert_rows(&transaction, &writing.tables[0], writing.rows)?;
    let id = transaction.last_insert_rowid();
    transaction.commit()?;
    Ok(vec![Written {
        table: 0,
        id,
        started,
        committed: monotonic_ns(),
    }])
}

fn write_rows(writing: &Writing) -> Result<Vec<Written>> {
    let held = if writing.mode == Mode::Fresh {
        None
    } else {
        Some(open(writing)?)
    };
    let action = "x".repeat(writing.payload);
    let mut pauses = Pauses::new(writing);
    let mut written = Vec::new();
    for row in 0..writing.rows {
        let table = (row % writing.tables.len() as u64) as usize;
        let name = &writing.tables[table];
        let tenant = format!("tenant-{}", row % writing.tenants);
        let started = monotonic_ns();
        let (id, committed) = match &held {
            Some(db) => insert(db, name, &tenant, &action, started)?,
            None => {
                let db = open(writing)?;
                db.execute(&create_table_sql(name), ())?;
                insert(&db, name, &tenant, &action, started)? // closed after the commit's time is taken
            }
        };
        written.push(Written {
            table,
            id,
            started,
            committed,
        });
        if !pauses.pause() {
            break;
        }
    }
    Ok(written)
}

/// The row's id, and when its commit had returned.
fn insert(
    db: &Connection,
    table: &str,
    tenant: &str,
    action: &str,
    started: u64,
) -> Result<(i64, u64)> {
    let mut statement = db.prepare_cached(&format!(
        "INSERT INTO {table}(ts, alertname, tenant, action, status, details) \
         VALUES (strftime('%Y-%m-%dT%H:%M:%fZ'), 'HighMemoryUsage', ?1, ?2, 'success', 'at ' || ?3)"
    ))?;
    let id = statement.insert((tenant, action, started as i64))?;
    Ok((id, monotonic_ns()))
}

/// Pauses of random length: rows in step with somebody's timer would be measured at one phase of it.
struct Pauses {
    mean_us: u64,
    until_stdin_closes: bool,
    random: u64,
}

impl Pauses {
    fn new(writing: &Writing) -> Self {
        Self {
            mean_us: writing.gap_us,
            until_stdin_closes: writing.until_stdin_closes,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Whether to go on.
    fn pause(&mut self) -> bool {
        // xorshift64: the same pauses for every subject.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let time = Duration::from_micros(self.mean_us / 2 + self.random % (self.mean_us + 1));
        if self.until_stdin_closes {
            return !sys::readable_within(libc::STDIN_FILENO, time);
        }
        if self.mean_us > 0 {
            std::thread::sleep(time);
        }
        true
    }
}

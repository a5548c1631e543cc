//! The arguments of `walcast capture`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};

use crate::config::parse_age;

/// What to do with the capture of a file's tables.
#[derive(Debug, Clone, Args)]
pub struct CaptureArgs {
    #[command(subcommand)]
    pub command: CaptureCommand,
}

/// Which file.
#[derive(Debug, Clone, Args)]
pub struct CaptureFileArgs {
    /// SQLite file [default: ./walcast.db]
    #[arg(long, value_name = "FILE", env = "WALCAST_DB", hide_env_values = true, value_hint = ValueHint::FilePath)]
    db: Option<PathBuf>,
}

impl CaptureFileArgs {
    /// The file that is meant.
    pub fn database(&self) -> PathBuf {
        let named = self.db.as_ref().filter(|db| !db.as_os_str().is_empty());
        named.cloned().unwrap_or_else(|| "./walcast.db".into())
    }
}

/// What is done.
#[derive(Debug, Clone, Subcommand)]
pub enum CaptureCommand {
    /// Have each change of a table logged in the transaction that makes it, by triggers: updates and deletes can be sent then
    ///
    /// Adds triggers and tables whose names begin with `_walcast_`, and changes nothing else. `walcast FILE` then sends the
    /// changes; in a configuration the feed's `capture = "keys"` or `"full"` does.
    Install {
        /// The table; it needs a primary key, of any kind
        table: String,
        /// Log the row before and after each change too, not only its key
        #[arg(long)]
        full: bool,
        /// A column whose old and new value is logged, so that clients can filter changes by it; give it once for each
        #[arg(long = "filter", value_name = "COLUMN")]
        filters: Vec<String>,
        /// Print the SQL, for a migration of your own, and change nothing
        #[arg(long)]
        print: bool,
        #[command(flatten)]
        file: CaptureFileArgs,
    },
    /// Take the triggers and the log of a table out of the file, so that nothing is left of them
    Remove {
        /// The table
        table: String,
        /// Print the SQL, for a migration of your own, and change nothing
        #[arg(long)]
        print: bool,
        #[command(flatten)]
        file: CaptureFileArgs,
    },
    /// Say which tables are captured, how, whether a change may be missing, and what the log holds
    ///
    /// Exit code 0 where no change is missing, else 1.
    Status {
        /// One table [default: all that are captured]
        table: Option<String>,
        #[command(flatten)]
        file: CaptureFileArgs,
    },
    /// Remove old changes from the log, in steps so short that writers hardly wait; the newest change always stays
    Prune {
        /// The table
        table: String,
        /// Remove only changes older than this, e.g. 30m, 24h or 7d [default: all but the newest]
        #[arg(long, value_name = "AGE", value_parser = parse_age)]
        older: Option<Duration>,
        #[command(flatten)]
        file: CaptureFileArgs,
    },
}

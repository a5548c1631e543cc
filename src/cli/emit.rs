//! The arguments of `emit`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

/// How many sample events to write, and how fast.
#[derive(Debug, Clone, Args)]
pub struct EmitArgs {
    /// SQLite file to write to; it is created when missing, and the stock table where the file holds no table [default:
    /// ./walcast.db]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<String>,

    /// Events to write, each in a transaction of its own [default: 1]
    #[arg(value_name = "N")]
    count: Option<u64>,

    /// The same as FILE
    #[arg(long, value_name = "FILE", env = "WALCAST_DB", hide_env_values = true, value_hint = ValueHint::FilePath)]
    db: Option<PathBuf>,

    /// Pause between two events, in milliseconds
    #[arg(long, value_name = "MS", default_value = "0", value_parser = milliseconds)]
    pub interval: Duration,
}

impl EmitArgs {
    /// The number where no file was named: the only argument may be either.
    fn lone_count(&self) -> Option<u64> {
        let only = self.file.as_ref().filter(|_| self.count.is_none());
        only.and_then(|text| text.parse().ok())
    }

    /// How many events to write.
    pub fn count(&self) -> u64 {
        self.count.or(self.lone_count()).unwrap_or(1)
    }

    /// The file to write to.
    pub fn database(&self) -> PathBuf {
        let named = self.file.as_ref().filter(|_| self.lone_count().is_none());
        let db = self.db.as_ref().filter(|db| !db.as_os_str().is_empty());
        named
            .map(PathBuf::from)
            .or_else(|| db.cloned())
            .unwrap_or_else(|| "./walcast.db".into())
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let millis = text
        .parse::<u32>()
        .map_err(|_| "give whole milliseconds, e.g. 100".to_owned())?;
    Ok(Duration::from_millis(millis.into()))
}

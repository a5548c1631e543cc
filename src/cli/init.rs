//! The arguments of `init`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// The file to look at, and where to write what it comes to.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// SQLite file whose tables are to be served
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,

    /// Where to write the configuration; `-` prints it
    #[arg(long, value_name = "FILE", default_value = "walcast.toml", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,

    /// Replace a configuration that is there already
    #[arg(long)]
    pub force: bool,
}

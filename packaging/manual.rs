//! Writes the man pages and shell completions, from the definition of the command line itself:
//! `cargo run --release --example manual -- DIRECTORY`.

use std::path::PathBuf;

use anyhow::Context;
use clap_complete::Shell;
use walcast::cli::Cli;

fn main() -> anyhow::Result<()> {
    let directory = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("name the directory to write to")?;
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("can't create {}", directory.display()))?;
    let mut definition = Cli::definition();
    clap_mangen::generate_to(definition.clone(), &directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut definition, "walcast", &directory)?;
    }
    Ok(())
}

//! Measures walcast beside a bare program that does nothing else. `benches/run` builds both and starts this.

mod broker;
mod bystander;
mod crowd;
mod database;
mod floor;
mod ledger;
mod load;
mod others;
mod report;
mod scenarios;
mod server;
mod stats;
mod suite;
mod sys;
mod tls;
mod wire;
mod writer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "walcast-bench",
    about = "Measures walcast beside a bare program that does nothing else"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the scenarios and print the table
    Run(suite::Options),
    /// Be the bare program: serve the stock table of a file
    Floor {
        #[arg(long)]
        db: PathBuf,
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Be a writer, and print table, id, start and commit of each row at the end
    Writer(writer::Writing),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("walcast-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every scenario ran to its end.
fn run(command: Command) -> Result<bool> {
    sys::raise_descriptor_limit()?;
    match command {
        Command::Run(options) => suite::run(options),
        Command::Floor { db, listen } => floor::serve(&db, listen).map(|()| true),
        Command::Writer(writing) => writer::write(&writing).map(|()| true),
    }
}

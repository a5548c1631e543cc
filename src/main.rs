//! Parses, hands over, and turns what comes back into an exit code: 0 done, 1 failed, 2 bad usage or configuration.

use std::process::ExitCode;

use walcast::cli::{Cli, Command, ServeArgs};
use walcast::config::Config;
use walcast::harmless::{harmless, harmless_lines};
use walcast::{activation, commands, logging, shutdown};

const FAILED: u8 = 1;
const BAD_CONFIGURATION: u8 = 2;

pub fn main() -> ExitCode {
    match Cli::parse_normalised().command {
        Command::Serve(args) => serve(args),
        Command::Check(args) => commands::check(&args),
        Command::Config(args) => match Config::describe(&args) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error, BAD_CONFIGURATION),
        },
        Command::Tail(args) => done(commands::tail(&args)),
        Command::Emit(args) => done(commands::emit(&args)),
    }
}

fn serve(args: ServeArgs) -> ExitCode {
    let config = match Config::load(&args) {
        Ok(config) => config,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    let log = match logging::start(&config.log_level, config.log_format) {
        Ok(log) => log,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, FAILED),
    };
    done(runtime.block_on(async {
        let control = shutdown::signals(args)?;
        let mut listeners = activation::listeners(&config)?;
        if listeners.is_empty() {
            listeners = walcast::bind(&config.listen).await?;
        }
        walcast::run(config, listeners, control, &log).await
    }))
}

fn done(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format_args!("{error:#}"), FAILED),
    }
}

fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    let text = error.to_string();
    // Only what is wrong with a configuration, its operator's own, takes several lines.
    let text = match code {
        BAD_CONFIGURATION => harmless_lines(&text),
        _ => harmless(&text),
    };
    eprintln!("walcast: {text}");
    ExitCode::from(code)
}

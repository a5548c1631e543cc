//! Parses, hands over, and turns what comes back into an exit code: 0 done, 1 failed, 2 bad usage or configuration.

#![warn(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use walcast::access::{Gate, Owners};
use walcast::cli::{Cli, Command, FeedsArgs, ServeArgs};
use walcast::commands::named_file::{Misnamed, existing_or_command};
use walcast::commands::{self, BadUsage};
use walcast::config::Config;
use walcast::daemon::{Listeners, signals};
use walcast::edge::PreparedEdge;
use walcast::net::socket_activation;
use walcast::net::tls_server::TlsServer;
use walcast::publish::PreparedPublish;
use walcast::sinks::PreparedSink;
use walcast::sqlite::error::Unavailable;
use walcast::telemetry::logging;
use walcast::text::harmless::{harmless, harmless_lines};
use walcast::text::shell::typed;

const FAILED: u8 = 1;
const BAD_CONFIGURATION: u8 = 2;

pub fn main() -> ExitCode {
    match Cli::parse_normalised().command {
        Command::Serve(args) => match misnamed(&args) {
            Some(error) => fail(&error, BAD_CONFIGURATION),
            None => serve(args),
        },
        Command::Edge(args) => serve_as(args.into_serve(), true),
        Command::Check(args) => commands::check(&args),
        Command::Config(args) => match Config::describe(&args) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error, BAD_CONFIGURATION),
        },
        Command::Capture(args) => done(commands::capture(&args)),
        Command::Token(args) => done(commands::token(&args)),
        Command::Tail(args) => done(commands::tail(&args)),
        Command::Emit(args) => done(commands::emit(&args)),
        Command::Init(args) => done(commands::init(&args)),
        Command::Feeds(args) => feeds(args),
        Command::Types(args) => match Config::load(&args) {
            Ok(config) => done(commands::types(args.file.is_some(), &config)),
            Err(error) => fail(&error, BAD_CONFIGURATION),
        },
        Command::Completions(shell) => {
            print!("{}", walcast::cli::completions(shell));
            ExitCode::SUCCESS
        }
        Command::Version => {
            println!("walcast {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}

/// Why the FILE that was named can't be served: it has to be there. Of a database that was not named so, nothing is
/// asked: it may come, and be mended, while it is served.
fn misnamed(args: &ServeArgs) -> Option<Misnamed> {
    let file = args.file.as_ref()?;
    let definition = Cli::definition();
    let commands: Vec<&str> = definition
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    existing_or_command(Path::new(file), &commands).err()
}

fn serve(args: ServeArgs) -> ExitCode {
    serve_as(args, false)
}

/// Serves; `as_edge`: what another daemon has.
fn serve_as(args: ServeArgs, as_edge: bool) -> ExitCode {
    let config = match Config::load(&args) {
        Ok(config) => config,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    if as_edge && !config.edge.is_one() {
        let url = args.file.as_deref().filter(|file| file.contains("://"));
        let url = typed(url.unwrap_or("URL"));
        let missing = format!(
            "whose feeds are to be served? name the daemon with --upstream {url}, or edge.upstream in the configuration"
        );
        return fail(&missing, BAD_CONFIGURATION);
    }
    let gate = match Gate::new(&config.auth, &config.feeds, Owners::RootAndSelf) {
        Ok(gate) => gate,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    let tls = match TlsServer::open(&config.tls, config.auth.mtls.as_ref(), Owners::RootAndSelf) {
        Ok(tls) => tls,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    let sinks = config.sinks.iter();
    let sinks = sinks.map(|sink| PreparedSink::new(sink, Owners::RootAndSelf));
    let sinks: Vec<PreparedSink> = match sinks.collect() {
        Ok(sinks) => sinks,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    let publish = config.publish.as_ref();
    let publish = publish.map(|rules| PreparedPublish::new(rules, Owners::RootAndSelf));
    let publish = match publish.transpose() {
        Ok(publish) => publish,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    // Who holds a lock is waited for when clients can be told so.
    if args.file.is_some()
        && let Err(reason @ Unavailable::Broken { .. }) =
            commands::look_into_within(&config.database, Duration::ZERO, |_| Ok(()))
    {
        return fail(&reason, FAILED);
    }
    let log = match logging::start(&config.log.level, config.log.format) {
        Ok(log) => log,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    let edge = match PreparedEdge::new(&config) {
        Ok(edge) => edge,
        Err(error) => return fail(&format_args!("{error:#}"), FAILED),
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
        let control = signals::signals(args)?;
        let mut feeds = socket_activation::listeners(&config)?;
        if feeds.is_empty() {
            feeds = walcast::daemon::bind(&config.listen).await?;
        }
        let metrics = walcast::daemon::bind(&config.metrics.listen).await?;
        if let Some(tls) = &tls {
            feeds = feeds
                .into_iter()
                .map(|listener| listener.over_tls(tls))
                .collect();
        }
        let redirect = walcast::daemon::bind(&config.tls.redirect).await?;
        let listeners = Listeners {
            feeds,
            metrics,
            redirect,
            tls,
        };
        let feeding = (sinks, publish, edge);
        walcast::daemon::run(config, gate, feeding, listeners, control, &log).await
    }))
}

/// A daemon is asked whatever the configuration says of a database.
fn feeds(mut args: FeedsArgs) -> ExitCode {
    let serve = &mut args.serve;
    let target = serve.file.clone();
    if target.as_ref().is_some_and(|target| target.contains("://")) {
        serve.forget_database();
    }
    if args.ready {
        // Who may come in is the daemon's to say, perhaps by a configuration that is not named here.
        serve.serve_anyone_unless_said();
    }
    let config = match Config::load(serve) {
        Ok(config) => config,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    if args.ready {
        return done(commands::ready(target.as_deref(), &config, &args.tls));
    }
    match commands::feeds(target.as_deref(), &config, &args.token, &args.tls) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => done(Err(error)),
    }
}

fn done(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<BadUsage>() => fail(&error, BAD_CONFIGURATION),
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

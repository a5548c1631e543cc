//! The arguments of `serve`, and of the commands that take the same: a flag for each setting that has one.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, ValueHint};

use super::Cli;
use crate::config::{Config, Flag, ServeArgs, Takes};

impl Args for ServeArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let mut command = command.arg(file());
        for setting in Config::flags() {
            // Behind what is served, and where.
            if setting.key == "journal_mode" {
                command = command.arg(config());
            }
            command = command.arg(flag(setting));
        }
        command.arg(open())
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.config = matches.get_one::<String>("config").cloned();
        args.open = matches.get_flag("open");
        // An empty variable counts as unset.
        let from_variable = matches.value_source("config") == Some(ValueSource::EnvVariable);
        if from_variable && args.config.as_deref() == Some("") {
            args.config = None;
        }
        for Flag { key, name, .. } in Config::flags() {
            let Some(texts) = matches.get_many::<String>(name) else {
                continue;
            };
            let texts: Vec<&str> = texts.map(String::as_str).collect();
            match matches.value_source(name) {
                Some(ValueSource::EnvVariable) => args.say_by_variable(key, name, &texts),
                _ => args.say_by_flag(key, name, &texts),
            }
        }
        if let Some(file) = matches.get_one::<String>("file") {
            if args.names_database() {
                let text =
                    format!("--db names a file, and so does {file:?}; leave one of them out");
                return Err(Cli::definition().error(ErrorKind::ArgumentConflict, text));
            }
            args.name_file(file);
        }
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn file() -> Arg {
    Arg::new("file")
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .help("SQLite file to serve as it is: every table that can be a feed is one, nothing in the file is created or changed")
}

fn config() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("WALCAST_CONFIG")
        .hide_env_values(true)
        .value_hint(ValueHint::FilePath)
        .help("Configuration file (TOML) [default: none is read]")
}

fn open() -> Arg {
    Arg::new("open")
        .long("open")
        .action(ArgAction::SetTrue)
        .help("Open the dashboard in a browser once it is served")
}

/// The flag of a setting. Its values are judged with those of the file.
fn flag(flag: Flag) -> Arg {
    let arg = Arg::new(flag.name)
        .long(flag.name)
        .value_name(flag.value_name)
        .env(flag.variable)
        .hide_env_values(true)
        .help(flag.short)
        .help_heading(flag.heading);
    let arg = match flag.long {
        Some(long) => arg.long_help(long),
        None => arg,
    };
    match flag.takes {
        Takes::Text => arg,
        Takes::File => arg.value_hint(ValueHint::FilePath),
        Takes::Directory => arg.value_hint(ValueHint::DirPath),
        Takes::Texts => arg.action(ArgAction::Append).value_delimiter(','),
        Takes::Files => arg
            .action(ArgAction::Append)
            .value_delimiter(',')
            .value_hint(ValueHint::FilePath),
        Takes::OneOf(values) => arg.value_parser(one_of(values)),
        Takes::Offered(values) => arg
            .value_parser(Suggested(values))
            .hide_possible_values(true),
        Takes::Truth => arg
            .value_parser(Suggested(&["true", "false"]))
            .hide_possible_values(true)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    }
}

/// Takes any text, and offers these to completions.
#[derive(Clone)]
pub(super) struct Suggested(pub(super) &'static [&'static str]);

impl TypedValueParser for Suggested {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(
            self.0.iter().map(|value| PossibleValue::new(*value)),
        ))
    }
}

/// Known values for help and completions. The empty text passes, because an empty variable counts as unset.
fn one_of(values: &[&'static str]) -> PossibleValuesParser {
    let known = values.iter().map(|value| PossibleValue::new(*value));
    PossibleValuesParser::new(known.chain([PossibleValue::new("").hide(true)]))
}

//! What was probably meant where clap takes the first of two words for a FILE, and finds no room for the second.

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::text::nearest::nearest;
use crate::text::shell::typed;

/// The error in words that lead on: a command that was mistyped, or that does not come first. Others stay as they are.
pub(super) fn explained(
    error: clap::Error,
    definition: &mut clap::Command,
    args: &[OsString],
) -> clap::Error {
    if error.kind() == ErrorKind::UnknownArgument {
        return too_many(error, definition, args);
    }
    let second = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(second)) if error.kind() == ErrorKind::ArgumentConflict => {
            second.clone()
        }
        _ => return error,
    };
    let commands: Vec<String> = definition
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    let args: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let text = meant(&args, &second, &commands, definition);
    definition.error(ErrorKind::InvalidSubcommand, text)
}

/// The error in words that lead on where a word of a command had to stand behind a flag, and the line is one then.
fn too_many(error: clap::Error, definition: &mut clap::Command, args: &[OsString]) -> clap::Error {
    let word = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if !word.starts_with('-') => word.clone(),
        _ => return error,
    };
    let mut line: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let place = line.iter().rposition(|arg| *arg == word);
    let (flag, place) = match (line.get(1), place) {
        (Some(&"tail"), Some(place)) => ("--feed", place),
        // The first of two words, where the table alone is one.
        (Some(&"capture"), Some(place)) if place > 3 => ("--db", place - 1),
        _ => return error,
    };
    line.insert(place, flag);
    match definition.try_get_matches_from_mut(&line) {
        Ok(_) => {
            let line: Vec<_> = line.into_iter().skip(1).map(typed).collect();
            let text = format!(
                "{word:?} is a word too many; did you mean: walcast {}",
                line.join(" ")
            );
            definition.error(ErrorKind::UnknownArgument, text)
        }
        Err(_) => error,
    }
}

/// The error where the only word is no FILE but a command behind flags; `None` where it is a file, or meant as one.
pub(super) fn behind_flags(
    matches: &clap::ArgMatches,
    definition: &mut clap::Command,
    args: &[OsString],
) -> Option<clap::Error> {
    if matches.subcommand().is_some() || args.iter().any(|arg| arg == "--") {
        return None;
    }
    let word = matches.get_one::<String>("file")?;
    let is_command = definition.find_subcommand(word).is_some();
    if !is_command || Path::new(word).exists() {
        return None;
    }
    let args: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let text = comes_first(&args, word, definition);
    Some(definition.error(ErrorKind::InvalidSubcommand, text))
}

/// Says where the command belongs: as the line that was meant, where that is one.
fn comes_first(args: &[&str], command: &str, definition: &mut clap::Command) -> String {
    let mut others: Vec<&str> = args.iter().copied().skip(1).collect();
    if let Some(place) = others.iter().rposition(|arg| *arg == command) {
        others.remove(place);
    }
    let line = ["walcast", command].into_iter().chain(others);
    let line: Vec<&str> = line.collect();
    match definition.try_get_matches_from_mut(&line) {
        Ok(_) => {
            let line: Vec<_> = line.into_iter().map(typed).collect();
            format!("the command comes first: {}", line.join(" "))
        }
        Err(_) => format!("the command comes first: walcast {command} …"),
    }
}

fn meant(
    args: &[&str],
    second: &str,
    commands: &[String],
    definition: &mut clap::Command,
) -> String {
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let before: Vec<&str> = args
        .iter()
        .copied()
        .skip(1)
        .take_while(|arg| *arg != second)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let words = || before.iter().copied().chain([second]);
    if let Some(command) = words().find(|word| commands.contains(word)) {
        return comes_first(args, command, definition);
    }
    let mistyped = words().find_map(|word| Some((word, nearest(word, commands.iter().copied())?)));
    match mistyped {
        Some((word, command)) => {
            format!("there is no command {word}; did you mean `walcast {command}`?")
        }
        None => format!(
            "one FILE is served, and {second:?} is a word too many; the tables of a file that are to be feeds are named in \
             a configuration, see `walcast init`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;

    #[track_caller]
    fn assert_said(line: &str, part: &str) {
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let said = error.to_string();
        assert!(said.contains(part), "{line}: {said}");
    }

    #[test]
    fn the_command_that_was_meant_is_named() {
        assert_said("walcast chek app.db", "did you mean `walcast check`?");
        assert_said(
            "walcast complet bash",
            "did you mean `walcast completions`?",
        );
        for line in ["walcast app.db check", "walcast --listen 0 check app.db"] {
            assert_said(line, "the command comes first: walcast check");
        }
        for (line, moved) in [
            ("--listen :8199 config", "walcast config --listen :8199"),
            (
                "--listen=:8199 app.db check",
                "walcast check --listen=:8199 app.db",
            ),
            ("--db my#.db feeds", "walcast feeds --db 'my#.db'"),
            ("--log-level debug tail a.db", "walcast tail …"),
            ("--anonymous tail", "walcast tail …"),
        ] {
            let said = format!("the command comes first: {moved}\n");
            assert_said(&format!("walcast {line}"), &said);
        }
        // These mean files of such names.
        for line in [
            "walcast --listen 0 ./config",
            "walcast --listen 0 -- config",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        assert_said("walcast app.db orders", "\"orders\" is a word too many");
        for (line, meant) in [
            ("tail app.db orders", "tail app.db --feed orders"),
            (
                "tail --json http://h:1 my#feed",
                "tail --json http://h:1 --feed 'my#feed'",
            ),
            (
                "capture install app.db orders",
                "capture install --db app.db orders",
            ),
            (
                "capture prune app.db orders --older 24h",
                "capture prune --db app.db orders --older 24h",
            ),
        ] {
            let said = format!("did you mean: walcast {meant}\n");
            assert_said(&format!("walcast {line}"), &said);
        }
        for line in ["tail a b c", "capture status a b c", "tail a --db"] {
            let said = match line.ends_with("--db") {
                true => "a value is required",
                false => "unexpected argument",
            };
            assert_said(&format!("walcast {line}"), said);
        }
        assert_said(
            "walcast check app.db orders",
            "unexpected argument 'orders'",
        );
    }
}

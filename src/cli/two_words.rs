//! What was probably meant where clap takes the first of two words for a FILE, and finds no room for the second.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::text::nearest::nearest;

/// The error in words that lead on: a command that was mistyped, or that does not come first. Others stay as they are.
pub(super) fn explained(
    error: clap::Error,
    definition: &mut clap::Command,
    args: &[OsString],
) -> clap::Error {
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
    let text = meant(&args, &second, &commands);
    definition.error(ErrorKind::InvalidSubcommand, text)
}

fn meant(args: &[&str], second: &str, commands: &[String]) -> String {
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
        return format!("the command comes first: walcast {command} …");
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
        assert_said("walcast app.db orders", "\"orders\" is a word too many");
        assert_said(
            "walcast check app.db orders",
            "unexpected argument 'orders'",
        );
    }
}

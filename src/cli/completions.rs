//! Completions for shells: clap's, mended where what it makes does not work with these commands.

use std::fmt::Write as _;

use clap_complete::{Generator, Shell};

use super::Cli;

/// Returns the script that completes this program's commands, options and values in `shell`.
pub fn completions(shell: Shell) -> String {
    let definition = Cli::definition();
    let script = generated(shell, definition.clone());
    match shell {
        Shell::Zsh => mended_for_zsh(&script, &definition),
        Shell::Fish => mended_for_fish(&script, &definition),
        _ => script,
    }
}

fn generated(shell: Shell, mut definition: clap::Command) -> String {
    definition.set_bin_name("walcast");
    definition.build();
    let mut script = Vec::new();
    shell.generate(&definition, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The first word is a command or a FILE. clap has zsh take any first word for the FILE, and only the second for a command, so
/// that no command's own options are completed (clap-rs/clap 1147). What follows a FILE is completed as for `serve`.
fn mended_for_zsh(script: &str, definition: &clap::Command) -> String {
    const COMMANDS: &str = r#"":: :_walcast_commands" \"#;
    const FIRST_WORD: &str = r#"_walcast_first_word() {
    _alternative 'commands:walcast command:_walcast_commands' 'files:SQLite file:_files'
}

if [ "$funcstack"#;
    let case = format!(
        "[[ $line[1] == ({}) ]] || line[1]=serve\n        case $line[1] in",
        names(definition).join("|")
    );
    let is_file = |line: &&str| line.starts_with("'::file ");
    // Only what comes before the commands is of the first word; commands have FILEs of their own.
    let (options, rest) = script.split_once(COMMANDS).unwrap_or((script, ""));
    let options: Vec<&str> = options.lines().filter(|line| !is_file(line)).collect();
    let rest = rest
        .replacen("case $line[2] in", &case, 1)
        .replace("$line[2]", "$line[1]")
        .replacen("if [ \"$funcstack", FIRST_WORD, 1);
    format!(
        "{}\n{}{rest}",
        options.join("\n"),
        COMMANDS.replace("_walcast_commands", "_walcast_first_word")
    )
}

fn names(definition: &clap::Command) -> Vec<&str> {
    let own = definition.get_subcommands().map(clap::Command::get_name);
    own.chain(["help"]).collect()
}

/// clap has fish complete nothing while an option before a command waits for its value, for it can't be parsed without; and it
/// leaves out the values of arguments that are no options. What follows a FILE is completed as for `serve`.
fn mended_for_fish(script: &str, definition: &clap::Command) -> String {
    const PARSE: &str =
        "    argparse -s (__fish_walcast_global_optspecs) -- $cmd 2>/dev/null\n    or return\n";
    const PARSE_UNFINISHED: &str =
        "    if not argparse -s (__fish_walcast_global_optspecs) -- $cmd 2>/dev/null
        # The last option waits for its value, which is what is completed.
        set -e cmd[-1]
        argparse -s (__fish_walcast_global_optspecs) -- $cmd 2>/dev/null
        or return
    end
";
    let used = format!(
        "        contains -- $argv[1] {}\n        and echo $argv[1]\n        or echo serve\n",
        names(definition).join(" ")
    );
    let mut mended =
        script
            .replacen(PARSE, PARSE_UNFINISHED, 1)
            .replacen("        echo $argv[1]\n", &used, 1);
    for command in definition.get_subcommands() {
        for argument in command.get_positionals() {
            let values: Vec<String> = argument
                .get_possible_values()
                .iter()
                .filter(|value| !value.is_hide_set())
                .map(|value| value.get_name().to_owned())
                .collect();
            if !values.is_empty() {
                // Writing to a text can't fail.
                let _ = writeln!(
                    mended,
                    "complete -c walcast -n \"__fish_walcast_using_subcommand {}\" -f -a \"{}\"",
                    command.get_name(),
                    values.join(" ")
                );
            }
        }
    }
    mended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mended_is_still_there_to_mend() {
        let zsh = completions(Shell::Zsh);
        assert!(
            zsh.contains("_walcast_first_word\" \\") && zsh.contains("_walcast_first_word() {")
        );
        assert!(zsh.contains("|| line[1]=serve") && !zsh.contains("$line[2]"));
        let fish = completions(Shell::Fish);
        assert!(fish.contains("set -e cmd[-1]") && fish.contains("or echo serve"));
        assert!(fish.contains("using_subcommand completions\" -f -a \"bash "));
    }
}

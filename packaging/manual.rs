//! Writes the man pages and shell completions, from the definition of the command line itself:
//! `cargo run --release --example manual -- DIRECTORY`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap_complete::Shell;
use walcast::cli::Cli;

/// What one would type, and what it does, by page.
const EXAMPLES: [(&str, &[(&str, &str)]); 9] = [
    (
        "walcast",
        &[
            (
                "walcast app.db",
                "Serves every table of app.db that can be a feed, and changes nothing in it.",
            ),
            (
                "walcast",
                "Serves the stock feed of ./walcast.db, creating both.",
            ),
            (
                "walcast --config /etc/walcast/walcast.toml",
                "Serves what the configuration says.",
            ),
        ],
    ),
    (
        "walcast-serve",
        &[(
            "walcast serve app.db --listen 9000 --open",
            "Serves on port 9000 of loopback, and shows the dashboard.",
        )],
    ),
    (
        "walcast-check",
        &[(
            "walcast check app.db",
            "Says what would not work with this file, and the remedy.",
        )],
    ),
    (
        "walcast-config",
        &[(
            "walcast config --config walcast.toml",
            "Prints each setting with its source.",
        )],
    ),
    (
        "walcast-feeds",
        &[
            (
                "walcast feeds app.db",
                "Lists the tables that can be feeds.",
            ),
            (
                "walcast feeds http://127.0.0.1:8010",
                "Lists the feeds of a daemon; 1 where it does not answer.",
            ),
            (
                "walcast feeds --ready http://127.0.0.1:8010",
                "Ends with 0 where the daemon can serve rows, else with 1 and the reason.",
            ),
        ],
    ),
    (
        "walcast-tail",
        &[
            (
                "walcast tail http://127.0.0.1:8010",
                "Prints the newest ten rows of the daemon's only feed, and those that come; of several feeds it lists the commands.",
            ),
            (
                "walcast tail ws://127.0.0.1:8010/ws/orders --since earliest > orders.jsonl",
                "Writes all rows, as lines of JSON, and those that come.",
            ),
            (
                "walcast tail app.db --feed orders",
                "Follows the table without a daemon.",
            ),
        ],
    ),
    (
        "walcast-emit",
        &[(
            "walcast emit walcast.db 20 --interval 200",
            "Writes a sample event every 0.2 s.",
        )],
    ),
    (
        "walcast-init",
        &[(
            "walcast init app.db",
            "Writes ./walcast.toml for the tables of app.db.",
        )],
    ),
    (
        "walcast-types",
        &[(
            "walcast types app.db > rows.ts",
            "Writes TypeScript interfaces of the rows.",
        )],
    ),
];

/// Sections that every page ends with.
const ENDING: &str = r#".SH "EXIT STATUS"
.IP 0
Done.
.IP 1
Failed.
.IP 2
Bad usage or configuration.
.SH FILES
.TP
.I ./walcast.db
The database where none is named.
.TP
.I $STATE_DIRECTORY, $XDG_STATE_HOME/walcast, ~/.local/state/walcast
The identity of each feed's history, the first of these that there is.
.TP
.I /etc/walcast/walcast.toml
The configuration of the packaged service.
.SH ENVIRONMENT
Every flag of
.B serve
has a variable: WALCAST_ and the name of the flag in capitals, with underscores, e.g. WALCAST_DB, WALCAST_LISTEN (several
separated by commas), WALCAST_CONFIG, WALCAST_LOG_LEVEL. A flag goes before it; it goes before the configuration. An
empty one counts as unset. NO_COLOR, if not empty, takes the colours away.
"#;

fn main() -> anyhow::Result<()> {
    let directory = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("name the directory to write to")?;
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("can't create {}", directory.display()))?;
    let mut definition = Cli::definition();
    clap_mangen::generate_to(definition.clone(), &directory)?;
    for (page, examples) in EXAMPLES {
        complete(&directory.join(format!("{page}.1")), examples)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut definition, "walcast", &directory)?;
    }
    Ok(())
}

/// Adds to a page what the definition of the command line does not know.
fn complete(page: &Path, examples: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut text = ".SH EXAMPLES\n".to_owned();
    for (typed, does) in examples {
        let typed = typed.replace('-', "\\-");
        text.push_str(&format!(".TP\n.B {typed}\n{does}\n"));
    }
    text.push_str(ENDING);
    // Opened, not created: a page of that name must be there.
    let mut file = OpenOptions::new()
        .append(true)
        .open(page)
        .with_context(|| format!("there is no page {}", page.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

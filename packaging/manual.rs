//! Writes the man pages and shell completions, from the definition of the command line itself:
//! `cargo run --release --example manual -- DIRECTORY`.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap_complete::{Generator as _, Shell};
use walcast::cli::{Cli, completions};

/// What one would type, and what it does, by page.
const EXAMPLES: [(&str, &[(&str, &str)]); 23] = [
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
        "walcast-edge",
        &[(
            "walcast edge --upstream wss://feeds.example.com --token-file upstream.token",
            "Serves the feeds of another daemon on port 8010 of loopback.",
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
    (
        "walcast-capture",
        &[(
            "walcast capture status --db app.db",
            "Says which tables are captured, and whether a change may be missing.",
        )],
    ),
    (
        "walcast-capture-install",
        &[
            (
                "walcast capture install --db app.db orders --filter tenant",
                "Logs each change of orders from now on; clients can filter changes by tenant.",
            ),
            (
                "walcast capture install --db app.db orders --full --print >orders_capture.sql",
                "Prints the SQL for a migration, with the rows before and after each change.",
            ),
        ],
    ),
    (
        "walcast-capture-remove",
        &[(
            "walcast capture remove --db app.db orders",
            "Leaves the schema as it was before the table was captured.",
        )],
    ),
    (
        "walcast-capture-status",
        &[(
            "walcast capture status --db app.db orders",
            "Says how orders is captured, and what its log holds.",
        )],
    ),
    (
        "walcast-capture-prune",
        &[(
            "walcast capture prune --db app.db orders --older 7d",
            "Removes changes older than a week.",
        )],
    ),
    (
        "walcast-token",
        &[
            (
                "walcast token add alice --feed orders --config walcast.toml",
                "Makes a token that reads one feed.",
            ),
            (
                "walcast token list --config walcast.toml",
                "Lists who may read what.",
            ),
        ],
    ),
    (
        "walcast-token-add",
        &[
            (
                "walcast token add alice --feed orders --where tenant=acme --expires 90d --config walcast.toml",
                "Prints, once, a token for the rows of one tenant, good for 90 days.",
            ),
            (
                "walcast token add prometheus --metrics --tokens tokens.toml",
                "Makes one that reads /metrics alone.",
            ),
        ],
    ),
    (
        "walcast-token-set",
        &[(
            "walcast token set alice --feed orders --feed notes --config walcast.toml",
            "Lets the holder read both feeds from now on, and every row of them.",
        )],
    ),
    (
        "walcast-token-list",
        &[(
            "walcast token list --tokens tokens.toml",
            "Lists the tokens of this file.",
        )],
    ),
    (
        "walcast-token-revoke",
        &[(
            "walcast token revoke alice --config walcast.toml",
            "Ends the token, and its connections within a second.",
        )],
    ),
    (
        "walcast-token-show",
        &[(
            "walcast token show - --config walcast.toml < token",
            "Says what the token on standard input may do.",
        )],
    ),
    (
        "walcast-completions",
        &[(
            "walcast completions bash > ~/.local/share/bash-completion/completions/walcast",
            "Installs them for this user's bash.",
        )],
    ),
    (
        "walcast-version",
        &[("walcast version", "Prints the version.")],
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
.TP
.I /etc/walcast/tokens.toml
Where its tokens are kept by custom: the file that auth.tokens names.
.SH ENVIRONMENT
Every flag of
.B serve
has a variable: WALCAST_ and the name of the flag in capitals, with underscores, e.g. WALCAST_DB, WALCAST_LISTEN (several
separated by commas), WALCAST_CONFIG, WALCAST_LOG_LEVEL. A flag goes before it; it goes before the configuration. An
empty one counts as unset.
.TP
.B WALCAST_TOKEN
The token that
.BR tail " and " feeds
present to a daemon, unless \-\-token\-file names a file.
.TP
.B NO_COLOR
If not empty, takes the colours away.
.TP
.B BROWSER
The programs that \-\-open tries, with colons between them, instead of the desktop's own.
"#;

fn main() -> anyhow::Result<()> {
    let directory = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("name the directory to write to")?;
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("can't create {}", directory.display()))?;
    clap_mangen::generate_to(Cli::definition(), &directory)?;
    for page in pages(&directory)? {
        let name = page.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let (_, examples) = EXAMPLES
            .iter()
            .find(|(page, _)| *page == name)
            .with_context(|| format!("there is no example for the page {name}"))?;
        complete(&page, examples)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let path = directory.join(shell.file_name("walcast"));
        std::fs::write(&path, completions(shell))
            .with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}

/// The man pages that were written.
fn pages(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory)?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let paths: Vec<PathBuf> = paths.collect::<std::io::Result<_>>()?;
    let is_page = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "1");
    Ok(paths.into_iter().filter(is_page).collect())
}

/// Adds to a page what the definition of the command line does not know.
fn complete(page: &Path, examples: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut text = ".SH EXAMPLES\n".to_owned();
    for (typed, does) in examples {
        let typed = typed.replace('-', "\\-");
        text.push_str(&format!(".TP\n.B {typed}\n{does}\n"));
    }
    text.push_str(ENDING);
    let mut file = OpenOptions::new()
        .append(true)
        .open(page)
        .with_context(|| format!("can't write {}", page.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

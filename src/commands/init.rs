//! `walcast init`: a commented configuration for the tables of a file.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::shapes::{Shape, Shapes, shapes};
use crate::cli::{InitArgs, ServeArgs};
use crate::commands::named_file::existing;
use crate::config::{CaptureRules, Config, FeedConfig};

/// Writes the configuration, and says where.
///
/// # Errors
/// The file is not there or no database, or the configuration is there already or can't be written.
pub fn init(args: &InitArgs) -> anyhow::Result<()> {
    existing(&args.file)?;
    let database = std::path::absolute(&args.file)
        .with_context(|| format!("{} can't be looked up", args.file.display()))?;
    let file = database
        .to_str()
        .ok_or_else(|| anyhow!("{} is not UTF-8, as a configuration is", database.display()))?;
    let found = shapes(&Config::load(&ServeArgs::of_file(file))?)?;
    let standard_output = args.output == Path::new("-");
    let written_to = match standard_output {
        true => Path::new("walcast.toml"),
        false => &args.output,
    };
    let text = text(file, written_to, &found);
    if standard_output {
        std::io::stdout().lock().write_all(text.as_bytes())?;
        return Ok(());
    }
    write(args, &text)?;
    let (output, feeds) = (args.output.display(), found.feeds.len());
    eprintln!(
        "walcast: wrote {output} with {feeds} {}; look at it, then: walcast --config {output}",
        if feeds == 1 { "feed" } else { "feeds" }
    );
    Ok(())
}

fn write(args: &InitArgs, text: &str) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    match args.force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    let output = args.output.display();
    let opened = options.open(&args.output).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => anyhow!(
            "{output} is there already; name another with --output, or replace it with --force"
        ),
        _ => anyhow!("{output} can't be written: {e}"),
    });
    opened?
        .write_all(text.as_bytes())
        .with_context(|| format!("{output} can't be written"))
}

fn text(database: &str, written_to: &Path, found: &Shapes) -> String {
    let mut text = format!(
        "# walcast serves the tables named here as live feeds. What else can be said: walcast serve --help, and the README.\n\
         # Try it: walcast check --config {}\n\n\
         database = {}\n\
         listen = [\"127.0.0.1:8010\"]            # also \"unix:/run/walcast/walcast.sock\"\n\
         # \"wal\" switches the file to WAL, for good, where readers and writers do not wait for each other; \"keep\" changes\n\
         # nothing, which a writer needs that sets journal_mode or locking_mode itself.\n\
         journal_mode = \"keep\"\n",
        // A line break in the name would end the comment.
        one_line(&written_to.display().to_string()),
        quoted(database)
    );
    if found.feeds.is_empty() {
        text.push_str(
            "\n# No table can be a feed yet: every one that comes is made one.\nfeeds = \"*\"\n",
        );
    }
    for shape in &found.feeds {
        text.push_str(&feed(shape));
    }
    for unfit in &found.unfit {
        text.push_str(&format!("\n# {}\n", one_line(&unfit.to_string())));
    }
    text
}

fn feed(shape: &Shape) -> String {
    let (feed, table) = (&shape.feed, &shape.schema.table);
    let (shown, columns) = shape.schema.shown();
    let columns: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let mut text = format!(
        "\n# Columns: {}. The highest id is {}.\n[feeds.{}]\ntable = {}\n",
        one_line(&columns.join(", ")),
        shape.head,
        feed.name,
        quoted(shown),
    );
    if *feed
        == (FeedConfig {
            create: false,
            ..FeedConfig::stock()
        })
    {
        text.push_str("create = false                          # true makes the table in a file that has none\n");
    }
    text.push_str(&match &feed.capture {
        Some(rules) => captured(rules),
        None => format!(
            "{:<40}# what rows are ordered and resumed by; it is the primary key unless said otherwise\n\
             # capture = \"keys\"                    # sends updates and deletes too, by triggers that are added to the file\n",
            format!("# key = {} ", quoted(table.key_name()))
        ),
    });
    text.push_str(&format!(
        "# ws = {}\n\
         # message = {{ type = {}, body = {} }}\n\
         # exclude = []                          # columns that are not shown; or columns = [...]: only these are\n\
         # json = []                             # columns that hold JSON, to be embedded as it is\n\
         # truncate = {{}}                         # {{ column = characters }}: longer texts are cut\n\
         # ingest = false                        # true takes new rows by POST /api/feeds/{}/events\n",
        quoted(&feed.ws[0]),
        quoted(&feed.message_type),
        quoted(&feed.message_body),
        feed.name,
    ));
    text
}

/// As the table is captured in the file: said otherwise, the daemon would capture it anew.
fn captured(rules: &CaptureRules) -> String {
    let filters = toml::Value::from(rules.filters.clone());
    format!(
        "capture = {}\ncapture_filters = {filters}                 # what changes may be filtered by, besides the key\n\
         # capture_keep = \"24h\"                  # how long changes are kept\n",
        quoted(rules.mode.as_str())
    )
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Text that ends no comment.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

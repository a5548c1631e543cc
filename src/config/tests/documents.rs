//! The example configuration and the README say what is declared.

use super::*;
use crate::config::known_keys::KnownKeys;
use crate::config::written::Node;

const README: &str = include_str!("../../../README.md");
const EDGE_EXAMPLE: &str = include_str!("../../../systemd/edge.example.toml");
const EXAMPLE: &str = include_str!("../../../systemd/walcast.example.toml");

#[test]
fn example_is_the_defaults_and_names_every_key() {
    assert_eq!(ok(EXAMPLE), defaults());
    let all = all_set(EXAMPLE);
    assert_eq!(ok(&all).feeds.len(), 2);
    let of_edge = all_set(EDGE_EXAMPLE);
    assert!(ok(EDGE_EXAMPLE).edge.is_one() && ok(&of_edge).edge.is_one());
    let root = Node::parse(&all).expect("TOML");
    let edge = Node::parse(&of_edge).expect("TOML");
    let known = KnownKeys::declared();
    for (section, keys) in known.tables() {
        let section = section.replace("sinks.NAME", "sinks.billing");
        let section = section.replace("NAME", "remediation");
        for key in keys {
            let full = if section.is_empty() {
                key.to_owned()
            } else {
                format!("{section}.{key}")
            };
            // One that another takes the place of is named where that stands.
            let is_instead = full == "auth.jwt.jwks_file" && EXAMPLE.contains("# jwks_file = ")
                || full == "edge.nats" && EDGE_EXAMPLE.contains("# nats = ");
            // What does not go with the other keys of one feed stands in the other.
            let elsewhere = full.replace("feeds.remediation", "feeds.orders");
            let is_there = [&full, &elsewhere]
                .iter()
                .any(|key| root.get(key).is_some() || edge.get(key).is_some());
            let is_there = is_there || is_instead;
            assert!(is_there, "the example lacks {full}");
        }
    }
}

/// The text with what is commented out set.
fn all_set(example: &str) -> String {
    let is_set = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
    };
    let lines = example.lines();
    let set = lines.map(|line| if is_set(line) { &line[1..] } else { line });
    set.collect::<Vec<_>>().join("\n")
}

/// Comments of the example stand above what they are about.
#[test]
fn example_marks_what_a_reload_changes() {
    let mut comment = String::new();
    let mut section = String::new();
    for line in EXAMPLE.lines() {
        let text = line.strip_prefix('#').unwrap_or(line);
        if let Some(rest) = text.strip_prefix(' ') {
            comment.push_str(rest);
        } else if let Some(name) = text.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
        } else if let Some((key, _)) = text.split_once(" = ") {
            let full = format!("{section}{key}");
            let settings = Config::settings();
            if let Some(setting) = settings.iter().find(|setting| setting.key == full) {
                assert_eq!(
                    comment.contains("(live)"),
                    setting.attributes.live,
                    "{full}: {comment}"
                );
            }
        } else {
            comment.clear();
        }
    }
}

/// The table of the README, a row for each setting or a few that belong together.
#[test]
fn readme_names_every_key_and_flag() {
    let rows: Vec<&str> = README
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let row = |name: &str| {
        let quoted = format!("`{name}`");
        let holds = |row: &&&str| {
            row.split(" | ")
                .next()
                .is_some_and(|key| key.contains(&quoted))
        };
        rows.iter().find(holds).copied()
    };
    let names = |row: &str, word: &str| {
        let mut words = row.split(|c: char| !c.is_ascii_alphabetic() && c != '_');
        words.any(|named| named == word)
    };
    // A table that may be missing has one row, which names its keys.
    let of_table = |setting: &Setting<Config>| {
        let row = row(&format!("{}.*", setting.needs?))?;
        let (_, key) = setting.key.rsplit_once('.')?;
        names(row, key).then_some(row)
    };
    let flags = Config::flags();
    for setting in Config::settings() {
        let row = row(setting.key)
            .or_else(|| of_table(&setting))
            .unwrap_or_else(|| panic!("the README lacks {}", setting.key));
        if let Some(flag) = flags.iter().find(|flag| flag.key == setting.key) {
            assert!(row.contains(&format!("`--{}`", flag.name)), "{row}");
        }
    }
    let feeds = row("feeds.NAME.*").expect("the row of what each feed has");
    for setting in FeedConfig::settings() {
        let (key, _) = setting.key.split_once('.').unwrap_or((setting.key, ""));
        assert!(names(feeds, key), "{key}: {feeds}");
    }
    let sinks = row("sinks.NAME.*").expect("the row of what each sink has");
    for setting in SinkConfig::settings() {
        assert!(names(sinks, setting.key), "{}: {sinks}", setting.key);
    }
}

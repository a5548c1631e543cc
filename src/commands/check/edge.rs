//! `[edge]`: whether the origin answers, and gives what an edge needs.

use super::report::Report;
use crate::config::Config;
use crate::edge::{OriginFeed, look_at_origin, look_at_streams};
use crate::publish::StreamFinding;

/// Reports what the origin has, and where it would be kept.
pub(super) fn look(config: &Config, report: &mut Report) {
    if !config.edge.nats.is_empty() {
        streams(config, report);
    }
    if config.edge.upstream.is_some() {
        origin(config, report);
    }
    let spool = &config.database;
    match std::fs::metadata(spool) {
        Ok(meta) => report.ok(
            "spool",
            format!(
                "{} ({} MiB; {})",
                spool.display(),
                meta.len() >> 20,
                kept(config)
            ),
        ),
        Err(_) => report.note(
            "spool",
            format!(
                "{} is made when the edge starts ({})",
                spool.display(),
                kept(config)
            ),
        ),
    }
}

/// How much of what comes stays.
fn kept(config: &Config) -> String {
    let rules = &config.edge;
    match (rules.keep_bytes, rules.keep_age) {
        (None, None) => "all that comes is kept, see edge.keep".to_owned(),
        _ => "the oldest rows go, as edge.keep says".to_owned(),
    }
}

fn streams(config: &Config, report: &mut Report) {
    let prefix = &config.edge.stream_prefix;
    let found = match look_at_streams(config) {
        Ok(found) => found,
        Err(error) => {
            let meanwhile = "what the spool holds would be served meanwhile".to_owned();
            return report.problem("nats", format!("{error:#}"), &[meanwhile]);
        }
    };
    report.ok("nats", found.server);
    if found.streams.is_empty() {
        report.warn(
            "nats",
            format!("there is no stream {prefix}_*, so there is nothing to serve yet"),
            &["see whether the origin publishes, and whether edge.stream_prefix is its publish.stream_prefix".to_owned()],
        );
    }
    for (feed, finding) in found.streams {
        let label = format!("stream {prefix}_{feed}");
        match finding {
            StreamFinding::Ours(told) => report.ok(&label, told),
            // It was there a moment ago.
            StreamFinding::Missing => report.warn(&label, "is not there any more".to_owned(), &[]),
            StreamFinding::Unfit(trouble) => report.problem(&label, trouble, &[]),
        }
    }
}

fn origin(config: &Config, report: &mut Report) {
    match look_at_origin(config) {
        Ok((shown, feeds)) => {
            let named = |feed: &OriginFeed| match &feed.trouble {
                None => feed.name.clone(),
                Some(_) => format!("{} (not served)", feed.name),
            };
            let names: Vec<String> = feeds.iter().map(named).collect();
            match names.as_slice() {
                [] => report.warn(
                    "origin",
                    format!("{shown} answers, and has no feed that could be served"),
                    &[
                        "grant the token the feeds: walcast token set NAME --edge --feed FEED"
                            .to_owned(),
                    ],
                ),
                names => report.ok(
                    "origin",
                    format!("{shown} answers; feeds: {}", names.join(", ")),
                ),
            }
            for feed in feeds {
                if let Some(trouble) = feed.trouble {
                    report.problem(&format!("feed {}", feed.name), trouble, &[]);
                }
            }
        }
        Err(error) => report.problem(
            "origin",
            format!("{error:#}"),
            &["what the spool holds would be served meanwhile".to_owned()],
        ),
    }
}

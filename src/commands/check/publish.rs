//! `[publish]`: whether the NATS servers are reached, and take what would be published. Nothing is made or changed there.

use super::report::Report;
use crate::access::Owners;
use crate::config::{Config, PublishRules};
use crate::publish::{PreparedPublish, StreamFinding, look_at_servers};

const LABEL: &str = "publish";

/// Reports whether feeds could be published.
pub(super) fn look(config: &Config, report: &mut Report) {
    let Some(rules) = &config.publish else {
        return;
    };
    let prepared = match PreparedPublish::new(rules, Owners::Administered) {
        Ok(prepared) => prepared,
        Err(error) => return report.problem(LABEL, error.to_string(), &[]),
    };
    let feeds: Vec<&str> = config.feeds.iter().map(|feed| feed.name.as_str()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return report.problem(LABEL, format!("the servers can't be asked: {error}"), &[]);
        }
    };
    match runtime.block_on(look_at_servers(prepared, &feeds)) {
        Ok(found) => {
            report.ok(LABEL, found.server);
            for (feed, finding) in found.streams {
                stream(rules, &feed, finding, report);
            }
            let captured = config.feeds.iter().filter(|feed| feed.capture.is_some());
            let captured: Vec<&str> = captured.map(|feed| feed.name.as_str()).collect();
            if !captured.is_empty() {
                let names = captured.join(", ");
                report.note(
                    LABEL,
                    format!(
                        "changes go into the streams of {names}; edges need upstream beside nats, for the table as it is"
                    ),
                );
            }
        }
        Err(trouble) => report.problem(LABEL, trouble, &[]),
    }
}

fn stream(rules: &PublishRules, feed: &str, finding: StreamFinding, report: &mut Report) {
    let label = format!("stream {}_{feed}", rules.stream_prefix);
    match finding {
        StreamFinding::Ours(told) => report.ok(&label, told),
        StreamFinding::Missing => {
            report.ok(&label, "is not there yet; it is made at the first start")
        }
        StreamFinding::Unfit(trouble) => report.problem(&label, trouble, &[]),
    }
}

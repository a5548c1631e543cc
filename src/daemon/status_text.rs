//! What `systemctl status` shows as the daemon's own words: feeds, heads and subscribers.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::daemon::systemd::tell;
use crate::hub::{Hub, Presence};
use crate::text::harmless::harmless;

/// Each text is a message to systemd, and a signal from it to whoever watches the unit.
const INTERVAL: Duration = Duration::from_secs(2);
/// systemd ignores messages of more than 4 KiB (`NOTIFY_BUFFER_MAX`), and nobody reads so long a line.
const MAX_CHARACTERS: usize = 1000;

/// Keeps the text current for as long as it is polled; returns at once where systemd does not listen.
pub async fn keep_current(hub: Arc<Hub>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let mut told = String::new();
    loop {
        let text = status_text(&hub);
        if text != told {
            tell(&[NotifyState::Status(&text)]);
            told = text;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// One line, e.g. `remediation: head 4711, 12 subscribers; orders: the table orders does not exist yet; …`.
pub fn status_text(hub: &Hub) -> String {
    let mut text = String::new();
    for feed in hub.feeds.listed() {
        let separator = if text.is_empty() { "" } else { "; " };
        let standing = feed.standing();
        let state = match standing.presence {
            Presence::Open => format!("head {}", standing.head),
            Presence::Away(absence) => absence.message.to_string(),
        };
        let subscribers = feed.subscribers();
        let plural = if subscribers == 1 { "" } else { "s" };
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "{separator}{}: {state}, {subscribers} subscriber{plural}",
            feed.config.name
        );
    }
    one_line(&text)
}

/// The protocol is a line for each variable.
fn one_line(text: &str) -> String {
    let text = harmless(text);
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::config::Config;
    use crate::model::filter::Filter;
    use crate::model::position::{Cursor, Epoch};
    use crate::model::wakeup::Wake;

    fn hub() -> Hub {
        let Ok(Cli {
            command: Command::Serve(args),
        }) = Cli::try_parse_from(["walcast"])
        else {
            unreachable!("no arguments mean serve")
        };
        let config = Config::load(&args).unwrap();
        Hub::new(config.feeds, 0, &config.limits, Arc::new(Wake::default()))
    }

    #[test]
    fn feeds_heads_and_subscribers_are_told() {
        let hub = hub();
        let waiting = "remediation: the database has not been opened yet, 0 subscribers";
        assert_eq!(status_text(&hub), waiting);
        let feed = &hub.feeds[0];
        feed.begin(Epoch::new("e"), Cursor(7));
        feed.closed(Presence::Open);
        let _subscribed = feed.subscribe(Filter::default()).unwrap();
        assert_eq!(status_text(&hub), "remediation: head 7, 1 subscriber");
    }

    #[test]
    fn the_text_is_one_short_line() {
        assert_eq!(one_line("a\nb"), "a\\nb");
        let long = one_line(&"ä".repeat(5000));
        assert_eq!(long.chars().count(), MAX_CHARACTERS + 1);
    }
}

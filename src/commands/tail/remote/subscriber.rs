//! What the daemon's messages mean: how far the rows have come, and where the next connection is to start.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::anyhow;

use super::Told;
use super::url::{FeedUrl, Start};
use crate::cli::ClientToken;
use crate::commands::tail::message::{ControlFrame, Message, id_of};
use crate::commands::tail::{beginning, none_up_to};
use crate::wire::id::Id;

/// Up to which row everything was handed over.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Position {
    epoch: String,
    id: i64,
}

/// The subscription over all its connections.
pub(super) struct Subscriber {
    pub(super) target: FeedUrl,
    pub(super) start: Start,
    key: String,
    /// `None` until the first hello.
    pub(super) position: Option<Position>,
    /// What the daemon waits for, as it said last; empty while there is something to read.
    waits_for: String,
    /// Rows were announced, and none has come so far.
    nothing_yet: bool,
    pub(super) events: SyncSender<Told>,
    pub(super) token: ClientToken,
}

/// Why a connection of `tail` ended.
pub(super) enum End {
    /// It may work again later; after this time where the daemon named one.
    Lost {
        why: String,
        after: Option<Duration>,
    },
    /// Trying again would change nothing.
    Refused(anyhow::Error),
    /// Nobody prints any more.
    Unwanted,
}

impl From<Unwanted> for End {
    fn from(_: Unwanted) -> End {
        End::Unwanted
    }
}

/// The printing thread has ended: nobody wants what comes.
#[derive(Debug)]
pub(super) struct Unwanted;

impl Subscriber {
    pub(super) fn new(
        target: FeedUrl,
        start: Start,
        token: ClientToken,
        events: SyncSender<Told>,
    ) -> Subscriber {
        Subscriber {
            target,
            start,
            key: String::new(),
            position: None,
            waits_for: String::new(),
            nothing_yet: false,
            events,
            token,
        }
    }

    pub(super) fn tell(&self, text: String) -> Result<(), Unwanted> {
        self.events.send(Told::Notice(text)).map_err(|_| Unwanted)
    }

    pub(super) fn take(&mut self, text: &str) -> Result<Heard, End> {
        match Message::parse(text) {
            Ok(Message::Row { row, truncated }) => self.row(row, &truncated)?,
            Ok(Message::ControlFrame(control)) => return self.control(control),
            Err(e) => {
                let target = self.target.shown();
                return Err(End::Refused(anyhow!(
                    "{target} sent something that is not a feed's message ({e})"
                )));
            }
        }
        Ok(Heard::Nothing)
    }

    fn row(&mut self, row: &str, truncated: &[String]) -> Result<(), Unwanted> {
        if let (Some(id), Some(position)) = (id_of(row, &self.key), &mut self.position) {
            if id <= position.id {
                return Ok(());
            }
            position.id = id;
        }
        self.nothing_yet = false;
        self.events
            .send(Told::Row(row.into()))
            .map_err(|_| Unwanted)?;
        if !truncated.is_empty() {
            self.tell(format!(
                "too large to be sent whole, cut in the row above: {}",
                truncated.join(", ")
            ))?;
        }
        self.follow_on();
        Ok(())
    }

    /// The next connection starts where this one stands.
    fn follow_on(&mut self) {
        if let Some(Position { epoch, id }) = &self.position {
            self.start = Start::After {
                id: *id,
                epoch: epoch.clone(),
            };
        }
    }

    fn reached(&mut self, id: Id) {
        if let Some(position) = &mut self.position {
            position.id = position.id.max(id.0);
        }
        self.follow_on();
    }

    fn control(&mut self, control: ControlFrame) -> Result<Heard, End> {
        match control {
            ControlFrame::Hello {
                feed,
                kind,
                key,
                epoch,
                head,
                since,
                recovered,
                snapshot,
            } => {
                self.key = key;
                self.nothing_yet = since < head;
                if kind.as_deref() == Some("changes") {
                    self.events.send(Told::OfChanges).map_err(|_| Unwanted)?;
                }
                self.hello(&feed, epoch, (since, snapshot), recovered)?;
                return Ok(Heard::Hello);
            }
            // Both come after everything up to that id.
            ControlFrame::Live { id } => {
                self.reached(id);
                if std::mem::take(&mut self.nothing_yet) {
                    self.tell(none_up_to(id.0))?;
                }
            }
            ControlFrame::Heartbeat { head: id } => self.reached(id),
            ControlFrame::Reset {
                epoch,
                head,
                earliest,
                snapshot,
            } => {
                self.tell("the history was replaced; starting over with its first row".to_owned())?;
                let first = earliest.map_or(head.0, |earliest| earliest.0.saturating_sub(1));
                // Whoever is cut off in the table as it is begins with it again.
                let id = if snapshot { 0 } else { first };
                self.position = Some(Position { epoch, id });
                self.follow_on();
            }
            ControlFrame::Goodbye { reconnect_after_ms } => {
                return Ok(Heard::Goodbye(Duration::from_millis(reconnect_after_ms)));
            }
            ControlFrame::Waiting { message } => return self.waits(message),
            ControlFrame::Unknown => {}
        }
        Ok(Heard::Nothing)
    }

    /// There is nothing to read; said once, however often the daemon says so.
    fn waits(&mut self, message: String) -> Result<Heard, End> {
        if self.waits_for != message {
            self.tell(format!("{}: {message}", self.target.shown()))?;
            self.waits_for = message;
        }
        Ok(Heard::Hello)
    }

    fn hello(
        &mut self,
        feed: &str,
        epoch: String,
        (since, snapshot): (Id, bool),
        recovered: bool,
    ) -> Result<(), Unwanted> {
        let target = self.target.shown();
        self.waits_for.clear();
        let before = self.position.take().filter(|before| before.epoch == epoch);
        let before = before.filter(|_| !snapshot);
        self.tell(match (recovered, &before) {
            _ if snapshot => format!("connected to {target}, feed {feed}; the table as it is comes first"),
            (true, _) => {
                let beginning = beginning(feed, since.0, !self.nothing_yet);
                format!("connected to {target}, {beginning}")
            }
            (false, Some(before)) => format!(
                "connected to {target}, feed {feed}; rows after id {} are deleted, going on after id {}",
                before.id, since.0
            ),
            (false, None) => format!(
                "connected to {target}, feed {feed}; its history is not the one asked for, starting over after id {}",
                since.0
            ),
        })?;
        let id = before.map_or(since.0, |before| before.id.max(since.0));
        self.position = Some(Position { epoch, id });
        self.follow_on();
        Ok(())
    }
}

/// What a message meant to the connection it came on.
pub(super) enum Heard {
    Nothing,
    /// The subscription is established, whether or not there is something to read.
    Hello,
    Goodbye(Duration),
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    fn subscriber() -> (Subscriber, Receiver<Told>) {
        let (events, received) = sync_channel(100);
        let target = FeedUrl::of(&"ws://h".parse().unwrap());
        let start = Start::Asked("since=now".into());
        (
            Subscriber {
                target,
                start,
                key: String::new(),
                position: None,
                waits_for: String::new(),
                nothing_yet: false,
                token: ClientToken::default(),
                events,
            },
            received,
        )
    }

    fn hello(epoch: &str, since: i64, recovered: bool) -> String {
        format!(
            r#"{{"type":"hello","feed":"f","key":"id","epoch":"{epoch}","head":9,"earliest":1,"since":{since},"recovered":{recovered}}}"#
        )
    }

    fn row(id: i64) -> String {
        format!(r#"{{"type":"t","event":{{"id":{id}}}}}"#)
    }

    fn rows(received: &Receiver<Told>) -> Vec<String> {
        let row = |event| match event {
            Told::Row(row) => Some(row.into_string()),
            _ => None,
        };
        received.try_iter().filter_map(row).collect()
    }

    fn take(subscriber: &mut Subscriber, text: &str) -> bool {
        subscriber.take(text).is_ok()
    }

    #[test]
    fn the_next_connection_starts_after_the_last_row() {
        let (mut subscriber, received) = subscriber();
        assert!(take(&mut subscriber, &hello("e", 5, true)));
        assert_eq!(
            subscriber.start,
            Start::After {
                id: 5,
                epoch: "e".into()
            }
        );
        assert!(take(&mut subscriber, &row(7)));
        assert!(take(&mut subscriber, r#"{"type":"heartbeat","head":9}"#));
        assert_eq!(
            subscriber.start,
            Start::After {
                id: 9,
                epoch: "e".into()
            }
        );
        // On the next connection nothing is printed twice, even if the daemon sends it twice.
        assert!(take(&mut subscriber, &hello("e", 6, true)));
        assert!(take(&mut subscriber, &row(7)) && take(&mut subscriber, &row(10)));
        assert_eq!(rows(&received), [r#"{"id":7}"#, r#"{"id":10}"#]);
    }

    #[test]
    fn a_new_history_is_printed_from_its_first_row() {
        let (mut subscriber, received) = subscriber();
        assert!(take(&mut subscriber, &hello("e", 50, true)));
        assert!(take(&mut subscriber, &hello("e2", 0, false)));
        assert!(take(&mut subscriber, &row(1)));
        assert!(take(
            &mut subscriber,
            r#"{"type":"reset","epoch":"e3","reason":"r","head":8,"earliest":1}"#
        ));
        assert!(take(&mut subscriber, &row(1)));
        assert_eq!(rows(&received).len(), 2);
    }

    #[test]
    fn what_the_daemon_waits_for_is_said_once() {
        let (mut subscriber, received) = subscriber();
        let waiting = r#"{"type":"waiting","reason":"no_table","message":"no table yet"}"#;
        let said = |received: &Receiver<Told>| {
            let notices = received.try_iter();
            notices
                .filter(
                    |event| matches!(event, Told::Notice(text) if text.ends_with("no table yet")),
                )
                .count()
        };
        assert!(take(&mut subscriber, waiting) && take(&mut subscriber, waiting));
        assert_eq!(said(&received), 1);
        assert!(take(&mut subscriber, &hello("e", 0, true)));
        assert!(take(&mut subscriber, waiting));
        assert_eq!(said(&received), 1, "it came about again");
    }
}

//! Follows a feed of a running daemon: a resumable subscription that outlives its connections.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tungstenite::Error;
use tungstenite::protocol::CloseFrame;

use super::beginning;
use super::choice;
use super::connection::{Backoff, ConnectError, SILENCE, connect};
use super::message::{ControlFrame, Id, Message, id_of};
use super::notice;
use super::output::Output;
use super::url::{self, FeedUrl, Start};
use crate::cli::{ClientToken, TailArgs};
use crate::os::interrupt::on_interrupt;

/// Rows read ahead of the terminal or pipe; beyond it the connection waits, and the daemon with it.
const AHEAD: usize = 1024;

/// What the printing thread is told.
enum Told {
    Row(Box<str>),
    Notice(String),
    Failed(anyhow::Error),
    Interrupted,
}

/// Follows `url` until interrupted.
///
/// # Errors
/// No connection at first, a refusal that will not pass by itself, or stdout can't be written. The URL names no feed, and
/// there is not just one.
pub(super) fn follow(
    url: &str,
    args: &TailArgs,
    unasked: Option<u32>,
    output: Output,
) -> anyhow::Result<()> {
    let (mut target, start) = url::parse(url, args, unasked);
    target.path = choice::path_of(&target, args)?;
    let (sender, events) = sync_channel(AHEAD);
    let stop = sender.clone();
    on_interrupt(move || drop(stop.send(Told::Interrupted)))
        .context("signals can't be waited for")?;
    let subscriber = Subscriber {
        target,
        start,
        key: String::new(),
        position: None,
        waits_for: String::new(),
        nothing_yet: false,
        events: sender,
        token: args.token.clone(),
    };
    std::thread::Builder::new()
        .name("walcast-tail".into())
        .spawn(move || subscriber.run())?;
    print(&events, output)
}

fn print(events: &Receiver<Told>, mut output: Output) -> anyhow::Result<()> {
    loop {
        let event = match events.try_recv() {
            Ok(event) => event,
            Err(_) => {
                output.flush()?;
                match events.recv_timeout(Duration::from_secs(1)) {
                    Ok(event) => event,
                    Err(RecvTimeoutError::Timeout) if !output.reader_is_gone() => continue,
                    Err(_) => return Ok(()),
                }
            }
        };
        match event {
            Told::Row(row) => output.row(&row)?,
            Told::Notice(text) => {
                output.flush()?;
                notice(text);
            }
            Told::Failed(error) => {
                output.flush()?;
                return Err(error);
            }
            Told::Interrupted => return Ok(output.flush()?),
        }
    }
}

/// Up to which row everything was handed over.
#[derive(Debug, Clone, PartialEq)]
struct Position {
    epoch: String,
    id: i64,
}

/// The subscription over all its connections.
struct Subscriber {
    target: FeedUrl,
    start: Start,
    key: String,
    /// `None` until the first hello.
    position: Option<Position>,
    /// What the daemon waits for, as it said last; empty while there is something to read.
    waits_for: String,
    /// Rows were announced, and none has come so far.
    nothing_yet: bool,
    events: SyncSender<Told>,
    token: ClientToken,
}

/// Why a connection of `tail` ended.
enum End {
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
struct Unwanted;

impl Subscriber {
    fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut told = false;
        loop {
            let (why, after) = match self.connection(&mut backoff, &mut told) {
                End::Lost { why, after } => (why, after),
                End::Refused(error) => return drop(self.events.send(Told::Failed(error))),
                End::Unwanted => return,
            };
            if !told && self.tell(format!("{why}; reconnecting")).is_err() {
                return;
            }
            told = true;
            std::thread::sleep(after.unwrap_or_else(|| backoff.next_pause()));
        }
    }

    fn tell(&self, text: String) -> Result<(), Unwanted> {
        self.events.send(Told::Notice(text)).map_err(|_| Unwanted)
    }

    /// One connection, from its first byte to its last.
    fn connection(&mut self, backoff: &mut Backoff, told: &mut bool) -> End {
        let mut socket = match connect(&self.target, &self.start, &self.token) {
            Ok(socket) => socket,
            Err(ConnectError::Refused(error)) => return End::Refused(error),
            Err(ConnectError::Later { why, after }) => return End::Lost { why, after },
            Err(ConnectError::Unreachable(e)) => {
                let why = format!("no connection to {}: {e}", self.target.shown());
                return match self.position {
                    Some(_) => End::Lost { why, after: None },
                    None => End::Refused(anyhow!("{why}; is walcast running there?")),
                };
            }
        };
        let mut goodbye = None;
        loop {
            let frame = match socket.read() {
                Ok(frame) => frame,
                Err(e) => {
                    return End::Lost {
                        why: lost(&e),
                        after: goodbye,
                    };
                }
            };
            let taken = match &frame {
                tungstenite::Message::Text(text) => self.take(text),
                tungstenite::Message::Close(frame) => return closed(frame.as_ref(), goodbye),
                _ => continue,
            };
            match taken {
                Ok(Heard::Nothing) => {}
                Ok(Heard::Hello) => {
                    backoff.reset();
                    *told = false;
                }
                Ok(Heard::Goodbye(after)) => goodbye = Some(after),
                Err(end) => return end,
            }
        }
    }

    fn take(&mut self, text: &str) -> Result<Heard, End> {
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
                key,
                epoch,
                head,
                since,
                recovered,
            } => {
                self.key = key;
                self.nothing_yet = since < head;
                self.hello(&feed, epoch, since, recovered)?;
                return Ok(Heard::Hello);
            }
            // Both come after everything up to that id.
            ControlFrame::Live { id } => {
                self.reached(id);
                if std::mem::take(&mut self.nothing_yet) {
                    self.tell(super::none_up_to(id.0))?;
                }
            }
            ControlFrame::Heartbeat { head: id } => self.reached(id),
            ControlFrame::Reset {
                epoch,
                head,
                earliest,
            } => {
                self.tell("the history was replaced; starting over with its first row".to_owned())?;
                let id = earliest.map_or(head.0, |earliest| earliest.0.saturating_sub(1));
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
        since: Id,
        recovered: bool,
    ) -> Result<(), Unwanted> {
        let target = self.target.shown();
        self.waits_for.clear();
        let before = self.position.take().filter(|before| before.epoch == epoch);
        self.tell(match (recovered, &before) {
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
enum Heard {
    Nothing,
    /// The subscription is established, whether or not there is something to read.
    Hello,
    Goodbye(Duration),
}

fn lost(error: &Error) -> String {
    match error {
        Error::Io(e)
            if matches!(
                e.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ) =>
        {
            format!("nothing came for {} s", SILENCE.as_secs())
        }
        e => format!("the connection was lost ({e})"),
    }
}

/// Whether a close means "come back".
fn closed(frame: Option<&CloseFrame>, goodbye: Option<Duration>) -> End {
    let code = frame.map_or(1005, |frame| u16::from(frame.code));
    match code {
        1008 | 4500..=4999 => End::Refused(anyhow!(
            "the daemon ended the subscription for good (close code {code})"
        )),
        1012 => End::Lost {
            why: "the daemon restarts".to_owned(),
            after: goodbye,
        },
        1013 => End::Lost {
            why: "the daemon is at capacity".to_owned(),
            after: goodbye,
        },
        _ => End::Lost {
            why: format!("the daemon closed the connection (code {code})"),
            after: goodbye,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber() -> (Subscriber, Receiver<Told>) {
        let (events, received) = sync_channel(100);
        let target = FeedUrl::default();
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

    #[test]
    fn close_codes_say_whether_to_come_back() {
        let end = |code: u16| {
            closed(
                Some(&CloseFrame {
                    code: code.into(),
                    reason: "".into(),
                }),
                None,
            )
        };
        for code in [1001, 1011, 1012, 1013, 4008, 4009, 4499] {
            assert!(matches!(end(code), End::Lost { .. }), "{code}");
        }
        for code in [1008, 4501, 4504] {
            assert!(matches!(end(code), End::Refused(_)), "{code}");
        }
    }
}

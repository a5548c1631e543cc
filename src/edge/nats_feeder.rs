//! Has one feed from a stream of NATS JetStream: its links, one after the other, from where the spool ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::push::OrderedConfig;
use async_nats::jetstream::stream::{Info, Stream};
use futures_util::StreamExt as _;
use tokio::runtime::Runtime;

use super::connections::{Connect, End};
use super::frames::{OriginControl, OriginFrame};
use super::gap::{self, Gap, Gaps};
use super::intake::{Closed, Intake};
use super::link_judge::{Judgement, LinkJudge, Reached};
use super::nats_origin::NatsOrigin;
use super::status::EdgeStatus;
use super::stream_search::{Start, start};
use super::taking::Taking;
use super::upstream::Upstream;
use crate::model::position::Cursor;
use crate::net::backoff::Backoff;
use crate::publish::{Connection, Link, LinkKind, Names, Part, Standing, root};
use crate::sqlite::error::OUT_OF_REACH;
use crate::sqlite::spool::SpoolItem;
use crate::sqlite::whole_row::TableDescription;
use crate::wire::control::ResetReason;

/// How often it is looked whether it was sent back.
const LOOK: Duration = Duration::from_millis(250);
/// A stream that has more than came, and brings nothing for so long, is asked anew.
const QUIET: Duration = Duration::from_secs(5);
/// The pause after what will not pass by itself, but by somebody's doing.
const REFUSED: Duration = Duration::from_secs(5);

/// One feed, as it is had.
pub(super) struct NatsFeeder {
    pub taking: Taking,
    pub origin: NatsOrigin,
    /// Asked for rows that the stream has no more.
    pub upstream: Option<Upstream>,
    pub gaps: Gaps,
    /// Shared by all: it ends with the last of them.
    pub runtime: Arc<Runtime>,
    /// Set when it is not to be had any more.
    pub stopped: Arc<AtomicBool>,
}

impl Connect for NatsFeeder {
    fn taking(&self) -> &Taking {
        &self.taking
    }

    /// What comes is handed over on this thread, which may wait for room.
    fn connection(&mut self, backoff: &mut Backoff) -> End {
        let runtime = Arc::clone(&self.runtime);
        match runtime.block_on(self.follow(backoff)) {
            Ok(()) | Err(End::SentBack) => self.fill_gap(backoff),
            Err(end) => end,
        }
    }
}

impl NatsFeeder {
    fn status(&self) -> &EdgeStatus {
        &self.taking.status
    }

    fn intake(&self) -> &Intake {
        &self.taking.intake
    }

    /// Has from the upstream what the stream was found to lack, if anything.
    fn fill_gap(&mut self, backoff: &mut Backoff) -> End {
        let (Some(upstream), Some(gap)) = (&self.upstream, self.gaps.due.take()) else {
            return End::SentBack;
        };
        let filled = gap::fill(upstream, &mut self.taking, &gap);
        match self.gaps.heed(gap, filled, &self.taking) {
            Ok(()) => {
                backoff.reset();
                End::SentBack
            }
            Err(Some(why)) => End::lost(why),
            Err(None) => End::Closed,
        }
    }

    /// Returns whether rows are to come from the upstream before the stream is read on.
    fn has_gap(&mut self, reached: Option<Reached>, until: Option<Cursor>) -> bool {
        let (Some(reached), Some(until), Some(_)) = (reached, until, &self.upstream) else {
            return false;
        };
        self.gaps.is_due(Gap::Between { reached, until })
    }

    /// Nothing here leads to what the stream has of a captured table's history: the table as it is has to come from the
    /// upstream.
    fn begin_with_table(&mut self, epoch: String, reason: ResetReason) -> End {
        if self.upstream.is_none() {
            self.status().out_of_reach(&self.taking.feed);
            return End::lost(OUT_OF_REACH).or_after(REFUSED);
        }
        self.gaps.due = Some(Gap::Beginning { epoch, reason });
        End::SentBack
    }

    async fn follow(&mut self, backoff: &mut Backoff) -> Result<(), End> {
        let feed = Arc::clone(&self.taking.feed);
        self.gaps.due = None;
        self.status().begins(&feed);
        let position = self.intake().position(&feed)?;
        let holds_changes = position.as_ref().is_some_and(|held| held.is_of_changes);
        let reached = position.map(|position| Reached {
            epoch: position.epoch,
            id: position.id.map_or(Cursor::MIN, Cursor),
        });
        let (connection, lost) = self.origin.connect().await.map_err(End::lost)?;
        let names = self.origin.names(&feed);
        let mut stream = opened(&connection, &names).await.map_err(End::lost)?;
        let lost_for = |error: &(dyn std::error::Error + 'static)| {
            End::lost(format!(
                "the stream {} can't be read: {}",
                names.stream,
                root(error)
            ))
        };
        let standings = connection.client.subscribe(names.standing.clone()).await;
        let mut standings = standings.map_err(|error| lost_for(&error))?;
        let found = start(&mut stream, &names, reached.clone()).await;
        let Start {
            sequence,
            reached: follows,
            is_current,
            gap,
        } = found.map_err(End::lost)?;
        if self.has_gap(reached, gap) {
            return Ok(());
        }
        let reached = follows;
        self.taking.forget();
        if let Some(reached) = &reached {
            let begin = SpoolItem::Begin {
                epoch: reached.epoch.clone(),
                goes_on: true,
                reason: ResetReason::default(),
            };
            self.intake().push(&feed, begin, 0)?;
            if is_current {
                taking_up_to(&self.taking, reached.id)?;
            }
        }
        let consumer = stream.create_consumer(OrderedConfig {
            deliver_subject: connection.client.new_inbox(),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: sequence,
            },
            ..OrderedConfig::default()
        });
        let consumer = consumer.await.map_err(|error| lost_for(&error))?;
        let messages = consumer
            .messages()
            .await
            .map_err(|error| lost_for(&error))?;
        let mut messages = std::pin::pin!(messages);
        let mut reading = Reading {
            feeder: self,
            judge: LinkJudge::new(reached),
            parts: Vec::new(),
            came: Instant::now(),
            holds_changes,
        };
        let mut looks = tokio::time::interval(LOOK);
        let mut lost = lost;
        loop {
            tokio::select! {
                biased;
                _ = lost.wait_for(|lost| *lost) => {
                    return Err(End::lost("the connection to the NATS server was lost".to_owned()));
                }
                message = messages.next() => {
                    let message = match message {
                        Some(Ok(message)) => message,
                        Some(Err(error)) => return Err(lost_for(&error)),
                        None => return Err(End::lost(format!("the stream {} ended", names.stream))),
                    };
                    let pending = message.info().map(|info| info.pending).unwrap_or_default();
                    let link = message.headers.as_ref().and_then(Link::of);
                    // What others have published there is nothing of ours.
                    if let Some(link) = link {
                        if reading.lacks_rows(&link) {
                            return Ok(());
                        }
                        reading.take(&link, &message.payload, pending == 0)?;
                        backoff.reset();
                    }
                }
                said = standings.next() => {
                    if let Some(said) = said {
                        reading.hear(&said.payload)?;
                    }
                }
                _ = looks.tick() => {
                    let feeder = &reading.feeder;
                    if feeder.stopped.load(Ordering::Relaxed) || feeder.status().is_sent_back(&feed) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// The stream of the feed.
async fn opened(connection: &Connection, names: &Names) -> Result<Stream<Info>, String> {
    let found = connection.jetstream.get_stream(&names.stream).await;
    found.map_err(|error| match connection.violation() {
        Some(violation) => format!("the credentials lack a right: {violation}"),
        None => format!(
            "the stream {} is not to be had: {}",
            names.stream,
            root(&error)
        ),
    })
}

/// What is read over one connection.
struct Reading<'f> {
    feeder: &'f mut NatsFeeder,
    judge: LinkJudge,
    /// Bytes of a row that has come in part.
    parts: Vec<u8>,
    /// When a message came last.
    came: Instant,
    /// The spool has something of the feed, which is one of changes there.
    holds_changes: bool,
}

impl Reading<'_> {
    /// Returns whether rows were never published that are to come from the upstream before this link.
    fn lacks_rows(&mut self, link: &Link) -> bool {
        let reached = self.judge.reached.clone();
        let is_gap = link.kind == LinkKind::Gap
            && reached.as_ref().is_some_and(|reached| {
                reached.epoch == *link.epoch.0 && (link.prev..link.last).contains(&reached.id)
            });
        is_gap && self.feeder.has_gap(reached, Some(link.last))
    }

    /// Takes a message in. `is_last`: the stream has no more for now.
    fn take(&mut self, link: &Link, body: &[u8], is_last: bool) -> Result<(), End> {
        self.came = Instant::now();
        let taking = &mut self.feeder.taking;
        taking.status.heard(&taking.feed);
        if self.judge.reached.is_none() && link.part.number > 1 {
            // The stream begins within a row, whose first parts it has no more.
            return Ok(());
        }
        if link.part.number == 1 {
            self.parts.clear();
        }
        let reached = self.judge.reached.as_ref();
        let reached = reached.map_or(Cursor::MIN, |reached| reached.id);
        match self.judge.judge(link) {
            Judgement::Skip => {}
            Judgement::Missing => return Err(End::SentBack),
            Judgement::Keep => self.parts.extend_from_slice(body),
            Judgement::Take => self.rows(link, body, reached)?,
            Judgement::Begin if described(body)?.1.changes.is_some() => {
                if self.feeder.upstream.is_none() && !self.holds_changes {
                    // Who asks for it is to be told why it is not there.
                    describe(taking, link, body)?;
                }
                let epoch = link.epoch.0.to_string();
                return Err(self.feeder.begin_with_table(epoch, link.reason));
            }
            Judgement::Begin => {
                describe(taking, link, body)?;
                let begin = SpoolItem::Begin {
                    epoch: link.epoch.0.to_string(),
                    goes_on: false,
                    reason: link.reason,
                };
                taking.intake.push(&taking.feed, begin, body.len())?;
                return match link.kind {
                    // It is the first that the stream still has.
                    LinkKind::Rows => self.take(link, body, is_last),
                    // Rows follow, or the publisher says that there are none.
                    LinkKind::Reset | LinkKind::Gap => Ok(()),
                };
            }
        }
        match (&self.judge.reached, is_last) {
            (Some(reached), true) => Ok(taking_up_to(&self.feeder.taking, reached.id)?),
            _ => Ok(()),
        }
    }

    fn rows(&mut self, link: &Link, body: &[u8], reached: Cursor) -> Result<(), End> {
        let taking = &mut self.feeder.taking;
        if link.part == Part::WHOLE {
            return lines(taking, link, body, reached);
        }
        self.parts.extend_from_slice(body);
        let whole = std::mem::take(&mut self.parts);
        lines(taking, link, &whole, reached)
    }

    /// The publisher says where it stands.
    fn hear(&mut self, said: &[u8]) -> Result<(), End> {
        let Ok(standing) = serde_json::from_slice::<Standing>(said) else {
            return Ok(());
        };
        let Some(published) = standing.published else {
            return Ok(());
        };
        let taking = &self.feeder.taking;
        let reached = self.judge.reached.clone();
        let same = reached
            .as_ref()
            .filter(|reached| reached.epoch == standing.epoch);
        if let Some(reached) = same.filter(|reached| reached.id.0 >= published) {
            // Rows above that may be on their way.
            let complete = standing.complete.unwrap_or(published).max(published);
            if reached.id.0 > complete {
                // The upstream gave what is not published yet.
                return Ok(());
            }
            taking.status.heard(&taking.feed);
            return Ok(taking_up_to(taking, Cursor(complete))?);
        }
        if reached.is_none() && standing.changes {
            // The stream may have nothing any more by which that could be seen.
            let reason = ResetReason::default();
            return Err(self.feeder.begin_with_table(standing.epoch, reason));
        }
        if self.came.elapsed() < QUIET {
            return Ok(());
        }
        // What comes no more, for its time was up before it was asked for.
        if same.is_some_and(|reached| reached.id.0 < published)
            && self.feeder.has_gap(reached, Some(Cursor(published)))
        {
            return Err(End::SentBack);
        }
        Err(End::lost(format!(
            "the stream has more than what came, and brought nothing for {} s; it is asked anew",
            QUIET.as_secs()
        )))
    }
}

/// Everything up to this id is here. A table that never had a row ends at 0, as clients are told.
fn taking_up_to(taking: &Taking, id: Cursor) -> Result<(), Closed> {
    let id = if id == Cursor::MIN { 0 } else { id.0 };
    taking.intake.push(&taking.feed, SpoolItem::UpTo(id), 0)
}

/// Takes what a link's rows are of, which its first line says, where that is news.
fn describe(taking: &mut Taking, link: &Link, body: &[u8]) -> Result<(), End> {
    if taking.knows(&link.schema) {
        return Ok(());
    }
    let (schema, table, bytes) = described(body)?;
    Ok(taking.table(schema, table, bytes)?)
}

/// What a link's rows are of: the fingerprint of that, and in how many bytes it is said.
pub(super) fn described(body: &[u8]) -> Result<(String, TableDescription, usize), End> {
    let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match parsed(line)? {
        OriginFrame::Control(OriginControl::Table { schema, table }) => {
            Ok((schema, *table, line.len()))
        }
        OriginFrame::Control(_) | OriginFrame::Row(_) | OriginFrame::Change(_) => Err(End::lost(
            "a message does not say what its rows are of; is the origin of a version that is much newer?",
        )),
    }
}

/// Takes the rows of a link, and of changes those above what was reached: each is taken in once.
fn lines(taking: &mut Taking, link: &Link, body: &[u8], reached: Cursor) -> Result<(), End> {
    describe(taking, link, body)?;
    for line in body.split(|byte| *byte == b'\n').skip(1) {
        match parsed(line)? {
            OriginFrame::Row(row) => taking.row(row, line.len())?,
            OriginFrame::Change(change) if change.seq() > Some(reached.0) => {
                taking.change(change, line.len())?;
            }
            OriginFrame::Change(_) | OriginFrame::Control(_) => {}
        }
    }
    Ok(())
}

fn parsed(line: &[u8]) -> Result<OriginFrame, End> {
    let unknown = |e: &dyn std::fmt::Display| {
        End::lost(format!(
            "what was published is not understood ({e}); is the origin of a version that is much newer?"
        ))
    };
    let text = std::str::from_utf8(line).map_err(|e| unknown(&e))?;
    OriginFrame::parse(text).map_err(|e| unknown(&e))
}

//! Where in a stream to begin to read: found by what its messages say, never by a sequence number that was kept, for a stream
//! that was restored gives them again.

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Info, LastRawMessageErrorKind, Stream};

use super::link_judge::Reached;
use crate::model::position::Cursor;
use crate::publish::{Link, Names, root};

/// Messages at the end that may be no links, and the last link is still found.
const LOOK_BACK: u64 = 256;

/// Where to begin.
#[derive(Debug)]
pub(super) struct Start {
    pub sequence: u64,
    /// What was reached, where what follows goes on from it; `None`: what is here is void.
    pub reached: Option<Reached>,
    /// The stream has nothing more.
    pub is_current: bool,
    /// Up to where the rows of this history are gone from the stream that would follow on what was reached.
    pub gap: Option<Cursor>,
}

/// Finds where a stream goes on from what was reached.
pub(super) async fn start(
    stream: &mut Stream<Info>,
    names: &Names,
    reached: Option<Reached>,
) -> Result<Start, String> {
    let state = stream.info().await.map_err(|error| unread(names, &error))?;
    let (first, last) = (state.state.first_sequence, state.state.last_sequence);
    let search = Search { stream, names };
    let from_first = |gap| Start {
        sequence: first.max(1),
        reached: None,
        is_current: false,
        gap,
    };
    let Some(reached) = reached else {
        return Ok(from_first(None));
    };
    let Some(newest) = search.last_link(first, last).await? else {
        // Nothing is in it: it may be filled again.
        return Ok(Start {
            sequence: last + 1,
            reached: Some(reached),
            is_current: false,
            gap: None,
        });
    };
    let is_same = *newest.epoch.0 == reached.epoch;
    if is_same && newest.reaches() <= reached.id {
        return Ok(Start {
            sequence: last + 1,
            reached: Some(reached),
            is_current: true,
            gap: None,
        });
    }
    // Of histories a stream has the older ones first.
    let mut above = is_same.then_some(reached.id);
    loop {
        let is_news =
            |link: &Link| link.epoch == newest.epoch && above.is_none_or(|above| link.last > above);
        let Some((sequence, link)) = search.first(first, last, is_news).await? else {
            return Ok(from_first(is_same.then_some(newest.reaches())));
        };
        if link.part.number > 1 {
            // Its row is not there whole.
            above = Some(link.last);
            continue;
        }
        // Where links before it are gone, what is here is void: nothing joins it to what follows.
        let goes_on = is_same && link.prev <= reached.id;
        return Ok(Start {
            sequence,
            reached: goes_on.then_some(reached),
            is_current: false,
            gap: (is_same && !goes_on).then_some(link.prev),
        });
    }
}

struct Search<'s> {
    stream: &'s Stream<Info>,
    names: &'s Names,
}

impl Search<'_> {
    /// The first link, by halving, of which `is_news` holds, as it does of all that follow.
    async fn first(
        &self,
        first: u64,
        last: u64,
        is_news: impl Fn(&Link) -> bool,
    ) -> Result<Option<(u64, Link)>, String> {
        let (mut low, mut high, mut found) = (first, last + 1, None);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.link_from(middle).await? {
                Some((sequence, link)) if is_news(&link) => {
                    found = Some((sequence, link));
                    high = middle;
                }
                Some((sequence, _)) => low = sequence + 1,
                None => high = middle,
            }
        }
        Ok(found)
    }

    /// The first link at this sequence number or above it.
    async fn link_from(&self, sequence: u64) -> Result<Option<(u64, Link)>, String> {
        let mut sequence = sequence;
        loop {
            let found = self
                .stream
                .get_first_raw_message_by_subject(&self.names.subject, sequence);
            let message: StreamMessage = match found.await {
                Ok(message) => message,
                Err(error) => {
                    return match error.kind() {
                        LastRawMessageErrorKind::NoMessageFound => Ok(None),
                        _ => Err(unread(self.names, &error)),
                    };
                }
            };
            match Link::of(&message.headers) {
                Some(link) => return Ok(Some((message.sequence, link))),
                // Somebody else's.
                None => sequence = message.sequence + 1,
            }
        }
    }

    async fn last_link(&self, first: u64, last: u64) -> Result<Option<Link>, String> {
        let oldest = first.max(last.saturating_sub(LOOK_BACK)).max(1);
        for sequence in (oldest..=last).rev() {
            match self.stream.get_raw_message(sequence).await {
                Ok(message) => {
                    if let Some(link) = Link::of(&message.headers) {
                        return Ok(Some(link));
                    }
                }
                Err(error) => match error.kind() {
                    LastRawMessageErrorKind::NoMessageFound => {}
                    _ => return Err(unread(self.names, &error)),
                },
            }
        }
        Ok(None)
    }
}

fn unread(names: &Names, error: &(dyn std::error::Error + 'static)) -> String {
    format!("the stream {} can't be read: {}", names.stream, root(error))
}

//! What a message of a stream is: a link of a chain. Each names the one before it, so that whoever reads the stream knows
//! of every link whether it follows what he has, and the server takes none but that which follows its last.

use async_nats::HeaderMap;
use async_nats::header::{
    NATS_EXPECTED_LAST_MESSAGE_ID, NATS_EXPECTED_LAST_SEQUENCE, NATS_MESSAGE_ID,
};

use crate::model::position::{Cursor, Epoch};
use crate::wire::control::ResetReason;

const KIND: &str = "Walcast-Kind";
const EPOCH: &str = "Walcast-Epoch";
const PREV: &str = "Walcast-Prev";
const FIRST: &str = "Walcast-First";
const LAST: &str = "Walcast-Last";
const SCHEMA: &str = "Walcast-Schema";
const PART: &str = "Walcast-Part";
const REASON: &str = "Walcast-Reason";

/// What a link says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkKind {
    /// These rows follow.
    Rows,
    /// A history begins, after this position: what came before is void.
    Reset,
    /// The history goes on after this position: rows up to it are not in the table any more.
    Gap,
}

impl LinkKind {
    const ALL: [LinkKind; 3] = [LinkKind::Rows, LinkKind::Reset, LinkKind::Gap];

    fn word(self) -> &'static str {
        match self {
            LinkKind::Rows => "rows",
            LinkKind::Reset => "reset",
            LinkKind::Gap => "gap",
        }
    }
}

/// One link, as its headers say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) kind: LinkKind,
    /// The history it is of.
    pub(crate) epoch: Epoch,
    /// Where the link before it ended, in the same history.
    pub(crate) prev: Cursor,
    /// The id of its first row; without rows its last position.
    pub(crate) first: Cursor,
    /// Where it ends.
    pub(crate) last: Cursor,
    /// Fingerprint of the description that it begins with; empty where it has none.
    pub(crate) schema: String,
    /// Which part of its rows it holds.
    pub(crate) part: Part,
    /// Why a history begins with it, if one does.
    pub(crate) reason: ResetReason,
}

/// What a server takes in one message may be less than one row: then its bytes come in several, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// From 1 on.
    pub(crate) number: u32,
    /// How many there are.
    pub(crate) of: u32,
}

impl Part {
    /// All in one message.
    pub(crate) const WHOLE: Part = Part { number: 1, of: 1 };

    /// Returns whether the link ends with it.
    pub(crate) fn is_last(self) -> bool {
        self.number == self.of
    }

    fn parse(text: &str) -> Option<Part> {
        let (number, of) = text.split_once('/')?;
        let part = Part {
            number: number.parse().ok()?,
            of: of.parse().ok()?,
        };
        (1..=part.of).contains(&part.number).then_some(part)
    }
}

/// What the server is to have before it takes a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// A message of this id as its last.
    LastId(String),
    /// A last message of this sequence number; 0: none ever. For the first link that follows one of another process: what
    /// the id of the last message was, a server may have forgotten when it was restarted.
    LastSequence(u64),
}

impl Link {
    /// Returns the id of the message: no two links of a stream have the same.
    pub(crate) fn id(&self) -> String {
        match self.part.is_last() {
            true => format!("{}:{}", self.epoch.0, self.last.0),
            false => format!("{}:{}#{}", self.epoch.0, self.last.0, self.part.number),
        }
    }

    /// Returns up to where a stream that ends with this link has everything.
    pub(crate) fn reaches(&self) -> Cursor {
        match self.part.is_last() {
            true => self.last,
            false => self.prev,
        }
    }

    pub(super) fn headers(&self, expected: &Expected) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, self.id());
        match expected {
            Expected::LastId(id) => headers.insert(NATS_EXPECTED_LAST_MESSAGE_ID, id.as_str()),
            Expected::LastSequence(sequence) => {
                headers.insert(NATS_EXPECTED_LAST_SEQUENCE, sequence.to_string());
            }
        }
        headers.insert(KIND, self.kind.word());
        headers.insert(EPOCH, &*self.epoch.0);
        headers.insert(PREV, self.prev.0.to_string());
        headers.insert(FIRST, self.first.0.to_string());
        headers.insert(LAST, self.last.0.to_string());
        headers.insert(SCHEMA, self.schema.as_str());
        if self.kind == LinkKind::Reset {
            headers.insert(REASON, self.reason.as_str());
        }
        if self.part != Part::WHOLE {
            headers.insert(PART, format!("{}/{}", self.part.number, self.part.of));
        }
        headers
    }

    /// Reads the headers of a message; `None`: walcast did not publish it.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Link> {
        let text = |name: &str| headers.get(name).map(|value| value.as_str());
        let cursor = |name: &str| text(name)?.parse().ok().map(Cursor);
        let kind = text(KIND)?;
        Some(Link {
            kind: LinkKind::ALL
                .into_iter()
                .find(|known| known.word() == kind)?,
            epoch: Epoch::new(text(EPOCH)?),
            prev: cursor(PREV)?,
            first: cursor(FIRST)?,
            last: cursor(LAST)?,
            schema: text(SCHEMA)?.to_owned(),
            part: match text(PART) {
                Some(text) => Part::parse(text)?,
                None => Part::WHOLE,
            },
            reason: ResetReason::of(text(REASON).unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_as_it_was_written() {
        let second = Part { number: 2, of: 3 };
        for (kind, part) in LinkKind::ALL
            .into_iter()
            .zip([second, Part::WHOLE, Part::WHOLE])
        {
            let link = Link {
                kind,
                epoch: Epoch::new("e1"),
                prev: Cursor(-3),
                first: Cursor(1),
                last: Cursor(i64::MAX),
                schema: "c0ffee".to_owned(),
                part,
                reason: match kind {
                    LinkKind::Reset => ResetReason::CaptureInterrupted,
                    LinkKind::Rows | LinkKind::Gap => ResetReason::default(),
                },
            };
            let headers = link.headers(&Expected::LastSequence(0));
            assert_eq!(Link::of(&headers), Some(link));
        }
    }

    #[test]
    fn a_stream_that_ends_within_a_row_does_not_have_it() {
        let part = |number| Link {
            kind: LinkKind::Rows,
            epoch: Epoch::new("e1"),
            prev: Cursor(4),
            first: Cursor(5),
            last: Cursor(5),
            schema: String::new(),
            part: Part { number, of: 2 },
            reason: ResetReason::default(),
        };
        assert_eq!(
            (part(1).id().as_str(), part(1).reaches()),
            ("e1:5#1", Cursor(4))
        );
        assert_eq!(
            (part(2).id().as_str(), part(2).reaches()),
            ("e1:5", Cursor(5))
        );
        for text in ["0/2", "3/2", "1", "a/b", ""] {
            assert_eq!(Part::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_another_program_published_is_no_link() {
        assert_eq!(Link::of(&HeaderMap::new()), None);
        let mut headers = HeaderMap::new();
        headers.insert(KIND, "rows");
        headers.insert(EPOCH, "e1");
        assert_eq!(Link::of(&headers), None);
    }
}

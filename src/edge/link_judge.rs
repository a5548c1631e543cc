//! What a link of a stream means to who has come so far: rows that follow, some that are here already, or that links are missing.

use crate::model::position::Cursor;
use crate::publish::{Link, LinkKind, Part};

/// Up to where a feed has come, in which history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reached {
    pub epoch: String,
    pub id: Cursor,
}

/// What is to be done with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is of no news.
    Skip,
    /// Its rows above what was reached follow on what is here.
    Take,
    /// It is one part of a row; more follow.
    Keep,
    /// A history begins with it, or the rows below it are gone: what is here is void.
    Begin,
    /// Links between what is here and this one are missing.
    Missing,
}

/// Judges the links of a stream, one after the other.
#[derive(Debug, Default)]
pub(super) struct LinkJudge {
    pub reached: Option<Reached>,
    /// Where the parts end that have come of a row.
    parts: Option<(Cursor, u32)>,
}

impl LinkJudge {
    pub(super) fn new(reached: Option<Reached>) -> LinkJudge {
        LinkJudge {
            reached,
            parts: None,
        }
    }

    /// Judges the next link, and remembers that it was heeded.
    pub(super) fn judge(&mut self, link: &Link) -> Judgement {
        let follows = self.follows(link);
        let Some(reached) = &mut self.reached else {
            return self.begin(link);
        };
        let is_same = reached.epoch == *link.epoch.0;
        match link.kind {
            LinkKind::Reset if is_same && link.last <= reached.id => return Judgement::Skip,
            LinkKind::Reset => return self.begin(link),
            _ if !is_same => return Judgement::Missing,
            _ if link.last <= reached.id => return Judgement::Skip,
            _ if link.prev > reached.id => return Judgement::Missing,
            LinkKind::Gap => return self.begin(link),
            LinkKind::Rows => {}
        }
        if !follows {
            // Its first parts came before somebody began to listen, and come again where the row does.
            return Judgement::Missing;
        }
        match link.part.is_last() {
            true => {
                reached.id = link.last;
                self.parts = None;
                Judgement::Take
            }
            false => {
                self.parts = Some((link.last, link.part.number));
                Judgement::Keep
            }
        }
    }

    /// Returns whether a part is the first, or comes after the one before it.
    fn follows(&self, link: &Link) -> bool {
        let Part { number, .. } = link.part;
        number == 1 || self.parts == Some((link.last, number - 1))
    }

    fn begin(&mut self, link: &Link) -> Judgement {
        let epoch = link.epoch.0.to_string();
        self.parts = None;
        match link.kind {
            LinkKind::Rows => {
                // The first that the stream still has.
                let id = link.prev;
                self.reached = Some(Reached { epoch, id });
            }
            LinkKind::Reset | LinkKind::Gap => {
                let id = link.last;
                self.reached = Some(Reached { epoch, id });
            }
        }
        Judgement::Begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::Epoch;
    use crate::wire::control::ResetReason;

    fn link(kind: LinkKind, epoch: &str, prev: i64, last: i64) -> Link {
        Link {
            kind,
            epoch: Epoch::new(epoch),
            prev: Cursor(prev),
            first: Cursor(prev + 1),
            last: Cursor(last),
            schema: "s".to_owned(),
            part: Part::WHOLE,
            reason: ResetReason::default(),
        }
    }

    fn rows(prev: i64, last: i64) -> Link {
        link(LinkKind::Rows, "e1", prev, last)
    }

    fn at(id: i64) -> LinkJudge {
        LinkJudge::new(Some(Reached {
            epoch: "e1".to_owned(),
            id: Cursor(id),
        }))
    }

    #[test]
    fn links_that_follow_are_taken_and_those_that_are_here_are_not() {
        let mut judge = at(5);
        for (link, wanted) in [
            (rows(3, 5), Judgement::Skip),
            (rows(5, 8), Judgement::Take),
            (rows(5, 8), Judgement::Skip),
            // The stream was restored, and filled again in other steps.
            (rows(6, 11), Judgement::Take),
            (rows(12, 13), Judgement::Missing),
            (rows(11, 12), Judgement::Take),
        ] {
            assert_eq!(judge.judge(&link), wanted, "{link:?}");
        }
        assert_eq!(judge.reached.unwrap().id, Cursor(12));
    }

    #[test]
    fn a_history_begins_with_a_reset_and_not_otherwise() {
        let mut judge = at(5);
        assert_eq!(
            judge.judge(&link(LinkKind::Rows, "e2", 5, 6)),
            Judgement::Missing
        );
        assert_eq!(
            judge.judge(&link(LinkKind::Reset, "e1", 0, 0)),
            Judgement::Skip
        );
        assert_eq!(
            judge.judge(&link(LinkKind::Reset, "e2", 0, 0)),
            Judgement::Begin
        );
        assert_eq!(
            judge.judge(&link(LinkKind::Rows, "e2", 0, 4)),
            Judgement::Take
        );
        assert_eq!(
            judge.judge(&link(LinkKind::Gap, "e2", 4, 9)),
            Judgement::Begin
        );
        assert_eq!(
            judge.judge(&link(LinkKind::Rows, "e2", 9, 10)),
            Judgement::Take
        );
    }

    #[test]
    fn parts_are_kept_in_their_order() {
        let part = |number| Link {
            part: Part { number, of: 3 },
            ..rows(5, 6)
        };
        let mut judge = at(5);
        for (number, wanted) in [
            (2, Judgement::Missing),
            (1, Judgement::Keep),
            (2, Judgement::Keep),
            (1, Judgement::Keep),
            (3, Judgement::Missing),
            (1, Judgement::Keep),
            (2, Judgement::Keep),
            (3, Judgement::Take),
            (3, Judgement::Skip),
        ] {
            assert_eq!(judge.judge(&part(number)), wanted, "{number}");
        }
    }
}

//! The order in which pages are read: the hindmost of a stream first, a few of each stream at once, and nobody waits
//! for ever.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::page_request::{PageKey, PageWaiter, ReplayKey};
use crate::hub::Feed;
use crate::model::filter::Filter;
use crate::model::read_owner::Claim;

/// Reads of one stream that run at once, the hindmost first: enough for two subscribers and what each needs next. With
/// more, subscribers that replay together spread out, each wants pages that the others do not, and reading them costs
/// more than sending them. Those ahead wait until the others come up to them, and go on as one.
const CONCURRENT_READS: usize = 4;
/// A read that has waited for so long runs before all others. Sooner would let those ahead go on before the others are
/// there.
const PATIENCE: Duration = Duration::from_millis(500);

/// A page that waits to be read, and for whom.
pub(super) struct QueuedRead {
    pub key: PageKey,
    pub feed: Arc<Feed>,
    pub filter: Arc<Filter>,
    pub since: Instant,
    /// Who asked for it first.
    pub claim: Claim,
    /// Who waits for it, if it is not to be shared.
    pub alone: Option<PageWaiter>,
}

/// Reads to be done, in the order in which they were asked for.
#[derive(Default)]
pub(super) struct ReadQueue {
    reads: VecDeque<QueuedRead>,
    /// Of each stream, how many run.
    running: HashMap<ReplayKey, usize>,
    /// Threads that came for a read and found that none may run yet.
    sent_away: usize,
}

impl ReadQueue {
    pub(super) fn push(&mut self, read: QueuedRead) {
        self.reads.push_back(read);
    }

    /// Takes the read whose turn it is: the oldest if it has waited long, else the hindmost of the first stream that has
    /// not enough running.
    pub(super) fn pop(&mut self, now: Instant) -> Option<QueuedRead> {
        let oldest = self.reads.front()?;
        let index = if now.saturating_duration_since(oldest.since) >= PATIENCE {
            Some(0)
        } else {
            self.hindmost()
        };
        let Some(read) = index.and_then(|index| self.reads.remove(index)) else {
            self.sent_away += 1;
            return None;
        };
        *self.running.entry(read.key.stream).or_default() += 1;
        Some(read)
    }

    fn hindmost(&self) -> Option<usize> {
        let may_run = |stream: &ReplayKey| {
            let running = self.running.get(stream);
            running.is_none_or(|n| *n < CONCURRENT_READS)
        };
        let first = self.reads.iter().find(|read| may_run(&read.key.stream))?;
        let stream = first.key.stream;
        let of_stream = self.reads.iter().enumerate();
        of_stream
            .filter(|(_, read)| read.key.stream == stream)
            .min_by_key(|(_, read)| read.key.after)
            .map(|(index, _)| index)
    }

    /// A read of `stream` has ended. Returns whether a thread is to be called in place of one that was sent away.
    pub(super) fn ended(&mut self, stream: ReplayKey) -> bool {
        if let Some(running) = self.running.get_mut(&stream) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(&stream);
            }
        }
        let calls = self.sent_away > 0;
        self.sent_away -= usize::from(calls);
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::filter::FilterId;
    use crate::model::position::Cursor;
    use crate::model::read_owner::Client;

    const STREAM: ReplayKey = ReplayKey {
        feed: 0,
        generation: 0,
        filter: FilterId::NONE,
    };
    const OTHER: ReplayKey = ReplayKey { feed: 1, ..STREAM };

    fn queue(reads: &[(ReplayKey, i64)], since: Instant) -> ReadQueue {
        let mut queue = ReadQueue::default();
        for (stream, after) in reads {
            queue.push(QueuedRead {
                key: PageKey {
                    stream: *stream,
                    after: Cursor(*after),
                },
                feed: Feed::stock(),
                filter: Arc::new(Filter::default()),
                since,
                claim: Client::Connection(0).claim(),
                alone: None,
            });
        }
        queue
    }

    fn pop(queue: &mut ReadQueue, now: Instant) -> Option<i64> {
        queue.pop(now).map(|read| read.key.after.0)
    }

    #[test]
    fn the_hindmost_reads_first_and_those_ahead_wait_until_a_read_ends() {
        let now = Instant::now();
        let mut queue = queue(&[9, 7, 5, 3, 1, 8].map(|after| (STREAM, after)), now);
        let taken: Vec<_> = (0..=CONCURRENT_READS)
            .map(|_| pop(&mut queue, now))
            .collect();
        assert_eq!(taken, [Some(1), Some(3), Some(5), Some(7), None]);
        assert!(
            queue.ended(STREAM),
            "the thread that was sent away is called"
        );
        assert_eq!(pop(&mut queue, now), Some(8));
        assert!(!queue.ended(STREAM), "nobody else was sent away");
    }

    #[test]
    fn streams_do_not_wait_for_each_other() {
        let now = Instant::now();
        let mut reads: Vec<_> = (0..6).map(|after| (STREAM, after)).collect();
        reads.push((OTHER, 100));
        let mut queue = queue(&reads, now);
        let taken: Vec<_> = (0..=CONCURRENT_READS)
            .filter_map(|_| pop(&mut queue, now))
            .collect();
        assert_eq!(taken, [0, 1, 2, 3, 100]);
    }

    #[test]
    fn who_has_waited_long_reads_before_the_hindmost() {
        let since = Instant::now();
        let mut queue = queue(&[9, 1, 2, 3, 4, 5].map(|after| (STREAM, after)), since);
        assert_eq!(pop(&mut queue, since), Some(1));
        let later = since + PATIENCE;
        let taken: Vec<_> = (0..5).map(|_| pop(&mut queue, later)).collect();
        assert_eq!(taken, [9, 2, 3, 4, 5].map(Some));
    }
}

//! How long the oldest row that was not delivered yet has been there.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::model::position::Cursor;

/// Heads remembered at most. When there are as many, every other one is forgotten: older ones are remembered ever more
/// coarsely, whatever the outage lasts.
const MOST: usize = 64;
/// Heads closer to each other are one.
const APART: Duration = Duration::from_millis(100);

/// When the head was seen where, as far back as there are rows to deliver.
#[derive(Debug, Default)]
pub(super) struct HeadTimes(VecDeque<(Instant, Cursor)>);

impl HeadTimes {
    /// The head is there now.
    pub(super) fn note(&mut self, head: Cursor, now: Instant) {
        if let Some((time, last)) = self.0.back()
            && (head <= *last || now.saturating_duration_since(*time) < APART)
        {
            return;
        }
        if self.0.len() == MOST {
            let mut keep = false;
            self.0.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.0.push_back((now, head));
    }

    /// Rows up to here need no delivery any more.
    pub(super) fn reached(&mut self, position: Cursor) {
        while self.0.front().is_some_and(|(_, head)| *head <= position) {
            self.0.pop_front();
        }
    }

    /// Another history begins.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns how long the oldest row above what was reached has been there, as far as this process has seen it: zero where
    /// there is none.
    pub(super) fn lag(&self, now: Instant) -> Duration {
        let oldest = self.0.front();
        oldest.map_or(Duration::ZERO, |(time, _)| {
            now.saturating_duration_since(*time)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_the_age_of_the_oldest_row_that_waits() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut times = HeadTimes::default();
        assert_eq!(times.lag(at(0)), Duration::ZERO);
        for (seconds, head) in [(0, 10), (1, 10), (2, 20), (5, 30)] {
            times.note(Cursor(head), at(seconds));
        }
        assert_eq!(times.lag(at(9)), Duration::from_secs(9));
        times.reached(Cursor(10));
        assert_eq!(times.lag(at(9)), Duration::from_secs(7));
        times.reached(Cursor(25));
        assert_eq!(times.lag(at(9)), Duration::from_secs(4));
        times.reached(Cursor(30));
        assert_eq!(times.lag(at(9)), Duration::ZERO);
    }

    #[test]
    fn an_outage_of_any_length_is_remembered_in_bounded_room() {
        let start = Instant::now();
        let mut times = HeadTimes::default();
        for second in 0..1_000_000 {
            times.note(
                Cursor(second as i64 + 1),
                start + Duration::from_secs(second),
            );
        }
        assert!(times.0.len() <= MOST && times.0.capacity() <= 2 * MOST);
        let now = start + Duration::from_secs(1_000_000);
        assert_eq!(times.lag(now).as_secs(), 1_000_000);
        times.reached(Cursor(999_999));
        assert!(times.lag(now).as_secs() < 10, "what is new is known well");
    }
}

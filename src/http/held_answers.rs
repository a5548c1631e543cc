//! Bytes of answers that are held for clients to take: bounded, for a client may take its time.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus::IntGauge;

/// An answer up to this size finds room where large ones do not any more, so that these can't keep everyone from asking.
const SMALL: usize = 64 * 1024;

/// Counts the bytes of answers that clients have not taken yet, up to a bound.
#[derive(Debug)]
pub(super) struct Answers {
    /// Bytes all of them may have.
    limit: usize,
    held: Mutex<usize>,
    gauge: IntGauge,
}

impl Answers {
    pub(super) fn new(limit: usize, gauge: IntGauge) -> Arc<Answers> {
        Arc::new(Answers {
            limit,
            held: Mutex::new(0),
            gauge,
        })
    }

    /// Begins an answer, of nothing so far.
    pub(super) fn begin(self: &Arc<Self>) -> Held {
        Held {
            answers: Arc::clone(self),
            bytes: 0,
        }
    }
}

/// The bytes that one answer holds; dropping it gives them back.
#[derive(Debug)]
pub(super) struct Held {
    answers: Arc<Answers>,
    bytes: usize,
}

impl Held {
    /// Makes room for so many bytes more; `false` where there is none.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let Answers { limit, held, gauge } = &*self.answers;
        let mut held = held.lock();
        let limit = match self.bytes + bytes <= SMALL {
            true => *limit,
            false => limit / 4 * 3,
        };
        if *held + bytes > limit {
            return false;
        }
        *held += bytes;
        self.bytes += bytes;
        gauge.set(*held as i64);
        true
    }

    /// Gives back what was taken so far.
    pub(super) fn clear(&mut self) {
        let mut held = self.answers.held.lock();
        *held -= std::mem::take(&mut self.bytes);
        self.answers.gauge.set(*held as i64);
    }

    /// The answer, which is held until its last byte was handed to the kernel.
    pub(super) fn of(self, answer: Vec<u8>) -> Bytes {
        Bytes::from_owner(HeldBytes {
            answer,
            _held: self,
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.clear();
    }
}

struct HeldBytes {
    answer: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_answers_leave_room_for_small_ones_and_give_theirs_back() {
        let gauge = IntGauge::new("held", "held").unwrap();
        let answers = Answers::new(4 * SMALL, gauge.clone());
        let mut large = answers.begin();
        assert!(large.grow(3 * SMALL));
        assert!(!large.grow(1));
        let mut small = answers.begin();
        assert!(small.grow(SMALL));
        assert!(!answers.begin().grow(1));
        let answer = large.of(vec![0; 3 * SMALL]);
        assert_eq!(gauge.get() as usize, 4 * SMALL);
        let part = answer.slice(..10);
        drop(answer);
        assert_eq!(
            gauge.get() as usize,
            4 * SMALL,
            "a part of it is still there"
        );
        drop((part, small));
        assert_eq!(gauge.get(), 0);
    }
}

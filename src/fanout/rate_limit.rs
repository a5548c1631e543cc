//! How much a client may say.

use std::time::Instant;

use crate::wire::control::{
    CloseCode, INBOUND_BURST, INBOUND_BURST_BYTES, INBOUND_BYTES_PER_SECOND, INBOUND_PER_SECOND,
};

/// Two buckets that refill: one of messages, one of bytes of any kind.
#[derive(Debug)]
pub(crate) struct RateLimit {
    messages: f32,
    /// Messages that may come at once.
    burst: f32,
    /// Below zero after a read larger than what was left.
    bytes: f32,
    at: Instant,
}

impl RateLimit {
    pub(super) fn new(now: Instant) -> RateLimit {
        RateLimit::with_more(0, now)
    }

    /// Returns one that lets through so many messages more at once.
    pub(crate) fn with_more(messages: usize, now: Instant) -> RateLimit {
        let burst = INBOUND_BURST + messages as f32;
        RateLimit {
            messages: burst,
            burst,
            bytes: INBOUND_BURST_BYTES,
            at: now,
        }
    }

    /// Takes one message; an error when there were too many.
    pub(crate) fn take_message(&mut self, now: Instant) -> Result<(), CloseCode> {
        self.refill(now);
        if self.messages < 1.0 {
            return Err(CloseCode::Policy);
        }
        self.messages -= 1.0;
        Ok(())
    }

    /// Counts bytes that were read against the client's allowance.
    pub(crate) fn take_bytes(&mut self, count: usize, now: Instant) {
        self.refill(now);
        self.bytes -= count as f32;
    }

    /// Returns whether more may be read of this client by now. Where not, it waits, and the kernel makes its sender
    /// wait.
    pub(crate) fn may_read(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.bytes > 0.0
    }

    fn refill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f32();
        self.messages = (self.messages + seconds * INBOUND_PER_SECOND).min(self.burst);
        self.bytes = (self.bytes + seconds * INBOUND_BYTES_PER_SECOND).min(INBOUND_BURST_BYTES);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_of_sixty_refills_with_twenty_a_second() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        assert!((0..60).all(|_| limit.take_message(start).is_ok()));
        assert_eq!(limit.take_message(start), Err(CloseCode::Policy));
        let later = start + Duration::from_secs(1);
        assert!((0..20).all(|_| limit.take_message(later).is_ok()));
        assert_eq!(limit.take_message(later), Err(CloseCode::Policy));
    }

    #[test]
    fn who_sends_more_bytes_than_messages_can_have_waits_and_is_read_again() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        limit.take_bytes(60 * 4096, start);
        assert!(limit.may_read(start), "sixty of the largest messages");
        limit.take_bytes(1 << 20, start);
        assert!(!limit.may_read(start));
        assert!(limit.take_message(start).is_ok(), "no reason to close");
        assert!(limit.may_read(start + Duration::from_secs(10)));
    }
}

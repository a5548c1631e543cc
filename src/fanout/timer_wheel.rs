//! Timers by the second: each connection has one entry, and what is due is decided when it comes up. Broadcasting
//! never touches it.

use std::time::{Duration, Instant};

use crate::fanout::mailbox::ConnId;

/// More seconds than any timer here is set ahead.
const SLOTS: u64 = 128;

pub(super) struct TimerWheel {
    slots: Vec<Vec<ConnId>>,
    start: Instant,
    /// The next second that has not come up.
    next: u64,
}

impl TimerWheel {
    pub(super) fn new(start: Instant) -> TimerWheel {
        TimerWheel {
            slots: vec![Vec::new(); SLOTS as usize],
            start,
            next: 0,
        }
    }

    /// Sets a timer. It comes up at `due` or up to a second later.
    pub(super) fn set(&mut self, id: ConnId, due: Instant) {
        let second =
            (due.saturating_duration_since(self.start) + Duration::from_millis(999)).as_secs();
        let second = second.clamp(self.next, self.next + SLOTS - 1);
        self.slots[(second % SLOTS) as usize].push(id);
    }

    /// Removes and returns the connections whose timer has run out.
    pub(super) fn due(&mut self, now: Instant) -> Vec<ConnId> {
        let second = now.saturating_duration_since(self.start).as_secs();
        let mut due = Vec::new();
        while self.next <= second {
            due.append(&mut self.slots[(self.next % SLOTS) as usize]);
            self.next += 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_comes_up_once_when_its_second_has_come() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut wheel = TimerWheel::new(start);
        let id = |slot| ConnId { slot, serial: 0 };
        wheel.set(id(1), at(2.5));
        wheel.set(id(2), at(60.0));
        wheel.set(id(3), at(0.0));
        assert_eq!(wheel.due(at(0.1)), [id(3)]);
        assert!(wheel.due(at(2.9)).is_empty());
        assert_eq!(wheel.due(at(3.0)), [id(1)]);
        wheel.set(id(4), at(1.0));
        assert_eq!(
            wheel.due(at(4.0)),
            [id(4)],
            "a time that is past comes up at once"
        );
        assert_eq!(wheel.due(at(70.0)), [id(2)]);
        assert!(wheel.due(at(500.0)).is_empty());
    }
}

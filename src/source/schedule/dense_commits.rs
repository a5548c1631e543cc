//! Whether to be told of writes or to ask for commits, as network drivers choose between interrupts and polling.
//!
//! Being told costs the writer an event for each write, four for a small commit, and both sides a wake-up. That is the
//! price of having a row at once, and of doing nothing while none come. When commits come densely it buys nothing:
//! asking at short intervals finds several at a time, costs the same however many there are, and the writer next to
//! nothing.

use std::time::{Duration, Instant};

/// How often commits are asked for; a row is late by half of it at the mean. Looking alone takes 7 % of a core, as much as
/// being told of some 3,000 commits a second does (on two cores of a virtual machine).
pub(super) const EVERY: Duration = Duration::from_micros(300);
/// Asking begins when so many looks found commits ...
const BEGIN_FINDS: u32 = 64;
/// ... and were waited for no longer than this together: one in 500 µs, whatever reading and sending them took.
const BEGIN_WITHIN: Duration = Duration::from_millis(32);
/// Asking ends when of so many looks, some 40 ms of them, which outlast a checkpoint ...
const END_LOOKS: u32 = 130;
/// ... fewer found commits: one in more than a millisecond.
const END_FINDS: u32 = 45;

/// Decides by how densely commits come whether to hear of writes or to ask for commits.
#[derive(Debug, Default)]
pub(super) struct DenseCommits {
    finds: u32,
    /// How long they were waited for, while not asking.
    waited: Duration,
    last_look: Option<Instant>,
    /// While asking, the looks among which they were.
    looks: u32,
    asking: bool,
}

impl DenseCommits {
    /// Returns whether commits are to be asked for [`EVERY`] so often, and no writes to be heard.
    pub(super) fn is_asking(&self) -> bool {
        self.asking
    }

    /// Looked from `began` to `ended`, and `found` commits or not. Asking may begin or stop with that.
    pub(super) fn looked(&mut self, found: bool, began: Instant, ended: Instant) {
        let last_look = self.last_look.replace(ended).unwrap_or(began);
        self.finds += u32::from(found);
        if self.asking {
            self.looks += 1;
            if self.looks == END_LOOKS {
                self.judge(self.finds >= END_FINDS);
            }
        } else {
            self.waited += began.saturating_duration_since(last_look);
            if self.finds == BEGIN_FINDS {
                self.judge(self.waited <= BEGIN_WITHIN);
            }
        }
    }

    /// Asks from now on or does not, and counts anew.
    fn judge(&mut self, asking: bool) {
        *self = DenseCommits {
            last_look: self.last_look,
            asking,
            ..DenseCommits::default()
        };
    }

    /// Ends asking, and counts anew.
    pub(super) fn stop(&mut self) {
        *self = DenseCommits::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// Looks `apart` from one another, each of which takes a millisecond, until asking begins or stops. Every
    /// `share`th finds commits.
    fn follow(dense_commits: &mut DenseCommits, apart: Duration, share: u32) -> Option<u32> {
        let mut now = Instant::now();
        (1..=50 * BEGIN_FINDS).find(|look| {
            let began = now + apart;
            now = began + 1_000 * US;
            let asked = dense_commits.is_asking();
            dense_commits.looked(look % share == 0, began, now);
            dense_commits.is_asking() != asked
        })
    }

    #[test]
    fn dense_commits_are_asked_for_however_long_reading_them_takes() {
        for apart in [20 * US, BEGIN_WITHIN / BEGIN_FINDS] {
            let mut dense_commits = DenseCommits::default();
            assert_eq!(follow(&mut dense_commits, apart, 1), Some(BEGIN_FINDS));
            assert!(dense_commits.is_asking());
        }
    }

    #[test]
    fn commits_far_apart_are_told_of_however_many_looks_each_takes() {
        for (apart, share) in [(600 * US, 1), (20 * US, 30), (Duration::from_secs(1), 1)] {
            assert_eq!(follow(&mut DenseCommits::default(), apart, share), None);
        }
    }

    #[test]
    fn a_pause_before_dense_commits_only_delays() {
        let (mut dense_commits, start) = (DenseCommits::default(), Instant::now());
        let late = start + Duration::from_secs(60);
        dense_commits.looked(true, start, start);
        dense_commits.looked(true, late, late);
        let begun = follow(&mut dense_commits, 20 * US, 1);
        assert!(begun.is_some_and(|looks| looks <= 2 * BEGIN_FINDS));
    }

    #[test]
    fn asking_outlasts_a_checkpoint_and_ends_when_commits_come_rarely() {
        let (mut dense_commits, now) = (DenseCommits::default(), Instant::now());
        follow(&mut dense_commits, 20 * US, 1);
        for look in 0..20 * END_LOOKS {
            // A checkpoint of 20 ms in every 40 ms.
            dense_commits.looked(look % END_LOOKS >= END_LOOKS / 2, now, now);
            assert!(dense_commits.is_asking());
        }
        assert_eq!(follow(&mut dense_commits, EVERY, 15), Some(END_LOOKS));
        assert!(!dense_commits.is_asking());
    }
}

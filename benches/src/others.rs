//! How much of the machine others used while something was measured: on a busy machine no number means much.

use std::fs;
use std::time::Instant;

use crate::sys;

/// A reading of all clocks.
pub struct Others {
    since: Instant,
    busy_ns: u64,
    own_ns: u64,
}

impl Others {
    pub fn watch() -> Self {
        Self {
            since: Instant::now(),
            busy_ns: busy_ns(),
            own_ns: sys::own_cpu_ns(),
        }
    }

    /// Cores that other programs have used on average since [`Others::watch`]. Children still running count as others.
    pub fn cores(&self) -> f64 {
        let busy = busy_ns() - self.busy_ns;
        let own = sys::own_cpu_ns() - self.own_ns;
        busy.saturating_sub(own) as f64 / self.since.elapsed().as_nanos() as f64
    }
}

/// Time that all cores together have been busy since the machine's start; 0 where /proc is not as Linux has it.
fn busy_ns() -> u64 {
    const TICK_NS: u64 = 10_000_000; // USER_HZ is 100 on every machine Linux runs on today
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, (idle, iowait), irq, softirq
    [0, 1, 2, 5, 6]
        .iter()
        .filter_map(|&field| ticks.get(field))
        .sum::<u64>()
        * TICK_NS
}

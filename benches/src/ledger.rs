//! What one subscriber must receive: every row of its share exactly once, in order.

use anyhow::{Result, bail};

/// The ids a subscriber is still to get: `next`, `next + step`, and so on without end.
#[derive(Debug, Clone, Copy)]
pub struct Ledger {
    next: i64,
    step: i64,
}

impl Ledger {
    /// Rows from the id `first` on, every `step`th of them.
    pub fn new(first: i64, step: i64) -> Self {
        Self { next: first, step }
    }

    /// Enters a row that came.
    ///
    /// # Errors
    /// When it is not the one that was next. The ledger goes on after it.
    pub fn enter(&mut self, id: i64) -> Result<()> {
        let expected = std::mem::replace(&mut self.next, id + self.step);
        if id == expected {
            return Ok(());
        }
        let fault = if id > expected {
            "rows are missing"
        } else {
            "a row came twice or out of order"
        };
        bail!("{fault}: expected id {expected}, got {id}")
    }

    /// How many rows up to `last` are still to come.
    pub fn outstanding(&self, last: i64) -> u64 {
        if last < self.next {
            0
        } else {
            ((last - self.next) / self.step) as u64 + 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_row_is_right() {
        let mut ledger = Ledger::new(10, 5);
        assert_eq!(ledger.outstanding(20), 3);
        ledger.enter(10).unwrap();
        ledger.enter(15).unwrap();
        assert!(ledger.enter(15).is_err());
        assert!(ledger.enter(30).is_err());
        assert_eq!(ledger.outstanding(34), 0);
        assert_eq!(ledger.outstanding(35), 1);
    }
}

//! What a test of random steps did, said where it fails.

/// Steps that are said to repeat and explain a failure.
const SAID: usize = 30;

/// The steps of a run; dropped by a panic, it says how to repeat the run, and what led to it.
pub struct Steps {
    seed: u64,
    steps: Vec<String>,
}

impl Steps {
    /// Of a run with this seed.
    pub fn of(seed: u64) -> Steps {
        Steps {
            seed,
            steps: Vec::new(),
        }
    }

    /// Notes a step.
    pub fn push(&mut self, step: impl Into<String>) {
        self.steps.push(step.into());
    }

    /// How many there were.
    pub fn len(&self) -> usize {
        self.steps.len()
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = self.steps.len().saturating_sub(SAID);
            eprintln!(
                "WALCAST_SEED={} repeats this; the last steps:\n  {}",
                self.seed,
                self.steps[last..].join("\n  ")
            );
        }
    }
}

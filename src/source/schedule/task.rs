//! What the schedule says is to be done.

use std::time::Instant;

/// Something the feed loop does, in the order in which one turn does them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Watch the directories that the path leads to now.
    Watch,
    /// Compare what is open with what the path leads to.
    Compare,
    Open,
    SwitchToWal,
    Look(Look),
    /// Let the feeds of tables go that were dropped and did not come back.
    SayGoodbye,
    /// Keep the identities that are due.
    Save,
    /// Read the head rows through a fresh connection.
    ReadAfresh,
}

/// A look for commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// The safety poll is due: nothing may be left out.
    pub is_poll: bool,
    /// Nobody waits for it, and it may come to nothing: it is better put off than in a writer's way.
    pub may_wait: bool,
    /// Tables that failed are to be tried again.
    pub retries: bool,
    /// When the wake came that led to it, or when it was due.
    pub woken: Option<Instant>,
}

/// How long to wait for wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Until then file events would tell nothing new.
    pub deaf_until: Option<Instant>,
    pub until: Instant,
}

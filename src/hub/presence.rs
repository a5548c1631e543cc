//! Whether a feed's table can be read, and what is said to clients where it can't.

use std::sync::Arc;

use crate::wire::control::Control;

/// Whether a feed's table can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    Open,
    Away(Absence),
}

/// Why a feed's table can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    pub cause: Cause,
    /// For whoever asks, wherever they are: names no path of this machine.
    pub message: Arc<str>,
}

/// What keeps a table from being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The file is not there (yet).
    NoDatabase,
    /// The file is there, the table is not (yet).
    NoTable,
    /// The file can't be read for now.
    Unreadable,
    /// The table can't be a feed as it is.
    Unfit,
    /// An edge can't have it from where it has its feeds: whoever runs it has to name another place.
    OutOfReach,
    /// The table was dropped a moment ago. Its feed goes too, unless a migration makes the table anew.
    Dropped,
    /// Nobody captures the table's changes any more. Its feed goes too, unless a migration captures them again.
    Uncaptured,
    /// The table was dropped and did not come back, and the feed is gone with it.
    Gone,
    /// Another feed takes its place: of the changes of the same table, where it was of rows, or the other way about.
    Replaced,
}

impl Presence {
    /// Returns the state of a table that can't be read, with its cause and the message for clients.
    pub fn away(cause: Cause, message: impl Into<Arc<str>>) -> Presence {
        let message = message.into();
        Presence::Away(Absence { cause, message })
    }

    /// Returns whether clients may not know of the feed any more: its table was dropped, or another feed has its place.
    pub fn is_gone(&self) -> bool {
        self.absence()
            .is_some_and(|absence| matches!(absence.cause, Cause::Gone | Cause::Replaced))
    }

    /// Returns whether another feed has its place, which who comes back finds.
    pub fn is_replaced(&self) -> bool {
        self.absence()
            .is_some_and(|absence| absence.cause == Cause::Replaced)
    }

    /// Why the table can't be read; `None` where it can.
    pub fn absence(&self) -> Option<&Absence> {
        match self {
            Presence::Open => None,
            Presence::Away(absence) => Some(absence),
        }
    }
}

impl Absence {
    /// What a resumable subscription is told while it lasts.
    pub fn control(&self) -> Control {
        Control::Waiting {
            reason: self.cause.reason(),
            message: self.message.to_string(),
        }
    }
}

impl Cause {
    /// The word for it in control frames.
    pub fn reason(self) -> &'static str {
        match self {
            Cause::NoDatabase => "no_database",
            Cause::NoTable | Cause::Dropped | Cause::Gone | Cause::Replaced => "no_table",
            Cause::Unreadable | Cause::Unfit | Cause::OutOfReach | Cause::Uncaptured => {
                "unreadable"
            }
        }
    }

    /// Returns whether it is only that nobody has made the table yet: nothing is wrong, and all that appears is new.
    pub fn is_unmade(self) -> bool {
        matches!(
            self,
            Cause::NoDatabase | Cause::NoTable | Cause::Dropped | Cause::Gone
        )
    }
}

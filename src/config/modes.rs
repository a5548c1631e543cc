//! How the database file is treated.

/// What may be done to the file's journal mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalMode {
    /// Switch the file to WAL when possible; serve it as it is meanwhile.
    Wal,
    /// Never change the file's journal mode.
    Keep,
}

impl JournalMode {
    /// As it is written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Keep => "keep",
        }
    }
}

/// How the daemon hears of writes to the file. The safety poll lies under each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMode {
    /// By what serves best on this system: inotify read by the feed loop on Linux, `notify` on macOS, else the poll alone.
    Auto,
    /// By file events from a thread of the package `notify`.
    Notify,
    /// By the safety poll alone.
    Poll,
}

impl WatchMode {
    /// As it is written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Notify => "notify",
            Self::Poll => "poll",
        }
    }
}

/// What is compressed for clients that take it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionMode {
    /// Nothing.
    Off,
    /// What is large enough to be worth it.
    Auto,
    /// Whatever gets smaller.
    On,
}

impl CompressionMode {
    /// As it is written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::On => "on",
        }
    }
}

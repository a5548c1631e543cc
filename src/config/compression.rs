//! What is compressed on its way to clients.

use super::feeds::FeedConfig;
use super::modes::CompressionMode;
use super::setting::settings;
use super::{kinds, limits};

/// Nothing so small gets smaller by enough to be worth a client's while, in bytes.
const SMALLEST: usize = 64;

settings! {
    /// What is compressed for clients that take it so.
    #[derive(Debug, Clone, PartialEq)]
    pub struct CompressionRules {
        /// Compression for clients that offer it: `off`, `auto` for what is larger than `compress_above` of the
        /// configuration, `on` for all that gets smaller.
        "compression" mode: CompressionMode = CompressionMode::Auto,
            kinds::compression().flag("--compression").under(limits::LIMITS);

        /// Size in bytes from which `auto` compresses a row, an event or an answer.
        "compress_above" above: usize = 512,
            kinds::bytes();
    }
}

impl CompressionRules {
    /// Returns the size in bytes from which something is compressed that is of no feed; `None`: nothing is.
    pub fn smallest(&self) -> Option<usize> {
        self.smallest_in(self.mode)
    }

    /// Returns the size in bytes from which something of a feed is compressed; `None`: nothing is.
    pub fn smallest_of(&self, feed: &FeedConfig) -> Option<usize> {
        self.smallest_in(feed.compression.unwrap_or(self.mode))
    }

    fn smallest_in(&self, mode: CompressionMode) -> Option<usize> {
        match mode {
            CompressionMode::Off => None,
            CompressionMode::Auto => Some(self.above.max(SMALLEST)),
            CompressionMode::On => Some(SMALLEST),
        }
    }
}

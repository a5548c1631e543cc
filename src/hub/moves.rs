//! Waiting for a feed's log to move, for async code.

use std::sync::Arc;

use tokio::sync::watch;

use super::OnPublish;

/// Lets async code wait for a feed's log to move.
pub struct Moves(Vec<watch::Sender<()>>);

impl Moves {
    /// Of this many feeds at most.
    pub fn new(feeds: usize) -> Arc<Moves> {
        Arc::new(Moves((0..feeds).map(|_| watch::Sender::new(())).collect()))
    }

    /// Returns what tells those who wait.
    pub fn listener(self: &Arc<Self>) -> OnPublish {
        let moves = Arc::clone(self);
        Box::new(move |feed| {
            moves.0[feed].send_replace(());
        })
    }

    /// Hears when the log of the feed with this index moves.
    pub fn subscribe(&self, feed: usize) -> watch::Receiver<()> {
        self.0[feed].subscribe()
    }
}

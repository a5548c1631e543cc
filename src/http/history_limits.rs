//! How many requests for history may wait for their rows, in all and of one client.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::IntGauge;

use crate::catchup::reader_pool::Work;
use crate::model::read_owner::Client;

/// Requests for history that wait for their rows, bounded in all and for each client.
#[derive(Debug)]
pub(super) struct HistoryQueue {
    limit: usize,
    limit_of_client: usize,
    waiting: Mutex<HistoryCounts>,
    gauge: IntGauge,
}

#[derive(Debug, Default)]
struct HistoryCounts {
    all: usize,
    searches: usize,
    by_client: HashMap<Client, usize>,
}

/// Which bound leaves no room for another request to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// As many wait as may wait.
    All,
    /// Of this client as many wait as may.
    Client,
}

/// A request that waits; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct WaitingHistory {
    history_queue: Arc<HistoryQueue>,
    client: Client,
    work: Work,
}

impl HistoryQueue {
    pub(super) fn new(limit: usize, limit_of_client: usize, gauge: IntGauge) -> Arc<HistoryQueue> {
        Arc::new(HistoryQueue {
            limit,
            limit_of_client,
            waiting: Mutex::default(),
            gauge,
        })
    }

    /// Takes a place. Searches leave a quarter of the places free: pages that are found at once give theirs back as
    /// soon, and should not be refused for those that take seconds.
    ///
    /// # Errors
    /// There is none, for this client or for any.
    pub(super) fn enter(
        self: &Arc<Self>,
        client: Client,
        work: Work,
    ) -> Result<WaitingHistory, Full> {
        let mut waiting = self.waiting.lock();
        let of_client = waiting.by_client.get(&client).copied().unwrap_or_default();
        if of_client >= self.limit_of_client {
            return Err(Full::Client);
        }
        let searches = self.limit - self.limit / 4;
        let is_search = work == Work::Search;
        if waiting.all >= self.limit || is_search && waiting.searches >= searches {
            return Err(Full::All);
        }
        waiting.all += 1;
        waiting.searches += usize::from(is_search);
        waiting.by_client.insert(client, of_client + 1);
        self.gauge.set(waiting.all as i64);
        Ok(WaitingHistory {
            history_queue: Arc::clone(self),
            client,
            work,
        })
    }
}

impl Drop for WaitingHistory {
    fn drop(&mut self) {
        let mut waiting = self.history_queue.waiting.lock();
        waiting.all -= 1;
        waiting.searches -= usize::from(self.work == Work::Search);
        self.history_queue.gauge.set(waiting.all as i64);
        if let Some(of_client) = waiting.by_client.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                waiting.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_by_client_and_given_back() {
        let gauge = IntGauge::new("waiting", "waiting").unwrap();
        let history_queue = HistoryQueue::new(3, 2, gauge.clone());
        let enter = |client| history_queue.enter(Client::Connection(client), Work::Quick);
        let (first, second) = (enter(1), enter(1));
        assert_eq!(enter(1).err(), Some(Full::Client));
        let third = enter(2);
        assert_eq!(enter(3).err(), Some(Full::All));
        assert_eq!(gauge.get(), 3);
        drop(first);
        assert!(enter(3).is_ok());
        drop((second, third));
        assert_eq!(gauge.get(), 0);
        assert!(history_queue.waiting.lock().by_client.is_empty());
    }

    #[test]
    fn searches_leave_places_for_pages_that_are_found_at_once() {
        let gauge = IntGauge::new("waiting", "waiting").unwrap();
        let history_queue = HistoryQueue::new(4, 4, gauge);
        let enter = |client, work| history_queue.enter(Client::Connection(client), work);
        let searches = [1, 2, 3].map(|client| enter(client, Work::Search).unwrap());
        assert_eq!(enter(4, Work::Search).err(), Some(Full::All));
        assert!(enter(4, Work::Quick).is_ok());
        drop(searches);
        assert!(enter(4, Work::Search).is_ok());
    }
}

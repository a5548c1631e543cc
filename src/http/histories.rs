//! How many requests for history may wait for their rows, in all and of one client.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::IntGauge;

use crate::asker::Client;

/// The requests that wait.
#[derive(Debug)]
pub struct Histories {
    limit: usize,
    limit_of_client: usize,
    waiting: Mutex<Waiting>,
    gauge: IntGauge,
}

#[derive(Debug, Default)]
struct Waiting {
    all: usize,
    by_client: HashMap<Client, usize>,
}

/// What was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// As many wait as may wait.
    All,
    /// Of this client as many wait as may.
    Client,
}

/// A request that waits; dropping it makes room for another.
#[derive(Debug)]
pub struct Place {
    histories: Arc<Histories>,
    client: Client,
}

impl Histories {
    pub fn new(limit: usize, limit_of_client: usize, gauge: IntGauge) -> Arc<Histories> {
        Arc::new(Histories {
            limit,
            limit_of_client,
            waiting: Mutex::default(),
            gauge,
        })
    }

    pub fn enter(self: &Arc<Self>, client: Client) -> Result<Place, Full> {
        let mut waiting = self.waiting.lock();
        let of_client = waiting.by_client.get(&client).copied().unwrap_or_default();
        if of_client >= self.limit_of_client {
            return Err(Full::Client);
        }
        if waiting.all >= self.limit {
            return Err(Full::All);
        }
        waiting.all += 1;
        waiting.by_client.insert(client, of_client + 1);
        self.gauge.set(waiting.all as i64);
        Ok(Place {
            histories: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.histories.waiting.lock();
        waiting.all -= 1;
        self.histories.gauge.set(waiting.all as i64);
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
        let histories = Histories::new(3, 2, gauge.clone());
        let client = Client::Connection;
        let (first, second) = (histories.enter(client(1)), histories.enter(client(1)));
        assert_eq!(histories.enter(client(1)).err(), Some(Full::Client));
        let third = histories.enter(client(2));
        assert_eq!(histories.enter(client(3)).err(), Some(Full::All));
        assert_eq!(gauge.get(), 3);
        drop(first);
        assert!(histories.enter(client(3)).is_ok());
        drop((second, third));
        assert_eq!(gauge.get(), 0);
        assert!(histories.waiting.lock().by_client.is_empty());
    }
}

//! Reads that wait, in turn by client: however much one client asks for, it delays another by one read.

use std::collections::{HashMap, VecDeque};

use crate::model::read_owner::Client;

/// What waits, each client's in the order it came in.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// Clients with something waiting, the one whose turn it is first.
    order: VecDeque<Client>,
    waiting: HashMap<Client, VecDeque<T>>,
    len: usize,
}

impl<T> Default for Turns<T> {
    fn default() -> Turns<T> {
        Turns {
            order: VecDeque::new(),
            waiting: HashMap::new(),
            len: 0,
        }
    }
}

impl<T> Turns<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push(&mut self, client: Client, item: T) {
        let waiting = self.waiting.entry(client).or_default();
        if waiting.is_empty() {
            self.order.push_back(client);
        }
        waiting.push_back(item);
        self.len += 1;
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let client = self.order.pop_front()?;
        let waiting = self.waiting.get_mut(&client)?;
        let item = waiting.pop_front()?;
        self.len -= 1;
        if waiting.is_empty() {
            self.waiting.remove(&client);
        } else {
            self.order.push_back(client);
        }
        Some(item)
    }

    pub(super) fn clear(&mut self) {
        *self = Turns::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_take_turns_however_much_each_asks_for() {
        let (much, little) = (Client::Connection(1), Client::Connection(2));
        let mut turns = Turns::default();
        (0..4).for_each(|n| turns.push(much, n));
        turns.push(little, 10);
        let order: Vec<i32> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order, [0, 10, 1, 2, 3]);
        assert_eq!((turns.len(), turns.waiting.len()), (0, 0));
    }
}

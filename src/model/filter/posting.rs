//! Sets of filters, by their slots in the index: small ones as lists, large ones as bits, so that what a set takes of
//! memory follows what is in it, and sets of any size are intersected 64 filters at a time.

/// A set of slots as bits. Slots beyond the last word are not in it.
#[derive(Debug, Default, Clone)]
pub(super) struct Bits(pub Vec<u64>);

fn place(slot: u32) -> (usize, u64) {
    ((slot / 64) as usize, 1 << (slot % 64))
}

impl Bits {
    /// Puts a slot in; says whether it was not there.
    pub(super) fn insert(&mut self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    /// Takes a slot out; says whether it was there.
    pub(super) fn remove(&mut self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        let Some(bits) = self.0.get_mut(word) else {
            return false;
        };
        let was_there = *bits & bit != 0;
        *bits &= !bit;
        was_there
    }

    /// Lets go of words at the end that hold nothing.
    pub(super) fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().zip(0u32..).flat_map(|(bits, word)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                let slot = word * 64 + bits.trailing_zeros();
                (bits != 0).then(|| {
                    bits &= bits - 1;
                    slot
                })
            })
        })
    }
}

/// The filters that a value is one of.
#[derive(Debug)]
pub(super) enum Posting {
    /// In ascending order.
    Few(Vec<u32>),
    Many {
        bits: Bits,
        count: usize,
    },
}

/// A list is never turned into bits for fewer.
const FEW: usize = 8;

impl Default for Posting {
    fn default() -> Posting {
        Posting::Few(Vec::new())
    }
}

impl Posting {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Posting::Few(slots) => slots.is_empty(),
            Posting::Many { count, .. } => *count == 0,
        }
    }

    pub(super) fn insert(&mut self, slot: u32) {
        match self {
            Posting::Few(slots) => {
                if let Err(at) = slots.binary_search(&slot) {
                    slots.insert(at, slot);
                }
            }
            Posting::Many { bits, count } => {
                // Not made long for one at its end.
                if (slot / 64) as usize > *count * 4 {
                    self.shrink();
                    return self.insert(slot);
                }
                *count += usize::from(bits.insert(slot));
            }
        }
        self.grow();
    }

    pub(super) fn remove(&mut self, slot: u32) {
        match self {
            Posting::Few(slots) => {
                if let Ok(at) = slots.binary_search(&slot) {
                    slots.remove(at);
                }
            }
            Posting::Many { bits, count } => {
                *count -= usize::from(bits.remove(slot));
                bits.trim();
                if *count < FEW / 2 || *count * 4 < bits.0.len() {
                    self.shrink();
                }
            }
        }
    }

    /// Turns a list into bits where these are no longer than a few times the list.
    fn grow(&mut self) {
        let Posting::Few(slots) = self else { return };
        let words = slots.last().map_or(0, |last| (last / 64) as usize + 1);
        if slots.len() >= FEW && slots.len() * 2 >= words {
            let (mut bits, count) = (Bits(vec![0; words]), slots.len());
            for &slot in slots.iter() {
                bits.insert(slot);
            }
            *self = Posting::Many { bits, count };
        }
    }

    fn shrink(&mut self) {
        if let Posting::Many { bits, .. } = self {
            *self = Posting::Few(bits.iter().collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn all(posting: &Posting) -> Vec<u32> {
        match posting {
            Posting::Few(slots) => slots.clone(),
            Posting::Many { bits, count } => {
                let slots: Vec<u32> = bits.iter().collect();
                assert_eq!(slots.len(), *count);
                slots
            }
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in_and_memory_for_no_more_than_that() {
        let (mut posting, mut model) = (Posting::default(), BTreeSet::new());
        let mut random = 1u64;
        for step in 0..40_000u32 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // Now few of many slots, now many of few.
            let slots = if step / 5_000 % 2 == 0 { 600 } else { 90_000 };
            let slot = (random >> 33) as u32 % slots;
            let goes = (random >> 20) % 100 < if step / 2_500 % 2 == 0 { 20 } else { 70 };
            match goes {
                true => {
                    // One that is there, so that the set shrinks.
                    let slot = model.range(slot..).next().copied().unwrap_or(slot);
                    posting.remove(slot);
                    model.remove(&slot);
                }
                false => {
                    posting.insert(slot);
                    model.insert(slot);
                }
            }
            let words = match &posting {
                Posting::Few(slots) => slots.len(),
                Posting::Many { bits, .. } => bits.0.len(),
            };
            assert!(words <= model.len() * 4 + 8, "{words} for {}", model.len());
            if step % 997 == 0 {
                assert!(all(&posting).iter().eq(&model));
            }
        }
        assert!(all(&posting).iter().eq(&model));
    }
}

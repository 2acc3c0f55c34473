//! A hash table from names to small values that is read at random among a hundred thousand.
//!
//! What costs there is memory that has to be fetched, each time a tenth of a microsecond or more. So a name stands where its
//! hash leads, with its value, in one line of the cache; only one that is too long for it lies elsewhere. Names come from
//! the configuration alone: no client can make them collide.

use foldhash::fast::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Bytes of a name that stand in its slot: what is left of a line.
const INLINE: usize = 43;
const EMPTY: u8 = u8::MAX;
const LONG: u8 = u8::MAX - 1;

/// Values by names, the same name once for each space that it is in.
#[derive(Debug)]
pub(super) struct Names<T> {
    hasher: RandomState,
    /// As many as a power of two, at most three quarters of them taken; or none.
    slots: Vec<Slot<T>>,
    taken: usize,
    long: Vec<Box<[u8]>>,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Slot<T> {
    hash: u32,
    space: u32,
    value: T,
    /// Of `text`, or that it is too long, or that there is none.
    len: u8,
    /// The name, or which of the long ones it is.
    text: [u8; INLINE],
}

impl<T> Default for Names<T> {
    fn default() -> Names<T> {
        Names { hasher: RandomState::default(), slots: Vec::new(), taken: 0, long: Vec::new() }
    }
}

impl<T: Copy + Default> Names<T> {
    /// Gives a name a value, instead of one that it has.
    pub(super) fn insert(&mut self, space: u32, name: &str, value: T) {
        if (self.taken + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let hash = self.hash(space, name);
        let mut at = self.first(hash);
        while self.slots[at].len != EMPTY {
            if self.is(&self.slots[at], hash, space, name) {
                self.slots[at].value = value;
                return;
            }
            at = self.next(at);
        }
        let mut slot = Slot { hash, space, value, len: LONG, text: [0; INLINE] };
        match u8::try_from(name.len()) {
            Ok(len) if name.len() <= INLINE => {
                slot.len = len;
                slot.text[..name.len()].copy_from_slice(name.as_bytes());
            }
            _ => {
                let number =
                    u32::try_from(self.long.len()).expect("fewer names than bytes of a configuration");
                slot.text[..4].copy_from_slice(&number.to_ne_bytes());
                self.long.push(name.as_bytes().into());
            }
        }
        self.slots[at] = slot;
        self.taken += 1;
    }

    /// The value of a name.
    pub(super) fn get(&self, space: u32, name: &str) -> Option<T> {
        if self.taken == 0 {
            return None;
        }
        let hash = self.hash(space, name);
        let mut at = self.first(hash);
        loop {
            let slot = &self.slots[at];
            if slot.len == EMPTY {
                return None;
            }
            if self.is(slot, hash, space, name) {
                return Some(slot.value);
            }
            at = self.next(at);
        }
    }

    fn is(&self, slot: &Slot<T>, hash: u32, space: u32, name: &str) -> bool {
        if (slot.hash, slot.space) != (hash, space) {
            return false;
        }
        let text = match slot.len {
            LONG => {
                let [a, b, c, d, ..] = slot.text;
                &self.long[u32::from_ne_bytes([a, b, c, d]) as usize]
            }
            len => &slot.text[..usize::from(len)],
        };
        text == name.as_bytes()
    }

    fn hash(&self, space: u32, name: &str) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(space);
        hasher.write(name.as_bytes());
        let hash = hasher.finish();
        // Both halves count where a table asks for few bits.
        (hash ^ (hash >> 32)) as u32
    }

    fn first(&self, hash: u32) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    fn grow(&mut self) {
        let none = Slot { hash: 0, space: 0, value: T::default(), len: EMPTY, text: [0; INLINE] };
        let slots = vec![none; (self.slots.len() * 2).max(4)];
        for slot in std::mem::replace(&mut self.slots, slots) {
            if slot.len != EMPTY {
                let mut at = self.first(slot.hash);
                while self.slots[at].len != EMPTY {
                    at = self.next(at);
                }
                self.slots[at] = slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_slot_is_a_line_of_the_cache() {
        assert_eq!(size_of::<Slot<[u32; 3]>>(), 64);
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(
            inserted in prop::collection::vec((0_u32..3, "[ab]{0,4}|[ab]{42,45}|x{1,300}", any::<u32>()), 0..200),
            asked in prop::collection::vec((0_u32..3, "[ab]{0,4}|[ab]{42,45}|x{1,300}"), 0..50),
        ) {
            let (mut names, mut map) = (Names::default(), HashMap::new());
            for (space, name, value) in &inserted {
                names.insert(*space, name, *value);
                map.insert((*space, name.as_str()), *value);
            }
            let all = inserted.iter().map(|(space, name, _)| (*space, name.as_str()));
            for (space, name) in all.chain(asked.iter().map(|(space, name)| (*space, name.as_str()))) {
                prop_assert_eq!(names.get(space, name), map.get(&(space, name)).copied());
            }
        }
    }
}

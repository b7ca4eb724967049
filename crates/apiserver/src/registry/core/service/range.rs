//! A range of numbers (addresses or ports) from which numbers are handed out once.
//!
//! As upstream's `allocator.AllocationMapWithOffset` (KEP-3070, KEP-3668): numbers asked for by name may come
//! from anywhere, numbers handed out on their own account come from the upper part first, so that the lower
//! `offset` numbers stay free for those who ask by name.

use std::collections::BTreeSet;

use apimachinery::clock::Entropy;

/// Why a number was not handed out. The text is part of upstream's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("range is full")]
    Full,
    #[error("already allocated")]
    Allocated,
    #[error("not in range")]
    OutOfRange,
}

/// Numbers `base .. base + size`. Taken numbers are kept in a set: ranges are wide and mostly empty.
#[derive(Debug)]
pub struct Range {
    base: u128,
    size: u128,
    /// How many numbers at the start are given out last.
    offset: u128,
    taken: BTreeSet<u128>,
}

impl Range {
    pub fn new(base: u128, size: u128, offset: u128) -> Self {
        Self { base, size, offset: offset.min(size), taken: BTreeSet::new() }
    }

    pub fn contains(&self, number: u128) -> bool {
        number >= self.base && number - self.base < self.size
    }

    pub fn take(&mut self, number: u128) -> Result<(), Unavailable> {
        if !self.contains(number) {
            return Err(Unavailable::OutOfRange);
        }
        if self.taken.insert(number) { Ok(()) } else { Err(Unavailable::Allocated) }
    }

    pub fn take_next(&mut self, entropy: &dyn Entropy) -> Result<u128, Unavailable> {
        let number = self.free(entropy, |number| self.taken.contains(&number)).ok_or(Unavailable::Full)?;
        self.taken.insert(number);
        Ok(number)
    }

    /// A number that is not taken: from a random place in the upper part on, then likewise in the lower.
    pub fn free(&self, entropy: &dyn Entropy, taken: impl Fn(u128) -> bool) -> Option<u128> {
        let middle = self.base + self.offset;
        let parts = [(middle, self.base + self.size), (self.base, middle)];
        parts.into_iter().filter(|(low, high)| low < high).find_map(|(low, high)| {
            let mut bytes = [0; 16];
            entropy.fill(&mut bytes);
            let start = low + u128::from_le_bytes(bytes) % (high - low);
            (start..high).chain(low..start).find(|number| !taken(*number))
        })
    }

    pub fn release(&mut self, number: u128) {
        self.taken.remove(&number);
    }
}

/// How many of `size` numbers are kept back: one in `step`, at least 16, at most `max`; none of a small range.
pub fn static_band(size: u128, step: u128, max: u128) -> u128 {
    const MIN: u128 = 16;
    if size <= MIN { 0 } else { (size / step).clamp(MIN, max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zero;
    impl Entropy for Zero {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    #[test]
    fn numbers_are_handed_out_once() {
        let mut range = Range::new(10, 4, 2);
        assert_eq!(range.take(9), Err(Unavailable::OutOfRange));
        assert_eq!(range.take(14), Err(Unavailable::OutOfRange));
        assert_eq!(range.take(13), Ok(()));
        assert_eq!(range.take(13), Err(Unavailable::Allocated));
        assert_eq!(range.take_next(&Zero), Ok(12));
        assert_eq!(range.take_next(&Zero), Ok(10));
        assert_eq!(range.take_next(&Zero), Ok(11));
        assert_eq!(range.take_next(&Zero), Err(Unavailable::Full));
        range.release(11);
        assert_eq!(range.take_next(&Zero), Ok(11));
    }

    #[test]
    fn bands() {
        for (size, step, max, expect) in
            [(14, 16, 256, 0), (254, 16, 256, 16), (1048574, 16, 256, 256), (2768, 32, 128, 86)]
        {
            assert_eq!(static_band(size, step, max), expect);
        }
    }
}

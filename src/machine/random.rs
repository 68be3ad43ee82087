//! Randomness that is handed in: a seed goes in once, a stream comes out. The same seed gives the same
//! stream.

pub use crate::wire::digest::mix;

/// `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014). For jitter
/// and epochs, not for secrets: its owner seeds it from the system's source of randomness.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A stream that depends on nothing but the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from 0 up to and with `max`.
    pub fn up_to(&mut self, max: u64) -> u64 {
        match max.checked_add(1) {
            // The bias of a remainder is below 2^-24 for anything under 2^40: nothing to jitter.
            Some(count) => self.next_u64() % count,
            None => self.next_u64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_published_stream() {
        let mut random = Random::new(1_234_567);
        // From the reference implementation's test vector.
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_range_is_kept() {
        let mut random = Random::new(7);
        assert!((0..1_000).all(|_| random.up_to(9) <= 9));
        assert_eq!(random.up_to(0), 0);
        let _ = random.up_to(u64::MAX);
    }
}

//! Random numbers that are the same for the same seed, on every machine and in every version.

/// SplitMix64: one word of state, any seed works.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `min` to `max`, both inclusive.
    pub fn between(&mut self, min: u16, max: u16) -> u16 {
        let span = u64::from(max - min) + 1;
        min + u16::try_from(self.next() % span).expect("less than the span")
    }

    /// From 0 on.
    pub fn below(&mut self, limit: usize) -> usize {
        let number = self.next() % u64::try_from(limit).expect("a length");
        usize::try_from(number).expect("less than the limit")
    }

    pub fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let last = u16::try_from(from.len() - 1).expect("a short list");
        from[usize::from(self.between(0, last))]
    }
}

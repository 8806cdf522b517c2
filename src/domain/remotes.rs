//! Counts how often each of very many addresses comes, such as those of a server's clients.
//!
//! A hash map of a million of them takes 18 to 44 MiB, half as much again while it grows, and a cache
//! miss for each value. Here values are set down as they come, in partitions small enough to be sorted
//! within the cache, and are only then counted.

use super::address::Address;

/// 4,000 values each, of a million.
const PARTITIONS: usize = 256;

/// How many values are set down in a partition before they are counted.
const PENDING: usize = 4_096;

/// How often each remote address comes. Apart by family: a server's clients may be millions, and an IPv4
/// entry takes 8 bytes instead of 24.
#[derive(Clone, Debug, Default)]
pub(super) struct RemoteCounts {
    v4: Partitions<u32>,
    v6: Partitions<Address>,
}

impl RemoteCounts {
    /// This many more of this address.
    #[inline]
    pub(super) fn add(&mut self, address: Address, count: u32) {
        match address.to_v4_bits() {
            Some(bits) => add(&mut self.v4, bits, count, u64::from),
            None => add(&mut self.v6, address, count, folded),
        }
    }

    /// Each address once, with its count.
    pub(super) fn into_counts(self) -> impl Iterator<Item = (Address, u64)> {
        let v4 = counts(self.v4);
        let v4 = v4.map(|(bits, count)| (Address::from_v4_bytes(bits.to_be_bytes()), count));
        v4.chain(counts(self.v6))
    }
}

/// Close to 2^64 divided by the golden ratio: multiplied by it, numbers in a row are spread evenly.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Eight bits to which all bits of a number contribute.
pub(super) fn top_bits(number: u64) -> usize {
    let [top, ..] = number.wrapping_mul(SPREAD).to_be_bytes();
    top.into()
}

/// Half of the bits, to which the others contribute.
fn folded(address: Address) -> u64 {
    let [high, low] = address.halves();
    low ^ high.rotate_left(32)
}

/// Values with their counts, in [`PARTITIONS`]; none before the first value.
///
/// **Invariant:** memory grows with different values, not with values: a partition has room for twice as
/// many as it had different ones when it was counted last, or for [`PENDING`]. However values are
/// chosen, at worst they are all sorted together.
type Partitions<K> = Vec<Vec<(K, u32)>>;

#[inline]
fn add<K: Copy + Ord>(all: &mut Partitions<K>, value: K, count: u32, number: impl Fn(K) -> u64) {
    if all.is_empty() {
        all.resize_with(PARTITIONS, Vec::new);
    }
    if let Some(partition) = all.get_mut(top_bits(number(value))) {
        if partition.len() == partition.capacity() && partition.len() >= PENDING {
            sum_up(partition);
            partition.reserve(partition.len());
        }
        partition.push((value, count));
    }
}

/// Each value once, with its count.
fn counts<K: Copy + Ord>(all: Partitions<K>) -> impl Iterator<Item = (K, u64)> {
    all.into_iter().flat_map(|mut partition| {
        sum_up(&mut partition);
        let counts = partition.into_iter();
        counts.map(|(value, count)| (value, count.into()))
    })
}

/// Leaves each value once, with the sum of its counts.
fn sum_up<K: Copy + Ord>(partition: &mut Vec<(K, u32)>) {
    partition.sort_unstable_by_key(|(value, _)| *value);
    partition.dedup_by(|(value, count), (kept, sum)| {
        let is_same = value == kept;
        *sum = sum.saturating_add(if is_same { *count } else { 0 });
        is_same
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn compare_with_a_model(values: &[(Address, u32)]) -> Result<(), TestCaseError> {
        let (mut counts, mut model) = (RemoteCounts::default(), BTreeMap::new());
        for (address, count) in values {
            counts.add(*address, *count);
            *model.entry(*address).or_insert(0_u64) += u64::from(*count);
        }
        let counted: Vec<_> = counts.into_counts().collect();
        prop_assert_eq!(counted.len(), model.len());
        prop_assert_eq!(counted.into_iter().collect::<BTreeMap<_, _>>(), model);
        Ok(())
    }

    fn v4(bits: u32) -> Address {
        Address::from_v4_bytes(bits.to_be_bytes())
    }

    fn v6(bits: u128) -> Address {
        Address::from_v6_bytes(bits.to_be_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn it_counts_as_a_map_does(
            few in prop::collection::vec((0_u32..40, 1_u32..9), 0..300),
            any in prop::collection::vec((any::<u128>(), 1_u32..9), 0..300),
        ) {
            let few = few.into_iter().map(|(bits, count)| (v4(bits), count));
            let any = any.into_iter().map(|(bits, count)| (v6(bits), count));
            compare_with_a_model(&few.chain(any).collect::<Vec<_>>())?;
        }

        #[test]
        fn it_counts_more_values_than_fit_uncounted(different in 1_u32..20_000, step in 1_u32..) {
            // 40,000 values of one partition or many, each several times.
            let values = (0..40_000).map(|number| (number % different).wrapping_mul(step));
            compare_with_a_model(&values.map(|bits| (v4(bits), 1)).collect::<Vec<_>>())?;
        }
    }

    #[test]
    fn uncounted_values_are_bounded() {
        let mut counts = RemoteCounts::default();
        for number in 0..1_000_000_u32 {
            counts.add(v4(number % 7), 1);
        }
        let kept: usize = counts.v4.iter().map(Vec::capacity).sum();
        assert!(kept <= 7 * PENDING, "{kept}");
    }

    #[test]
    fn neighbours_go_to_different_partitions() {
        let mut sizes = [0_u32; PARTITIONS];
        for number in 0..1_000_000_u32 {
            let v6 = v6((0x2001_0db8_u128 << 96) + (u128::from(number) << 40));
            for number in [number.into(), folded(v6)] {
                if let Some(size) = sizes.get_mut(top_bits(number)) {
                    *size += 1;
                }
            }
        }
        assert!(
            sizes.iter().all(|size| (6_000..10_000).contains(size)),
            "{sizes:?}"
        );
    }
}

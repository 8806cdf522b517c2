//! Counts how often each of very many values comes, such as the addresses of a server's clients.
//!
//! A hash map of a million of them takes 18 to 44 MiB, half as much again while it grows, and a cache
//! miss for each value. Here values are set down as they come, in partitions small enough to be sorted
//! within the cache, and are only then counted. Knows nothing of what is counted.

/// 4,000 values each, of a million.
const PARTITIONS: usize = 256;

/// How many values are set down in a partition before they are counted: what is kept uncounted is no
/// more than this or, where that is more, as many as there are different ones.
const PENDING: usize = 4_096;

/// A value that can be counted: a number.
pub(super) trait Countable: Copy + Ord {
    /// Some eight bits of it in which values that are near each other differ.
    fn partition(self) -> usize;
}

/// Close to 2^64 divided by the golden ratio: multiplied by it, numbers in a row are spread evenly.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Eight bits to which all bits of a number contribute.
#[inline]
pub(super) fn top_bits(number: u64) -> usize {
    let [top, ..] = number.wrapping_mul(SPREAD).to_be_bytes();
    top.into()
}

impl Countable for u32 {
    #[inline]
    fn partition(self) -> usize {
        top_bits(self.into())
    }
}

impl Countable for u128 {
    #[inline]
    fn partition(self) -> usize {
        let low = u64::try_from(self & u128::from(u64::MAX)).unwrap_or_default();
        let high = u64::try_from(self >> 64).unwrap_or_default();
        top_bits(low ^ high.rotate_left(32))
    }
}

/// Values with their counts.
///
/// **Invariant:** memory grows with different values (`size_of::<K>()` and 4 bytes each, and as
/// much again while they are set down), not with values. However values are chosen, at worst
/// they are all sorted together.
#[derive(Clone, Debug)]
pub(super) struct Counts<K> {
    /// None before the first value.
    partitions: Vec<Partition<K>>,
}

#[derive(Clone, Debug)]
struct Partition<K> {
    /// As they came.
    pending: Vec<K>,
    /// Each once, in order; and how often, in the same places.
    values: Vec<K>,
    counts: Vec<u32>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self {
            partitions: Vec::new(),
        }
    }
}

impl<K: Countable> Counts<K> {
    /// One more of this value.
    #[inline]
    pub(super) fn add(&mut self, value: K) {
        if self.partitions.is_empty() {
            self.partitions.resize_with(PARTITIONS, Partition::default);
        }
        if let Some(partition) = self.partitions.get_mut(value.partition()) {
            partition.pending.push(value);
            if partition.pending.len() >= PENDING.max(partition.values.len()) {
                partition.count();
            }
        }
    }

    /// Counts what is set down. To be called before reading.
    pub(super) fn settle(&mut self) {
        for partition in &mut self.partitions {
            partition.count();
            partition.pending = Vec::new();
        }
    }

    /// How often a value came, as of [`Counts::settle`].
    pub(super) fn get(&self, value: K) -> u64 {
        self.partitions
            .get(value.partition())
            .and_then(|partition| {
                let at = partition.values.binary_search(&value).ok()?;
                partition.counts.get(at)
            })
            .copied()
            .map_or(0, u64::from)
    }

    /// Each value once, with its count, as of [`Counts::settle`].
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, u64)> {
        self.partitions.iter().flat_map(|partition| {
            let counts = partition.counts.iter().map(|count| u64::from(*count));
            partition.values.iter().copied().zip(counts)
        })
    }
}

impl<K> Default for Partition<K> {
    fn default() -> Self {
        Self {
            pending: Vec::new(),
            values: Vec::new(),
            counts: Vec::new(),
        }
    }
}

impl<K: Copy + Ord> Partition<K> {
    /// Merges what is set down into what is counted.
    fn count(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        self.pending.sort_unstable();
        let runs = || self.pending.chunk_by(|one, next| one == next);
        let most = self.values.len() + runs().count();
        let (mut values, mut counts) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let mut counted = self.values.iter().zip(&self.counts).peekable();
        for run in runs() {
            let Some(value) = run.first() else { continue };
            while let Some((smaller, count)) = counted.next_if(|(one, _)| *one < value) {
                values.push(*smaller);
                counts.push(*count);
            }
            let before = counted.next_if(|(one, _)| *one == value);
            let more = u32::try_from(run.len()).unwrap_or(u32::MAX);
            values.push(*value);
            counts.push(before.map_or(0, |(_, count)| *count).saturating_add(more));
        }
        for (value, count) in counted {
            values.push(*value);
            counts.push(*count);
        }
        self.values = values;
        self.counts = counts;
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn compare_with_a_model<K: Countable + std::fmt::Debug>(
        values: &[K],
        settles: usize,
        absent: K,
    ) -> Result<(), TestCaseError> {
        let (mut counts, mut model) = (Counts::default(), BTreeMap::new());
        for part in values.chunks((values.len() / settles).max(1)) {
            for value in part {
                counts.add(*value);
                *model.entry(*value).or_insert(0_u64) += 1;
            }
            counts.settle();
        }
        prop_assert_eq!(counts.iter().collect::<BTreeMap<_, _>>(), model.clone());
        prop_assert_eq!(counts.iter().count(), model.len());
        for value in values.iter().chain([&absent]) {
            prop_assert_eq!(counts.get(*value), model.get(value).copied().unwrap_or(0));
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn it_counts_as_a_map_does(
            few in prop::collection::vec(0_u32..40, 0..300),
            any in prop::collection::vec(any::<u128>(), 0..300),
            absent: u32,
            settles in 1_usize..4,
        ) {
            compare_with_a_model(&few, settles, absent)?;
            compare_with_a_model(&any, settles, absent.into())?;
        }

        #[test]
        fn it_counts_more_than_fit_uncounted(different in 1_u32..20_000, step in 1_u32..) {
            // 40,000 values of one partition or many, each several times.
            let values: Vec<u32> =
                (0..40_000).map(|number| (number % different).wrapping_mul(step)).collect();
            compare_with_a_model(&values, 1, 3)?;
        }
    }

    #[test]
    fn what_is_kept_uncounted_has_a_bound() {
        let mut counts = Counts::default();
        for number in 0..1_000_000_u32 {
            counts.add(number % 7);
        }
        let kept: usize = counts
            .partitions
            .iter()
            .map(|one| one.pending.capacity())
            .sum();
        assert!(kept <= 7 * PENDING, "{kept}");
    }

    #[test]
    fn neighbours_go_to_different_partitions() {
        let mut sizes = [0_u32; PARTITIONS];
        for number in 0..1_000_000_u32 {
            let v6 = (0x2001_0db8_u128 << 96) + (u128::from(number) << 40);
            for partition in [number.partition(), v6.partition()] {
                if let Some(size) = sizes.get_mut(partition) {
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

//! The N greatest of many, with an exact remainder.
//!
//! Knows nothing of what is counted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::snapshot::Breakdown;

/// Keeps the `n` greatest by `rank`, greatest first, in memory for `n`, whatever comes in.
///
/// Ties go to the smaller value, so that a set in which nothing changed stays the same.
pub(super) struct Top<K, R> {
    n: usize,
    /// The worst of those kept is at the top of the heap.
    kept: BinaryHeap<(Reverse<R>, K)>,
}

impl<K: Ord, R: Ord> Top<K, R> {
    pub(super) fn new(n: usize) -> Self {
        Self {
            n,
            kept: BinaryHeap::new(),
        }
    }

    pub(super) fn add(&mut self, key: K, rank: R) {
        let entry = (Reverse(rank), key);
        if self.kept.len() < self.n {
            self.kept.push(entry);
        } else if let Some(mut worst) = self.kept.peek_mut()
            && entry < *worst
        {
            *worst = entry;
        }
    }

    /// Greatest first.
    pub(super) fn into_sorted(self) -> impl Iterator<Item = (K, R)> {
        let sorted = self.kept.into_sorted_vec().into_iter();
        sorted.map(|(Reverse(rank), key)| (key, rank))
    }

    pub(super) fn into_sorted_keys(self) -> impl Iterator<Item = K> {
        self.into_sorted().map(|(key, _)| key)
    }
}

/// The `n` most frequent values, then the pinned ones that are not among them (at 0 where nothing
/// has them), and the sum of all others. Each value must come once.
pub(super) fn breakdown<K: Copy + Ord>(
    counts: impl Iterator<Item = (K, u64)>,
    n: usize,
    pinned: &[K],
) -> Breakdown<K> {
    let mut pins: BTreeMap<K, u64> = pinned.iter().map(|key| (*key, 0)).collect();
    let mut top = Top::new(n);
    let mut total = 0;
    for (key, count) in counts {
        total += count;
        if let Some(pin) = pins.get_mut(&key) {
            *pin = count;
        }
        top.add(key, count);
    }
    let mut exported: Vec<(K, u64)> = top.into_sorted().collect();
    pins.retain(|key, count| !exported.contains(&(*key, *count)));
    exported.extend(pins);
    let exported_sum: u64 = exported.iter().map(|(_, count)| count).sum();
    Breakdown {
        exported,
        other: total - exported_sum,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ties_go_to_the_smaller_value() {
        let counts = [(9, 5), (3, 5), (7, 5), (1, 4)];
        let result = breakdown(counts.into_iter(), 2, &[]);
        assert_eq!(
            result,
            Breakdown {
                exported: vec![(3, 5), (7, 5)],
                other: 9
            }
        );
    }

    #[test]
    fn a_pinned_value_is_exported_at_zero_and_outside_the_top() {
        let counts = [(80, 9), (443, 1), (22, 2)];
        let result = breakdown(counts.into_iter(), 1, &[443, 8080, 80, 443]);
        assert_eq!(
            result,
            Breakdown {
                exported: vec![(80, 9), (443, 1), (8080, 0)],
                other: 2
            }
        );
    }

    #[test]
    fn nothing_counted_is_nothing_exported() {
        assert_eq!(
            breakdown(std::iter::empty::<(u16, u64)>(), 20, &[]),
            Breakdown::default()
        );
    }

    proptest! {
        #[test]
        fn the_exported_are_the_greatest_and_the_remainder_is_exact(
            counts: BTreeMap<u16, u32>,
            n in 0_usize..10,
            pinned: Vec<u16>,
        ) {
            let counts: Vec<_> = counts.into_iter().map(|(k, c)| (k, u64::from(c))).collect();
            let result = breakdown(counts.iter().copied(), n, &pinned);
            let mut sorted = counts.clone();
            sorted.sort_by_key(|(key, count)| (std::cmp::Reverse(*count), *key));
            sorted.truncate(n);
            let top_len = sorted.len();
            prop_assert_eq!(result.exported.iter().take(top_len).collect::<Vec<_>>(),
                sorted.iter().collect::<Vec<_>>());
            prop_assert_eq!(result.total(), counts.iter().map(|(_, count)| count).sum::<u64>());
            for pin in &pinned {
                prop_assert_eq!(result.exported.iter().filter(|(key, _)| key == pin).count(), 1);
            }
        }

        #[test]
        fn order_does_not_matter(mut counts: Vec<(u16, u8)>, n in 0_usize..5) {
            counts.sort_unstable();
            counts.dedup_by_key(|(key, _)| *key);
            let forth = counts.iter().map(|(k, c)| (*k, u64::from(*c)));
            let back = counts.iter().rev().map(|(k, c)| (*k, u64::from(*c)));
            prop_assert_eq!(breakdown(forth, n, &[7]), breakdown(back, n, &[7]));
        }
    }
}

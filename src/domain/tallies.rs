//! The destinations' tallies, found by destination: which each outgoing socket needs.

use indexmap::IndexMap;

use super::address::Address;
use super::destinations::DestinationTally;
use super::fast_map::RandomState;
use super::remotes::top_bits;
use super::snapshot::Destination;

/// Where a destination stands is remembered for as many as this, by a hash of one multiplication:
/// most hosts have fewer that matter. 2 KiB.
const REMEMBERED: usize = 256;

/// Each destination with its tally, in the order in which they came.
#[derive(Debug)]
pub(super) struct DestinationTallies {
    pub(super) all: IndexMap<Destination, DestinationTally, RandomState>,
    /// Where those were that were asked for last. Wrong places do no harm: the destination
    /// that stands there is compared.
    remembered: Box<[usize; REMEMBERED]>,
}

impl Default for DestinationTallies {
    fn default() -> Self {
        Self {
            all: IndexMap::default(),
            remembered: Box::new([0; REMEMBERED]),
        }
    }
}

impl DestinationTallies {
    /// The tally of a destination, made if it has none. Always there.
    #[inline]
    pub(super) fn entry(
        &mut self,
        destination: Destination,
        make: impl FnOnce() -> DestinationTally,
    ) -> Option<&mut DestinationTally> {
        let remembered = self.remembered.get_mut(slot_of(&destination))?;
        let there = self.all.get_index(*remembered);
        if there.is_none_or(|(known, _)| *known != destination) {
            let entry = self.all.entry(destination);
            *remembered = entry.index();
            entry.or_insert_with(make);
        }
        self.all.get_index_mut(*remembered).map(|(_, tally)| tally)
    }
}

/// Where the place of a destination is remembered.
#[inline]
fn slot_of(destination: &Destination) -> usize {
    let fold = |address: Address| {
        let [high, low] = address.halves();
        high ^ low
    };
    let all = fold(destination.dst_addr)
        ^ fold(destination.src_addr).rotate_left(24)
        ^ u64::from(destination.dst_port).rotate_left(48);
    top_bits(all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn destination(number: u16, is_v6: bool) -> Destination {
        let [high, low] = number.to_be_bytes();
        let address = |first| {
            if is_v6 {
                Address::from_v6_bytes([first, high, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, low])
            } else {
                Address::from_v4_bytes([first, 0, high, low])
            }
        };
        Destination {
            src_addr: address(10),
            dst_addr: address(11),
            dst_port: number % 3,
        }
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_map(numbers in prop::collection::vec((0_u16..600, any::<bool>()), 0..2_000)) {
            let (mut tallies, mut model) = (DestinationTallies::default(), BTreeMap::new());
            for (number, is_v6) in numbers {
                let destination = destination(number, is_v6);
                if let Some(tally) = tallies.entry(destination, DestinationTally::default) {
                    tally.established += 1;
                }
                *model.entry(destination).or_insert(0) += 1;
            }
            prop_assert_eq!(tallies.all.len(), model.len());
            let tallied: BTreeMap<_, _> = tallies
                .all
                .iter()
                .map(|(destination, tally)| (*destination, tally.established))
                .collect();
            prop_assert_eq!(&tallied, &model);
            for (destination, count) in &model {
                let found = tallies.all.get(destination).map(|tally| tally.established);
                prop_assert_eq!(found, Some(*count));
            }
            prop_assert!(tallies.all.get(&destination(601, false)).is_none());
        }
    }
}

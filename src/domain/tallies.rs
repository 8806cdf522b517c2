//! The destinations' tallies, found by destination: the look-up that each outgoing socket needs.

use std::fmt;
use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::destinations::DestinationTally;
use super::fast_map::RandomState;
use super::snapshot::Destination;

/// Where a destination stands is remembered for as many as this, by a hash of one multiplication:
/// most hosts have fewer that matter. 2 KiB.
const REMEMBERED: usize = 256;

/// Each destination with its tally, in the order in which they came.
pub(super) struct DestinationTallies {
    entries: Vec<(Destination, DestinationTally)>,
    /// Where each stands in `entries`.
    places: HashTable<usize>,
    hasher: RandomState,
    /// Where those were that were asked for last. Wrong places are no harm: the destination
    /// that stands there is compared.
    remembered: Box<[usize; REMEMBERED]>,
}

impl Default for DestinationTallies {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            places: HashTable::new(),
            hasher: RandomState::default(),
            remembered: Box::new([0; REMEMBERED]),
        }
    }
}

impl fmt::Debug for DestinationTallies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
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
        let slot = slot_of(&destination);
        let remembered = self.remembered.get(slot).copied().unwrap_or(0);
        let place = match self.entries.get(remembered) {
            Some((held, _)) if are_same(held, &destination) => remembered,
            _ => {
                let place = self.find_or_insert(destination, make);
                if let Some(remembered) = self.remembered.get_mut(slot) {
                    *remembered = place;
                }
                place
            }
        };
        self.entries.get_mut(place).map(|(_, tally)| tally)
    }

    fn find_or_insert(
        &mut self,
        destination: Destination,
        make: impl FnOnce() -> DestinationTally,
    ) -> usize {
        let hash = self.hasher.hash_one(destination);
        if let Some(place) = self.find(hash, &destination) {
            return place;
        }
        let place = self.entries.len();
        self.entries.push((destination, make()));
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.places.insert_unique(hash, place, |place| {
            entries
                .get(*place)
                .map_or(0, |(held, _)| hasher.hash_one(held))
        });
        place
    }

    fn find(&self, hash: u64, destination: &Destination) -> Option<usize> {
        let is_it = |place: &usize| {
            self.entries
                .get(*place)
                .is_some_and(|(held, _)| are_same(held, destination))
        };
        self.places.find(hash, is_it).copied()
    }

    pub(super) fn get(&self, destination: &Destination) -> Option<&DestinationTally> {
        let place = self.find(self.hasher.hash_one(destination), destination)?;
        self.entries.get(place).map(|(_, tally)| tally)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Destination, &DestinationTally)> {
        self.entries
            .iter()
            .map(|(destination, tally)| (destination, tally))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &DestinationTally> {
        self.entries.iter().map(|(_, tally)| tally)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// As `==`, which the compiler makes a call of memcmp().
#[inline]
fn are_same(one: &Destination, other: &Destination) -> bool {
    let src = one.src_addr.to_bits() ^ other.src_addr.to_bits();
    let dst = one.dst_addr.to_bits() ^ other.dst_addr.to_bits();
    src | dst | u128::from(one.dst_port ^ other.dst_port) == 0
}

/// Where the place of a destination is remembered.
#[inline]
fn slot_of(destination: &Destination) -> usize {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |bits: u128| {
        let [low, high] = [bits, bits >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)));
        low.unwrap_or_default() ^ high.unwrap_or_default()
    };
    let all = fold(destination.dst_addr.to_bits())
        ^ fold(destination.src_addr.to_bits()).rotate_left(24)
        ^ u64::from(destination.dst_port).rotate_left(48);
    let [top, ..] = all.wrapping_mul(SPREAD).to_be_bytes();
    top.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::address::Address;

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
                if let Some(tally) = tallies.entry(destination, || DestinationTally::new(0)) {
                    tally.in_use.established += 1;
                }
                *model.entry(destination).or_insert(0) += 1;
            }
            prop_assert_eq!(tallies.len(), model.len());
            let told: BTreeMap<_, _> = tallies
                .iter()
                .map(|(destination, tally)| (*destination, tally.in_use.established))
                .collect();
            prop_assert_eq!(&told, &model);
            for (destination, count) in &model {
                let held = tallies.get(destination).map(|tally| tally.in_use.established);
                prop_assert_eq!(held, Some(*count));
            }
            prop_assert!(tallies.get(&destination(601, false)).is_none());
        }
    }
}

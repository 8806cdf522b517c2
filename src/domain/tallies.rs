//! The destinations' tallies, found by destination: which each outgoing socket needs.

use std::fmt;
use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::address::Address;
use super::destinations::DestinationTally;
use super::fast_map::RandomState;
use super::remotes::top_bits;
use super::snapshot::Destination;

/// Where a destination stands is remembered for as many as this, by a hash of one multiplication:
/// most hosts have fewer that matter. 1 KiB.
const REMEMBERED: usize = 256;

/// Each destination with its tally, in the order in which they came.
pub(super) struct DestinationTallies {
    entries: Vec<(Destination, DestinationTally)>,
    /// Where each stands in `entries`.
    places: HashTable<u32>,
    hasher: RandomState,
    /// Where those were that were asked for last. Wrong places do no harm: the destination
    /// that stands there is compared.
    remembered: Box<[u32; REMEMBERED]>,
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
    /// The tally of a destination, made if it has none. Always there, up to 2^32 destinations.
    #[inline]
    pub(super) fn entry(
        &mut self,
        destination: Destination,
        make: impl FnOnce() -> DestinationTally,
    ) -> Option<&mut DestinationTally> {
        let slot = slot_of(&destination);
        let remembered = self.remembered.get(slot).copied().unwrap_or(0);
        let place = match self.at(remembered) {
            Some((known, _)) if are_same(known, &destination) => remembered,
            _ => {
                let place = self.find_or_insert(destination, make)?;
                if let Some(remembered) = self.remembered.get_mut(slot) {
                    *remembered = place;
                }
                place
            }
        };
        let entry = self.entries.get_mut(usize::try_from(place).ok()?);
        entry.map(|(_, tally)| tally)
    }

    #[inline]
    fn at(&self, place: u32) -> Option<&(Destination, DestinationTally)> {
        self.entries.get(usize::try_from(place).ok()?)
    }

    fn find_or_insert(
        &mut self,
        destination: Destination,
        make: impl FnOnce() -> DestinationTally,
    ) -> Option<u32> {
        let hash = self.hasher.hash_one(destination);
        if let Some(place) = self.find(hash, &destination) {
            return Some(place);
        }
        let place = u32::try_from(self.entries.len()).ok()?;
        self.entries.push((destination, make()));
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.places.insert_unique(hash, place, |place| {
            let entry = usize::try_from(*place)
                .ok()
                .and_then(|place| entries.get(place));
            entry.map_or(0, |(known, _)| hasher.hash_one(known))
        });
        Some(place)
    }

    fn find(&self, hash: u64, destination: &Destination) -> Option<u32> {
        let is_it = |place: &u32| {
            let entry = self.at(*place);
            entry.is_some_and(|(known, _)| are_same(known, destination))
        };
        self.places.find(hash, is_it).copied()
    }

    pub(super) fn get(&self, destination: &Destination) -> Option<&DestinationTally> {
        let place = self.find(self.hasher.hash_one(destination), destination)?;
        self.at(place).map(|(_, tally)| tally)
    }

    pub(super) fn get_mut(&mut self, destination: &Destination) -> Option<&mut DestinationTally> {
        let place = self.find(self.hasher.hash_one(destination), destination)?;
        let entry = self.entries.get_mut(usize::try_from(place).ok()?);
        entry.map(|(_, tally)| tally)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Destination, &DestinationTally)> {
        self.entries
            .iter()
            .map(|(destination, tally)| (destination, tally))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// As `==`, which the compiler makes a call of memcmp().
#[inline]
fn are_same(one: &Destination, other: &Destination) -> bool {
    let differences = |one: Address, other: Address| {
        let ([high, low], [other_high, other_low]) = (one.halves(), other.halves());
        (high ^ other_high) | (low ^ other_low)
    };
    differences(one.src_addr, other.src_addr)
        | differences(one.dst_addr, other.dst_addr)
        | u64::from(one.dst_port ^ other.dst_port)
        == 0
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
            prop_assert_eq!(tallies.len(), model.len());
            let tallied: BTreeMap<_, _> = tallies
                .iter()
                .map(|(destination, tally)| (*destination, tally.established))
                .collect();
            prop_assert_eq!(&tallied, &model);
            for (destination, count) in &model {
                let found = tallies.get(destination).map(|tally| tally.established);
                prop_assert_eq!(found, Some(*count));
            }
            prop_assert!(tallies.get(&destination(601, false)).is_none());
        }
    }
}

//! A set of ports that is small while it has few.
//!
//! A host may have a million destinations with one socket each, or fifty with twenty thousand each;
//! the set takes no memory of its own for the former and 8 KiB for each of the latter.

use super::ports::PortSet;

/// How many ports fit next to the tag and in a pointer's place without an allocation.
const INLINE: usize = 3;
/// From here on a bitmap is cheaper to add to, and not much larger, than a list.
const LISTED: usize = 512;

/// A set of ports that only grows.
#[derive(Clone, Debug)]
pub(super) enum SmallPortSet {
    /// Up to [`INLINE`] ports in order of arrival, perhaps twice.
    Inline { len: u8, ports: [u16; INLINE] },
    /// Up to [`LISTED`] ports in order of arrival, perhaps twice: a dump is not atomic.
    #[expect(clippy::box_collection, reason = "half the size of the whole set")]
    Listed(Box<Vec<u16>>),
    /// Any number.
    Bitmap(PortSet),
}

impl Default for SmallPortSet {
    fn default() -> Self {
        Self::Inline {
            len: 0,
            ports: [0; INLINE],
        }
    }
}

impl SmallPortSet {
    #[inline]
    pub(super) fn insert(&mut self, port: u16) {
        match self {
            Self::Bitmap(set) => set.insert(port),
            Self::Inline { len, ports } if usize::from(*len) < INLINE => {
                if let Some(slot) = ports.get_mut(usize::from(*len)) {
                    *slot = port;
                    *len += 1;
                }
            }
            Self::Listed(list) if list.len() < LISTED => list.push(port),
            _ => self.grow(port),
        }
    }

    #[cold]
    fn grow(&mut self, port: u16) {
        let listed = std::mem::take(self);
        *self = match listed {
            Self::Inline { ports, .. } => {
                let mut list = Vec::with_capacity(4 * INLINE);
                list.extend_from_slice(&ports);
                Self::Listed(Box::new(list))
            }
            Self::Listed(list) => Self::Bitmap(list.into_iter().collect()),
            bitmap @ Self::Bitmap(_) => bitmap,
        };
        self.insert(port);
    }

    /// How many ports of it are in `mask` as well.
    pub(super) fn len_within(&self, mask: &PortSet) -> u32 {
        match self {
            Self::Bitmap(set) => set.len_within(mask),
            few => {
                let mut ports = [0; LISTED];
                let within = few.listed().iter().filter(|port| mask.contains(**port));
                let copied = ports.iter_mut().zip(within).map(|(to, from)| *to = *from);
                let count = copied.count();
                let ports = ports.get_mut(..count).unwrap_or_default();
                ports.sort_unstable();
                let different = ports.chunk_by(|one, next| one == next).count();
                u32::try_from(different).unwrap_or(u32::MAX)
            }
        }
    }

    /// Adds every port of another set.
    pub(super) fn union_with(&mut self, other: &Self) {
        if let Self::Bitmap(ports) = other {
            let mut set = ports.clone();
            self.add_to(&mut set);
            *self = Self::Bitmap(set);
        }
        for port in other.listed() {
            self.insert(*port);
        }
    }

    /// Adds its ports to a bitmap.
    pub(super) fn add_to(&self, target: &mut PortSet) {
        if let Self::Bitmap(set) = self {
            target.union_with(set);
        }
        for port in self.listed() {
            target.insert(*port);
        }
    }

    /// Its ports, unless it is a bitmap.
    fn listed(&self) -> &[u16] {
        match self {
            Self::Inline { len, ports } => ports.get(..usize::from(*len)).unwrap_or(ports),
            Self::Listed(list) => list,
            Self::Bitmap(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_at_every_size(
            ports in prop_oneof![
                prop::collection::vec(0_u16..20, 0..30),
                prop::collection::vec(any::<u16>(), 0..2 * LISTED),
            ],
            more in prop_oneof![
                prop::collection::vec(0_u16..20, 0..30),
                prop::collection::vec(any::<u16>(), 0..2 * LISTED),
            ],
        ) {
            let all: PortSet = (0..=u16::MAX).collect();
            let mut set = SmallPortSet::default();
            for port in &ports {
                set.insert(*port);
            }
            let mut joined = SmallPortSet::default();
            for port in &more {
                joined.insert(*port);
            }
            joined.union_with(&set);
            let both: BTreeSet<u16> = ports.iter().chain(&more).copied().collect();
            prop_assert_eq!(usize::try_from(joined.len_within(&all)), Ok(both.len()));
            let model: BTreeSet<u16> = ports.into_iter().collect();
            prop_assert_eq!(usize::try_from(set.len_within(&all)), Ok(model.len()));
            let few: PortSet = more.iter().copied().collect();
            let within = model.iter().filter(|port| few.contains(**port)).count();
            prop_assert_eq!(usize::try_from(set.len_within(&few)), Ok(within));
            let mut target = PortSet::new();
            set.add_to(&mut target);
            prop_assert!(target.iter().eq(model));
        }
    }

    #[test]
    fn a_set_of_few_is_small() {
        assert_eq!(size_of::<SmallPortSet>(), 16);
    }
}

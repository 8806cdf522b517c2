//! Sets of TCP ports and the ephemeral port range.

use std::fmt;

const WORD_BITS: u16 = 64;
const WORDS: usize = 1024;

type Words = [u64; WORDS];

/// The words of a set that never had a port.
static NO_PORT: Words = [0; WORDS];

/// A set of ports: one bit each, 8 KiB once it had any. Most sets of a host with hundreds of network
/// namespaces never do.
#[derive(Clone, Default)]
pub struct PortSet {
    words: Option<Box<Words>>,
}

impl PartialEq for PortSet {
    fn eq(&self, other: &Self) -> bool {
        self.bits() == other.bits()
    }
}

impl Eq for PortSet {}

impl PortSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its bits, 64 ports a word, lowest first.
    pub(super) fn bits(&self) -> &Words {
        self.words.as_deref().unwrap_or(&NO_PORT)
    }

    fn bits_mut(&mut self) -> &mut Words {
        self.words.get_or_insert_with(|| Box::new(NO_PORT))
    }

    /// Every port of a range, both ends inclusive.
    pub(crate) fn of_range(range: PortRange) -> Self {
        let mut set = Self::new();
        // A mask of the lowest bits.
        let low = |ports: u32| 1_u64.checked_shl(ports).map_or(u64::MAX, |bit| bit - 1);
        let (min, end) = (u32::from(range.min), u32::from(range.max) + 1);
        for (word, first) in set.bits_mut().iter_mut().zip((0..).step_by(64)) {
            *word = low(end.saturating_sub(first)) & !low(min.saturating_sub(first));
        }
        set
    }

    /// Adds a port.
    pub fn insert(&mut self, port: u16) {
        if let Some(word) = self.bits_mut().get_mut(usize::from(port / WORD_BITS)) {
            *word |= 1 << (port % WORD_BITS);
        }
    }

    /// Whether the port is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.bits()
            .get(usize::from(port / WORD_BITS))
            .is_some_and(|word| word & (1 << (port % WORD_BITS)) != 0)
    }

    /// Adds every port of another set.
    pub(crate) fn union_with(&mut self, other: &Self) {
        if other.words.is_some() {
            self.combine(other, |word, more| word | more);
        }
    }

    /// Takes out every port that another set does not have.
    pub(crate) fn intersect_with(&mut self, other: &Self) {
        if self.words.is_some() {
            self.combine(other, |word, mask| word & mask);
        }
    }

    /// Takes out every port that another set has.
    pub(crate) fn subtract(&mut self, other: &Self) {
        if self.words.is_some() && other.words.is_some() {
            self.combine(other, |word, mask| word & !mask);
        }
    }

    fn combine(&mut self, other: &Self, operation: impl Fn(u64, u64) -> u64) {
        for (word, other) in self.bits_mut().iter_mut().zip(other.bits()) {
            *word = operation(*word, *other);
        }
    }

    /// How many ports it has, 0 to 65,536.
    pub fn len(&self) -> u32 {
        self.len_within(self)
    }

    /// How many of its ports another set has too.
    pub(crate) fn len_within(&self, other: &Self) -> u32 {
        let both = self.bits().iter().zip(other.bits());
        both.map(|(word, mask)| (word & mask).count_ones()).sum()
    }

    /// Whether it has no port.
    pub fn is_empty(&self) -> bool {
        self.bits().iter().all(|word| *word == 0)
    }

    /// Its ports in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let ports = self.words.iter().flat_map(|_| 0..=u16::MAX);
        ports.filter(|port| self.contains(*port))
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        let mut set = Self::new();
        ports.into_iter().for_each(|port| set.insert(port));
        set
    }
}

/// As the kernel writes and reads a set of ports: `8080,9000-9100`. Nothing for the empty set.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ports = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = ports.next() {
            let mut last = first;
            while let Some(next) = ports.next_if(|next| last.checked_add(1) == Some(*next)) {
                last = next;
            }
            write!(f, "{separator}{first}")?;
            if last != first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The ephemeral port range, `net.ipv4.ip_local_port_range`, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    min: u16,
    max: u16,
}

impl PortRange {
    /// From both ends; nothing where `min` is 0 or above `max`, which the kernel refuses too.
    pub fn new(min: u16, max: u16) -> Option<Self> {
        (min != 0 && min <= max).then_some(Self { min, max })
    }

    /// The first port.
    pub const fn min(self) -> u16 {
        self.min
    }

    /// The last port.
    pub const fn max(self) -> u16 {
        self.max
    }

    /// How many ports it has, at least 1.
    pub fn ports(self) -> u32 {
        u32::from(self.max) - u32::from(self.min) + 1
    }

    /// Whether a port lies inside.
    pub const fn contains(self, port: u16) -> bool {
        self.min <= port && port <= self.max
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_counts_both_ends_and_refuses_what_the_kernel_refuses() {
        assert_eq!(PortRange::new(32_768, 60_999).unwrap().ports(), 28_232);
        assert_eq!(PortRange::new(1, 65_535).unwrap().ports(), 65_535);
        assert_eq!(PortRange::new(5, 5).unwrap().ports(), 1);
        assert_eq!(PortRange::new(6, 5), None);
        assert_eq!(PortRange::new(0, 5), None);
    }

    proptest! {
        #[test]
        fn the_set_of_a_range_is_its_ports(one in 1_u16.., other in prop_oneof![1_u16..300, 65_000_u16..]) {
            let range = PortRange::new(one.min(other), one.max(other)).unwrap();
            prop_assert!(PortSet::of_range(range).iter().eq(range.min()..=range.max()));
        }

        #[test]
        fn a_port_set_behaves_as_a_set(
            ports in prop::collection::vec(any::<u16>(), 0..200),
            removed in prop::collection::vec(any::<u16>(), 0..20),
        ) {
            let mut model: BTreeSet<u16> = ports.iter().copied().collect();
            let mut set: PortSet = ports.iter().copied().collect();
            for port in removed.iter().chain(ports.first()) {
                model.remove(port);
                set.subtract(&PortSet::from_iter([*port]));
            }
            prop_assert_eq!(usize::try_from(set.len()), Ok(model.len()));
            prop_assert_eq!(set.is_empty(), model.is_empty());
            prop_assert!(set.iter().eq(model.iter().copied()));
            let other: PortSet = removed.iter().copied().chain(0..9_000).collect();
            let (mut both, mut less) = (set.clone(), set);
            both.intersect_with(&other);
            less.subtract(&other);
            prop_assert!(both.iter().eq(model.iter().copied().filter(|p| other.contains(*p))));
            prop_assert!(less.iter().eq(model.iter().copied().filter(|p| !other.contains(*p))));
        }
    }
}

//! The hash map of the hot path.

/// A map with a fast hash, seeded at random in each process: remote addresses are chosen by remote
/// parties, who must not be able to make them collide.
pub(super) type FastMap<K, V> = std::collections::HashMap<K, V, RandomState>;

pub(super) use foldhash::fast::RandomState;

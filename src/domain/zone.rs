//! The zones of link-local addresses: names of network interfaces, each once, so that an address with
//! its zone is as small and as quickly compared as one without.
//!
//! **Invariant:** memory has a bound: past [`MOST_NAMES`] further names share one zone, `?`.

use std::fmt;
use std::sync::{PoisonError, RwLock};

/// Some 128 KiB. Only interfaces with TCP sockets on link-local addresses count.
const MOST_NAMES: usize = 4_096;

static NAMES: RwLock<Vec<Box<str>>> = RwLock::new(Vec::new());

/// The name of an interface. One name in two network namespaces is one zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Zone(u32);

impl Zone {
    /// The zone of the interface with this name.
    pub(crate) fn named(name: &str) -> Self {
        let mut names = NAMES.write().unwrap_or_else(PoisonError::into_inner);
        if names.len() < MOST_NAMES && !names.iter().any(|known| **known == *name) {
            names.push(name.into());
        }
        let place = names.iter().position(|known| **known == *name);
        let number = place.and_then(|place| u32::try_from(place + 1).ok());
        Self(number.unwrap_or(0))
    }

    pub(super) const fn number(self) -> u32 {
        self.0
    }

    /// Nothing for a number that is no zone's.
    pub(super) fn from_number(number: u32) -> Option<Self> {
        let names = NAMES.read().unwrap_or_else(PoisonError::into_inner);
        let is_known = usize::try_from(number).is_ok_and(|number| number <= names.len());
        is_known.then_some(Self(number))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = NAMES.read().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(self.0).unwrap_or(0).checked_sub(1);
        let name = place.and_then(|place| names.get(place));
        f.write_str(name.map_or("?", |name| name))
    }
}

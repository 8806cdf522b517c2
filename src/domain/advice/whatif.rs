//! The ports that connect() could use with another range, other reserved ports or other listeners.
//!
//! Pure arithmetic on [`PortUsage`]; decides nothing. A port outside the present range that any
//! connected socket uses counts as in use for every destination: most likely bind() chose it, and then
//! connect() skips it for all (a bind bucket with `fastreuse` >= 0, `__inet_hash_connect`). The
//! predictions are exact unless a socket uses such a port, and lower bounds otherwise.

use super::remedy::{Effect, Room, Setting};
use crate::domain::ports::{PortRange, PortSet};
use crate::domain::settings::Settings;
use crate::domain::snapshot::{DestinationUsage, PortUsage};
use crate::domain::sources::share;

/// The first ports of wider ranges, the smallest step first. Most services that a host is likely to run
/// are below 16384: they would have to be reserved.
const WIDER_FROM: [u16; 2] = [16_384, 1_024];

/// The ports that a destination, or bind() on an address, has and uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// In use.
    pub(super) taken: u32,
    /// In use or not.
    pub(super) usable: u32,
}

impl Load {
    pub(super) const fn new(taken: u32, usable: u32) -> Self {
        Self { taken, usable }
    }

    pub(super) const fn of(usage: &DestinationUsage, ports: &PortUsage) -> Self {
        let usable = ports.usable;
        Self::new(usable.saturating_sub(usage.headroom), usable)
    }

    /// The load that a ratio was computed from.
    pub(super) fn of_ratio(ratio: f64, ports: &PortUsage) -> Self {
        let usable = ports.usable;
        let is_enough = |taken: &u32| f64::from(*taken) >= ratio * f64::from(usable) - 0.5;
        Self::new((0..usable).find(is_enough).unwrap_or(usable), usable)
    }

    pub(super) fn room(self) -> Room {
        Room {
            headroom: self.usable.saturating_sub(self.taken).into(),
            ratio: share(self.taken, self.usable).min(1.0),
        }
    }

    /// From this load to another.
    pub(super) fn effect(self, after: Self) -> Effect {
        Effect {
            before: self.room(),
            after: after.room(),
        }
    }

    /// Spread over `more` ranges in addition to its own, in each of which `taken_there` ports are in use.
    pub(super) fn spread(self, more: u32, taken_there: u32) -> Effect {
        let taken = self.taken.saturating_add(taken_there.saturating_mul(more));
        let usable = self.usable.saturating_mul(more.saturating_add(1));
        self.effect(Self::new(taken, usable))
    }
}

/// Another range, and other reserved ports. No port that is usable now is lost by it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) range: PortRange,
    /// Unreserved ports of the range.
    pub(super) available: PortSet,
    /// The sysctls to write, reserved ports first, so that no connection gets one in between. None that
    /// stays as it is, nor reserved ports that are not known.
    pub(super) settings: Vec<Setting>,
    /// Number of ports that are usable then and are not now.
    gained: u32,
    /// Those among them that a connected socket uses: if there are any, the effect is a lower bound.
    pub(super) gained_in_use: u32,
}

impl Plan {
    fn new(ports: &PortUsage, range: PortRange, reserved: &PortSet, listening: &PortSet) -> Self {
        let sets = &ports.sets;
        let available = without(&PortSet::of_range(range), reserved);
        let available_now = without(&PortSet::of_range(ports.range), &reserved_now(ports));
        let mut gained = usable(ports, &available, listening);
        gained.subtract(&usable(ports, &available_now, &sets.listening));
        let mut settings = Vec::new();
        let mut set = |name, value| settings.push(Setting { name, value });
        if sets.reserved.as_ref().is_some_and(|now| now != reserved) {
            set("ip_local_reserved_ports", reserved.to_string());
        }
        if ports.range != range {
            let value = format!("{} {}", range.min(), range.max());
            set("ip_local_port_range", value);
        }
        Self {
            range,
            available,
            settings,
            gained: gained.len(),
            gained_in_use: both(&gained, &sets.elsewhere).len(),
        }
    }

    /// From a load to that with the plan.
    pub(super) fn effect(&self, load: Load) -> Effect {
        let taken = load.taken.saturating_add(self.gained_in_use);
        load.effect(Load::new(taken, load.usable.saturating_add(self.gained)))
    }
}

/// The available ports that connect() may use.
fn usable(ports: &PortUsage, available: &PortSet, listening: &PortSet) -> PortSet {
    let mut usable = available.clone();
    for unusable in [listening, &ports.sets.bound, &ports.sets.closed] {
        usable.subtract(unusable);
    }
    usable
}

pub(super) fn without(set: &PortSet, less: &PortSet) -> PortSet {
    let mut rest = set.clone();
    rest.subtract(less);
    rest
}

pub(super) fn both(one: &PortSet, other: &PortSet) -> PortSet {
    let mut both = one.clone();
    both.intersect_with(other);
    both
}

pub(super) fn either(one: &PortSet, other: &PortSet) -> PortSet {
    let mut either = one.clone();
    either.union_with(other);
    either
}

fn reserved_now(ports: &PortUsage) -> PortSet {
    ports.sets.reserved.clone().unwrap_or_default()
}

/// Unreserved ports inside the range that something listens on.
pub(super) fn listeners_inside(ports: &PortUsage) -> PortSet {
    let inside = both(&ports.sets.listening, &PortSet::of_range(ports.range));
    without(&inside, &reserved_now(ports))
}

/// Wider ranges, the smallest step first, with the listeners' ports in them reserved.
pub(super) fn wider(ports: &PortUsage, settings: &Settings) -> impl Iterator<Item = Plan> {
    WIDER_FROM.into_iter().filter_map(|from| {
        let range = wider_range(ports.range, from, floor(settings))?;
        let listeners = both(&ports.sets.listening, &PortSet::of_range(range));
        Some(reserving(ports, range, &listeners))
    })
}

fn reserving(ports: &PortUsage, range: PortRange, listeners: &PortSet) -> Plan {
    let reserved = either(&reserved_now(ports), listeners);
    Plan::new(ports, range, &reserved, &ports.sets.listening)
}

/// The kernel refuses a range that begins below `ip_unprivileged_port_start`. Ports below 1024 are not
/// for ephemeral use, whatever is allowed.
fn floor(settings: &Settings) -> u16 {
    let start = settings.ip_unprivileged_port_start.unwrap_or(1_024);
    u16::try_from(start).unwrap_or(u16::MAX).max(1_024)
}

/// From `from` (or where the range begins now, if that is lower) to the last port, with a first port
/// of the other parity than the last: a port lower than that, or else without one of its ends.
fn wider_range(now: PortRange, from: u16, floor: u16) -> Option<PortRange> {
    let min = now.min().min(from.max(floor));
    let ranges = [
        even(PortRange::new(min, u16::MAX)?, floor),
        PortRange::new(min.saturating_add(1), u16::MAX),
        PortRange::new(min, u16::MAX - 1),
    ];
    ranges.into_iter().flatten().find(|wider| {
        let contains_now = wider.min() <= now.min() && wider.max() >= now.max();
        contains_now && wider.ports() > now.ports() && wider.ports().is_multiple_of(2)
    })
}

/// The range with one port more or, where that cannot be, as it is if it has an even number already.
fn even(range: PortRange, floor: u16) -> Option<PortRange> {
    let (min, max) = (range.min(), range.max());
    if range.ports().is_multiple_of(2) {
        return Some(range);
    }
    if max < u16::MAX {
        return PortRange::new(min, max + 1);
    }
    PortRange::new(min.checked_sub(1).filter(|min| *min >= floor)?, max)
}

/// One port more, so that the first and the last have different parities; a listener's is reserved.
pub(super) fn even_range(ports: &PortUsage, settings: &Settings) -> Option<Plan> {
    let range = even(ports.range, floor(settings)).filter(|range| *range != ports.range)?;
    let added = without(&PortSet::of_range(range), &PortSet::of_range(ports.range));
    let listeners = both(&ports.sets.listening, &added);
    Some(reserving(ports, range, &listeners))
}

/// Without the reserved ports inside the range that nothing owns; with those it has none.
pub(super) fn released(ports: &PortUsage) -> Option<(Plan, PortSet)> {
    let sets = &ports.sets;
    let reserved = sets.reserved.as_ref()?;
    let owned = either(&sets.listening, &sets.bound);
    let free = without(&both(reserved, &PortSet::of_range(ports.range)), &owned);
    let still_reserved = without(reserved, &free);
    let plan = Plan::new(ports, ports.range, &still_reserved, &sets.listening);
    (!free.is_empty()).then_some((plan, free))
}

/// With the listeners inside the range moved out of it.
pub(super) fn without_listeners(ports: &PortUsage) -> Option<(Plan, PortSet)> {
    let moved = listeners_inside(ports);
    let listening = without(&ports.sets.listening, &moved);
    let plan = Plan::new(ports, ports.range, &reserved_now(ports), &listening);
    (!moved.is_empty()).then_some((plan, moved))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn range(min: u16, max: u16) -> PortRange {
        PortRange::new(min, max).unwrap()
    }

    #[test]
    fn a_wider_range_has_all_of_the_present_one_and_both_parities() {
        let wider = |min, max, from, floor| {
            wider_range(range(min, max), from, floor).map(|range| (range.min(), range.max()))
        };
        assert_eq!(wider(32_768, 60_999, 16_384, 1_024), Some((16_384, 65_535)));
        assert_eq!(wider(10_000, 60_999, 16_384, 1_024), Some((10_000, 65_535)));
        assert_eq!(wider(10_001, 60_999, 16_384, 1_024), Some((10_000, 65_535)));
        assert_eq!(wider(32_768, 60_999, 1_024, 20_000), Some((20_000, 65_535)));
        assert_eq!(wider(1_024, 65_535, 1_024, 1_024), None);
        assert_eq!(wider(16_384, 65_535, 16_384, 1_024), None);
        assert_eq!(wider(1, 65_535, 1_024, 1_024), None);
        // No even range contains all of this one.
        assert_eq!(wider(1_025, 65_535, 1_024, 1_025), None);
        // A floor that cannot be gone below costs one port of either end.
        assert_eq!(wider(1_025, 60_000, 1_024, 1_025), Some((1_025, 65_534)));
        assert_eq!(wider(50_000, 50_009, 1_024, 49_999), Some((50_000, 65_535)));
    }

    #[test]
    fn an_odd_number_of_ports_is_made_even_by_one_more() {
        let made = |min, max| even(range(min, max), 1_024).map(|r| (r.min(), r.max()));
        assert_eq!(made(40_001, 40_101), Some((40_001, 40_102)));
        assert_eq!(made(40_001, 65_535), Some((40_000, 65_535)));
        assert_eq!(made(1_025, 65_535), Some((1_024, 65_535)));
        assert_eq!(made(1, 65_535), None);
    }
}

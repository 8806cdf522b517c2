//! The ports that connect() could use with another range, other reserved ports or other listeners.
//!
//! Pure arithmetic on [`PortUsage`]; decides nothing. A port outside the present range that any
//! connected socket uses counts as in use for every destination: most likely bind() chose it, and then
//! connect() skips it for all (a bind bucket with `fastreuse` >= 0, `__inet_hash_connect`). The
//! predictions are exact unless a socket uses such a port, and lower bounds otherwise.

use super::remedy::{Effect, Room, Setting};
use crate::domain::ports::{PortRange, PortSet};
use crate::domain::settings::Settings;
use crate::domain::snapshot::PortUsage;

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
    pub(super) fn room(self) -> Room {
        Room {
            headroom: u64::from(self.usable.saturating_sub(self.taken)),
            ratio: share(self.taken, self.usable),
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
        let there = u64::from(self.usable.saturating_sub(taken_there));
        let taken = f64::from(self.taken) + f64::from(taken_there) * f64::from(more);
        let usable = f64::from(self.usable) * (f64::from(more) + 1.0);
        Effect {
            before: self.room(),
            after: Room {
                headroom: self.room().headroom + u64::from(more).saturating_mul(there),
                ratio: if self.usable == 0 {
                    1.0
                } else {
                    taken / usable
                },
            },
        }
    }
}

fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 {
        1.0
    } else {
        f64::from(part) / f64::from(whole)
    }
}

/// Another range, and other reserved ports.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// The range.
    pub(super) range: PortRange,
    /// All reserved ports.
    pub(super) reserved: PortSet,
    /// Ports that are usable then and are not now.
    gained: PortSet,
    /// Those among them that a connected socket uses.
    in_use: u32,
    /// Ports that are usable now and are not then.
    lost: u32,
}

impl Plan {
    fn new(ports: &PortUsage, range: PortRange, reserved: PortSet, moved: &PortSet) -> Self {
        let nothing = PortSet::new();
        let now = ports.sets.reserved.as_ref().unwrap_or(&nothing);
        let before = usable(ports, ports.range, now, &nothing);
        let mut gained = usable(ports, range, &reserved, moved);
        let mut lost = before.clone();
        lost.subtract(&gained);
        gained.subtract(&before);
        let mut in_use = gained.clone();
        in_use.intersect_with(&ports.sets.elsewhere);
        Self {
            range,
            reserved,
            in_use: in_use.len(),
            lost: lost.len(),
            gained,
        }
    }

    /// The load with the plan.
    pub(super) fn load(&self, load: Load) -> Load {
        Load {
            taken: load.taken.saturating_add(self.in_use),
            usable: load
                .usable
                .saturating_add(self.gained.len())
                .saturating_sub(self.lost),
        }
    }

    /// Whether a socket uses any of the gained ports: then the effect is a lower bound.
    pub(super) const fn gains_ports_in_use(&self) -> bool {
        self.in_use > 0
    }

    /// The sysctls to write, reserved ports first, so that no connection gets one in between. None that
    /// stays as it is, nor reserved ports that are not known.
    pub(super) fn settings(&self, ports: &PortUsage) -> Vec<Setting> {
        let mut settings = Vec::new();
        if let Some(reserved) = &ports.sets.reserved
            && *reserved != self.reserved
        {
            settings.push(reserved_setting(&self.reserved));
        }
        if ports.range != self.range {
            settings.push(Setting {
                name: "ip_local_port_range",
                value: format!("{} {}", self.range.min(), self.range.max()),
            });
        }
        settings
    }
}

pub(super) fn reserved_setting(reserved: &PortSet) -> Setting {
    Setting {
        name: "ip_local_reserved_ports",
        value: reserved.to_string(),
    }
}

/// The ports of a range that connect() may use, `moved` being without their listeners.
fn usable(ports: &PortUsage, range: PortRange, reserved: &PortSet, moved: &PortSet) -> PortSet {
    let mut usable: PortSet = (range.min()..=range.max()).collect();
    let mut listening = ports.sets.listening.clone();
    listening.subtract(moved);
    for unusable in [reserved, &listening, &ports.sets.bound, &ports.sets.closed] {
        usable.subtract(unusable);
    }
    usable
}

/// The ports of a set that lie inside a range.
pub(super) fn inside(set: &PortSet, range: PortRange) -> PortSet {
    set.iter().filter(|port| range.contains(*port)).collect()
}

fn reserved_now(ports: &PortUsage) -> PortSet {
    ports.sets.reserved.clone().unwrap_or_default()
}

/// Unreserved ports inside the range that something listens on.
pub(super) fn listeners_inside(ports: &PortUsage) -> PortSet {
    let mut listening = inside(&ports.sets.listening, ports.range);
    listening.subtract(&reserved_now(ports));
    listening
}

/// Wider ranges, the smallest step first, with the listeners' ports in them reserved.
pub(super) fn wider<'a>(
    ports: &'a PortUsage,
    settings: Option<&'a Settings>,
) -> impl Iterator<Item = Plan> + 'a {
    WIDER_FROM.into_iter().filter_map(move |from| {
        let range = wider_range(ports.range, from, floor(settings))?;
        let mut reserved = reserved_now(ports);
        reserved.union_with(&inside(&ports.sets.listening, range));
        Some(Plan::new(ports, range, reserved, &PortSet::new()))
    })
}

/// The kernel refuses a range that begins below `ip_unprivileged_port_start`. Ports below 1024 are not
/// for ephemeral use, whatever is allowed.
fn floor(settings: Option<&Settings>) -> u16 {
    settings
        .and_then(|settings| settings.ip_unprivileged_port_start)
        .map_or(1_024, |start| u16::try_from(start).unwrap_or(u16::MAX))
        .max(1_024)
}

/// From `from` (or where the range begins now, if that is lower) to the last port, with a first port
/// of the other parity than the last: a port lower than that, or else without one of its ends.
fn wider_range(now: PortRange, from: u16, floor: u16) -> Option<PortRange> {
    let min = now.min().min(from.max(floor));
    let lower = even(PortRange::new(min, u16::MAX)?, floor);
    let without_an_end = [
        PortRange::new(min.saturating_add(1), u16::MAX),
        PortRange::new(min, u16::MAX - 1),
    ];
    let mut ranges = [lower].into_iter().chain(without_an_end).flatten();
    ranges.find(|wider| {
        let contains_now = wider.min() <= now.min() && wider.max() >= now.max();
        contains_now && wider.ports() > now.ports() && wider.ports().is_multiple_of(2)
    })
}

/// The range with one port more or, where that cannot be, as it is if it has an even number already.
fn even(range: PortRange, floor: u16) -> Option<PortRange> {
    if range.ports().is_multiple_of(2) {
        return Some(range);
    }
    let above = range
        .max()
        .checked_add(1)
        .and_then(|max| PortRange::new(range.min(), max));
    let below = range
        .min()
        .checked_sub(1)
        .filter(|min| *min >= floor)
        .and_then(|min| PortRange::new(min, range.max()));
    above.or(below)
}

/// One port more, so that the first and the last have different parities; a listener's is reserved.
pub(super) fn even_range(ports: &PortUsage, settings: Option<&Settings>) -> Option<Plan> {
    let range = even(ports.range, floor(settings)).filter(|range| *range != ports.range)?;
    let mut reserved = reserved_now(ports);
    let mut added = inside(&ports.sets.listening, range);
    added.subtract(&inside(&ports.sets.listening, ports.range));
    reserved.union_with(&added);
    Some(Plan::new(ports, range, reserved, &PortSet::new()))
}

/// Without the reserved ports inside the range that nothing owns; with those it has none.
pub(super) fn released(ports: &PortUsage) -> Option<(Plan, PortSet)> {
    let reserved = ports.sets.reserved.as_ref()?;
    let mut free = inside(reserved, ports.range);
    free.subtract(&ports.sets.listening);
    free.subtract(&ports.sets.bound);
    if free.is_empty() {
        return None;
    }
    let mut rest = reserved.clone();
    rest.subtract(&free);
    let plan = Plan::new(ports, ports.range, rest, &PortSet::new());
    Some((plan, free))
}

/// With the listeners inside the range moved out of it.
pub(super) fn without_listeners(ports: &PortUsage) -> Option<(Plan, PortSet)> {
    let moved = listeners_inside(ports);
    if moved.is_empty() {
        return None;
    }
    let plan = Plan::new(ports, ports.range, reserved_now(ports), &moved);
    Some((plan, moved))
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
        // No even range holds all of this one.
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

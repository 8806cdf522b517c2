//! What each destination spends of the port range, and which destinations are told.

use super::address::{Address, Family};
use super::age;
use super::capacity::PortPool;
use super::options::{CensusOptions, PinnedDestination};
use super::search;
use super::small_port_set::SmallPortSet;
use super::snapshot::{
    Destination, DestinationBreakdown, DestinationUsage, OtherStates, PerFamily, PortSets,
    PortUsage, PortsInUse,
};
use super::socket::{Socket, TcpState};
use super::sources::{SourcePools, share};
use super::tallies::DestinationTallies;
use super::top::Top;

/// What one destination's sockets add up to.
#[derive(Clone, Debug)]
pub(super) struct DestinationTally {
    pub(super) in_use: PortsInUse,
    pub(super) other_states: OtherStates,
    reusable: u64,
    /// In TIME-WAIT for less than [`age::CLOSE_RATE_WINDOW_MS`].
    recent: u64,
    reuse_age_limit_ms: u32,
    /// Old enough to be reusable, on usable ports, and not reusable as the settings are.
    pub(super) reuse_gain: u32,
    /// Usable ports that connect() cannot have for this destination. A set rather than a count:
    /// the dump is not atomic and may tell one port twice, as an old and as a new socket.
    pub(super) taken: SmallPortSet,
    /// The other ports of its sockets: reusable, or owned by a bound socket anyway.
    pub(super) not_taken: SmallPortSet,
}

impl DestinationTally {
    /// For a destination without sockets. For the limit, see
    /// [`ReuseRule::age_limit_ms`](super::capacity::ReuseRule::age_limit_ms).
    pub(super) fn new(reuse_age_limit_ms: u32) -> Self {
        Self {
            in_use: PortsInUse::default(),
            other_states: OtherStates::default(),
            reusable: 0,
            recent: 0,
            reuse_age_limit_ms,
            reuse_gain: 0,
            taken: SmallPortSet::default(),
            not_taken: SmallPortSet::default(),
        }
    }

    /// Counts a socket in TIME-WAIT; true if the next connect() may take it over.
    #[inline]
    pub(super) fn add_time_wait(&mut self, age_ms: u32) -> bool {
        let is_reusable = age_ms > self.reuse_age_limit_ms;
        self.in_use.time_wait += 1;
        self.reusable += u64::from(is_reusable);
        self.recent += u64::from(age_ms < age::CLOSE_RATE_WINDOW_MS);
        is_reusable
    }

    /// Counts a socket that is neither in TIME-WAIT nor established.
    #[inline]
    pub(super) fn add_other(&mut self, socket: &Socket) {
        self.in_use.other += 1;
        let states = &mut self.other_states;
        match socket.state {
            TcpState::CloseWait => states.close_wait += 1,
            TcpState::SynSent => states.syn_sent += 1,
            TcpState::FinWait2 if socket.remaining_ms > 0 => states.fin_wait2_orphans += 1,
            _ => {}
        }
    }

    fn figures(&self, destination: Destination, pool: &PortPool) -> DestinationUsage {
        // By construction a subset of the usable ports, so that neither figure leaves its bounds.
        let (taken, usable) = (self.taken.len(), pool.usable.len());
        DestinationUsage {
            destination,
            in_use: self.in_use,
            other_states: self.other_states,
            reusable: self.reusable,
            reuse_gain: self.reuse_gain.min(taken),
            headroom: usable.saturating_sub(taken),
            exhaustion_ratio: share(taken, usable),
            close_rate: close_rate(self.recent),
            search_ports: search::longest_run(pool, &self.taken),
        }
    }
}

fn close_rate(recent: u64) -> f64 {
    let recent = u32::try_from(recent).unwrap_or(u32::MAX);
    f64::from(recent) / (f64::from(age::CLOSE_RATE_WINDOW_MS) / 1_000.0)
}

/// What the range, its destinations and its sources come to.
pub(super) fn figures(
    pool: &PortPool,
    destinations: &DestinationTallies,
    mut sources: SourcePools,
    sets: PortSets,
    options: &CensusOptions,
) -> PortUsage {
    let usable = pool.usable.len();
    let mut top = Top::new(options.top);
    let mut worst = PerFamily::<Option<u32>>::default();
    for (destination, tally) in destinations.iter() {
        let taken = tally.taken.len();
        let worst = worst.get_mut(destination.dst_addr.family());
        *worst = (*worst).max(Some(taken));
        top.add(*destination, taken);
        sources.add_outgoing(destination.src_addr, &tally.taken);
        sources.add_outgoing(destination.src_addr, &tally.not_taken);
    }
    let mut free = pool.usable.clone();
    free.subtract(&sources.held_anywhere());
    PortUsage {
        range: pool.range,
        reserved: pool.reserved,
        blocked: pool.blocked,
        listeners: pool.listeners,
        usable,
        free: free.len(),
        worst_ratio: PerFamily {
            ipv4: worst.ipv4.map_or(0.0, |taken| share(taken, usable)),
            ipv6: worst.ipv6.map_or(0.0, |taken| share(taken, usable)),
        },
        destinations: u64::try_from(destinations.len()).unwrap_or(u64::MAX),
        by_destination: options.by_destination.then(|| {
            let mut told: Vec<Destination> = top
                .into_sorted()
                .into_iter()
                .map(|(destination, _)| destination)
                .collect();
            add_pinned(&mut told, destinations, options);
            breakdown(&told, destinations, pool)
        }),
        by_source: options
            .by_source
            .then(|| sources.figures(options.top, &pool.unreserved, &sets.listening)),
        sets,
    }
}

fn breakdown(
    selected: &[Destination],
    destinations: &DestinationTallies,
    pool: &PortPool,
) -> DestinationBreakdown {
    let mut other = PortsInUse::default();
    for tally in destinations.values() {
        other.time_wait += tally.in_use.time_wait;
        other.established += tally.in_use.established;
        other.other += tally.in_use.other;
    }
    let nothing = DestinationTally::new(u32::MAX);
    let exported = selected.iter().map(|destination| {
        let tally = destinations.get(destination).unwrap_or(&nothing);
        other.time_wait -= tally.in_use.time_wait;
        other.established -= tally.in_use.established;
        other.other -= tally.in_use.other;
        tally.figures(*destination, pool)
    });
    let exported = exported.collect();
    DestinationBreakdown { exported, other }
}

/// Adds the pinned destinations that are not told yet.
fn add_pinned(
    told: &mut Vec<Destination>,
    destinations: &DestinationTallies,
    options: &CensusOptions,
) {
    let mut pins = options.pinned_destinations.clone();
    pins.sort_unstable();
    for pin in pins {
        for destination in pinned(pin, destinations, options.top) {
            if !told.contains(&destination) {
                told.push(destination);
            }
        }
    }
}

/// The destinations that a pin stands for: the one it names, or for a pin without a source the
/// worst `n` with that remote end. Where that has none, the wildcard address stands for its source.
fn pinned(pin: PinnedDestination, destinations: &DestinationTallies, n: usize) -> Vec<Destination> {
    let PinnedDestination {
        src_addr,
        dst_addr,
        dst_port,
    } = pin;
    if let Some(src_addr) = src_addr {
        return vec![Destination {
            src_addr,
            dst_addr,
            dst_port,
        }];
    }
    let mut top = Top::new(n);
    for (destination, tally) in destinations.iter() {
        if destination.dst_addr == dst_addr && destination.dst_port == dst_port {
            top.add(*destination, tally.taken.len());
        }
    }
    let matching: Vec<_> = top
        .into_sorted()
        .into_iter()
        .map(|(destination, _)| destination)
        .collect();
    if !matching.is_empty() {
        return matching;
    }
    let src_addr = match dst_addr.family() {
        Family::Ipv4 => Address::ANY_V4,
        Family::Ipv6 => Address::ANY_V6,
    };
    vec![Destination {
        src_addr,
        dst_addr,
        dst_port,
    }]
}

//! What each destination uses of the port range, and which destinations are exported.

use indexmap::IndexMap;

use super::address::{Address, Family};
use super::advice::thresholds::RATIO_WARNING;
use super::age;
use super::capacity::PortPool;
use super::fast_map::RandomState;
use super::options::CensusOptions;
use super::ports::PortSet;
use super::search;
use super::small_port_set::SmallPortSet;
use super::snapshot::{
    Destination, DestinationBreakdown, DestinationUsage, OtherStates, PeerTimestamps, PerFamily,
    PortSets, PortUsage, PortsInUse, Probe,
};
use super::socket::{Socket, TcpState};
use super::sources::{SourcePools, share};
use super::top::Top;

/// What one destination's sockets add up to. A host may have a million of them: small.
#[derive(Clone, Debug, Default)]
pub(super) struct DestinationTally {
    pub(super) time_wait: u32,
    pub(super) established: u32,
    other: u32,
    other_states: OtherStates,
    /// In TIME-WAIT for less than [`age::CLOSE_RATE_WINDOW_MS`].
    recent: u32,
    /// FIN-WAIT-2 sockets without a process that the next connect() may reuse, or not.
    pub(super) in_doubt: u32,
    /// Old enough to be reusable, on usable ports, and not reusable as the sysctls are.
    pub(super) reuse_gain: u32,
    /// Whether connect() reuses TIME-WAIT sockets of this destination that are old enough.
    pub(super) reuses: bool,
    peer_timestamps: PeerTimestamps,
    /// Ports that connect() cannot have for this destination. A set rather than a count: the dump is
    /// not atomic and may report one port twice, as an old and as a new socket.
    pub(super) taken: SmallPortSet,
    /// Ports of TIME-WAIT sockets that connect() may reuse.
    pub(super) reusable: SmallPortSet,
}

impl DestinationTally {
    pub(super) fn new(reuses: bool) -> Self {
        Self {
            reuses,
            ..Self::default()
        }
    }

    #[inline]
    pub(super) fn add_time_wait(&mut self, age_ms: u32) {
        self.time_wait += 1;
        self.recent += u32::from(age_ms < age::CLOSE_RATE_WINDOW_MS);
    }

    /// Counts a socket that is neither in TIME-WAIT nor established.
    #[inline]
    pub(super) fn add_other(&mut self, socket: &Socket) {
        self.other += 1;
        let states = &mut self.other_states;
        match socket.state {
            TcpState::CloseWait => states.close_wait += 1,
            TcpState::SynSent => states.syn_sent += 1,
            _ if socket.is_orphan() => states.fin_wait2_orphans += 1,
            _ => {}
        }
    }

    /// Whether connect() fails, or nearly, if the reusable ports are not: then it matters whether
    /// they are.
    pub(super) fn depends_on_reuse(&self, pool: &PortPool) -> bool {
        let reusable = self.reusable.len_within(&pool.usable);
        let in_use = self.taken.len_within(&pool.usable) + reusable;
        reusable > 0 && share(in_use, pool.usable.len()) >= RATIO_WARNING
    }

    /// Notes what live sockets show of the peer's TCP timestamps. Without them none of its TIME-WAIT
    /// sockets is reusable, whatever the sysctls.
    pub(super) fn note_peer(&mut self, timestamps: PeerTimestamps) {
        self.peer_timestamps = timestamps;
        if timestamps == PeerTimestamps::Absent {
            self.taken.union_with(&std::mem::take(&mut self.reusable));
            (self.reuse_gain, self.in_doubt) = (0, 0);
        }
    }

    fn usage(&self, destination: Destination, pool: &PortPool) -> DestinationUsage {
        // By construction a subset of the usable ports, so that neither value leaves its bounds.
        let (taken, usable) = (self.taken.len_within(&pool.usable), pool.usable.len());
        DestinationUsage {
            destination,
            in_use: PortsInUse {
                time_wait: self.time_wait.into(),
                established: self.established.into(),
                other: self.other.into(),
            },
            other_states: self.other_states,
            reusable: self.reusable.len_within(&pool.usable).into(),
            reuse_gain: self.reuse_gain.min(taken),
            peer_timestamps: self.peer_timestamps,
            headroom: usable.saturating_sub(taken),
            exhaustion_ratio: share(taken, usable),
            least_ratio: share(taken.saturating_sub(self.in_doubt), usable),
            close_rate: f64::from(self.recent) / (f64::from(age::CLOSE_RATE_WINDOW_MS) / 1_000.0),
            search_ports: search::most_examined(pool, &self.taken),
        }
    }
}

type Tallies = IndexMap<Destination, DestinationTally, RandomState>;

/// How the range, its destinations and its sources are used.
pub(super) fn usage(
    pool: &PortPool,
    in_use: &PortSet,
    destinations: &Tallies,
    mut sources: SourcePools,
    sets: PortSets,
    orphans_in_doubt: bool,
    options: &CensusOptions,
) -> PortUsage {
    let usable = pool.usable.len();
    let mut top = Top::new(options.top);
    // With the ports in doubt, and without.
    let (mut worst, mut least) = (PerFamily::<f64>::default(), PerFamily::<f64>::default());
    for (destination, tally) in destinations {
        let taken = tally.taken.len_within(&pool.usable);
        let without_doubt = taken.saturating_sub(tally.in_doubt);
        for (ratios, taken) in [(&mut worst, taken), (&mut least, without_doubt)] {
            let ratio = ratios.get_mut(destination.dst_addr.family());
            *ratio = ratio.max(share(taken, usable));
        }
        top.add(*destination, taken);
        sources.add_outgoing(destination.src_addr, &tally.taken);
        sources.add_outgoing(destination.src_addr, &tally.reusable);
    }
    PortUsage {
        range: pool.range,
        reserved: pool.range.ports() - pool.unreserved.len(),
        // connect() skips them for every destination, whatever their address and family.
        blocked: pool.unreserved.len() - usable - pool.bind_owned.unwrap_or(0),
        bind_owned: pool.bind_owned,
        probe: Probe::default(),
        listeners: pool.unreserved.len() - pool.outgoing.len(),
        usable,
        free: usable - in_use.len_within(&pool.usable),
        worst_ratio: worst,
        least_ratio: orphans_in_doubt.then_some(least),
        destinations: u64::try_from(destinations.len()).unwrap_or(u64::MAX),
        by_destination: options.by_destination.then(|| {
            let mut selected: Vec<Destination> = top.into_sorted_keys().collect();
            add_pinned(&mut selected, destinations, pool, options);
            breakdown(&selected, destinations, pool)
        }),
        by_source: options
            .by_source
            .then(|| sources.usage(options.top, &pool.unreserved, &sets.listening)),
        sets,
    }
}

fn breakdown(
    selected: &[Destination],
    destinations: &Tallies,
    pool: &PortPool,
) -> DestinationBreakdown {
    let mut other = PortsInUse::default();
    for (_, tally) in destinations {
        other.time_wait += u64::from(tally.time_wait);
        other.established += u64::from(tally.established);
        other.other += u64::from(tally.other);
    }
    let nothing = DestinationTally::default();
    let exported = selected.iter().map(|destination| {
        let tally = destinations.get(destination).unwrap_or(&nothing);
        other.time_wait -= u64::from(tally.time_wait);
        other.established -= u64::from(tally.established);
        other.other -= u64::from(tally.other);
        tally.usage(*destination, pool)
    });
    let exported = exported.collect();
    DestinationBreakdown { exported, other }
}

/// Adds the pinned destinations that are not selected yet: the one that a pin names, or for a pin without
/// a source the worst with that remote end. Where that has none, the wildcard address stands for its source.
fn add_pinned(
    selected: &mut Vec<Destination>,
    destinations: &Tallies,
    pool: &PortPool,
    options: &CensusOptions,
) {
    let mut pins = options.pinned_destinations.clone();
    pins.sort_unstable();
    for pin in pins {
        let mut top = Top::new(options.top);
        for (one, tally) in destinations {
            let is_pinned_source = pin.src_addr.is_none_or(|pinned| pinned == one.src_addr);
            if (one.dst_addr, one.dst_port) == (pin.dst_addr, pin.dst_port) && is_pinned_source {
                top.add(*one, tally.taken.len_within(&pool.usable));
            }
        }
        let mut matching: Vec<Destination> = top.into_sorted_keys().collect();
        if matching.is_empty() {
            matching.push(Destination {
                src_addr: pin.src_addr.unwrap_or(match pin.dst_addr.family() {
                    Family::Ipv4 => Address::ANY_V4,
                    Family::Ipv6 => Address::ANY_V6,
                }),
                dst_addr: pin.dst_addr,
                dst_port: pin.dst_port,
            });
        }
        matching.retain(|destination| !selected.contains(destination));
        selected.append(&mut matching);
    }
}

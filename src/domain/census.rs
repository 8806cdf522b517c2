//! Adds up the sockets of a dump one at a time, and keeps no list of them.
//!
//! Knows nothing of where the sockets come from, or of metric names.

use std::hash::Hash;

use super::address::Address;
use super::age;
pub use super::capacity::Moment;
use super::capacity::{PortPool, ReuseRule};
use super::destinations::{self, DestinationTally};
use super::fast_map::FastMap;
use super::options::CensusOptions;
use super::ports::PortSet;
use super::remotes::RemoteCounts;
use super::settings::Settings;
use super::snapshot::{
    AGE_BANDS, Breakdown, Destination, PeerTimestamps, PerFamily, PortBreakdown, PortSets,
    SocketSummary, Source,
};
use super::socket::{PortOwner, Socket, TcpState};
use super::sources::SourcePools;
use super::tallies::DestinationTallies;
use super::top::{self, Top};

/// Adds up sockets, one at a time.
///
/// **Invariant:** memory grows with different destinations, local endpoints and remote addresses,
/// not with sockets; every TIME-WAIT socket is counted in exactly one of `destinations` and
/// `endpoints`, from which all breakdowns are made, so that their sums are equal.
#[derive(Debug)]
pub struct Census {
    options: CensusOptions,
    pool: Option<PortPool>,
    reuse: ReuseRule,
    /// How long TIME-WAIT lasts.
    time_wait_ms: u32,
    destinations: DestinationTallies,
    /// Ports of outgoing sockets.
    in_use: PortSet,
    /// TIME-WAIT sockets that are not outgoing, by their local end.
    endpoints: FastMap<(Address, u16), u64>,
    /// The same sockets by their remote address.
    remotes: RemoteCounts,
    /// Ports of the range in use other than by outgoing sockets.
    sources: SourcePools,
    /// What keeps connect() from ports, whatever the range.
    sets: PortSets,
    ages: [u64; AGE_BANDS],
}

impl Census {
    /// An empty census, with the sysctls and the owners of ports as they are when the dump begins.
    pub fn new(
        options: CensusOptions,
        settings: &Settings,
        moment: Moment,
        owners: &[PortOwner],
    ) -> Self {
        let keeps_to_v6 = settings.ipv6_bindv6only.is_some_and(|value| value != 0);
        let mut sources = SourcePools::new(keeps_to_v6);
        let mut sets = PortSets {
            reserved: settings.reserved_ports.clone(),
            elsewhere_is_whole: true,
            ..PortSets::default()
        };
        for owner in owners {
            sources.add_owner(owner);
            if owner.listening {
                sets.listening.insert(owner.port);
            } else {
                sets.bound.insert(owner.port);
            }
        }
        Self {
            options,
            pool: PortPool::new(settings, &sets),
            reuse: ReuseRule::new(settings, moment),
            time_wait_ms: age::time_wait_ms(settings),
            destinations: DestinationTallies::default(),
            in_use: PortSet::new(),
            endpoints: FastMap::default(),
            remotes: RemoteCounts::default(),
            sources,
            sets,
            ages: [0; AGE_BANDS],
        }
    }

    /// Says that live sockets outside the range will not be added.
    pub(crate) const fn without_others(&mut self) {
        self.sets.elsewhere_is_whole = false;
    }

    /// Adds one socket. The hot path of the program: no allocation but for the first socket of a
    /// destination, an endpoint or a remote address.
    #[inline]
    pub fn add(&mut self, socket: &Socket) {
        let port = socket.src_port;
        if let Some(pool) = &self.pool {
            if pool.outgoing.contains(port) {
                let is_usable = pool.usable.contains(port);
                return self.add_outgoing(socket, is_usable);
            }
            if pool.unreserved.contains(port) {
                self.sources.add_listened(socket.src_addr, port);
            }
            self.sets.elsewhere.insert(port);
        }
        if socket.state == TcpState::TimeWait {
            self.add_incoming(socket);
        }
    }

    #[inline]
    fn add_outgoing(&mut self, socket: &Socket, is_usable: bool) {
        let destination = Destination {
            src_addr: socket.src_addr,
            dst_addr: socket.dst_addr,
            dst_port: socket.dst_port,
        };
        let reuse = self.reuse;
        let make = || DestinationTally::new(reuse.allows(&destination));
        let Some(tally) = self.destinations.entry(destination, make) else {
            return;
        };
        let is_allowed = tally.reuses || (socket.is_on_loopback_device && reuse.on_loopback);
        let mut is_reusable = false;
        match socket.state {
            TcpState::TimeWait => {
                let age_ms = age::age_ms(self.time_wait_ms, socket.remaining_ms);
                count_age(&mut self.ages, age_ms);
                tally.add_time_wait(age_ms);
                let is_old = reuse.is_old_enough(age_ms);
                is_reusable = is_old && is_allowed;
                tally.reuse_gain += u32::from(is_old && !is_reusable && is_usable);
            }
            TcpState::Established => tally.established += 1,
            _ => {
                tally.add_other(socket);
                let is_in_doubt = reuse.orphans_in_doubt && is_allowed && socket.is_orphan();
                tally.in_doubt += u32::from(is_in_doubt);
            }
        }
        let ports = if is_reusable {
            &mut tally.reusable
        } else {
            &mut tally.taken
        };
        ports.insert(socket.src_port);
        self.in_use.insert(socket.src_port);
    }

    /// The usable ports, by whether a socket uses them; `None` while the range is unknown.
    pub(crate) fn usable_ports(&self) -> Option<UsablePorts> {
        let usable = &self.pool.as_ref()?.usable;
        let (mut in_use, mut free) = (usable.clone(), usable.clone());
        in_use.intersect_with(&self.in_use);
        free.subtract(&self.in_use);
        Some(UsablePorts { in_use, free })
    }

    /// Takes those of the usable ports for closed to connect() that were found so; an empty set if none
    /// were.
    pub(crate) fn close_ports(&mut self, closed: &PortSet) {
        if let Some(pool) = &mut self.pool {
            pool.close(closed, &self.in_use);
            self.sets.closed.union_with(closed);
        }
    }

    /// The destinations, the worst of them, for which it matters whether TIME-WAIT sockets are reusable.
    pub(crate) fn depending_on_reuse(&self) -> Vec<Destination> {
        let Some(pool) = &self.pool else {
            return Vec::new();
        };
        let mut top = Top::new(self.options.top);
        for (destination, tally) in &self.destinations.all {
            if tally.depends_on_reuse(pool) {
                top.add(*destination, tally.time_wait);
            }
        }
        top.into_sorted_keys().collect()
    }

    /// Notes whether the peer of a destination uses TCP timestamps.
    pub(crate) fn note_peer(&mut self, destination: &Destination, timestamps: PeerTimestamps) {
        if let Some(tally) = self.destinations.all.get_mut(destination) {
            tally.note_peer(timestamps);
        }
    }

    fn add_incoming(&mut self, socket: &Socket) {
        let age_ms = age::age_ms(self.time_wait_ms, socket.remaining_ms);
        count_age(&mut self.ages, age_ms);
        let endpoint = (socket.src_addr, socket.src_port);
        *self.endpoints.entry(endpoint).or_default() += 1;
        if self.options.by_dst_addr {
            self.remotes.add(socket.dst_addr, 1);
        }
    }

    /// What it all adds up to. `source` and `messages` go into the result as they are.
    pub fn finish(mut self, source: Source, messages: u64) -> SocketSummary {
        let remotes = std::mem::take(&mut self.remotes);
        let options = &self.options;
        let is_ranged = self.pool.is_some();
        SocketSummary {
            source: Some(source),
            messages,
            time_wait: self.time_wait(),
            by_src_addr: options
                .by_src_addr
                .then(|| self.breakdown(self.by_local_address(), &[])),
            by_src_port: (options.by_src_port && is_ranged).then(|| self.by_src_port()),
            by_dst_addr: options.by_dst_addr.then(|| self.by_dst_addr(remotes)),
            by_dst_port: (options.by_dst_port && is_ranged).then(|| self.by_dst_port()),
            by_age: options.by_age.then_some(self.ages),
            ports: self.pool.as_ref().map(|pool| {
                destinations::usage(
                    pool,
                    &self.in_use,
                    &self.destinations.all,
                    self.sources,
                    self.sets,
                    self.reuse.orphans_in_doubt,
                    options,
                )
            }),
        }
    }

    fn time_wait(&self) -> PerFamily<u64> {
        let mut sums = PerFamily::default();
        for (address, count) in self.by_local_address() {
            *sums.get_mut(address.family()) += count;
        }
        sums
    }

    /// All TIME-WAIT sockets; an address may come more than once.
    fn by_local_address(&self) -> impl Iterator<Item = (Address, u64)> {
        let outgoing = self.outgoing().map(|(one, count)| (one.src_addr, count));
        let incoming = self.endpoints.iter();
        outgoing.chain(incoming.map(|((address, _), count)| (*address, *count)))
    }

    fn by_src_port(&self) -> PortBreakdown {
        let incoming = self.endpoints.iter();
        let incoming = incoming.map(|((_, port), count)| (*port, *count));
        PortBreakdown {
            ports: self.breakdown(incoming, &self.options.pinned_ports),
            ephemeral: self.outgoing().map(|(_, count)| count).sum(),
        }
    }

    /// A remote address may be both a server and a client of ours.
    fn by_dst_addr(&self, mut remotes: RemoteCounts) -> Breakdown<Address> {
        for (destination, tally) in &self.destinations.all {
            if tally.time_wait > 0 {
                remotes.add(destination.dst_addr, tally.time_wait);
            }
        }
        top::breakdown(remotes.into_counts(), self.options.top, &[])
    }

    fn by_dst_port(&self) -> PortBreakdown {
        let outgoing = self.outgoing().map(|(one, count)| (one.dst_port, count));
        PortBreakdown {
            ports: self.breakdown(outgoing, &self.options.pinned_ports),
            ephemeral: self.endpoints.values().sum(),
        }
    }

    /// TIME-WAIT sockets by destination.
    fn outgoing(&self) -> impl Iterator<Item = (&Destination, u64)> {
        let all = self.destinations.all.iter();
        all.map(|(destination, tally)| (destination, u64::from(tally.time_wait)))
    }

    /// Adds up counts in which a value may come more than once, and picks the top N. A value without
    /// TIME-WAIT sockets is none.
    fn breakdown<K: Copy + Ord + Hash>(
        &self,
        counts: impl Iterator<Item = (K, u64)>,
        pinned: &[K],
    ) -> Breakdown<K> {
        let mut sums: FastMap<K, u64> = FastMap::default();
        for (key, count) in counts.filter(|(_, count)| *count > 0) {
            *sums.entry(key).or_default() += count;
        }
        top::breakdown(sums.into_iter(), self.options.top, pinned)
    }
}

/// The ports that connect() may take, as far as the socket table shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsablePorts {
    /// An outgoing socket uses them, towards whatever destination.
    pub in_use: PortSet,
    /// No socket does.
    pub free: PortSet,
}

#[inline]
fn count_age(ages: &mut [u64; AGE_BANDS], age_ms: u32) {
    if let Some(count) = ages.get_mut(age::band_index(age_ms)) {
        *count += 1;
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "tests"
)]
mod tests;

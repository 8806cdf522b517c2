//! The pass over the connection table: adds up one socket at a time and keeps no list of them.
//!
//! Knows nothing of where the sockets come from, or of metric names.

use std::fmt;
use std::hash::Hash;

use super::address::Address;
use super::age;
use super::capacity::{PortPool, ReuseRule};
use super::destinations::{self, DestinationTally};
use super::fast_map::FastMap;
use super::options::CensusOptions;
use super::remotes::Counts;
use super::settings::Settings;
use super::snapshot::{
    AGE_BANDS, Breakdown, Destination, PerFamily, PortBreakdown, PortSets, SocketSummary, Source,
};
use super::socket::{PortOwner, Socket, TcpState};
use super::sources::SourcePools;
use super::tallies::DestinationTallies;
use super::top;

/// Adds up sockets, one at a time.
///
/// **Invariant:** memory grows with different destinations, local endpoints and remote addresses,
/// not with sockets; every TIME-WAIT socket is counted in exactly one of `destinations` and
/// `endpoints`, from which all breakdowns are made, so that their sums are equal.
pub struct Census {
    options: CensusOptions,
    pool: Option<PortPool>,
    reuse: ReuseRule,
    destinations: DestinationTallies,
    /// TIME-WAIT sockets that are not outgoing, by their local end.
    endpoints: FastMap<(Address, u16), u64>,
    /// The same sockets by their remote address. Apart by family: a server's clients may be
    /// millions, and an IPv4 entry takes 8 bytes instead of 20.
    remotes_v4: Counts<u32>,
    remotes_v6: Counts<u128>,
    /// Ports of the range held other than by outgoing sockets.
    sources: SourcePools,
    /// What keeps connect() from ports, whatever the range.
    sets: PortSets,
    ages: [u64; AGE_BANDS],
}

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Census").finish_non_exhaustive()
    }
}

impl Census {
    /// An empty pass, with the settings and the owners of ports as they stand when it begins.
    pub fn new(options: CensusOptions, settings: &Settings, owners: &[PortOwner]) -> Self {
        let reserved = settings.reserved_ports.as_ref();
        let mut sources = SourcePools::default();
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
            pool: settings
                .port_range
                .map(|range| PortPool::new(range, reserved, owners)),
            reuse: ReuseRule::new(settings),
            destinations: DestinationTallies::default(),
            endpoints: FastMap::default(),
            remotes_v4: Counts::default(),
            remotes_v6: Counts::default(),
            sources,
            sets,
            ages: [0; AGE_BANDS],
        }
    }

    /// Says that live sockets outside the range will not be told.
    pub const fn without_others(&mut self) {
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
        let make = || DestinationTally::new(reuse.age_limit_ms(&destination));
        let Some(tally) = self.destinations.entry(destination, make) else {
            return;
        };
        let is_reusable = match socket.state {
            TcpState::TimeWait => {
                let age_ms = age::age_ms(socket.remaining_ms);
                count_age(&mut self.ages, age_ms);
                let is_reusable = tally.add_time_wait(age_ms);
                let would_be = !is_reusable && is_usable && age_ms > reuse.delay_ms();
                tally.reuse_gain += u32::from(would_be);
                is_reusable
            }
            TcpState::Established => {
                tally.in_use.established += 1;
                false
            }
            _ => {
                tally.add_other(socket);
                false
            }
        };
        if is_usable && !is_reusable {
            tally.taken.insert(socket.src_port);
        } else {
            tally.not_taken.insert(socket.src_port);
        }
    }

    fn add_incoming(&mut self, socket: &Socket) {
        count_age(&mut self.ages, age::age_ms(socket.remaining_ms));
        *self
            .endpoints
            .entry((socket.src_addr, socket.src_port))
            .or_default() += 1;
        if self.options.by_dst_addr {
            match socket.dst_addr.to_v4_bits() {
                Some(bits) => self.remotes_v4.add(bits),
                None => self.remotes_v6.add(socket.dst_addr.to_bits()),
            }
        }
    }

    /// What it all adds up to. `source` and `messages` are told as given.
    pub fn finish(mut self, source: Source, messages: u64) -> SocketSummary {
        self.remotes_v4.settle();
        self.remotes_v6.settle();
        let sources = std::mem::take(&mut self.sources);
        let sets = std::mem::take(&mut self.sets);
        let options = &self.options;
        let ranged = self.pool.is_some();
        SocketSummary {
            source: Some(source),
            messages,
            time_wait: self.time_wait(),
            by_src_addr: options.by_src_addr.then(|| self.by_src_addr()),
            by_src_port: (options.by_src_port && ranged).then(|| self.by_src_port()),
            by_dst_addr: options.by_dst_addr.then(|| self.by_dst_addr()),
            by_dst_port: (options.by_dst_port && ranged).then(|| self.by_dst_port()),
            by_age: options.by_age.then_some(self.ages),
            ports: self.pool.as_ref().map(|pool| {
                destinations::figures(pool, &self.destinations, sources, sets, options)
            }),
        }
    }

    fn time_wait(&self) -> PerFamily<u64> {
        let mut sums = PerFamily::default();
        for (destination, tally) in self.destinations.iter() {
            *sums.get_mut(destination.src_addr.family()) += tally.in_use.time_wait;
        }
        for ((src_addr, _), count) in &self.endpoints {
            *sums.get_mut(src_addr.family()) += count;
        }
        sums
    }

    fn by_src_addr(&self) -> Breakdown<Address> {
        let outgoing = self
            .outgoing()
            .map(|(destination, count)| (destination.src_addr, count));
        let incoming = self
            .endpoints
            .iter()
            .map(|((address, _), count)| (*address, *count));
        self.breakdown(outgoing.chain(incoming), &[])
    }

    fn by_src_port(&self) -> PortBreakdown {
        let incoming = self
            .endpoints
            .iter()
            .map(|((_, port), count)| (*port, *count));
        PortBreakdown {
            ports: self.breakdown(incoming, &self.options.pinned_ports),
            ephemeral: self.outgoing().map(|(_, count)| count).sum(),
        }
    }

    fn by_dst_addr(&self) -> Breakdown<Address> {
        // A remote address may be both a server and a client of ours. The servers are few; the map
        // of clients, which may be vast, is read in place.
        let mut servers: FastMap<Address, u64> = FastMap::default();
        for (destination, count) in self.outgoing().filter(|(_, count)| *count > 0) {
            *servers.entry(destination.dst_addr).or_default() += count;
        }
        for (address, count) in &mut servers {
            *count += self.incoming_from(*address);
        }
        let v4 = self
            .remotes_v4
            .iter()
            .map(|(bits, count)| (Address::from_v4_bytes(bits.to_be_bytes()), count));
        let v6 = self
            .remotes_v6
            .iter()
            .map(|(bits, count)| (Address::from_v6_bytes(bits.to_be_bytes()), count));
        let only_clients = v4
            .chain(v6)
            .filter(|(address, _)| !servers.contains_key(address));
        let counts = servers
            .iter()
            .map(|(address, count)| (*address, *count))
            .chain(only_clients);
        top::breakdown(counts, self.options.top, &[])
    }

    fn incoming_from(&self, remote: Address) -> u64 {
        match remote.to_v4_bits() {
            Some(bits) => self.remotes_v4.get(bits),
            None => self.remotes_v6.get(remote.to_bits()),
        }
    }

    fn by_dst_port(&self) -> PortBreakdown {
        let outgoing = self
            .outgoing()
            .map(|(destination, count)| (destination.dst_port, count));
        PortBreakdown {
            ports: self.breakdown(outgoing, &self.options.pinned_ports),
            ephemeral: self.endpoints.values().sum(),
        }
    }

    /// TIME-WAIT sockets by destination.
    fn outgoing(&self) -> impl Iterator<Item = (&Destination, u64)> {
        self.destinations
            .iter()
            .map(|(destination, tally)| (destination, tally.in_use.time_wait))
    }

    /// Adds up counts that may tell a value more than once, and picks the top N. A value with no
    /// TIME-WAIT socket is none.
    fn breakdown<K: Copy + Ord + Hash>(
        &self,
        counts: impl Iterator<Item = (K, u64)>,
        pinned: &[K],
    ) -> Breakdown<K> {
        let mut sums: FastMap<K, u64> = FastMap::default();
        for (key, count) in counts.filter(|(_, count)| *count > 0) {
            *sums.entry(key).or_default() += count;
        }
        let sums = sums.into_iter();
        top::breakdown(sums, self.options.top, pinned)
    }
}

#[inline]
fn count_age(ages: &mut [u64; AGE_BANDS], age_ms: u32) {
    if let Some(count) = ages.get_mut(age::band_index(age_ms)) {
        *count += 1;
    }
}

#[cfg(test)]
#[path = "census_tests.rs"]
#[expect(
    clippy::unwrap_used,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "tests"
)]
mod tests;

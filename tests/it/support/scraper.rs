//! The program as a library, inside a namespace.

use std::time::{Duration, Instant};

use timewait_exporter::collector::{Collector, CollectorConfig, Enabled, SourceChoice};
use timewait_exporter::domain::options::{CensusOptions, PinnedDestination};
use timewait_exporter::domain::snapshot::{
    Destination, DestinationUsage, PortUsage, Snapshot, SocketSummary,
};
use timewait_exporter::kernel::sock_diag::NetlinkConnect;
use tokio::runtime::Runtime;

use super::runtime;
use super::server::config;
use crate::consistency::assert_consistent;

/// A collector in the namespace of the thread that opens it.
pub struct Scraper {
    collector: Collector,
    runtime: Runtime,
}

impl Scraper {
    /// Exports every value, and these destinations even without a socket.
    pub fn open(destinations: impl IntoIterator<Item = Destination>) -> Self {
        Self::open_with(true, destinations)
    }

    /// The same, perhaps without the collector `probe`.
    pub fn open_with(probe: bool, destinations: impl IntoIterator<Item = Destination>) -> Self {
        let pins = destinations
            .into_iter()
            .map(|destination| PinnedDestination {
                src_addr: Some(destination.src_addr),
                dst_addr: destination.dst_addr,
                dst_port: destination.dst_port,
            });
        let config = CollectorConfig {
            source: SourceChoice::Netlink,
            procfs: "/proc".into(),
            enabled: Enabled::default(),
            census: CensusOptions {
                top: 1_000,
                probe,
                pinned_destinations: pins.collect(),
                ..CensusOptions::default()
            },
            ..config(&[]).collector
        };
        Self {
            collector: Collector::open(config, Box::new(NetlinkConnect)).unwrap(),
            runtime: runtime(),
        }
    }

    /// A scrape, for which the invariants of every scrape are asserted.
    pub fn scrape(&self) -> Snapshot {
        let deadline = Instant::now() + Duration::from_secs(30);
        let snapshot = self.runtime.block_on(self.collector.scrape(deadline)).own;
        assert_consistent(&snapshot);
        snapshot
    }

    pub fn sockets(&self) -> SocketSummary {
        self.scrape().sockets().expect("there is a dump").clone()
    }

    pub fn ports(&self) -> PortUsage {
        self.sockets().ports.expect("the range is known")
    }
}

/// The exported values of a destination.
pub fn usage_of(ports: &PortUsage, destination: Destination) -> DestinationUsage {
    let exported = &ports.by_destination.as_ref().expect("it is on").exported;
    let mut matching = exported
        .iter()
        .filter(|usage| usage.destination == destination);
    let usage = matching.next().expect("it uses a port or is pinned");
    assert!(
        matching.next().is_none(),
        "{destination:?} is exported twice"
    );
    *usage
}

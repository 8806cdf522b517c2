//! A report of a host with problems, for the tests of all report formats.

use std::time::{Duration, UNIX_EPOCH};

use super::{NamespaceReport, Report};
use crate::domain::address::Address;
use crate::domain::census::{Census, Moment};
use crate::domain::collectors::CollectorId;
use crate::domain::holders::{Holder, Holders};
use crate::domain::options::CensusOptions;
use crate::domain::ports::PortRange;
use crate::domain::settings::Settings;
use crate::domain::snapshot::{Counts, Destination, Outcome, Reading, Snapshot, Source};
use crate::domain::socket::{PortOwner, Socket, TcpState};

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// 100 ports, this many of them in TIME-WAIT to one server, ten established to another.
pub(super) fn snapshot(time_wait: u16) -> Snapshot {
    let settings = Settings {
        port_range: PortRange::new(40_000, 40_099),
        reserved_ports: Some([50_000].into_iter().collect()),
        tcp_tw_reuse: Some(0),
        tcp_timestamps: Some(1),
        tcp_max_tw_buckets: Some(262_144),
        ..Settings::default()
    };
    let owners = [PortOwner {
        addr: Address::ANY_V4,
        port: 40_099,
        listening: true,
        v6_only: false,
    }];
    let mut census = Census::new(
        CensusOptions::default(),
        &settings,
        Moment::default(),
        &owners,
    );
    for index in 0..time_wait {
        census.add(&Socket {
            src_addr: address("192.0.2.1"),
            dst_addr: address("198.51.100.1"),
            src_port: 40_000 + index,
            dst_port: 5432,
            state: TcpState::TimeWait,
            remaining_ms: 20_000,
            is_on_loopback_device: false,
        });
    }
    for index in 0..10 {
        census.add(&Socket {
            src_addr: address("2001:db8::1"),
            dst_addr: address("2001:db8::2"),
            src_port: 40_000 + index,
            dst_port: 443,
            state: TcpState::Established,
            remaining_ms: 0,
            is_on_loopback_device: false,
        });
    }
    let mut snapshot = Snapshot::default();
    let mut found = |id, reading: Option<Reading>| {
        let outcome = Outcome::whole(reading, Duration::from_millis(12));
        snapshot.set(id, Some(outcome));
    };
    found(
        CollectorId::Sockets,
        Some(census.finish(Source::Netlink, 200).into()),
    );
    found(CollectorId::Sysctl, Some(settings.into()));
    found(CollectorId::Netstat, Some(Counts::default().into()));
    found(CollectorId::Slabinfo, None);
    snapshot.with_buckets(time_wait.into())
}

pub(super) fn report(time_wait: u16) -> Report {
    let mut namespace = NamespaceReport::new(None, snapshot(time_wait));
    namespace.holders = Some(vec![Holders {
        destination: Destination {
            src_addr: address("2001:db8::1"),
            dst_addr: address("2001:db8::2"),
            dst_port: 443,
        },
        live_sockets: 10,
        processes: vec![Holder {
            pid: 77,
            name: "evil\x1b[2J".to_owned(),
            sockets: 8,
        }],
        unnamed_sockets: 2,
    }]);
    Report {
        version: "1.2.3",
        host: "web-7".to_owned(),
        kernel: "6.18.0".to_owned(),
        made: UNIX_EPOCH + Duration::from_secs(1_760_000_000),
        namespaces: vec![namespace],
        missing: None,
    }
}

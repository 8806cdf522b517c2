//! Shared by the tests of this module: a complete snapshot, hand-made families, and a parser of the text formats
//! that is independent of the writers.
//!
//! The parser reads escapes by the formats' grammar, not by inverting the encoders. It does not check metadata
//! lines.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::families::{BuildInfo, ExporterMetrics, HandlerMetrics};
use crate::domain::address::Address;
use crate::domain::collectors::CollectorId;
use crate::domain::container::ContainerIdentity;
use crate::domain::namespace::{HostSnapshot, NamespaceIdentity, NamespaceSnapshot, Namespaces};
use crate::domain::ports::PortRange;
use crate::domain::process::ProcessUsage;
use crate::domain::settings::Settings;
use crate::domain::snapshot::{
    Breakdown, Counts, Destination, DestinationBreakdown, DestinationUsage, OtherStates, Outcome,
    PeerTimestamps, PerFamily, PortBreakdown, PortSets, PortUsage, PortsInUse, Probe, Reading,
    Snapshot, SocketSummary, Source, SourceUsage,
};
use crate::domain::udp::UdpUsage;

/// One line of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Sample {
    /// The name and the label set, whatever its order.
    pub(super) fn identity(&self) -> (String, Vec<(String, String)>) {
        let mut labels = self.labels.clone();
        labels.sort();
        (self.name.clone(), labels)
    }
}

/// All samples of a text 0.0.4 or `OpenMetrics` exposition without timestamps.
pub(super) fn parse(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'), "the last line must be whole");
    text.split_terminator('\n')
        .filter(|line| !line.starts_with('#'))
        .map(parse_sample)
        .collect()
}

fn parse_sample(line: &str) -> Sample {
    let name_end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after_name) = rest.split_once("=\"").unwrap();
            let (value, after_value) = quoted(after_name);
            labels.push((label.to_owned(), value));
            rest = after_value.strip_prefix(',').unwrap_or(after_value);
        }
        rest = rest.strip_prefix('}').unwrap();
    }
    Sample {
        name: name.to_owned(),
        labels,
        value: rest.strip_prefix(' ').unwrap().parse().unwrap(),
    }
}

/// The value of a quoted string, and the text after its closing quote.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next().unwrap() {
            '"' => return (value, characters.as_str()),
            '\\' => value.push(match characters.next().unwrap() {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
}

/// A family made by hand.
pub(super) fn family(
    kind: MetricType,
    name: &str,
    help: &str,
    samples: &[(&[(&str, &str)], f64)],
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(
        samples
            .iter()
            .map(|(labels, value)| metric(kind, labels, *value))
            .collect(),
    );
    family
}

fn metric(kind: MetricType, labels: &[(&str, &str)], value: f64) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut metric = Metric::from_label(pairs.collect());
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

/// A successful outcome with a value.
fn found<T>(value: T) -> Outcome<T> {
    Outcome::whole(Some(value), Duration::from_micros(1_250))
}

pub(super) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// A host where every collector found everything: each metric of the table has a series.
/// The same snapshot twice: for the exporter's namespace, and for one called "blue".
pub(super) fn rich_host() -> HostSnapshot {
    let other = NamespaceSnapshot {
        identity: NamespaceIdentity {
            label: "blue".to_owned(),
            inode: 4_026_532_281,
            pid: Some(77),
            comm: Some("nginx".to_owned()),
            container: ContainerIdentity {
                container_id: Some("c0ffee".to_owned()),
                pod_uid: None,
            },
            entrance: None,
            entrance_on_host: None,
        },
        snapshot: rich_snapshot()
            .without(CollectorId::Slabinfo)
            .without(CollectorId::Failures),
        age: Some(Duration::from_millis(12_500)),
    };
    HostSnapshot {
        own: rich_snapshot(),
        namespaces: Some(Arc::new(found(Namespaces {
            exported: vec![other],
            unreadable: 1,
            left_out: 2,
            absent: 0,
            has_unlisted_names: false,
        }))),
    }
}

pub(super) fn rich_snapshot() -> Snapshot {
    let netstat = [
        ("TW", 1_000_000),
        ("TWRecycled", 12),
        ("TWKilled", 0),
        ("TCPTimeWaitOverflow", 3),
        ("PAWSActive", 0),
        ("PAWSEstab", 7),
        ("PAWSTimewait", 1),
    ];
    let opens = [("ActiveOpens", 271_828), ("PassiveOpens", 31_415)];
    let conntrack = [
        ("count", 1_187),
        ("max", 65_536),
        ("insert_failed", 17),
        ("drop", 18),
        ("early_drop", 2),
    ];
    let udp = UdpUsage {
        by_source: vec![SourceUsage {
            src_addr: Address::ANY_V4,
            ports: 7_058,
            listened: 0,
            on_wildcards: 0,
            exhaustion_ratio: 0.25,
        }],
    };
    let mut snapshot = Snapshot::default();
    for (id, reading) in [
        (CollectorId::Snmp, counts(&opens).into()),
        (CollectorId::Conntrack, counts(&conntrack).into()),
        (CollectorId::Sockets, rich_sockets().into()),
        (CollectorId::Sysctl, rich_settings().into()),
        (CollectorId::Netstat, counts(&netstat).into()),
        (
            CollectorId::Slabinfo,
            counts(&[("bytes", 8_388_608)]).into(),
        ),
        (CollectorId::Failures, counts(&[("failures", 400)]).into()),
        (CollectorId::Udp, udp.into()),
    ] {
        snapshot.set(id, Some(found::<Reading>(reading)));
    }
    snapshot.with_buckets(31_282)
}

pub(super) fn counts(counts: &[(&'static str, u64)]) -> Counts {
    counts.iter().copied().collect()
}

pub(super) fn rich_settings() -> Settings {
    Settings {
        port_range: PortRange::new(32_768, 60_999),
        reserved_ports: Some([8_080, 40_000, 40_001].into_iter().collect()),
        tcp_tw_reuse: Some(2),
        tcp_tw_reuse_delay_ms: Some(1_000),
        tcp_tw_recycle: Some(0),
        tcp_timestamps: Some(1),
        tcp_fin_timeout_seconds: Some(60),
        tcp_max_tw_buckets: Some(262_144),
        tcp_rfc1337: Some(0),
        ip_unprivileged_port_start: Some(1_024),
        tcp_tw_timeout_seconds: Some(60),
        ip_local_port_step_width: Some(0),
        ip_autobind_reuse: Some(0),
        ipv6_bindv6only: Some(0),
    }
}

fn rich_sockets() -> SocketSummary {
    SocketSummary {
        source: Some(Source::Netlink),
        messages: 31_400,
        time_wait: PerFamily {
            ipv4: 31_000,
            ipv6: 232,
        },
        by_src_addr: Some(Breakdown {
            exported: vec![
                (address("192.0.2.7"), 31_000),
                (address("2001:db8::7"), 200),
            ],
            other: 32,
        }),
        by_src_port: Some(PortBreakdown {
            ports: Breakdown {
                exported: vec![(443, 1_000)],
                other: 0,
            },
            ephemeral: 30_232,
        }),
        by_dst_addr: Some(Breakdown {
            exported: vec![(address("198.51.100.1"), 28_000)],
            other: 3_232,
        }),
        by_dst_port: Some(PortBreakdown {
            ports: Breakdown {
                exported: vec![(5_432, 28_000), (6_379, 0)],
                other: 2_232,
            },
            ephemeral: 1_000,
        }),
        by_age: Some([500, 2_000, 5_000, 8_000, 8_000, 7_732]),
        ports: Some(rich_ports()),
    }
}

fn rich_ports() -> PortUsage {
    PortUsage {
        range: PortRange::new(32_768, 60_999).unwrap(),
        reserved: 2,
        blocked: 3,
        bind_owned: Some(0),
        probe: Probe::Done {
            duration: Duration::from_micros(250),
        },
        listeners: 1,
        usable: 28_227,
        free: 200,
        worst_ratio: PerFamily {
            ipv4: 0.992,
            ipv6: 0.0,
        },
        least_ratio: Some(PerFamily {
            ipv4: 0.5,
            ipv6: 0.0,
        }),
        destinations: 17,
        by_destination: Some(DestinationBreakdown {
            exported: vec![
                destination("192.0.2.7", "198.51.100.1", 5_432),
                destination("2001:db8::7", "2001:db8::1", 5_432),
            ],
            other: PortsInUse {
                time_wait: 2_000,
                established: 10,
                other: 1,
            },
        }),
        by_source: Some(vec![SourceUsage {
            src_addr: address("192.0.2.7"),
            ports: 28_008,
            listened: 0,
            on_wildcards: 0,
            exhaustion_ratio: 28_008.0 / 28_230.0,
        }]),
        sets: PortSets {
            reserved: rich_settings().reserved_ports,
            ..PortSets::default()
        },
    }
}

fn destination(src_addr: &str, dst_addr: &str, dst_port: u16) -> DestinationUsage {
    DestinationUsage {
        destination: Destination {
            src_addr: address(src_addr),
            dst_addr: address(dst_addr),
            dst_port,
        },
        in_use: PortsInUse {
            time_wait: 28_000,
            established: 5,
            other: 2,
        },
        other_states: OtherStates::default(),
        reusable: 0,
        reuse_gain: 0,
        peer_timestamps: PeerTimestamps::default(),
        headroom: 220,
        exhaustion_ratio: 0.992_206_043_858_717,
        least_ratio: 0.992,
        close_rate: 466.7,
        search_ports: 14_000,
    }
}

/// An exporter with all metrics about itself.
pub(super) fn rich_exporter() -> ExporterMetrics {
    ExporterMetrics {
        process: Some(ProcessUsage {
            cpu_seconds: 0.25,
            open_fds: 11,
            max_fds: Some(1_024),
            virtual_memory_bytes: 150_000_000,
            virtual_memory_max_bytes: Some(u64::MAX),
            resident_memory_bytes: 6_000_000,
            start_time_seconds: 1_760_000_000.12,
        }),
        handler: Some(HandlerMetrics {
            in_flight: 1,
            requests_by_code: [(200, 40), (500, 0), (503, 2)],
            encoding_errors: 1,
        }),
        ..silent_exporter()
    }
}

/// An exporter with its build info only.
pub(super) fn silent_exporter() -> ExporterMetrics {
    ExporterMetrics {
        build: BuildInfo {
            version: "0.1.0",
            revision: "unknown",
            rustversion: "1.95.0",
            target: "x86_64-unknown-linux-gnu",
        },
        process: None,
        handler: None,
    }
}

//! The table, and the families made from it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod laws;
mod namespaces;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::domain::ports::{PortRange, PortSet};
use crate::domain::settings::Settings;
use crate::domain::snapshot::{
    Breakdown, Counts, DestinationBreakdown, Outcome, PortBreakdown, SocketSummary,
};
use crate::exposition::testing::{
    Sample, counts, parse, rich_exporter, rich_host, rich_settings, rich_snapshot, silent_exporter,
};
use crate::exposition::{Format, encode};

fn samples_of_host(host: &HostSnapshot, exporter: &ExporterMetrics) -> Vec<Sample> {
    let body = encode(families(host, exporter), Format::Text).unwrap();
    parse(&String::from_utf8(body).unwrap())
}

fn samples_of(snapshot: &Snapshot, exporter: &ExporterMetrics) -> Vec<Sample> {
    samples_of_host(&snapshot.clone().into(), exporter)
}

fn samples(snapshot: &Snapshot) -> Vec<Sample> {
    samples_of(snapshot, &silent_exporter())
}

/// The samples of one metric as "label values: value".
fn values_of(samples: &[Sample], name: &str) -> Vec<String> {
    samples
        .iter()
        .filter(|sample| sample.name == name)
        .map(|sample| {
            let values: Vec<&str> = sample.labels.iter().map(|(_, v)| v.as_str()).collect();
            format!("{}: {}", values.join(" "), sample.value)
        })
        .collect()
}

fn names(samples: &[Sample]) -> BTreeSet<String> {
    samples.iter().map(|sample| sample.name.clone()).collect()
}

fn late() -> Outcome {
    Outcome::missing(Duration::from_millis(9_500))
}

fn edit_sockets(snapshot: &mut Snapshot, edit: impl FnOnce(&mut SocketSummary)) {
    edit(snapshot.sockets_mut().unwrap());
}

#[test]
fn every_metric_of_the_table_is_exported_in_its_order_with_its_labels() {
    let families: Vec<_> = families(&rich_host(), &rich_exporter()).collect();
    let names: Vec<&str> = families.iter().map(MetricFamily::name).collect();
    let listed: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names, listed);
    for (family, metric) in families.iter().zip(METRICS.iter()) {
        assert_eq!(family.help(), metric.help);
        for series in family.get_metric() {
            let mut labels: Vec<&str> = series.get_label().iter().map(LabelPair::name).collect();
            // A metric of another namespace has one more label.
            if labels.len() > metric.labels.len() {
                assert_eq!(labels.pop(), Some("netns"), "{}", metric.name);
            }
            assert_eq!(labels, metric.labels, "{}", metric.name);
        }
    }
}

#[test]
fn names_are_unique_even_as_openmetrics_families() {
    let mut reserved = BTreeSet::new();
    for metric in METRICS.iter() {
        let family = metric.name.strip_suffix("_total");
        for name in std::iter::once(metric.name).chain(family) {
            assert!(reserved.insert(name), "{name} is taken");
        }
    }
}

#[test]
fn names_types_and_help_texts_follow_the_conventions() {
    for metric in METRICS.iter() {
        let name = metric.name;
        assert_eq!(metric.is_counter(), name.ends_with("_total"), "{name}");
        assert!(
            ["timewait_", "process_", "promhttp_"]
                .iter()
                .any(|prefix| name.starts_with(prefix)),
            "{name}"
        );
        let words = name
            .chars()
            .chain(metric.labels.iter().flat_map(|l| l.chars()));
        assert!(
            words
                .clone()
                .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit()),
            "{name}"
        );
        assert!(
            metric.help.ends_with('.') && !metric.help.contains('\n'),
            "{name}"
        );
        assert!(
            !metric.help.contains("  "),
            "{name}: a broken line of the source shows"
        );
    }
}

#[test]
fn an_empty_snapshot_exports_only_the_build_info() {
    let expected =
        ["timewait_exporter_build_info: 0.1.0 unknown 1.95.0 x86_64-unknown-linux-gnu: 1"];
    let samples = samples(&Snapshot::default());
    let found: Vec<String> = samples
        .iter()
        .map(|s| format!("{}: {}", s.name, values_of(&samples, &s.name).concat()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn aggregated_series_are_exported_even_at_zero() {
    let mut snapshot = rich_snapshot();
    edit_sockets(&mut snapshot, |sockets| {
        sockets.by_src_addr = Some(Breakdown {
            exported: Vec::new(),
            other: 0,
        });
        sockets.by_dst_port = Some(PortBreakdown::default());
        sockets.ports.as_mut().unwrap().by_destination = Some(DestinationBreakdown::default());
    });
    let samples = samples(&snapshot);
    assert_eq!(
        values_of(&samples, "timewait_sockets_by_src_addr"),
        ["other: 0"]
    );
    assert_eq!(
        values_of(&samples, "timewait_sockets_by_dst_port"),
        ["other: 0", "ephemeral: 0"]
    );
    assert_eq!(
        values_of(&samples, "timewait_destination_ports"),
        [
            "other other other time_wait: 0",
            "other other other established: 0",
            "other other other other: 0",
        ]
    );
    assert!(values_of(&samples, "timewait_destination_headroom_ports").is_empty());
}

#[test]
fn a_breakdown_that_is_switched_off_is_absent() {
    let mut snapshot = rich_snapshot();
    edit_sockets(&mut snapshot, |sockets| {
        sockets.by_src_addr = None;
        sockets.by_src_port = None;
        sockets.by_dst_addr = None;
        sockets.by_dst_port = None;
        sockets.by_age = None;
        sockets.ports.as_mut().unwrap().by_destination = None;
    });
    let names = names(&samples(&snapshot));
    assert!(
        !names
            .iter()
            .any(|name| name.starts_with("timewait_sockets_by_"))
    );
    assert!(
        !names
            .iter()
            .any(|name| name.starts_with("timewait_destination_"))
    );
    assert!(names.contains("timewait_sockets") && names.contains("timewait_destinations"));
}

#[test]
fn values_reach_their_series() {
    let samples = samples_of(&rich_snapshot(), &rich_exporter());
    for (name, expected) in [
        ("timewait_sockets", vec!["ipv4: 31000", "ipv6: 232"]),
        (
            "timewait_sockets_by_src_addr",
            vec!["192.0.2.7: 31000", "2001:db8::7: 200", "other: 32"],
        ),
        (
            "timewait_sockets_by_dst_port",
            vec!["5432: 28000", "6379: 0", "other: 2232", "ephemeral: 1000"],
        ),
        (
            "timewait_sockets_by_age",
            vec![
                "0-1: 500",
                "1-5: 2000",
                "5-15: 5000",
                "15-30: 8000",
                "30-45: 8000",
                "45-60: 7732",
            ],
        ),
        ("timewait_buckets", vec![": 31282"]),
        ("timewait_buckets_limit", vec![": 262144"]),
        (
            "timewait_port_range_exhaustion_ratio",
            vec!["ipv4: 0.992", "ipv6: 0"],
        ),
        ("timewait_port_range_reserved_ports", vec![": 2"]),
        ("timewait_port_range_blocked_ports", vec![": 3"]),
        ("timewait_port_range_bind_owned_ports", vec![": 0"]),
        ("timewait_port_range_usable_ports", vec![": 28227"]),
        ("timewait_listeners_in_port_range", vec![": 1"]),
        ("timewait_destinations", vec![": 17"]),
        (
            "timewait_destination_headroom_ports",
            vec![
                "192.0.2.7 198.51.100.1 5432: 220",
                "2001:db8::7 2001:db8::1 5432: 220",
            ],
        ),
        ("timewait_sysctl_tcp_tw_reuse_delay", vec![": 1000"]),
        ("timewait_entered_total", vec![": 1000000"]),
        (
            "timewait_paws_rejects_total",
            vec!["PAWSActive: 0", "PAWSEstab: 7", "PAWSTimewait: 1"],
        ),
        ("timewait_scrape_source", vec!["netlink: 1"]),
        ("timewait_scrape_dump_messages", vec![": 31400"]),
        (
            "promhttp_metric_handler_requests_total",
            vec!["200: 40", "500: 0", "503: 2"],
        ),
        (
            "promhttp_metric_handler_errors_total",
            vec!["encoding: 1", "gathering: 0"],
        ),
    ] {
        assert_eq!(values_of(&samples, name), expected, "{name}");
    }
}

#[test]
fn without_the_sockets_the_range_comes_from_the_settings() {
    let mut snapshot = rich_snapshot();
    snapshot.set(CollectorId::Sockets, Some(late()));
    let late = samples(&snapshot);
    for (name, expected) in [
        ("timewait_port_range_min", ": 32768"),
        ("timewait_port_range_max", ": 60999"),
        ("timewait_port_range_ports", ": 28232"),
        // 8080 is reserved too, but lies outside.
        ("timewait_port_range_reserved_ports", ": 2"),
    ] {
        assert_eq!(values_of(&late, name), [expected], "{name}");
    }
    let range_names: Vec<String> = names(&late)
        .into_iter()
        .filter(|name| name.starts_with("timewait_port_range_"))
        .collect();
    assert_eq!(range_names.len(), 4, "{range_names:?}");
    assert!(!names(&late).contains("timewait_destinations"));
    assert!(!names(&late).contains("timewait_listeners_in_port_range"));
}

#[test]
fn the_sockets_reading_of_the_range_wins_over_the_settings() {
    let mut snapshot = rich_snapshot();
    let settings = snapshot.settings_mut().unwrap();
    settings.port_range = PortRange::new(1_024, 2_047);
    settings.reserved_ports = Some(PortSet::new());
    let samples = samples(&snapshot);
    assert_eq!(values_of(&samples, "timewait_port_range_min"), [": 32768"]);
    assert_eq!(
        values_of(&samples, "timewait_port_range_reserved_ports"),
        [": 2"]
    );
}

#[test]
fn without_the_sysctl_the_number_of_reserved_ports_is_absent_whatever_was_dumped() {
    let mut snapshot = rich_snapshot().without(CollectorId::Sysctl);
    edit_sockets(&mut snapshot, |sockets| {
        let ports = sockets.ports.as_mut().unwrap();
        (ports.sets.reserved, ports.reserved) = (None, 0);
    });
    let samples = samples(&snapshot);
    assert!(values_of(&samples, "timewait_port_range_reserved_ports").is_empty());
    assert_eq!(
        values_of(&samples, "timewait_port_range_usable_ports"),
        [": 28227"]
    );
}

#[test]
fn an_unknown_value_is_absent_and_its_neighbours_are_not() {
    let settings = Settings {
        tcp_tw_recycle: None,
        reserved_ports: None,
        tcp_timestamps: Some(-1),
        ..rich_settings()
    };
    let snapshot = rich_snapshot()
        .without(CollectorId::Sockets)
        .with(CollectorId::Slabinfo, Counts::default())
        .with(CollectorId::Netstat, counts(&[("TW", 0)]))
        .with(CollectorId::Sysctl, settings);
    let samples = samples(&snapshot);
    let names = names(&samples);
    for absent in [
        "timewait_memory_bytes",
        "timewait_recycled_total",
        "timewait_paws_rejects_total",
        "timewait_sysctl_tcp_tw_recycle",
        "timewait_port_range_reserved_ports",
        "timewait_scrape_source",
    ] {
        assert!(!names.contains(absent), "{absent}");
    }
    assert_eq!(values_of(&samples, "timewait_entered_total"), [": 0"]);
    assert_eq!(
        values_of(&samples, "timewait_sysctl_tcp_timestamps"),
        [": -1"]
    );
    assert_eq!(
        values_of(&samples, "timewait_port_range_ports"),
        [": 28232"]
    );
}

#[test]
fn collectors_are_exported_in_order_and_only_those_that_are_on() {
    let mut snapshot = rich_snapshot().without_buckets();
    snapshot.set(CollectorId::Sockets, Some(late()));
    let samples = samples(&snapshot);
    let on = CollectorId::ALL
        .iter()
        .filter(|id| snapshot.outcome(**id).is_some());
    let on: Vec<_> = on.map(|id| id.name()).collect();
    let expected = |late: &str, whole: &str| -> Vec<String> {
        let value = |name: &str| if name == "sockets" { late } else { whole }.to_owned();
        on.iter()
            .map(|name| format!("{name}: {}", value(name)))
            .collect()
    };
    assert_eq!(
        values_of(&samples, "timewait_scrape_collector_success"),
        expected("0", "1")
    );
    assert_eq!(
        values_of(&samples, "timewait_scrape_collector_duration_seconds"),
        expected("9.5", "0.00125")
    );
}

#[test]
fn without_metrics_of_itself_the_exporter_exports_its_build_only() {
    let silent = names(&samples(&rich_snapshot()));
    assert!(silent.iter().all(|name| name.starts_with("timewait_")));
    assert!(silent.contains("timewait_exporter_build_info"));

    let mut exporter = rich_exporter();
    exporter.process = None;
    let without_process = names(&samples_of(&rich_snapshot(), &exporter));
    assert!(
        !without_process
            .iter()
            .any(|name| name.starts_with("process_"))
    );
    assert!(without_process.contains("promhttp_metric_handler_requests_in_flight"));
}

#[test]
fn whole_numbers_are_exact_up_to_two_to_the_53() {
    for number in [0, 1, 28_232, (1 << 53) - 1, 1 << 53] {
        assert_eq!(format!("{}", float(number)), number.to_string());
    }
    assert_eq!(signed_float(-1).to_string(), "-1");
}

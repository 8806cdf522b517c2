//! Invariants of every scrape, even while sockets change.

use timewait_exporter::domain::address::Family;
use timewait_exporter::domain::collectors::CollectorId;
use timewait_exporter::domain::snapshot::{
    DestinationBreakdown, DestinationUsage, PortUsage, Snapshot, SocketSummary,
};

/// Equal sums, ratios from 0 to 1, and no part larger than its whole.
pub fn assert_consistent(snapshot: &Snapshot) {
    let outcome = snapshot.outcome(CollectorId::Sockets);
    let outcome = outcome.expect("the collector is on");
    let sockets = snapshot.sockets().expect("there is a dump");
    assert!(outcome.success);
    let total = sockets.time_wait.ipv4 + sockets.time_wait.ipv6;
    assert_equal_sums(sockets, total);
    let ports = sockets.ports.as_ref().expect("the range is known");
    assert_eq!(
        ports.reserved + ports.blocked + ports.bind_owned.unwrap_or(0) + ports.usable,
        ports.range.ports()
    );
    assert!(ports.listeners <= ports.blocked && ports.free <= ports.usable);
    let destinations = ports.by_destination.as_ref().expect("it is on");
    for usage in &destinations.exported {
        assert_bounded(usage, ports);
    }
    assert_destinations_add_up(destinations, sockets);
    for source in ports.by_source.as_ref().expect("it is on") {
        assert!(source.ports <= ports.range.ports() - ports.reserved);
        assert_share(source.exhaustion_ratio);
    }
    for family in Family::ALL {
        assert_worst(family, destinations, ports);
    }
}

/// The highest ratio of a family is that of an exported destination, if one of the family is exported. A pinned
/// destination without a port in use does not count.
fn assert_worst(family: Family, destinations: &DestinationBreakdown, ports: &PortUsage) {
    let mut worst = ports.worst_ratio;
    let worst = *worst.get_mut(family);
    assert_share(worst);
    let of_family = |usage: &&DestinationUsage| {
        usage.destination.dst_addr.family() == family && usage.in_use.total() > 0
    };
    let exported = destinations.exported.iter().filter(of_family);
    let worst_exported = exported
        .map(|usage| usage.exhaustion_ratio)
        .fold(0.0, f64::max);
    let difference = worst - worst_exported;
    assert!(
        difference >= 0.0,
        "{family:?}: {worst}, but exported at most {worst_exported}"
    );
    let all_are_exported = destinations.other.total() == 0;
    assert!(
        !all_are_exported || difference <= 0.0,
        "{family:?}: {worst}, but exported at most {worst_exported}"
    );
}

fn assert_equal_sums(sockets: &SocketSummary, total: u64) {
    let by_src_port = sockets.by_src_port.as_ref().expect("it is on");
    let by_dst_port = sockets.by_dst_port.as_ref().expect("it is on");
    let sums = [
        sockets.by_src_addr.as_ref().expect("it is on").total(),
        by_src_port.ports.total() + by_src_port.ephemeral,
        sockets.by_dst_addr.as_ref().expect("it is on").total(),
        by_dst_port.ports.total() + by_dst_port.ephemeral,
        sockets.by_age.expect("it is on").iter().sum(),
    ];
    assert_eq!(sums, [total; 5], "the breakdowns of {total} sockets");
}

fn assert_bounded(usage: &DestinationUsage, ports: &PortUsage) {
    assert_share(usage.exhaustion_ratio);
    assert!(usage.reusable <= usage.in_use.time_wait, "{usage:?}");
    assert!(usage.headroom <= ports.usable, "{usage:?}");
    assert!(usage.headroom >= ports.free, "{usage:?}");
    assert!(usage.search_ports <= ports.usable, "{usage:?}");
    assert!(usage.close_rate.is_finite() && usage.close_rate >= 0.0);
    let is_full = usage.exhaustion_ratio >= 1.0;
    assert_eq!(is_full, usage.headroom == 0, "{usage:?}");
}

/// Every TIME-WAIT socket belongs to a destination or has a local service port.
fn assert_destinations_add_up(destinations: &DestinationBreakdown, sockets: &SocketSummary) {
    let exported = destinations
        .exported
        .iter()
        .map(|usage| usage.in_use.time_wait);
    let outgoing = exported.sum::<u64>() + destinations.other.time_wait;
    let by_src_port = sockets.by_src_port.as_ref().expect("it is on");
    assert_eq!(outgoing, by_src_port.ephemeral);
}

fn assert_share(ratio: f64) {
    assert!((0.0..=1.0).contains(&ratio), "a ratio of {ratio}");
}

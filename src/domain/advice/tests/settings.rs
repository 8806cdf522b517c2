//! Sysctls and buckets.

use super::*;
use crate::domain::address::Address;
use crate::domain::snapshot::SourceUsage;
use crate::domain::udp::UdpUsage;

#[test]
fn reuse_two_is_reported_where_it_would_need_one() {
    let mut host = using(28_000, TcpState::TimeWait);
    host.settings.tcp_tw_reuse = Some(2);
    let advice = host.advice();
    let finding = found(&advice, Id::ReuseLoopbackOnly);
    assert_eq!(
        remedy(finding, RemedyId::Reuse).commands,
        ["sysctl -w net.ipv4.tcp_tw_reuse=1"]
    );
    // Not on a host with ports left, nor where live connections use them.
    let mut quiet = using(10, TcpState::TimeWait);
    quiet.settings.tcp_tw_reuse = Some(2);
    assert!(find(&quiet.advice(), Id::ReuseLoopbackOnly).is_none());
    let mut live = using(28_000, TcpState::Established);
    live.settings.tcp_tw_reuse = Some(2);
    assert!(find(&live.advice(), Id::ReuseLoopbackOnly).is_none());
}

#[test]
fn the_age_from_which_sockets_are_reused_is_that_of_this_host() {
    let mut host = using(28_000, TcpState::TimeWait);
    for (delay, says) in [
        (None, "older than 1 s."),
        (Some(1_000), "older than 1 s."),
        (Some(20_000), "older than 20 s."),
    ] {
        host.settings.tcp_tw_reuse_delay_ms = delay;
        let advice = host.advice();
        let reuse = remedy(found(&advice, Id::DestinationLow), RemedyId::Reuse);
        assert!(reuse.action.contains(says), "{}", reuse.action);
    }
}

#[test]
fn udp_ports_are_low_and_critical_from_the_thresholds_on() {
    let usage = |ports: u32| {
        let source = SourceUsage {
            src_addr: Address::ANY_V4,
            ports,
            listened: 0,
            on_wildcards: 0,
            exhaustion_ratio: f64::from(ports) / 28_232.0,
        };
        let udp = UdpUsage {
            by_source: vec![source],
        };
        advise(
            &using(10, TcpState::TimeWait)
                .snapshot()
                .with(CollectorId::Udp, udp),
        )
    };
    assert!(find(&usage(21_000), Id::UdpPortsLow).is_none());
    let low = usage(22_000);
    let finding = found(&low, Id::UdpPortsLow);
    assert_eq!(finding.severity, Severity::Warning);
    assert!(
        finding.sentence.contains("has 6,232 ports left of 28,232"),
        "{}",
        finding.sentence
    );
    let wider = remedy(finding, RemedyId::WidenRange);
    assert!(wider.effect.unwrap().after.headroom > 25_000);
    let critical = usage(25_500);
    assert_eq!(
        found(&critical, Id::UdpPortsLow).severity,
        Severity::Critical
    );
    let full = usage(28_232);
    assert!(
        full.headline
            .starts_with("A new UDP socket on 0.0.0.0 fails."),
        "{}",
        full.headline
    );
}

#[test]
fn reuse_without_timestamps_is_reported_with_both_remedies() {
    let mut host = using(28_000, TcpState::TimeWait);
    host.settings.tcp_timestamps = Some(0);
    host.settings.tcp_tw_reuse = Some(1);
    let advice = host.advice();
    let finding = found(&advice, Id::ReuseWithoutTimestamps);
    let command = ["sysctl -w net.ipv4.tcp_timestamps=1"];
    assert_eq!(remedy(finding, RemedyId::Timestamps).commands, command);
    let low = found(&advice, Id::DestinationLow);
    let timestamps = remedy(low, RemedyId::Timestamps);
    assert_eq!(
        (timestamps.commands.clone(), timestamps.effect),
        (command.map(str::to_owned).to_vec(), None)
    );
    host.settings.tcp_tw_reuse = Some(2);
    let advice = host.advice();
    assert!(find(&advice, Id::ReuseWithoutTimestamps).is_none());
    assert_eq!(
        remedy(found(&advice, Id::DestinationLow), RemedyId::Reuse).commands,
        [
            "sysctl -w net.ipv4.tcp_timestamps=1",
            "sysctl -w net.ipv4.tcp_tw_reuse=1"
        ]
    );
}

#[test]
fn recycling_is_reported_with_what_it_dropped_and_in_addition_to_reuse() {
    let mut host = Host::new(32_768, 60_999);
    host.settings.tcp_tw_recycle = Some(1);
    host.settings.tcp_tw_reuse = Some(1);
    let rejects: Counts = [("PAWSActive", 1), ("PAWSPassive", 12_345)]
        .into_iter()
        .collect();
    let snapshot = host.snapshot().with(CollectorId::Netstat, rejects);
    let advice = advise(&snapshot);
    let finding = found(&advice, Id::Recycle);
    assert!(finding.sentence.contains("12,345"), "{}", finding.sentence);
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(
        remedy(finding, RemedyId::RecycleOff).commands,
        ["sysctl -w net.ipv4.tcp_tw_recycle=0"]
    );
    found(&advice, Id::RecycleAndReuse);
}

#[test]
fn a_lower_fin_timeout_is_reported_not_to_shorten_time_wait() {
    for (seconds, is_reported) in [(15, true), (59, true), (60, false), (120, false)] {
        let mut host = Host::new(32_768, 60_999);
        host.settings.tcp_fin_timeout_seconds = Some(seconds);
        assert_eq!(
            find(&host.advice(), Id::FinTimeout).is_some(),
            is_reported,
            "{seconds}"
        );
    }
}

fn with_buckets(host: &Host, used: u64, limit: i64, overflows: u64) -> Advice {
    let mut host = host.clone();
    host.settings.tcp_max_tw_buckets = Some(limit);
    let overflows: Counts = [("TCPTimeWaitOverflow", overflows)].into_iter().collect();
    let snapshot = host.snapshot();
    let snapshot = snapshot.with_buckets(used);
    advise(&snapshot.with(CollectorId::Netstat, overflows))
}

#[test]
fn buckets_near_their_limit_and_past_overflows_are_reported() {
    let host = Host::new(32_768, 60_999);
    let advice = with_buckets(&host, 209_715, 262_144, 0);
    assert!(find(&advice, Id::BucketsNearLimit).is_none());
    let advice = with_buckets(&host, 209_716, 262_144, 5);
    let near = found(&advice, Id::BucketsNearLimit);
    assert_eq!(
        remedy(near, RemedyId::MoreBuckets).commands,
        ["sysctl -w net.ipv4.tcp_max_tw_buckets=524288"]
    );
    found(&with_buckets(&host, 10, 262_144, 5), Id::BucketOverflows);
    assert_eq!(remedy(near, RemedyId::MoreBuckets).caution, None);
    // Where TIME-WAIT sockets use the ports, more of them would make it worse.
    let advice = with_buckets(&using(28_000, TcpState::TimeWait), 28_000, 28_000, 5);
    let near = found(&advice, Id::BucketsNearLimit);
    let caution = remedy(near, RemedyId::MoreBuckets)
        .caution
        .as_ref()
        .unwrap();
    assert!(caution.contains("fix that first"), "{caution}");
    let advice = with_buckets(&host, 3, 0, 0);
    let sentence = &found(&advice, Id::BucketsNearLimit).sentence;
    assert!(
        sentence.starts_with("tcp_max_tw_buckets is 0, 3 sockets are in TIME-WAIT now"),
        "{sentence}"
    );
}

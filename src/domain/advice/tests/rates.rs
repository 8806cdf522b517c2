//! Connections that close faster than ports become free, and a slow connect().

use super::*;

/// A destination whose sockets were closed within the last 10 s.
fn closing(min: u16, max: u16, closed: u16) -> Host {
    let mut host = Host::new(min, max);
    host.open("198.51.100.1", min..min + closed, TcpState::TimeWait);
    for socket in &mut host.sockets {
        socket.remaining_ms = 55_000;
    }
    host
}

#[test]
fn a_slow_connect_is_a_finding_long_before_ports_are_low() {
    let mut host = Host::new(32_768, 60_999);
    // One parity, as the kernel chooses ports.
    host.open(
        "198.51.100.1",
        (32_768..42_766).step_by(2),
        TcpState::TimeWait,
    );
    assert_eq!(host.advice().severity, Severity::Ok);
    host.open(
        "198.51.100.1",
        (42_766..=60_998).step_by(2),
        TcpState::TimeWait,
    );
    let advice = host.advice();
    let slow = found(&advice, Id::ConnectSlow);
    assert_eq!(slow.severity, Severity::Warning);
    assert!(
        slow.sentence
            .contains("all 14,116 ports of one parity (even or odd) are in use")
            && slow
                .sentence
                .contains("about 1.4 ms of CPU instead of 0.02 ms"),
        "{}",
        slow.sentence
    );
    assert!(advice.headline.contains("is slow"), "{}", advice.headline);
    // The fix brings it below half of the range.
    let widen = remedy(slow, RemedyId::WidenRange);
    assert!(widen.effect.unwrap().after.ratio < 0.5);
    assert!(
        widen
            .caution
            .as_ref()
            .unwrap()
            .contains("half of the range")
    );
    let more = remedy(slow, RemedyId::MoreServerPorts);
    assert!(more.effect.unwrap().after.ratio < 0.5);
    assert!(has(slow, RemedyId::Reuse) && has(slow, RemedyId::ReuseConnections));
}

#[test]
fn random_steps_of_the_search_are_slow_only_where_one_parity_is_in_use() {
    let mut host = Host::new(32_768, 60_999);
    host.settings.ip_local_port_step_width = Some(1_000);
    host.open(
        "198.51.100.1",
        (32_768..52_768).step_by(2),
        TcpState::TimeWait,
    );
    assert!(find(&host.advice(), Id::ConnectSlow).is_none());
    host.open(
        "198.51.100.1",
        (52_768..=60_998).step_by(2),
        TcpState::TimeWait,
    );
    let advice = host.advice();
    let slow = &found(&advice, Id::ConnectSlow).sentence;
    assert!(
        slow.contains("in random steps too, up to 14,116 ports in use"),
        "{slow}"
    );
    let mut host = using(20_000, TcpState::TimeWait);
    host.settings.ip_local_port_step_width = Some(1_000);
    let advice = host.advice();
    let slow = &found(&advice, Id::ConnectSlow).sentence;
    assert!(slow.contains("up to 20,000 ports in use"), "{slow}");
}

#[test]
fn a_destination_that_is_low_and_slow_has_one_finding() {
    let advice = using(22_000, TcpState::TimeWait).advice();
    assert!(find(&advice, Id::ConnectSlow).is_none());
    let low = &found(&advice, Id::DestinationLow).sentence;
    assert!(low.contains("connect() is slow: "), "{low}");
    // Where connect() fails, only that is reported.
    let advice = using(28_232, TcpState::TimeWait).advice();
    let exhausted = &found(&advice, Id::DestinationExhausted).sentence;
    assert!(!exhausted.contains("slow"), "{exhausted}");
}

#[test]
fn a_rate_that_cannot_be_sustained_is_reported_with_the_remaining_seconds() {
    let advice = closing(32_768, 60_999, 16_000).advice();
    let rate = found(&advice, Id::RateTooHigh);
    assert_eq!(rate.severity, Severity::Warning);
    for words in [
        "12,232 ports are left of 28,232 usable ports. Ports in use: 16,000 in TIME-WAIT.",
        "1600 connections per second close, 470 are sustainable, since each port stays in use for 60 s",
        "ports run out in about 8 s",
        "connect() is slow",
    ] {
        assert!(rate.sentence.contains(words), "{words}: {}", rate.sentence);
    }
    // With enough time left it is not a warning.
    let advice = closing(32_768, 60_999, 4_800).advice();
    assert_eq!(found(&advice, Id::RateTooHigh).severity, Severity::Info);
    assert_eq!(advice.severity, Severity::Info);
    assert!(find(&closing(32_768, 60_999, 4_700).advice(), Id::RateTooHigh).is_none());
}

#[test]
fn a_rate_is_compared_with_how_long_ports_stay_in_use_here() {
    let mut host = closing(32_768, 60_999, 9_000);
    found(&host.advice(), Id::RateTooHigh);
    host.settings.tcp_tw_timeout_seconds = Some(15);
    assert!(find(&host.advice(), Id::RateTooHigh).is_none());
    host.settings.tcp_tw_timeout_seconds = None;
    host.settings.tcp_tw_reuse = Some(1);
    assert!(find(&host.advice(), Id::RateTooHigh).is_none());
}

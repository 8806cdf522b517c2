//! One situation per finding.

mod failures;
mod pools;
mod rates;
mod settings;

use super::laws::{Host, address};
use super::*;
use crate::domain::collectors::CollectorId;
use crate::domain::ports::PortSet;
use crate::domain::snapshot::{Counts, Outcome};
use crate::domain::snapshot::{PeerTimestamps, Probe};
use crate::domain::socket::{Socket, TcpState};

fn find(advice: &Advice, id: Id) -> Option<&Finding> {
    advice.findings.iter().find(|finding| finding.id == id)
}

#[track_caller]
fn found(advice: &Advice, id: Id) -> &Finding {
    find(advice, id).unwrap_or_else(|| panic!("no {id:?} in {advice:#?}"))
}

#[track_caller]
fn remedy(finding: &Finding, id: RemedyId) -> &Remedy {
    let mut remedies = finding.remedies.iter();
    remedies
        .find(|remedy| remedy.id == id)
        .unwrap_or_else(|| panic!("no {id:?} in {finding:#?}"))
}

fn has(finding: &Finding, id: RemedyId) -> bool {
    finding.remedies.iter().any(|remedy| remedy.id == id)
}

/// 32768-60999 with this many ports to one server.
fn using(ports: u16, state: TcpState) -> Host {
    let mut host = Host::new(32_768, 60_999);
    host.open("198.51.100.1", 32_768..32_768 + ports, state);
    host
}

#[test]
fn a_quiet_host_has_no_problems() {
    let advice = using(100, TcpState::TimeWait).advice();
    assert_eq!(advice.severity, Severity::Ok);
    assert!(
        advice.headline.starts_with("No problems found. "),
        "{}",
        advice.headline
    );
    assert!(
        advice
            .headline
            .contains("198.51.100.1 port 443 from 192.0.2.1")
    );
    let nobody = Host::new(32_768, 60_999).advice();
    assert!(nobody.headline.contains("No outgoing connection"));
}

#[test]
fn severities_begin_at_the_thresholds_and_not_below() {
    for (ports, severity) in [
        (6_749, Severity::Ok),
        (6_750, Severity::Warning),
        (8_099, Severity::Warning),
        (8_100, Severity::Critical),
        (9_000, Severity::Critical),
    ] {
        let mut host = Host::new(40_000, 48_999);
        host.open("198.51.100.1", 40_000..40_000 + ports, TcpState::TimeWait);
        let advice = host.advice();
        let severity = severity.max(Severity::Info);
        assert_eq!(advice.severity, severity, "{ports} ports");
    }
}

#[test]
fn an_exhausted_destination_is_reported_with_the_effect_of_each_remedy() {
    let advice = using(28_232, TcpState::TimeWait).advice();
    let finding = found(&advice, Id::DestinationExhausted);
    assert!(
        finding.sentence.contains("EADDRNOTAVAIL"),
        "{}",
        finding.sentence
    );
    let reuse = remedy(finding, RemedyId::Reuse);
    assert_eq!(reuse.commands, ["sysctl -w net.ipv4.tcp_tw_reuse=1"]);
    let effect = reuse.effect.unwrap();
    assert_eq!((effect.before.headroom, effect.after.headroom), (0, 28_232));
    let widen = remedy(finding, RemedyId::WidenRange);
    assert_eq!(
        widen.commands,
        ["sysctl -w net.ipv4.ip_local_port_range='16384 65535'"]
    );
    assert_eq!(widen.effect.unwrap().after.headroom, 49_152 - 28_232);
    for id in [
        RemedyId::MoreServerPorts,
        RemedyId::MoreClientAddresses,
        RemedyId::ReuseConnections,
    ] {
        remedy(finding, id);
    }
    let persistent: Vec<_> = widen.settings.iter().map(Setting::persistent).collect();
    assert_eq!(persistent.len(), 1);
    assert_eq!(
        persistent
            .iter()
            .map(Persistent::command)
            .collect::<Vec<_>>(),
        [
            "echo 'net.ipv4.ip_local_port_range = 16384 65535' | sudo tee /etc/sysctl.d/99-timewait-ip_local_port_range.conf"
        ]
    );
}

#[test]
fn a_sysctl_file_sorts_after_that_of_the_distribution() {
    let setting = |name| Setting {
        name,
        value: "1".to_owned(),
    };
    for name in ["ip_local_port_range", "tcp_tw_reuse"] {
        let path = setting(name).persistent().path;
        assert!(*path > *"/etc/sysctl.d/99-sysctl.conf", "{path}");
    }
}

#[test]
fn a_list_that_sysctl_would_truncate_in_its_file_has_a_caution() {
    let mut host = Host::new(32_768, 60_999);
    host.settings.reserved_ports = Some((20_001..=24_000).step_by(2).collect());
    host.listen(40_001);
    let advice = host.advice();
    let listeners = found(&advice, Id::ListenersInRange);
    let reserve = remedy(listeners, RemedyId::ReserveListeners);
    assert!(reserve.caution.as_ref().unwrap().contains("systemd-sysctl"));
    // For another namespace no file is written.
    let prefix = "nsenter --net=/run/netns/a";
    let advice = advise_inside(&host.snapshot(), Some(prefix));
    let listeners = found(&advice, Id::ListenersInRange);
    let reserve = remedy(listeners, RemedyId::ReserveListeners);
    assert!(!reserve.caution.as_ref().unwrap().contains("systemd-sysctl"));
}

#[test]
fn an_effect_that_may_be_larger_is_reported_as_a_lower_bound() {
    let mut host = using(28_000, TcpState::TimeWait);
    let advice = host.advice();
    let widen = remedy(found(&advice, Id::DestinationLow), RemedyId::WidenRange);
    assert!(
        !widen
            .caution
            .clone()
            .unwrap_or_default()
            .contains("a lower bound")
    );
    host.open("198.51.100.9", 20_000..=20_000, TcpState::Established);
    let advice = host.advice();
    let widen = remedy(found(&advice, Id::DestinationLow), RemedyId::WidenRange);
    assert!(widen.caution.as_ref().unwrap().contains("a lower bound"));
}

#[test]
fn with_live_connections_time_wait_sysctls_are_reported_not_to_help() {
    let advice = using(28_000, TcpState::Established).advice();
    let finding = found(&advice, Id::DestinationLow);
    assert!(
        finding.sentence.contains("will not help"),
        "{}",
        finding.sentence
    );
    assert!(!has(finding, RemedyId::Reuse) && has(finding, RemedyId::FindHolders));
    let command = remedy(finding, RemedyId::FindHolders).commands.clone();
    assert_eq!(
        command,
        ["ss -tnp state connected src 192.0.2.1 dst 198.51.100.1:443"]
    );
    // A shell reads brackets as a pattern.
    let mut host = Host::new(32_768, 60_999);
    host.open("2001:db8::2", 32_768..60_000, TcpState::Established);
    for socket in &mut host.sockets {
        socket.src_addr = address("2001:db8::1");
    }
    let advice = host.advice();
    let command = remedy(found(&advice, Id::DestinationLow), RemedyId::FindHolders)
        .commands
        .clone();
    assert_eq!(
        command,
        ["ss -tnp state connected src '[2001:db8::1]' dst '[2001:db8::2]:443'"]
    );
    let advice = using(28_000, TcpState::FinWait2).advice();
    assert!(
        found(&advice, Id::DestinationLow)
            .sentence
            .contains("will not help")
    );
}

#[test]
fn ports_in_fin_wait_2_that_the_kernel_may_reuse_do_not_cause_a_critical_finding() {
    let mut host = using(28_232, TcpState::FinWait2);
    host.settings.tcp_tw_reuse = Some(1);
    let advice = host.advice();
    let finding = found(&advice, Id::DestinationLow);
    assert_eq!(finding.severity, Severity::Warning);
    let sentence = &finding.sentence;
    assert!(
        sentence.contains("0% to 100% of the usable ports are in use"),
        "{sentence}"
    );
    host.options.by_destination = false;
    assert_eq!(host.advice().severity, Severity::Warning);
    host.options.by_destination = true;
    // A kernel with this sysctl has the fix.
    host.settings.tcp_tw_reuse_delay_ms = Some(1_000);
    let advice = host.advice();
    let finding = found(&advice, Id::DestinationExhausted);
    assert_eq!(finding.severity, Severity::Critical);
    assert!(!finding.sentence.contains("fix of 2024"));
}

#[test]
fn widening_reserves_listeners_in_addition_to_reserved_ports() {
    let mut host = using(28_000, TcpState::TimeWait);
    host.listen(9_100);
    host.listen(20_000);
    host.listen(60_000);
    host.settings.reserved_ports = Some([80, 50_000].into_iter().collect());
    let advice = host.advice();
    let widen = remedy(found(&advice, Id::DestinationLow), RemedyId::WidenRange);
    assert_eq!(
        widen.commands,
        [
            "sysctl -w net.ipv4.ip_local_reserved_ports=80,20000,50000,60000",
            "sysctl -w net.ipv4.ip_local_port_range='16384 65535'",
        ]
    );
    let listeners = found(&advice, Id::ListenersInRange);
    assert_eq!(
        remedy(listeners, RemedyId::ReserveListeners).commands,
        ["sysctl -w net.ipv4.ip_local_reserved_ports=80,50000,60000"]
    );
}

#[test]
fn a_range_that_begins_at_16384_is_widened_to_all_that_is_not_privileged() {
    let mut host = Host::new(16_384, 65_535);
    host.open("198.51.100.1", 16_384..=65_535, TcpState::TimeWait);
    let advice = host.advice();
    let finding = found(&advice, Id::DestinationExhausted);
    let widen = remedy(finding, RemedyId::WidenRange);
    assert!(widen.action.contains("1024-65535"), "{}", widen.action);
    host.settings.port_range = crate::domain::ports::PortRange::new(1_024, 65_535);
    host.open("198.51.100.1", 1_024..16_384, TcpState::TimeWait);
    let advice = host.advice();
    assert!(!has(
        found(&advice, Id::DestinationExhausted),
        RemedyId::WidenRange
    ));
}

#[test]
fn reserved_ports_are_released_but_not_those_of_listeners() {
    let mut host = Host::new(40_000, 40_049);
    host.settings.reserved_ports = Some((40_000..40_020).chain([443]).collect());
    host.listen(40_003);
    host.open("198.51.100.1", 40_020..=40_049, TcpState::TimeWait);
    let advice = host.advice();
    let release = remedy(
        found(&advice, Id::DestinationExhausted),
        RemedyId::ReleaseReserved,
    );
    assert_eq!(
        release.commands,
        ["sysctl -w net.ipv4.ip_local_reserved_ports=443,40003"]
    );
    assert_eq!(release.effect.unwrap().after.headroom, 19);
    // With nothing left to reserve the command clears the setting.
    host.settings.reserved_ports = Some((40_000..40_003).collect());
    host.owners.clear();
    host.open("198.51.100.1", 40_003..40_020, TcpState::TimeWait);
    let advice = host.advice();
    let release = remedy(
        found(&advice, Id::DestinationExhausted),
        RemedyId::ReleaseReserved,
    );
    assert_eq!(
        release.commands,
        ["sysctl -w net.ipv4.ip_local_reserved_ports=''"]
    );
}

#[test]
fn a_range_without_a_usable_port_is_critical_even_if_nothing_is_in_use() {
    let mut host = Host::new(40_000, 40_009);
    host.settings.reserved_ports = Some((40_000..=40_009).collect());
    let advice = host.advice();
    assert_eq!(advice.severity, Severity::Critical);
    let release = remedy(found(&advice, Id::NoUsablePorts), RemedyId::ReleaseReserved);
    assert_eq!(release.effect.unwrap().after.headroom, 10);
}

#[test]
fn narrow_and_odd_ranges_are_reported() {
    let advice = Host::new(40_001, 40_101).advice();
    let parity = found(&advice, Id::RangeParity);
    assert_eq!(
        remedy(parity, RemedyId::EvenRange).commands,
        ["sysctl -w net.ipv4.ip_local_port_range='40001 40102'"]
    );
    let narrow = found(&advice, Id::NarrowRange);
    assert!(has(narrow, RemedyId::WidenRange));
    assert!(
        narrow
            .sentence
            .contains("sustain 1.7 new connections per second"),
        "{}",
        narrow.sentence
    );
    let advice = Host::new(40_000, 40_049).advice();
    let narrow = &found(&advice, Id::NarrowRange).sentence;
    assert!(
        narrow.contains("sustain 0.8 new connections per second"),
        "{narrow}"
    );
    // A port that is reused after a second is available again after a second.
    let mut host = Host::new(40_000, 40_049);
    host.settings.tcp_timestamps = Some(1);
    for (reuse, delay, rate) in [
        (2, None, "sustain 0.8 new connections per"),
        (1, None, "sustain 50 new connections per"),
        (1, Some(500), "sustain 100 new connections per"),
    ] {
        host.settings.tcp_tw_reuse = Some(reuse);
        host.settings.tcp_tw_reuse_delay_ms = delay;
        let advice = host.advice();
        let narrow = &found(&advice, Id::NarrowRange).sentence;
        assert!(narrow.contains(rate), "{narrow}");
    }
    let advice = Host::new(32_768, 60_999).advice();
    assert!(find(&advice, Id::NarrowRange).is_none() && find(&advice, Id::RangeParity).is_none());
}

#[test]
fn time_wait_on_the_servers_side_is_reported_as_harmless() {
    let mut host = Host::new(32_768, 60_999);
    host.listen(443);
    host.sockets.extend((0..2_000).map(|index| Socket {
        src_addr: address("192.0.2.1"),
        dst_addr: address("203.0.113.9"),
        src_port: 443,
        dst_port: 10_000 + index,
        state: TcpState::TimeWait,
        remaining_ms: 1,
        is_on_loopback_device: false,
    }));
    let advice = host.advice();
    assert_eq!(advice.severity, Severity::Ok);
    let finding = found(&advice, Id::ServerSide);
    assert!(finding.sentence.contains("harmless") && finding.sentence.contains("500 KiB"));
    assert!(finding.remedies.is_empty());
    // Memory of slabs, which is host-wide, is not attributed to this namespace.
    let slabs: Counts = [("bytes", 1 << 30)].into_iter().collect();
    let snapshot = host.snapshot().with(CollectorId::Slabinfo, slabs);
    let advice = advise(&snapshot);
    let finding = found(&advice, Id::ServerSide);
    assert!(finding.sentence.contains("500 KiB"), "{}", finding.sentence);
    let slabs = ("slabs_of_whole_host", Value::Bytes(1 << 30));
    assert!(finding.values.contains(&slabs));
}

#[test]
fn many_low_destinations_are_reported_individually_up_to_a_limit() {
    let mut host = Host::new(40_000, 40_009);
    for index in 1..=13 {
        host.open(
            &format!("198.51.100.{index}"),
            40_000..=40_009,
            TcpState::TimeWait,
        );
    }
    let advice = host.advice();
    let one_by_one = advice
        .findings
        .iter()
        .filter(|f| f.id == Id::DestinationExhausted);
    assert_eq!(one_by_one.count(), 10);
    assert!(
        found(&advice, Id::MoreDestinations)
            .sentence
            .starts_with("3 further destinations have")
    );
    host.options.top = 12;
    let advice = host.advice();
    assert!(
        found(&advice, Id::MoreDestinations)
            .sentence
            .starts_with("At least 2 further destinations have")
    );
}

#[test]
fn a_full_destination_that_is_not_exported_is_still_reported() {
    let mut host = using(28_000, TcpState::TimeWait);
    host.options.by_destination = false;
    let advice = host.advice();
    let finding = found(&advice, Id::DestinationLow);
    assert_eq!(
        (finding.severity, finding.destination),
        (Severity::Critical, None)
    );
    assert_eq!(
        remedy(finding, RemedyId::WidenRange)
            .effect
            .unwrap()
            .before
            .headroom,
        232
    );
}

#[test]
fn what_could_not_be_read_is_never_reported_as_no_problem() {
    let mut snapshot = using(10, TcpState::TimeWait).snapshot();
    let failed = Outcome::missing(std::time::Duration::ZERO);
    snapshot.set(CollectorId::Sockets, Some(failed));
    let advice = advise(&snapshot);
    assert_eq!(advice.severity, Severity::Warning);
    found(&advice, Id::Unread);
    assert!(find(&advice, Id::Plentiful).is_none());
    let mut host = Host::new(1, 2);
    host.settings.port_range = None;
    assert_eq!(host.advice().severity, Severity::Warning);
    let advice = advise(&Snapshot::default());
    assert!(found(&advice, Id::Unread).sentence.contains("not read"));
    assert_eq!(advice.headline, found(&advice, Id::Unread).sentence);
}

#[test]
fn every_id_has_its_own_name() {
    let names: std::collections::BTreeSet<_> = Id::ALL.iter().map(|id| id.as_str()).collect();
    assert_eq!(names.len(), Id::ALL.len());
    let names: std::collections::BTreeSet<_> = RemedyId::ALL.iter().map(|id| id.as_str()).collect();
    assert_eq!(names.len(), RemedyId::ALL.len());
    assert!(PortSet::new().to_string().is_empty());
}

#[test]
fn remedies_are_in_one_order_everywhere_and_begin_with_fewer_connections() {
    let mut host = using(28_000, TcpState::TimeWait);
    host.listen(60_000);
    for finding in host.advice().findings {
        let ids: Vec<RemedyId> = finding.remedies.iter().map(|remedy| remedy.id).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        if finding.id == Id::DestinationLow {
            assert_eq!(
                ids.get(..2),
                Some(&[RemedyId::ReuseConnections, RemedyId::Reuse][..])
            );
        }
    }
}

fn with_ports(host: &Host, change: impl Fn(&mut crate::domain::snapshot::PortUsage)) -> Advice {
    let mut snapshot = host.snapshot();
    let ports = snapshot
        .sockets_mut()
        .and_then(|sockets| sockets.ports.as_mut());
    change(ports.unwrap());
    advise(&snapshot)
}

#[test]
fn a_peer_without_timestamps_is_not_helped_by_reuse() {
    let host = using(28_000, TcpState::TimeWait);
    let advice = with_ports(&host, |ports| {
        for usage in ports
            .by_destination
            .iter_mut()
            .flat_map(|all| &mut all.exported)
        {
            usage.peer_timestamps = PeerTimestamps::Absent;
        }
    });
    let low = found(&advice, Id::DestinationLow);
    assert!(!has(low, RemedyId::Reuse));
    assert!(
        low.sentence.contains("tcp_tw_reuse will not help"),
        "{}",
        low.sentence
    );
}

#[test]
fn to_a_peer_without_timestamps_a_port_stays_in_use_whatever_the_sysctls() {
    let mut host = using(28_000, TcpState::TimeWait);
    host.settings.tcp_tw_reuse = Some(1);
    let advice = with_ports(&host, |ports| {
        let breakdown = ports.by_destination.as_mut().unwrap();
        for usage in &mut breakdown.exported {
            usage.peer_timestamps = PeerTimestamps::Absent;
            (usage.reusable, usage.headroom) = (0, 232);
            (usage.exhaustion_ratio, usage.least_ratio) = (0.99, 0.99);
        }
    });
    let low = found(&advice, Id::DestinationLow);
    let action = &remedy(low, RemedyId::ReuseConnections).action;
    assert!(
        action.ends_with("each port stays in use for 60 s."),
        "{action}"
    );
}

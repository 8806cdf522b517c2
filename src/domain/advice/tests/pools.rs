//! The ports available to bind(addr, 0).

use super::*;

#[test]
fn ports_for_bind_that_run_low_are_reported_by_their_address() {
    let mut host = Host::new(40_000, 40_099);
    for server in ["198.51.100.1", "198.51.100.2"] {
        let from = if server.ends_with('1') {
            40_000
        } else {
            40_046
        };
        host.open(server, from..from + 46, TcpState::Established);
    }
    let advice = host.advice();
    let finding = found(&advice, Id::BindPoolLow);
    assert!(
        finding.sentence.contains(
            "192.0.2.1 has 8 ports left of 100. Ports that bind() chose are closed to connect()"
        ),
        "{}",
        finding.sentence
    );
    assert!(has(finding, RemedyId::BindNoPort));
    let caution = |advice: &Advice| {
        let widen = remedy(found(advice, Id::BindPoolLow), RemedyId::WidenRange).clone();
        widen.caution.unwrap()
    };
    assert!(caution(&advice).contains("30000-32767"));
    assert!(find(&advice, Id::DestinationLow).is_none());
    let mut unread = host.snapshot();
    if let Some(sockets) = unread.sockets_mut()
        && let Some(ports) = sockets.ports.as_mut()
    {
        ports.sets.elsewhere_is_whole = false;
    }
    assert!(caution(&advise(&unread)).contains("not counted"));
    host.open("198.51.100.3", 40_090..=40_099, TcpState::Established);
    let full = host.advice();
    let sentence = &found(&full, Id::BindPoolLow).sentence;
    assert!(
        sentence.contains("fails with EADDRINUSE: all 100 ports are in use there"),
        "{sentence}"
    );
}

#[test]
fn few_ports_for_bind_are_a_warning_only_where_no_destination_uses_them() {
    let mut host = Host::new(40_000, 40_099);
    host.open("198.51.100.1", 40_000..40_096, TcpState::TimeWait);
    let advice = host.advice();
    let pool = found(&advice, Id::BindPoolLow);
    assert_eq!(pool.severity, Severity::Info);
    assert!(
        pool.sentence.contains("One destination uses them"),
        "{}",
        pool.sentence
    );
    // Also where that destination has headroom, since its TIME-WAIT sockets can be reused.
    host.settings.tcp_tw_reuse = Some(1);
    assert_eq!(
        found(&host.advice(), Id::BindPoolLow).severity,
        Severity::Info
    );
}

#[test]
fn ports_that_bind_chose_are_reported_whether_their_number_is_known_or_not() {
    let host = using(28_000, TcpState::TimeWait);
    let advice = with_ports(&host, |ports| ports.bind_owned = Some(300));
    let owned = found(&advice, Id::BindOwned);
    assert!(
        owned
            .sentence
            .starts_with("300 ports in use were chosen by bind()")
    );
    assert!(has(owned, RemedyId::BindNoPort));
    let few = with_ports(&host, |ports| ports.bind_owned = Some(15));
    assert!(find(&few, Id::BindOwned).is_none());
    let unknown = with_ports(&host, |ports| {
        ports.free = 7;
        ports.probe = Probe::Unavailable {
            reason: "needs Linux 6.3".to_owned(),
        };
    });
    let low = &found(&unknown, Id::DestinationLow).sentence;
    assert!(
        low.contains("are unknown (needs Linux 6.3). The lower bound is 7."),
        "{low}"
    );
}

#[test]
fn a_full_pool_mentions_that_sockets_can_share_ports() {
    let mut host = Host::new(40_000, 40_099);
    for server in 0..2 {
        let first = 40_000 + 50 * server;
        host.open(
            &format!("198.51.100.{server}"),
            first..first + 50,
            TcpState::Established,
        );
    }
    let full = |host: &Host| found(&host.advice(), Id::BindPoolLow).sentence.clone();
    assert!(full(&host).contains("fails with EADDRINUSE: "));
    host.settings.ip_autobind_reuse = Some(1);
    assert!(
        full(&host).contains("ip_autobind_reuse is 1"),
        "{}",
        full(&host)
    );
}

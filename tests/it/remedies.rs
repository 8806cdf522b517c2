//! Every fix that changes the kernel's behaviour is run in a shell, as it is printed, in its own namespace;
//! connect() must then succeed exactly as often as predicted.

mod pools;
mod states;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, bind, connect};
use timewait_exporter::collector::{Collector, CollectorConfig, Enabled, SourceChoice};
use timewait_exporter::domain::advice::{Advice, Effect, Finding, Id, Remedy, RemedyId, advise};
use timewait_exporter::domain::options::CensusOptions;
use timewait_exporter::domain::snapshot::Snapshot;
use timewait_exporter::kernel::sock_diag::NetlinkConnect;

use crate::support::features::Feature;
use crate::support::namespace::{add_address, in_namespace, set_sysctl};
use crate::support::server::config;
use crate::support::sockets::{at, bound, connect_from, connected, listening, tcp_socket};

const CLIENT: &str = "192.0.2.1";
const SERVER: &str = "198.51.100.1";

/// Fifty ports without reuse: the headroom of a destination is counted by hand.
pub fn small_host() -> OwnedFd {
    set_sysctl("ip_local_port_range", "40000 40049");
    set_sysctl("tcp_tw_reuse", "0");
    for address in [CLIENT, SERVER] {
        add_address(&format!("{address}/32"));
    }
    listening(server())
}

fn server() -> SocketAddr {
    at(SERVER, 443)
}

#[expect(clippy::unnecessary_wraps, reason = "as connect_from takes it")]
fn client() -> Option<IpAddr> {
    Some(CLIENT.parse().unwrap())
}

fn scrape() -> Snapshot {
    let config = CollectorConfig {
        source: SourceChoice::Netlink,
        procfs: "/proc".into(),
        enabled: Enabled::default(),
        census: CensusOptions {
            whole_table: true,
            ..CensusOptions::default()
        },
        ..config(&[]).collector
    };
    let collector = Collector::open(config, Box::new(NetlinkConnect)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(collector.scrape(Instant::now() + Duration::from_secs(10)))
        .own
}

#[track_caller]
fn finding(advice: &Advice, id: Id) -> &Finding {
    let found = advice.findings.iter().find(|finding| finding.id == id);
    found.unwrap_or_else(|| panic!("no {id:?} in {advice:#?}"))
}

/// The finding about the server on port 443.
#[track_caller]
fn about_server(advice: &Advice) -> &Finding {
    let found = advice.findings.iter().find(|finding| {
        let destination = finding.destination.as_ref();
        destination.is_some_and(|to| to.dst_port == 443 && to.src_addr.to_string() == CLIENT)
    });
    found.unwrap_or_else(|| panic!("no finding about the server in {advice:#?}"))
}

#[track_caller]
fn remedy(finding: &Finding, id: RemedyId) -> Remedy {
    let found = finding.remedies.iter().find(|remedy| remedy.id == id);
    found
        .unwrap_or_else(|| panic!("no {id:?} in {finding:#?}"))
        .clone()
}

/// Runs the commands, as an operator would.
fn apply(remedy: &Remedy) {
    assert!(!remedy.commands.is_empty(), "{remedy:?}");
    for command in &remedy.commands {
        let output = Command::new("sh").args(["-c", command]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        // The exit status of sysctl(8) does not always show that the kernel refused.
        assert!(
            output.status.success() && stderr.is_empty(),
            "{command}: {stderr}"
        );
    }
}

fn effect(remedy: &Remedy) -> Effect {
    remedy
        .effect
        .unwrap_or_else(|| panic!("{remedy:?} has no effect"))
}

/// Connects until no port is left; the connections stay open.
fn exhaust(source: Option<IpAddr>, listener: &OwnedFd, to: SocketAddr) -> Vec<OwnedFd> {
    let mut sockets = Vec::new();
    loop {
        match connect_from(source, to) {
            Ok(socket) => {
                sockets.push(accept_with(listener, SocketFlags::CLOEXEC).unwrap());
                sockets.push(socket);
            }
            Err(Errno::ADDRNOTAVAIL) => return sockets,
            Err(error) => panic!("connect() to {to}: {error}"),
        }
    }
}

fn count(sockets: &[OwnedFd]) -> u64 {
    u64::try_from(sockets.len() / 2).unwrap()
}

/// bind() to an address without a port, until it fails.
fn exhaust_bind(address: &str) -> Vec<OwnedFd> {
    let mut sockets = Vec::new();
    loop {
        match bound(at(address, 0)) {
            Ok(socket) => sockets.push(socket),
            Err(error) if error.raw_os_error() == Some(Errno::ADDRINUSE.raw_os_error()) => {
                return sockets;
            }
            Err(error) => panic!("bind() to {address}: {error}"),
        }
    }
}

/// So many sockets in TIME-WAIT.
pub fn close(listener: &OwnedFd, times: usize) {
    for _ in 0..times {
        connected(client(), listener, server()).close_client_first();
    }
}

/// So many live connections.
pub fn connections(listener: &OwnedFd, times: usize) -> Vec<crate::support::sockets::Connection> {
    (0..times)
        .map(|_| connected(client(), listener, server()))
        .collect()
}

#[test]
fn reuse_frees_every_time_wait_port_that_is_old_enough() {
    in_namespace(|| {
        let listener = small_host();
        close(&listener, 30);
        let _held = connections(&listener, 12);
        thread::sleep(Duration::from_millis(1_200));
        let advice = advise(&scrape());
        let reuse = remedy(about_server(&advice), RemedyId::Reuse);
        let effect = effect(&reuse);
        assert_eq!((effect.before.headroom, effect.after.headroom), (8, 38));
        apply(&reuse);
        assert_eq!(
            count(&exhaust(client(), &listener, server())),
            effect.after.headroom
        );
    });
}

#[test]
fn reuse_frees_no_port_of_sockets_that_are_too_young() {
    in_namespace(|| {
        if !Feature::ReuseDelay.is_here_or_skips() {
            return;
        }
        let listener = small_host();
        set_sysctl("tcp_tw_reuse_delay", "60000");
        close(&listener, 50);
        let advice = advise(&scrape());
        let exhausted = finding(&advice, Id::DestinationExhausted);
        assert!(
            exhausted
                .remedies
                .iter()
                .all(|remedy| remedy.id != RemedyId::Reuse)
        );
        set_sysctl("tcp_tw_reuse", "1");
        assert_eq!(count(&exhaust(client(), &listener, server())), 0);
    });
}

#[test]
fn reuse_two_does_nothing_where_one_is_advised() {
    in_namespace(|| {
        let listener = small_host();
        set_sysctl("tcp_tw_reuse", "2");
        close(&listener, 50);
        thread::sleep(Duration::from_millis(1_200));
        let advice = advise(&scrape());
        let one = remedy(finding(&advice, Id::ReuseLoopbackOnly), RemedyId::Reuse);
        assert_eq!(count(&exhaust(client(), &listener, server())), 0);
        apply(&one);
        assert_eq!(count(&exhaust(client(), &listener, server())), 50);
    });
}

#[test]
fn timestamps_help_connections_made_after_them_and_nothing_at_once() {
    in_namespace(|| {
        let listener = small_host();
        set_sysctl("tcp_tw_reuse", "1");
        set_sysctl("tcp_timestamps", "0");
        close(&listener, 40);
        thread::sleep(Duration::from_millis(1_200));
        let advice = advise(&scrape());
        finding(&advice, Id::ReuseWithoutTimestamps);
        let timestamps = remedy(about_server(&advice), RemedyId::Timestamps);
        assert_eq!(timestamps.effect, None);
        apply(&timestamps);
        close(&listener, 10);
        thread::sleep(Duration::from_millis(1_200));
        // Only the ten that closed with timestamps.
        assert_eq!(count(&exhaust(client(), &listener, server())), 10);
    });
}

#[test]
fn a_wider_range_adds_its_ports_minus_those_of_listeners_and_bound_sockets() {
    in_namespace(|| {
        let listener = small_host();
        // Keeps the wider range small: of 16384-65535 only 39990-40069 is usable.
        set_sysctl("ip_local_reserved_ports", "1024-39989,40070-65535");
        let _service = listening(at("127.0.0.5", 39_995));
        // Where dumps lack bound sockets they are unknown.
        let is_bound_known = Feature::BoundSockets.is_here_or_skips();
        let _bound = is_bound_known.then(|| bound(at("127.0.0.6", 39_996)).unwrap());
        let others = if is_bound_known { 3 } else { 2 };
        // A connection to another destination, from a port that its program chose.
        let other = listening(at(SERVER, 444));
        let chooser = tcp_socket(at(CLIENT, 0));
        bind(&chooser, &at(CLIENT, 39_997)).unwrap();
        connect(&chooser, &at(SERVER, 444)).unwrap();
        let _accepted = accept_with(&other, SocketFlags::CLOEXEC).unwrap();
        close(&listener, 50);
        let advice = advise(&scrape());
        let widen = remedy(about_server(&advice), RemedyId::WidenRange);
        assert_eq!(effect(&widen).after.headroom, 30 - others);
        assert!(widen.commands.concat().contains("39995"), "{widen:?}");
        apply(&widen);
        let given = count(&exhaust(client(), &listener, server()));
        assert_eq!(given, 30 - others);
        let after = scrape();
        let ports = after.ports().unwrap();
        assert_eq!(ports.listeners, 0, "the service is reserved");
    });
}

#[test]
fn released_ports_become_usable_and_a_listener_keeps_its_reservation() {
    in_namespace(|| {
        let listener = small_host();
        set_sysctl("ip_local_reserved_ports", "40000-40009,50000");
        let _service = listening(at("127.0.0.5", 40_003));
        close(&listener, 40);
        let advice = advise(&scrape());
        let release = remedy(about_server(&advice), RemedyId::ReleaseReserved);
        assert_eq!(effect(&release).after.headroom, 9);
        apply(&release);
        assert_eq!(count(&exhaust(client(), &listener, server())), 9);
    });
}

#[test]
fn the_last_reserved_ports_are_released_by_an_empty_list() {
    in_namespace(|| {
        let listener = small_host();
        set_sysctl("ip_local_reserved_ports", "40000-40049");
        let advice = advise(&scrape());
        let release = remedy(
            finding(&advice, Id::NoUsablePorts),
            RemedyId::ReleaseReserved,
        );
        assert_eq!(effect(&release).after.headroom, 50);
        apply(&release);
        assert_eq!(count(&exhaust(client(), &listener, server())), 50);
    });
}

#[test]
fn listeners_that_move_free_their_ports_for_connect() {
    in_namespace(|| {
        let listener = small_host();
        let services: Vec<_> = (0..5)
            .map(|index| listening(at("127.0.0.5", 40_010 + index)))
            .collect();
        close(&listener, 45);
        let advice = advise(&scrape());
        let moved = remedy(about_server(&advice), RemedyId::MoveListeners);
        assert_eq!(effect(&moved).after.headroom, 5);
        drop(services);
        assert_eq!(count(&exhaust(client(), &listener, server())), 5);
    });
}

#[test]
fn a_reserved_listener_can_start_again_however_full_the_range() {
    in_namespace(|| {
        let listener = small_host();
        let service = listening(at(CLIENT, 40_020));
        let advice = advise(&scrape());
        let reserve = remedy(
            finding(&advice, Id::ListenersInRange),
            RemedyId::ReserveListeners,
        );
        apply(&reserve);
        drop(service);
        let full = exhaust(client(), &listener, server());
        assert_eq!(count(&full), 49);
        drop(bound(at(CLIENT, 40_020)).unwrap());
        // Without the reservation the next connect() takes the port.
        set_sysctl("ip_local_reserved_ports", "\n");
        let next = exhaust(client(), &listener, server());
        assert_eq!(count(&next), 1);
        assert!(bound(at(CLIENT, 40_020)).is_err());
    });
}

#[test]
fn a_list_that_is_too_long_for_sysctl_is_reserved_completely() {
    in_namespace(|| {
        let _listener = small_host();
        // 1,000 ports one by one are 6,000 characters.
        let ports: Vec<String> = (0..1_000).map(|i| (50_000 + 2 * i).to_string()).collect();
        set_sysctl("ip_local_reserved_ports", &ports.join(","));
        let _service = listening(at("127.0.0.5", 40_020));
        let advice = advise(&scrape());
        let reserve = remedy(
            finding(&advice, Id::ListenersInRange),
            RemedyId::ReserveListeners,
        );
        apply(&reserve);
        let snapshot = scrape();
        let settings = snapshot.settings().unwrap();
        let reserved = settings.reserved_ports.as_ref().unwrap();
        assert_eq!(reserved.len(), 1_001);
        assert!(reserved.contains(40_020) && reserved.contains(51_998));
    });
}

#[test]
fn additional_client_addresses_have_a_range_each() {
    in_namespace(|| {
        let listener = small_host();
        close(&listener, 48);
        let advice = advise(&scrape());
        let remedy = remedy(about_server(&advice), RemedyId::MoreClientAddresses);
        let effect = effect(&remedy);
        let further = (effect.after.headroom - effect.before.headroom) / 50;
        assert!(remedy.action.contains(&further.to_string()), "{remedy:?}");
        let mut given = count(&exhaust(client(), &listener, server()));
        assert_eq!(given, effect.before.headroom);
        let mut kept = Vec::new();
        for index in 0..further {
            let address = format!("192.0.2.{}", 10 + index);
            add_address(&format!("{address}/32"));
            let sockets = exhaust(Some(address.parse().unwrap()), &listener, server());
            given += count(&sockets);
            kept.push(sockets);
        }
        assert_eq!(given, effect.after.headroom);
    });
}

#[test]
fn additional_server_ports_and_addresses_have_a_range_each() {
    in_namespace(|| {
        let listener = small_host();
        let kept = connections(&listener, 47);
        let advice = advise(&scrape());
        let remedy = remedy(about_server(&advice), RemedyId::MoreServerPorts);
        let effect = effect(&remedy);
        assert_eq!((effect.before.headroom, effect.after.headroom), (3, 53));
        add_address("198.51.100.2/32");
        for other in [at(SERVER, 444), at("198.51.100.2", 443)] {
            let other_listener = listening(other);
            assert_eq!(count(&exhaust(client(), &other_listener, other)), 50);
        }
        assert_eq!(count(&exhaust(client(), &listener, server())), 3);
        drop(kept);
    });
}

#[test]
fn an_even_range_makes_its_last_port_usable() {
    in_namespace(|| {
        let listener = small_host();
        set_sysctl("ip_local_port_range", "40001 40051");
        let advice = advise(&scrape());
        let even = remedy(finding(&advice, Id::RangeParity), RemedyId::EvenRange);
        assert_eq!(effect(&even).after.headroom, 52);
        apply(&even);
        assert_eq!(count(&exhaust(client(), &listener, server())), 52);
    });
}

//! The port probe: what it finds, that it does no harm, and what it says where it cannot work.
//!
//! `TIMEWAIT_PROBE_CALLS` is the number of bind() and connect() calls that run beside the probe.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{bind, connect, sockopt};
use timewait_exporter::domain::ports::PortSet;
use timewait_exporter::domain::snapshot::{PortUsage, Probe};
use timewait_exporter::kernel::port_probe::{PortProbe, ProbeError};
use timewait_exporter::kernel::procfs::ProcRoot;

use crate::support::eventually;
use crate::support::exposition::Metrics;
use crate::support::features::Feature;
use crate::support::namespace::{in_namespace, ip, set_sysctl};
use crate::support::program::Program;
use crate::support::scraper::Scraper;
use crate::support::sockets::{
    accepted, at, bound, connect_bound, connect_from, connected, listening, tcp_socket,
};

const SUCCESS: &str = "timewait_scrape_collector_success{collector=\"probe\"}";

fn scraped(flags: &[&str]) -> Metrics {
    Program::start(flags).scraper().metrics()
}

/// A listener outside the range, and this many connections of each kind to it: by connect(), by bind(),
/// and in TIME-WAIT by bind().
fn connections(count: usize) -> Vec<OwnedFd> {
    set_sysctl("ip_local_port_range", "40000 40099");
    let to = at("127.0.0.2", 80);
    let listener = listening(to);
    let mut kept = Vec::new();
    for _ in 0..count {
        let by_bind = || accepted(connect_bound(at("127.0.0.1", 0), to).unwrap(), &listener);
        for kept_open in [connected(None, &listener, to), by_bind()] {
            kept.extend([kept_open.client, kept_open.server]);
        }
        by_bind().close_client_first();
    }
    kept.push(listener);
    kept
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn opened() -> PortProbe {
    PortProbe::open(&ProcRoot::new("/proc")).unwrap()
}

/// All TCP counters of this namespace, the packets of lo, and tracked connections.
fn counters() -> BTreeMap<String, String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut counters = BTreeMap::new();
    for path in ["/proc/self/net/snmp", "/proc/self/net/netstat"] {
        let text = read(path);
        let mut lines = text.lines();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let values = values.split_whitespace();
            let named = names.split_whitespace().zip(values).skip(1);
            let protocol = names.split(':').next().unwrap_or_default();
            let named = named.map(|(name, value)| (format!("{protocol}{name}"), value.to_owned()));
            counters.extend(named);
        }
    }
    for path in [
        "/proc/self/net/dev",
        "/proc/sys/net/netfilter/nf_conntrack_count",
    ] {
        counters.insert(path.to_owned(), read(path));
    }
    // inuse, orphan and tw; the rest is host-wide.
    let sockstat = read("/proc/self/net/sockstat");
    let (_, tcp) = sockstat.split_once("TCP:").unwrap();
    let tcp = tcp.split(" alloc").next().unwrap_or_default();
    counters.insert("sockstat".to_owned(), tcp.to_owned());
    counters
}

#[test]
fn a_probe_sends_nothing_and_changes_no_counter_of_the_kernel() {
    in_namespace(|| {
        if !Feature::SocketPortRange.is_here_or_skips() {
            return;
        }
        ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1"]);
        for link in ["v0", "v1"] {
            // Without IPv6 it sends nothing by itself.
            fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1").ok();
            ip(&["link", "set", link, "up"]);
        }
        ip(&["address", "add", "198.51.100.1/24", "dev", "v0"]);
        // First, since connect() may choose the port.
        let _bound = bound(at("127.0.0.1", 40_050)).unwrap();
        let _kept = connections(10);
        let range: PortSet = (40_000..40_100).collect();
        let probe = opened();
        eventually("the kernel is quiet", || {
            let before = counters();
            thread::sleep(Duration::from_millis(50));
            counters() == before
        });
        let before = counters();
        for _ in 0..20 {
            probe.closed_to_connect(&range, soon()).unwrap();
        }
        drop(probe);
        let after = counters();
        let changed: Vec<_> = before
            .iter()
            .filter(|(name, value)| after.get(*name) != Some(value))
            .map(|(name, value)| (name, value, after.get(name)))
            .collect();
        assert!(changed.is_empty(), "{changed:#?}");
        assert!(before.contains_key("TcpOutSegs") && before.contains_key("TcpActiveOpens"));
    });
}

#[test]
fn ports_chosen_by_bind_are_found_and_those_chosen_by_connect_are_not() {
    in_namespace(|| {
        if !Feature::SocketPortRange.is_here_or_skips() {
            return;
        }
        let kept = connections(10);
        let usage = Scraper::open([]).ports();
        assert_eq!(usage.bind_owned, Some(20), "{usage:?}");
        assert_eq!((usage.usable, usage.free), (80, 70));
        assert!(matches!(usage.probe, Probe::Done { .. }));
        // A closed one frees its port.
        drop(kept);
        let usage = Scraper::open([]).ports();
        assert!(
            usage.bind_owned.is_none_or(|ports| ports <= 20),
            "{usage:?}"
        );
    });
}

#[test]
fn reserved_ports_and_ports_outside_the_range_are_never_probed_even_if_sysctls_change() {
    in_namespace(|| {
        if !Feature::SocketPortRange.is_here_or_skips() {
            return;
        }
        set_sysctl("ip_local_port_range", "40000 40099");
        let to = at("127.0.0.2", 80);
        let _listener = listening(to);
        // Ports chosen by connect(): none is unavailable to others.
        let _kept: Vec<_> = (0..60).map(|_| connect_from(None, to).unwrap()).collect();
        let is_over = AtomicBool::new(false);
        let seen = thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for reserved in ["40000-40049", ""] {
                        set_sysctl("ip_local_reserved_ports", reserved);
                        thread::sleep(Duration::from_millis(3));
                    }
                    for range in ["41000 41099", "40000 40099"] {
                        set_sysctl("ip_local_port_range", range);
                        thread::sleep(Duration::from_millis(3));
                    }
                }
            });
            let scraper = Scraper::open([]);
            let seen: Vec<PortUsage> = (0..300).map(|_| scraper.ports()).collect();
            is_over.store(true, Ordering::Relaxed);
            seen
        });
        for usage in &seen {
            assert!(usage.bind_owned.is_none_or(|ports| ports == 0), "{usage:?}");
            assert!(!matches!(
                usage.probe,
                Probe::Unavailable { .. } | Probe::Off
            ));
        }
        let is_done = |usage: &&PortUsage| matches!(usage.probe, Probe::Done { .. });
        assert!(seen.iter().filter(is_done).count() > 30);
    });
}

#[test]
fn a_probe_that_cannot_work_is_off_and_says_what_it_needs() {
    in_namespace(|| {
        if !Feature::SocketPortRange.is_here_or_skips() {
            return;
        }
        let _kept = connections(1);
        for (name, value, good, says) in [
            ("tcp_fastopen", "2", "1", "bit 0 of net.ipv4.tcp_fastopen"),
            (
                "tcp_fastopen_blackhole_timeout_sec",
                "3600",
                "0",
                "tcp_fastopen_blackhole_timeout_sec 0",
            ),
        ] {
            set_sysctl(name, value);
            let ProbeError::Unavailable(reason) =
                PortProbe::open(&ProcRoot::new("/proc")).unwrap_err()
            else {
                panic!("{name}");
            };
            assert!(reason.contains(says), "{reason}");
            let usage = Scraper::open([]).ports();
            assert_eq!(usage.probe, Probe::Unavailable { reason });
            assert_eq!(usage.bind_owned, None);
            let metrics = scraped(&[]);
            assert_eq!(metrics.get(SUCCESS), None);
            set_sysctl(name, good);
        }
        // In a new namespace lo is down.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let ports = [40_000].into_iter().collect();
        let error = opened().closed_to_connect(&ports, soon()).unwrap_err();
        assert!(error.to_string().contains("interface lo"), "{error}");
    });
}

#[test]
fn the_collector_has_a_switch_and_a_success_metric() {
    const OWNED: &str = "timewait_port_range_bind_owned_ports";
    in_namespace(|| {
        if !Feature::SocketPortRange.is_here_or_skips() {
            return;
        }
        let _kept = connections(3);
        let metrics = scraped(&[]);
        assert_eq!(metrics.get(SUCCESS), Some(1.0));
        assert_eq!(metrics.get(OWNED), Some(6.0));
        let metrics = scraped(&["--no-collector.probe"]);
        assert_eq!((metrics.get(SUCCESS), metrics.get(OWNED)), (None, None));
        assert_eq!(metrics.get("timewait_port_range_usable_ports"), Some(100.0));
    });
}

/// How many bind() and connect() calls of a crowd found no port.
fn failures_of_a_crowd(calls: u64) -> u64 {
    const CLIENTS: u8 = 6;
    let failures = AtomicU64::new(0);
    let each = calls / (2 * u64::from(CLIENTS));
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let failures = &failures;
            scope.spawn(move || {
                let address = format!("127.0.1.{client}");
                for round in 0..each {
                    let port = 40_000 + u16::try_from((round + u64::from(client)) % 50).unwrap();
                    // Explicit ports that others use on other addresses, a port from bind(), one from
                    // connect().
                    let local = match client % 3 {
                        0 => Some(at(&address, port)),
                        1 => Some(at(&address, 0)),
                        _ => None,
                    };
                    let socket = tcp_socket(at(&address, 0));
                    // Nothing listens there: after the RST no socket remains.
                    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
                    let result = local.map_or(Ok(()), |local| bind(&socket, &local));
                    let result = result.and_then(|()| connect(&socket, &at("127.0.2.1", 9)));
                    if result != Err(Errno::CONNREFUSED) {
                        println!("client {client}, {local:?}: {result:?}");
                        failures.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failures.into_inner()
}

#[test]
fn probing_the_ports_of_many_clients_causes_no_failure() {
    in_namespace(|| {
        if !Feature::SocketPortRange.is_here_or_skips() {
            return;
        }
        set_sysctl("ip_local_port_range", "40000 40499");
        let calls = env::var("TIMEWAIT_PROBE_CALLS").map_or(30_000, |calls| calls.parse().unwrap());
        assert_eq!(failures_of_a_crowd(calls), 0, "without a probe");
        let is_over = AtomicBool::new(false);
        let (failures, probes) = thread::scope(|scope| {
            let prober = scope.spawn(|| {
                let range: PortSet = (40_000..40_500).collect();
                let (probe, scraper, mut probes) = (opened(), Scraper::open([]), 0_u64);
                while !is_over.load(Ordering::Relaxed) {
                    // Free ports too, unlike the collector.
                    probe.closed_to_connect(&range, soon()).unwrap();
                    scraper.scrape();
                    probes += 1;
                }
                probes
            });
            let failures = failures_of_a_crowd(calls);
            is_over.store(true, Ordering::Relaxed);
            (failures, prober.join().unwrap())
        });
        println!("{calls} calls beside {probes} probes of 500 ports: {failures} failures");
        assert!(probes > 0);
        assert_eq!(failures, 0, "beside {probes} probes");
    });
}

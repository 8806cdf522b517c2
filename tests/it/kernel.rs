//! What the program exports about real sockets, compared with ss(8) and /proc/net/sockstat.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::exposition::Metrics;
use crate::support::features::Feature;
use crate::support::namespace::{add_address, in_namespace, set_sysctl};
use crate::support::program::{Program, Scraper};
use crate::support::sockets::{
    Connection, at, bound, connected, connecting, listening, listening_with, mapped,
};
use crate::support::{eventually, skip};

const NETLINK: &str = "--collector.source=netlink";
const PROCFS: &str = "--collector.source=procfs";

/// How many sockets ss(8) lists in a state.
fn ss(state: &str) -> usize {
    let output = Command::new("ss")
        .args(["-Htan", "state", state])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().lines().count()
}

/// The `tw` value of sockstat.
fn sockstat_tw() -> f64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap();
    let tcp = text.lines().find(|line| line.starts_with("TCP:")).unwrap();
    let mut words = tcp.split(' ').skip_while(|word| *word != "tw");
    words.nth(1).unwrap().parse().unwrap()
}

/// One scrape whose sums agree with ss(8) and sockstat.
fn agreed(scraper: &mut Scraper) -> Metrics {
    let metrics = scraper.metrics();
    assert_eq!(metrics.time_wait(), ss("time-wait") as f64);
    assert_eq!(metrics.value("timewait_buckets"), sockstat_tw());
    for collector in ["sockets", "sysctl", "netstat", "sockstat", "slabinfo"] {
        let series = format!("timewait_scrape_collector_success{{collector=\"{collector}\"}}");
        assert_eq!(metrics.value(&series), 1.0);
    }
    metrics
}

fn connections(n: usize, listener: &OwnedFd, to: SocketAddr) -> Vec<Connection> {
    (0..n).map(|_| connected(None, listener, to)).collect()
}

/// A series of one destination.
fn of_destination(metric: &str, src: &str, dst: &str, port: u16, more: &str) -> String {
    format!(
        "timewait_destination_{metric}{{src_addr=\"{src}\",dst_addr=\"{dst}\",dst_port=\"{port}\"{more}}}"
    )
}

#[test]
fn a_client_that_closes_first_keeps_time_wait_towards_its_destination() {
    in_namespace(|| {
        let program = Program::start(&[NETLINK]);
        let to = at("127.0.0.1", 80);
        let listener = listening(to);
        for connection in connections(30, &listener, to) {
            connection.close_client_first();
        }
        let metrics = agreed(&mut program.scraper());
        assert_eq!(metrics.value("timewait_sockets{family=\"ipv4\"}"), 30.0);
        assert_eq!(metrics.value("timewait_sockets{family=\"ipv6\"}"), 0.0);
        assert_eq!(
            metrics.value("timewait_sockets_by_src_addr{src_addr=\"127.0.0.1\"}"),
            30.0
        );
        assert_eq!(
            metrics.value("timewait_sockets_by_src_port{src_port=\"ephemeral\"}"),
            30.0
        );
        assert_eq!(
            metrics.value("timewait_sockets_by_dst_port{dst_port=\"80\"}"),
            30.0
        );
        assert_eq!(
            metrics.value("timewait_sockets_by_dst_port{dst_port=\"ephemeral\"}"),
            0.0
        );
        let in_use = of_destination(
            "ports",
            "127.0.0.1",
            "127.0.0.1",
            80,
            ",state=\"time_wait\"",
        );
        assert_eq!(metrics.value(&in_use), 30.0);
        assert_eq!(
            metrics.value("timewait_scrape_source{source=\"netlink\"}"),
            1.0
        );
        let rate = metrics.value(&of_destination(
            "close_rate",
            "127.0.0.1",
            "127.0.0.1",
            80,
            "",
        ));
        assert!((0.0..=3.0).contains(&rate), "{rate}");
    });
}

#[test]
fn a_server_that_closes_first_keeps_time_wait_and_uses_no_port() {
    in_namespace(|| {
        let program = Program::start(&[NETLINK]);
        let to = at("127.0.0.1", 80);
        let listener = listening(to);
        for connection in connections(30, &listener, to) {
            connection.close_server_first();
        }
        let metrics = agreed(&mut program.scraper());
        assert_eq!(
            metrics.value("timewait_sockets_by_src_port{src_port=\"80\"}"),
            30.0
        );
        assert_eq!(
            metrics.value("timewait_sockets_by_src_port{src_port=\"ephemeral\"}"),
            0.0
        );
        assert_eq!(
            metrics.value("timewait_sockets_by_dst_port{dst_port=\"ephemeral\"}"),
            30.0
        );
        let in_use = of_destination(
            "ports",
            "127.0.0.1",
            "127.0.0.1",
            80,
            ",state=\"time_wait\"",
        );
        assert_eq!(metrics.get(&in_use), None);
    });
}

#[test]
fn ipv6_sockets_are_exported_as_ipv6() {
    in_namespace(|| {
        add_address("2001:db8::1/128");
        let program = Program::start(&[NETLINK]);
        let to = at("2001:db8::1", 443);
        let listener = listening(to);
        for connection in connections(12, &listener, to) {
            connection.close_client_first();
        }
        let metrics = agreed(&mut program.scraper());
        assert_eq!(metrics.value("timewait_sockets{family=\"ipv6\"}"), 12.0);
        assert_eq!(
            metrics.value("timewait_sockets_by_dst_addr{dst_addr=\"2001:db8::1\"}"),
            12.0
        );
        let ratio = metrics.value("timewait_port_range_exhaustion_ratio{family=\"ipv6\"}");
        assert!((ratio - 12.0 / 28_232.0).abs() < 1e-9, "{ratio}");
    });
}

#[test]
fn a_mapped_address_is_exported_as_the_ipv4_address() {
    in_namespace(|| {
        let program = Program::start(&[NETLINK]);
        let to = at("127.0.0.1", 80);
        let listener = listening(at("::", 80));
        let mut all = connections(5, &listener, to);
        all.extend(connections(7, &listener, mapped(to)));
        for connection in all {
            connection.close_client_first();
        }
        let metrics = agreed(&mut program.scraper());
        assert_eq!(metrics.value("timewait_sockets{family=\"ipv4\"}"), 12.0);
        let in_use = of_destination(
            "ports",
            "127.0.0.1",
            "127.0.0.1",
            80,
            ",state=\"time_wait\"",
        );
        assert_eq!(metrics.value(&in_use), 12.0);
        assert!(!format!("{metrics:?}").contains("ffff"));
    });
}

#[test]
fn half_closed_sockets_use_ports_but_are_not_time_wait() {
    in_namespace(|| {
        let program = Program::start(&[NETLINK]);
        let to = at("127.0.0.1", 80);
        let listener = listening(to);
        let mut scraper = program.scraper();
        // FIN-WAIT-2 with an owner, CLOSE-WAIT, and orphans that are mini-sockets of FIN-WAIT-2.
        let fin_wait = connections(3, &listener, to);
        fin_wait.iter().for_each(Connection::half_close_client);
        let close_wait = connections(4, &listener, to);
        close_wait.iter().for_each(Connection::half_close_server);
        let orphaned = connections(5, &listener, to);
        orphaned.iter().for_each(Connection::half_close_client);
        let _servers: Vec<OwnedFd> = orphaned.into_iter().map(|pair| pair.server).collect();
        eventually("the orphans are mini-sockets", || sockstat_tw() == 5.0);
        eventually("all are in their states", || ss("fin-wait-2") == 3 + 4 + 5);
        let metrics = agreed(&mut scraper);
        assert_eq!(metrics.time_wait(), 0.0);
        assert_eq!(metrics.value("timewait_buckets"), 5.0);
        let in_use = of_destination("ports", "127.0.0.1", "127.0.0.1", 80, ",state=\"other\"");
        assert_eq!(metrics.value(&in_use), 12.0);
    });
}

/// Sockets of all kinds at once, kept open until the namespace ends.
struct Crowd {
    _open: Vec<OwnedFd>,
    _pairs: Vec<Connection>,
}

fn crowd() -> Crowd {
    add_address("192.0.2.1/32");
    add_address("2001:db8::1/128");
    let addresses = [
        at("127.0.0.1", 80),
        at("192.0.2.1", 443),
        at("2001:db8::1", 443),
    ];
    let mut open: Vec<OwnedFd> = Vec::new();
    // Before any connect() can take their ports.
    open.push(listening(at("127.0.0.1", 40_000)));
    open.push(listening(at("::", 40_001)));
    let mut pairs = Vec::new();
    for (n, to) in addresses.into_iter().enumerate() {
        let listener = listening(to);
        for connection in connections(5 + n, &listener, to) {
            connection.close_client_first();
        }
        for connection in connections(3 + n, &listener, to) {
            connection.close_server_first();
        }
        let half = connections(2, &listener, to);
        half.iter().for_each(Connection::half_close_client);
        pairs.extend(half);
        pairs.extend(connections(4, &listener, to));
        open.push(listener);
    }
    let full = listening_with(at("127.0.0.1", 81), 0, false);
    open.extend((0..4).map(|_| connecting(None, at("127.0.0.1", 81)).unwrap()));
    open.push(full);
    Crowd {
        _open: open,
        _pairs: pairs,
    }
}

#[test]
fn netlink_and_procfs_give_the_same_values_for_the_same_sockets() {
    in_namespace(|| {
        let _crowd = crowd();
        // From now on all TIME-WAIT sockets on loopback are reusable, for both sources.
        thread::sleep(Duration::from_millis(1_100));
        let netlink = Program::start(&[NETLINK]);
        let procfs = Program::start(&[PROCFS]);
        // Open both connections first, so that both scrapes see them.
        let (mut one, mut other) = (netlink.scraper(), procfs.scraper());
        let (one, other) = (agreed(&mut one), agreed(&mut other));
        assert_eq!(one.value("timewait_scrape_source{source=\"netlink\"}"), 1.0);
        assert_eq!(
            other.value("timewait_scrape_source{source=\"procfs\"}"),
            1.0
        );
        let values = |metrics: &Metrics| {
            let mut all = std::collections::BTreeMap::new();
            for metric in timewait_exporter::exposition::METRICS
                .iter()
                .map(|metric| metric.name)
            {
                let depends_on_sockets = metric.starts_with("timewait_sockets")
                    || metric.starts_with("timewait_port_range")
                    || metric.starts_with("timewait_destination")
                    || metric.starts_with("timewait_source")
                    || metric == "timewait_listeners_in_port_range"
                    || metric == "timewait_scrape_dump_messages";
                // Time passes between the two.
                let depends_on_age = metric.contains("age")
                    || metric.contains("reusable")
                    || metric.contains("close_rate");
                if depends_on_sockets && !depends_on_age {
                    for (series, value) in metrics.of(metric) {
                        all.insert(series.to_owned(), value);
                    }
                }
            }
            all
        };
        assert!(values(&one).len() > 50);
        assert_eq!(values(&one), values(&other));
    });
}

#[test]
fn a_bound_unconnected_port_is_blocked_and_only_netlink_sees_it() {
    in_namespace(|| {
        let _bound = bound(at("127.0.0.5", 40_050)).unwrap();
        let blocked = |source| {
            let program = Program::start(&[source]);
            program
                .scraper()
                .metrics()
                .value("timewait_port_range_blocked_ports")
        };
        let is_known = Feature::BoundSockets.is_here_or_skips();
        assert_eq!(blocked(NETLINK), f64::from(u8::from(is_known)));
        assert_eq!(blocked(PROCFS), 0.0);
    });
}

#[test]
fn sysctls_are_read_for_each_scrape() {
    in_namespace(|| {
        let program = Program::start(&[NETLINK]);
        let mut scraper = program.scraper();
        for (reuse, range, ports) in [("0", "40000 40009", 10.0), ("1", "50000 50100", 101.0)] {
            set_sysctl("tcp_tw_reuse", reuse);
            set_sysctl("ip_local_port_range", range);
            let metrics = scraper.metrics();
            let value = metrics.value("timewait_sysctl_tcp_tw_reuse");
            assert_eq!(value, reuse.parse::<f64>().unwrap());
            assert_eq!(metrics.value("timewait_port_range_ports"), ports);
        }
        set_sysctl("ip_local_reserved_ports", "50000-50004,50100,60000");
        let metrics = scraper.metrics();
        assert_eq!(metrics.value("timewait_port_range_reserved_ports"), 6.0);
    });
}

#[test]
fn the_ratio_reaches_one_when_connect_fails() {
    in_namespace(|| {
        set_sysctl("tcp_tw_reuse", "0");
        let program = Program::start(&[NETLINK]);
        let mut scraper = program.scraper();
        set_sysctl("ip_local_port_range", "40000 40019");
        let to = at("127.0.0.1", 80);
        let listener = listening(to);
        let ratio = "timewait_port_range_exhaustion_ratio{family=\"ipv4\"}";
        let headroom = of_destination("headroom_ports", "127.0.0.1", "127.0.0.1", 80, "");
        for n in 0..20 {
            assert!(scraper.metrics().value(ratio) < 1.0, "after {n}");
            connected(None, &listener, to).close_client_first();
        }
        let metrics = agreed(&mut scraper);
        assert_eq!((metrics.value(ratio), metrics.value(&headroom)), (1.0, 0.0));
        let error = crate::support::sockets::connect_from(None, to).unwrap_err();
        assert_eq!(error, rustix::io::Errno::ADDRNOTAVAIL);
    });
}

#[test]
fn kernel_features_are_found_by_trying_and_newer_ones_imply_older_ones() {
    in_namespace(|| {
        let found = Feature::ALL.map(Feature::is_here);
        for (feature, is_here) in Feature::ALL.into_iter().zip(found) {
            skip::note(
                "FEATURE",
                &format!("{} {feature}", if is_here { "yes" } else { "no" }),
            );
        }
        let [
            bound,
            port_range,
            delay,
            orphans,
            ports_come_back,
            entered,
            step_width,
        ] = found;
        let in_order = [
            step_width,
            ports_come_back,
            delay,
            bound,
            port_range,
            entered,
        ];
        assert!(in_order.is_sorted(), "{found:?}");
        assert!(orphans || !delay, "{found:?}");
    });
}

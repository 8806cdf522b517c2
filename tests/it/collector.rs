//! What a scrape does when a source or a file fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use timewait_exporter::collector::{Collector, CollectorConfig, Enabled, Job, SourceChoice};
use timewait_exporter::domain::collectors::CollectorId;
use timewait_exporter::domain::options::CensusOptions;
use timewait_exporter::domain::snapshot::{Counts, Outcome, Snapshot, Source};

use crate::support::eventually;
use crate::support::fake_kernel::{FakeKernel, Message, Step, record};
use crate::support::namespace::in_namespace;
use crate::support::program::Program;
use crate::support::server::config;

pub fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/procfs/linux-5.15")
}

fn collector(source: SourceChoice, kernel: &FakeKernel) -> Collector {
    let config = CollectorConfig {
        source,
        procfs: fixture(),
        enabled: Enabled::default(),
        census: CensusOptions::default(),
        ..config(&[]).collector
    };
    Collector::open(config, Box::new(kernel.clone())).unwrap()
}

fn scrape_within(collector: &Collector, time: Duration) -> Snapshot {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(collector.scrape(Instant::now() + time))
        .own
}

fn scrape(collector: &Collector) -> Snapshot {
    scrape_within(collector, Duration::from_secs(30))
}

fn success(snapshot: &Snapshot, id: CollectorId) -> Option<bool> {
    snapshot.outcome(id).map(|outcome| outcome.success)
}

fn source(snapshot: &Snapshot) -> Option<Source> {
    snapshot.sockets()?.source
}

fn refusing(errno: i32) -> FakeKernel {
    FakeKernel::new(vec![
        vec![Step::Datagram(vec![Message::refused(errno)])];
        10
    ])
}

/// Empty dumps, for as many scrapes.
fn empty(conversations: usize) -> Vec<Vec<Step>> {
    let done = || Step::Datagram(vec![Message::done(0)]);
    vec![vec![done(), done()]; conversations]
}

#[test]
fn auto_reads_procfs_where_netlink_is_unavailable() {
    // EPERM and EACCES of a filter, EPROTONOSUPPORT without the protocol, ENOENT without the module;
    // in the dump's own end where inet_diag is there and tcp_diag is not.
    let without_tcp_diag = vec![Step::Datagram(vec![Message::done(2)])];
    let kernels = [
        FakeKernel::closed(1),
        FakeKernel::closed(13),
        FakeKernel::closed(93),
        refusing(2),
        refusing(1),
        FakeKernel::new([without_tcp_diag]),
    ];
    for kernel in kernels {
        let snapshot = scrape(&collector(SourceChoice::Auto, &kernel));
        assert_eq!(source(&snapshot), Some(Source::Procfs));
        assert_eq!(success(&snapshot, CollectorId::Sockets), Some(true));
    }
}

#[test]
fn auto_returns_to_netlink_once_it_is_available() {
    let refused = vec![Step::Datagram(vec![Message::refused(2)])];
    let kernel = FakeKernel::new([vec![refused], empty(1)].concat());
    let collector = collector(SourceChoice::Auto, &kernel);
    assert_eq!(source(&scrape(&collector)), Some(Source::Procfs));
    assert_eq!(source(&scrape(&collector)), Some(Source::Netlink));
}

#[test]
fn without_a_fallback_the_sockets_fail_and_the_rest_is_exported() {
    let snapshot = scrape(&collector(SourceChoice::Netlink, &FakeKernel::closed(1)));
    let outcome = snapshot.outcome(CollectorId::Sockets).unwrap();
    assert_eq!((outcome.success, &outcome.value), (false, &None));
    for (id, outcome) in snapshot.outcomes() {
        assert_eq!(outcome.success, id != CollectorId::Sockets, "{id:?}");
    }
}

#[test]
fn a_temporary_failure_is_retried_in_a_new_conversation() {
    let busy = vec![Step::Datagram(vec![Message::refused(16)])];
    let lost = vec![Step::Error(105)];
    let kernel = FakeKernel::new([vec![busy.clone(), lost.clone()], empty(1)].concat());
    let snapshot = scrape(&collector(SourceChoice::Netlink, &kernel));
    assert_eq!(source(&snapshot), Some(Source::Netlink));
    assert_eq!(kernel.opened(), 3);
    // Not indefinitely.
    let kernel = FakeKernel::new(vec![busy; 9]);
    let snapshot = scrape(&collector(SourceChoice::Netlink, &kernel));
    assert_eq!(success(&snapshot, CollectorId::Sockets), Some(false));
    assert_eq!(kernel.opened(), 3);
}

#[test]
fn an_inconsistent_dump_is_retried_and_then_exported_as_incomplete() {
    let marked = || Message {
        flags: 2 | 16,
        ..Message::done(0)
    };
    let inconsistent = || {
        vec![
            Step::Datagram(vec![Message::done(0)]),
            Step::Datagram(vec![marked()]),
        ]
    };
    let kernel = FakeKernel::new([vec![inconsistent()], empty(1)].concat());
    let snapshot = scrape(&collector(SourceChoice::Netlink, &kernel));
    assert_eq!(success(&snapshot, CollectorId::Sockets), Some(true));
    assert_eq!(kernel.opened(), 2);
    let kernel = FakeKernel::new(vec![inconsistent(); 9]);
    let snapshot = scrape(&collector(SourceChoice::Netlink, &kernel));
    assert_eq!(success(&snapshot, CollectorId::Sockets), Some(false));
    assert!(snapshot.sockets().is_some());
    assert_eq!(kernel.opened(), 3);
}

#[test]
fn a_permanent_failure_does_not_cause_a_fallback() {
    let cut = vec![Step::Raw(vec![1, 2, 3])];
    let kernel = FakeKernel::new([vec![cut], empty(1)].concat());
    let collector = collector(SourceChoice::Auto, &kernel);
    let snapshot = scrape(&collector);
    assert_eq!(source(&snapshot), None);
    assert_eq!(source(&scrape(&collector)), Some(Source::Netlink));
}

#[test]
fn values_of_an_incomplete_dump_are_never_exported() {
    let one = || {
        Message::record(record(
            6,
            ("192.0.2.1", 40_005),
            ("192.0.2.2", 443),
            3,
            9_000,
        ))
    };
    let kernel = FakeKernel::new([vec![
        Step::Datagram(vec![Message::done(0)]),
        Step::Datagram(vec![one(), one()]),
        Step::Datagram(vec![Message::done(5)]),
    ]]);
    let snapshot = scrape(&collector(SourceChoice::Netlink, &kernel));
    let outcome = snapshot.outcome(CollectorId::Sockets).unwrap();
    assert_eq!((outcome.success, &outcome.value), (false, &None));
}

#[test]
fn an_endless_dump_costs_its_own_metrics_only_and_the_next_scrape_succeeds() {
    let one = Message::record(record(
        6,
        ("192.0.2.1", 40_005),
        ("192.0.2.2", 443),
        3,
        9_000,
    ));
    let endless = vec![
        Step::Datagram(vec![Message::done(0)]),
        Step::Forever(vec![one]),
    ];
    let kernel = FakeKernel::new([vec![endless], empty(1)].concat());
    let collector = collector(SourceChoice::Netlink, &kernel);
    // Enough time for the others, even on a busy machine.
    let snapshot = scrape_within(&collector, Duration::from_secs(2));
    let outcome = snapshot.outcome(CollectorId::Sockets).unwrap();
    assert_eq!((outcome.success, &outcome.value), (false, &None));
    assert_eq!(success(&snapshot, CollectorId::Sysctl), Some(true));
    assert_eq!(source(&scrape(&collector)), Some(Source::Netlink));
}

#[test]
fn a_collector_that_blocks_costs_its_own_metrics_only() {
    let (leave, may_leave) = std::sync::mpsc::channel();
    let blocked: Job = Box::new(move |_| {
        may_leave.recv().unwrap();
        None
    });
    let quick: Job = Box::new(|_| Some(Outcome::whole(Some(Counts::default()), Duration::ZERO)));
    let jobs = [
        (CollectorId::Slabinfo, blocked),
        (CollectorId::Netstat, quick),
    ];
    let collector = Collector::start(jobs).unwrap();
    let snapshot = scrape_within(&collector, Duration::from_secs(2));
    assert_eq!(success(&snapshot, CollectorId::Slabinfo), Some(false));
    assert_eq!(success(&snapshot, CollectorId::Netstat), Some(true));
    leave.send(()).unwrap();
}

#[test]
fn a_named_pipe_in_the_place_of_a_file_fails_its_own_collector_at_once() {
    for (broken, file) in [
        (CollectorId::Sysctl, "sys/net/ipv4/tcp_rfc1337"),
        (CollectorId::Slabinfo, "slabinfo"),
        (CollectorId::Sockets, "net/tcp"),
        (CollectorId::Udp, "net/udp"),
    ] {
        let tree = copy();
        let path = tree.path().join(file);
        fs::remove_file(&path).unwrap();
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let config = CollectorConfig {
            source: SourceChoice::Procfs,
            procfs: tree.path().to_owned(),
            // Independent of what this machine allows.
            enabled: Enabled::default().without(&[CollectorId::Failures]),
            ..config(&[]).collector
        };
        let collector = Collector::open(config, Box::new(FakeKernel::default())).unwrap();
        // Twice: no thread stays blocked in the pipe.
        for _ in 0..2 {
            let begin = Instant::now();
            let snapshot = scrape(&collector);
            assert!(begin.elapsed() < Duration::from_secs(10));
            assert_eq!(snapshot.outcomes().count(), 6);
            for (id, outcome) in snapshot.outcomes() {
                assert_eq!(outcome.success, id != broken, "{id:?}, {file}");
            }
        }
    }
}

#[test]
fn unreadable_reserved_ports_are_not_exported_as_none() {
    in_namespace(|| {
        let tree = copy();
        let file = tree.path().join("sys/net/ipv4/ip_local_reserved_ports");
        let procfs = format!("--path.procfs={}", tree.path().display());
        let program = Program::start(&["--collector.source=procfs", &procfs]);
        let mut scraper = program.scraper();
        let reserved = "timewait_port_range_reserved_ports";
        assert!(scraper.metrics().get(reserved).is_some());
        fs::write(&file, "some").unwrap();
        assert_eq!(scraper.metrics().get(reserved), None);
        fs::remove_file(&file).unwrap();
        let metrics = scraper.metrics();
        assert_eq!(metrics.get(reserved), None);
        assert!(metrics.get("timewait_port_range_ports").is_some());
    });
}

/// A copy of the fixture tree, to be broken.
pub fn copy() -> TempDir {
    let copy = TempDir::new().unwrap();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        fs::create_dir_all(copy.path().join(&folder)).unwrap();
        for entry in fs::read_dir(fixture().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                fs::copy(entry.path(), copy.path().join(&path)).unwrap();
            }
        }
    }
    copy
}

#[test]
fn a_malformed_file_fails_its_collector_only_and_the_log_names_file_and_text() {
    in_namespace(|| {
        for (collector, file, text) in [
            ("sysctl", "sys/net/ipv4/tcp_tw_reuse", "many"),
            ("sysctl", "sys/net/ipv4/ip_local_port_range", "9 8"),
            ("netstat", "net/netstat", "TcpExt: TW\nTcpExt: -7\n"),
            (
                "sockstat",
                "net/sockstat",
                "TCP: inuse x orphan 0 tw 0 alloc 0 mem 0\n",
            ),
            (
                "slabinfo",
                "slabinfo",
                "slabinfo - version: 2.1\ntw_sock_TCP junk\n",
            ),
            ("sockets", "net/tcp", "  sl  local_address\n   0: junk\n"),
        ] {
            let tree = copy();
            fs::write(tree.path().join(file), text).unwrap();
            let procfs = format!("--path.procfs={}", tree.path().display());
            let program = Program::start(&["--collector.source=procfs", &procfs]);
            let mut scraper = program.scraper();
            let metrics = scraper.metrics();
            for other in ["sockets", "sysctl", "netstat", "sockstat", "slabinfo"] {
                let series = format!("timewait_scrape_collector_success{{collector=\"{other}\"}}");
                let expected = f64::from(u8::from(other != collector));
                assert_eq!(
                    metrics.value(&series),
                    expected,
                    "{other}, {file} being broken"
                );
            }
            let word = text
                .split(['\n', ' '])
                .rfind(|word| !word.is_empty())
                .unwrap();
            let complaint = || {
                let mut lines = program.logged(file);
                lines.retain(|line| line.contains(word));
                lines
            };
            eventually("the log names the file and the text", || {
                !complaint().is_empty()
            });
            // Once, not on every scrape.
            scraper.metrics();
            assert_eq!(complaint().len(), 1, "{:?}", complaint());
        }
    });
}

/// The state masks of the requests, and whether each had a filter.
fn asked(kernel: &FakeKernel) -> Vec<(u32, bool)> {
    let mask = |request: &Vec<u8>| u32::from_ne_bytes(request[68..72].try_into().unwrap());
    let requests = kernel.requests();
    requests
        .iter()
        .map(|request| (mask(request), request.len() > 76))
        .collect()
}

const LISTENING: u32 = 1 << 10;
const OWNERS: u32 = LISTENING | 1 << 13;
const CONNECTED: u32 = 0b1011_0111_0110;

/// A collector whose sockstat counts 300,000 sockets in TIME-WAIT.
fn collector_of_many(kernel: &FakeKernel) -> (TempDir, Collector) {
    let tree = copy();
    let sockstat = "TCP: inuse 14 orphan 0 tw 300000 alloc 22 mem 9\n";
    fs::write(tree.path().join("net/sockstat"), sockstat).unwrap();
    let config = CollectorConfig {
        source: SourceChoice::Netlink,
        procfs: tree.path().to_owned(),
        enabled: Enabled::default(),
        census: CensusOptions::default(),
        ..config(&[]).collector
    };
    let collector = Collector::open(config, Box::new(kernel.clone())).unwrap();
    (tree, collector)
}

/// A complete dump of these sockets.
fn dump_of(sockets: impl IntoIterator<Item = Vec<u8>>) -> Step {
    let records = sockets.into_iter().map(Message::record);
    Step::Datagram(records.chain([Message::done(0)]).collect())
}

fn bound_to(port: u16) -> Vec<u8> {
    record(7, ("127.0.0.1", port), ("0.0.0.0", 0), 0, 0)
}

/// Connections to one destination on 13 of the 16 usable ports of the fixture.
fn nearly_full() -> Step {
    dump_of((40_000..40_017).filter_map(|port| {
        let is_reserved = [40_005, 40_010, 40_011, 40_012].contains(&port);
        (!is_reserved).then(|| record(1, ("192.0.2.1", port), ("192.0.2.2", 443), 0, 0))
    }))
}

#[test]
fn with_many_sockets_bound_ones_are_read_once_and_listening_ones_every_time() {
    let listening = || record(10, ("0.0.0.0", 40_002), ("0.0.0.0", 0), 0, 0);
    let kernel = FakeKernel::new([
        vec![dump_of([bound_to(40_001), listening()]), dump_of([])],
        vec![dump_of([listening()]), dump_of([])],
    ]);
    let (_tree, collector) = collector_of_many(&kernel);
    for _ in 0..2 {
        let sockets = scrape(&collector).sockets().unwrap().clone();
        let ports = sockets.ports.unwrap();
        assert_eq!((ports.listeners, ports.blocked), (1, 2));
    }
    let expected = [OWNERS, CONNECTED, LISTENING, CONNECTED];
    assert_eq!(asked(&kernel), expected.map(|mask| (mask, false)));
}

#[test]
fn near_a_limit_bound_sockets_are_read_for_every_scrape() {
    let kernel = FakeKernel::new([
        vec![dump_of([]), dump_of([])],
        vec![dump_of([]), nearly_full()],
        vec![dump_of([bound_to(40_019)]), nearly_full()],
        vec![dump_of([bound_to(40_019)]), nearly_full()],
    ]);
    let (_tree, collector) = collector_of_many(&kernel);
    let ports = || {
        let sockets = scrape(&collector).sockets().unwrap().clone();
        let ports = sockets.ports.unwrap();
        (ports.usable, ports.worst_ratio.ipv4)
    };
    assert_eq!(ports(), (16, 0.0));
    assert_eq!(ports(), (15, 13.0 / 15.0));
    assert_eq!(ports(), (15, 13.0 / 15.0));
    let expected = [
        OWNERS, CONNECTED, LISTENING, CONNECTED, OWNERS, CONNECTED, OWNERS, CONNECTED,
    ];
    assert_eq!(asked(&kernel), expected.map(|mask| (mask, false)));
}

#[test]
fn a_second_dump_that_fails_near_a_limit_leaves_the_values_of_the_first() {
    let kernel = FakeKernel::new([
        vec![dump_of([]), dump_of([])],
        vec![dump_of([]), nearly_full()],
        vec![Step::Error(5)],
    ]);
    let (_tree, collector) = collector_of_many(&kernel);
    scrape(&collector);
    let snapshot = scrape(&collector);
    let ports = snapshot.ports().unwrap();
    assert_eq!((ports.usable, ports.worst_ratio.ipv4), (16, 13.0 / 16.0));
    assert_eq!(kernel.opened(), 3);
}

#[test]
fn a_filter_is_sent_where_sockets_are_not_all_in_time_wait() {
    let kernel = FakeKernel::new(empty(1));
    scrape(&collector(SourceChoice::Netlink, &kernel));
    let filtered: Vec<bool> = asked(&kernel)
        .iter()
        .map(|(_, filtered)| *filtered)
        .collect();
    assert_eq!(filtered, [false, true]);
}

#[test]
fn an_unknown_range_omits_what_depends_on_it_and_keeps_the_rest() {
    in_namespace(|| {
        let tree = copy();
        fs::write(tree.path().join("sys/net/ipv4/ip_local_port_range"), "junk").unwrap();
        let procfs = format!("--path.procfs={}", tree.path().display());
        let program = Program::start(&["--collector.source=procfs", &procfs]);
        let metrics = program.scraper().metrics();
        let total = metrics.sum("timewait_sockets");
        assert!(total > 0.0);
        assert_eq!(metrics.sum("timewait_sockets_by_dst_addr"), total);
        for absent in [
            "timewait_sockets_by_src_port",
            "timewait_port_range_ports",
            "timewait_destinations",
        ] {
            assert!(metrics.of(absent).is_empty(), "{absent}");
        }
    });
}

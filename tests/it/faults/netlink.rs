//! The whole server with a fake kernel whose netlink replies are cut, repeated, out of order, endless, or have
//! wrong lengths.

use std::fs;
use std::time::{Duration, Instant};

use timewait_exporter::collector::{Collector, CollectorConfig, Enabled, SourceChoice};
use timewait_exporter::domain::options::CensusOptions;

use crate::support::block_on;
use crate::support::exposition::Metrics;
use crate::support::fake_kernel::{FakeKernel, Message, Step, record};
use crate::support::namespace::in_namespace;
use crate::support::program::resident_kib;
use crate::support::server::{Running, config, generous};

const ROUNDS: usize = 10;

/// As elsewhere; here it is the memory of this process, including the runtime and the test.
const MARGIN_KIB: u64 = super::MARGIN_KIB;

fn socket(port: u16) -> Message {
    Message::record(record(
        6,
        ("192.0.2.1", port),
        ("192.0.2.2", 443),
        3,
        // Closed just now: too young to be reused.
        59_900,
    ))
}

fn sockets(count: u16) -> Vec<Message> {
    (0..count).map(|number| socket(40_000 + number)).collect()
}

fn done() -> Step {
    Step::Datagram(vec![Message::done(0)])
}

/// No listening or bound socket, and 100 sockets in TIME-WAIT.
fn good() -> Vec<Step> {
    vec![
        done(),
        Step::Datagram(sockets(60)),
        Step::Datagram(sockets_from(60, 40)),
        done(),
    ]
}

fn sockets_from(first: u16, count: u16) -> Vec<Message> {
    (first..first + count)
        .map(|number| socket(40_000 + number))
        .collect()
}

/// A faulty reply after a good first dump.
fn after_owners(steps: Vec<Step>) -> Vec<Step> {
    [vec![done()], steps].concat()
}

/// With a wrong length in its second message.
fn lie(length: u32) -> Vec<Step> {
    // A record is 16 + 72 bytes.
    let patch = length.to_ne_bytes().to_vec();
    after_owners(vec![Step::Patched(sockets(3), 88, patch), done()])
}

/// Faults after which no socket metrics are exported, by name.
fn failing() -> Vec<(&'static str, Vec<Step>)> {
    let stale = Message {
        sequence_offset: u32::MAX,
        ..socket(40_000)
    };
    let future = Message {
        sequence_offset: 1,
        ..Message::done(0)
    };
    vec![
        (
            "cut by the buffer",
            after_owners(vec![Step::Cut(sockets(5), 200), done()]),
        ),
        (
            "cut within a record",
            after_owners(vec![Step::Raw(vec![88, 0, 0, 0, 18]), done()]),
        ),
        (
            "cut in the first dump",
            vec![Step::Cut(sockets(5), 17), done()],
        ),
        (
            "ended without DONE",
            after_owners(vec![Step::Datagram(sockets(5))]),
        ),
        (
            "out of order, the dump before",
            after_owners(vec![Step::Datagram(vec![stale])]),
        ),
        (
            "out of order, the dump after",
            after_owners(vec![Step::Datagram(vec![future])]),
        ),
        (
            "repeated DONE, which answers the next dump",
            vec![done(), Step::Raw(stale_done()), done()],
        ),
        ("length 0", lie(0)),
        ("length of half a header", lie(8)),
        ("length beyond the datagram", lie(2_000)),
        ("length beyond all", lie(u32::MAX)),
        ("length of a record without its address", lie(40)),
        ("length that is no multiple of 4", lie(87)),
        (
            "an empty datagram",
            after_owners(vec![Step::Raw(Vec::new()), done()]),
        ),
        (
            "noise",
            after_owners(vec![Step::Raw(vec![0xa5; 32 * 1024]), done()]),
        ),
    ]
}

/// A DONE with the number of a dump long ago.
fn stale_done() -> Vec<u8> {
    let mut bytes = 20_u32.to_ne_bytes().to_vec();
    bytes.extend([3, 0, 2, 0]);
    bytes.extend([0; 12]);
    bytes
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A short timeout, which leaves 200 ms for the scrape.
const IMPATIENT: &str = "X-Prometheus-Scrape-Timeout-Seconds: 0.7\r\n";

async fn scrape_with(server: &Running, headers: &str) -> Metrics {
    let headers = format!("{headers}Connection: close\r\n");
    let mut client = server.connect().await;
    let answer = client.request("GET", "/metrics", &headers).await;
    answer.metrics()
}

async fn scrape(server: &Running) -> Metrics {
    scrape_with(server, "").await
}

fn assert_others_are_exported(metrics: &Metrics, fault: &str) {
    for collector in ["sysctl", "netstat", "sockstat", "slabinfo"] {
        assert!(metrics.success(collector), "{fault}: {collector}");
    }
    assert!(metrics.get("timewait_buckets").is_some(), "{fault}");
}

fn assert_all_is_exported(metrics: &Metrics, fault: &str) {
    assert!(metrics.success("sockets"), "after {fault}");
    assert_others_are_exported(metrics, fault);
    assert_eq!(metrics.time_wait(), 100.0, "after {fault}");
    assert_eq!(metrics.value("timewait_destinations"), 1.0);
    let ratio = metrics.value("timewait_port_range_exhaustion_ratio{family=\"ipv4\"}");
    assert!((0.003..0.004).contains(&ratio), "{ratio}");
}

#[test]
fn whatever_netlink_replies_the_server_answers_and_the_next_scrape_is_correct() {
    in_namespace(|| {
        block_on(all_faults());
    });
}

async fn all_faults() {
    let faults = failing();
    let endless = after_owners(vec![Step::Forever(sockets(300))]);
    let endless_owners = vec![Step::Forever(vec![Message::record(record(
        10,
        ("0.0.0.0", 80),
        ("0.0.0.0", 0),
        0,
        0,
    ))])];
    let twice = after_owners(vec![
        Step::Datagram(sockets(100)),
        Step::Datagram(sockets(100)),
        done(),
    ]);
    // Temporary failures are tried three times.
    let busy = vec![Step::Datagram(vec![Message::refused(16)])];
    let mut script = vec![good()];
    for _ in 0..=ROUNDS {
        for (_, fault) in &faults {
            script.extend([fault.clone(), good()]);
        }
        for fault in [&endless, &endless_owners, &twice] {
            script.extend([fault.clone(), good()]);
        }
        script.extend([busy.clone(), busy.clone(), busy.clone(), good()]);
    }
    let config = CollectorConfig {
        source: SourceChoice::Netlink,
        procfs: crate::collector::fixture().with_file_name("linux-6.18"),
        enabled: Enabled::default(),
        census: CensusOptions::default(),
        ..config(&[]).collector
    };
    let kernel = FakeKernel::new(script);
    let collector = Collector::open(config, Box::new(kernel)).unwrap();
    let server = Running::with(collector, &[], generous()).await;
    assert_all_is_exported(&scrape(&server).await, "nothing");
    let mut before = (0, 0);
    let mut latest = Duration::ZERO;
    for round in 0..=ROUNDS {
        for (name, _) in &faults {
            let metrics = scrape(&server).await;
            assert!(!metrics.success("sockets"), "{name}");
            assert!(metrics.of("timewait_sockets").is_empty(), "{name}");
            assert!(metrics.of("timewait_destinations").is_empty(), "{name}");
            assert_others_are_exported(&metrics, name);
            assert_all_is_exported(&scrape(&server).await, name);
        }
        for name in ["sockets without end", "listeners without end"] {
            let begin = Instant::now();
            let metrics = scrape_with(&server, IMPATIENT).await;
            latest = latest.max(begin.elapsed());
            assert!(!metrics.success("sockets"), "{name}");
            assert_others_are_exported(&metrics, name);
            assert_all_is_exported(&scrape(&server).await, name);
        }
        // Repeated sockets count twice, but their ports only once.
        let metrics = scrape(&server).await;
        assert!(metrics.success("sockets"));
        assert_eq!(metrics.time_wait(), 200.0);
        let ratio = metrics.value("timewait_port_range_exhaustion_ratio{family=\"ipv4\"}");
        assert!((0.003..0.004).contains(&ratio), "{ratio}");
        assert_all_is_exported(&scrape(&server).await, "repeated datagrams");
        let metrics = scrape(&server).await;
        assert!(!metrics.success("sockets"), "busy three times");
        assert_all_is_exported(&scrape(&server).await, "busy three times");
        // By then every thread and client has allocated what it keeps.
        if round == 2 {
            before = (descriptors(), resident_kib("self"));
        }
    }
    let after = (descriptors(), resident_kib("self"));
    println!(
        "MEASURED netlink replies: {} faults of {} kinds, each followed by a correct scrape; endless \
         dumps answered after at most {} ms of 200 ms allowed; resident {} KiB before, {} KiB after; \
         {} descriptors before, {} after",
        ROUNDS * (faults.len() + 4),
        faults.len() + 4,
        latest.as_millis(),
        before.1,
        after.1,
        before.0,
        after.0
    );
    assert_eq!(after.0, before.0);
    assert!(after.1 <= before.1 + MARGIN_KIB, "{before:?} {after:?}");
}

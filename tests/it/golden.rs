//! The complete output for the fixture trees, compared with golden files: kernels that no test machine
//! runs, through the whole program.
//!
//! After an intended change, run the tests with `TIMEWAIT_UPDATE_GOLDEN=1` and read the diff.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use timewait_exporter::build_info::BUILD;
use timewait_exporter::collector::{Collector, CollectorConfig, Enabled, SourceChoice};
use timewait_exporter::domain::collectors::CollectorId;
use timewait_exporter::domain::options::CensusOptions;
use timewait_exporter::domain::socket::{PortOwner, Socket, TcpState};
use timewait_exporter::exposition::{ExporterMetrics, Format, encode, families};
use timewait_exporter::kernel::procfs::ProcRoot;

use crate::support::exposition::Metrics;
use crate::support::fake_kernel::{FakeKernel, Message, Step, record};
use crate::support::namespace::in_namespace;
use crate::support::program::Program;
use crate::support::server::config;

/// The trees, and how many bytes of attributes follow each record of their kernel's dumps. 3.10
/// sends none to a reader without privileges; later ones a mark, a class id, a cgroup.
const TREES: [(&str, usize); 6] = [
    ("linux-3.10", 0),
    ("linux-4.19", 8),
    ("linux-5.15", 20),
    ("linux-6.18", 36),
    ("linux-7.2", 36),
    ("alinux-5.10", 20),
];

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn tree(name: &str) -> PathBuf {
    fixtures().join("procfs").join(name)
}

/// The text without what differs between runs and builds.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    for line in text.lines() {
        let varies = line.starts_with("timewait_scrape_collector_duration_seconds{")
            || line.starts_with("timewait_exporter_build_info{");
        match line.rsplit_once(' ') {
            Some((series, _)) if varies => {
                let name = series.split("version").next().unwrap();
                masked.push_str(name);
                masked.push_str(" <varies>");
            }
            _ => masked.push_str(line),
        }
        masked.push('\n');
    }
    masked
}

fn assert_golden(name: &str, text: &str) {
    let path = fixtures().join("golden").join(format!("{name}.prom"));
    if env::var_os("TIMEWAIT_UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    assert_same(name, &golden(name), text);
}

fn golden(name: &str) -> String {
    let path = fixtures().join("golden").join(format!("{name}.prom"));
    fs::read_to_string(path).unwrap()
}

fn without_udp(text: &str) -> String {
    let is_udp = |line: &&str| line.contains("timewait_udp_") || line.contains("\"udp\"");
    let lines: Vec<&str> = text.lines().filter(|line| !is_udp(line)).collect();
    lines.join("\n")
}

fn assert_same(name: &str, expected: &str, text: &str) {
    for (number, (expected, got)) in expected.lines().zip(text.lines()).enumerate() {
        assert_eq!(got, expected, "{name}, line {}", number + 1);
    }
    assert_eq!(text.lines().count(), expected.lines().count(), "{name}");
}

/// The program's exposition of a tree.
fn exposition_of(name: &str) -> String {
    let procfs = format!("--path.procfs={}", tree(name).display());
    let flags = [
        "--collector.source=procfs",
        // Independent of what this machine has.
        "--no-collector.failures",
        "--web.disable-exporter-metrics",
        &procfs,
    ];
    let program = Program::start(&flags);
    let text = program.scraper().body("text/plain");
    assert!(Metrics::parse(&text).time_wait() > 0.0);
    masked(&text)
}

#[test]
fn linux_3_10_is_exported_as_in_its_golden_file() {
    in_namespace(|| assert_golden("linux-3.10", &exposition_of("linux-3.10")));
}

#[test]
fn linux_4_19_is_exported_as_in_its_golden_file() {
    in_namespace(|| assert_golden("linux-4.19", &exposition_of("linux-4.19")));
}

#[test]
fn linux_5_15_is_exported_as_in_its_golden_file() {
    in_namespace(|| assert_golden("linux-5.15", &exposition_of("linux-5.15")));
}

#[test]
fn linux_6_18_is_exported_as_in_its_golden_file() {
    in_namespace(|| assert_golden("linux-6.18", &exposition_of("linux-6.18")));
}

#[test]
fn linux_7_2_is_exported_as_in_its_golden_file() {
    in_namespace(|| assert_golden("linux-7.2", &exposition_of("linux-7.2")));
}

#[test]
fn alibaba_cloud_linux_is_exported_as_in_its_golden_file() {
    in_namespace(|| assert_golden("alinux-5.10", &exposition_of("alinux-5.10")));
}

/// The dumps that a kernel with these sockets would send, with the length of its records.
fn dumps(name: &str, attribute_bytes: usize) -> FakeKernel {
    let root = ProcRoot::new(tree(name));
    let deadline = Instant::now() + Duration::from_secs(60);
    let message = |mut payload: Vec<u8>| {
        payload.resize(payload.len() + attribute_bytes, 0);
        Message::record(payload)
    };
    let mut owners = Vec::new();
    let on_owner = &mut |owner: PortOwner| {
        let addr = owner.addr.to_string();
        let any = if addr.contains(':') { "::" } else { "0.0.0.0" };
        owners.push(message(record(10, (&addr, owner.port), (any, 0), 0, 0)));
    };
    root.read_owners(deadline, on_owner).unwrap();
    let mut sockets = Vec::new();
    let on_socket = &mut |socket: Socket| {
        let (src, dst) = (socket.src_addr.to_string(), socket.dst_addr.to_string());
        let timer = if socket.state == TcpState::TimeWait {
            3
        } else {
            0
        };
        let ends = ((&*src, socket.src_port), (&*dst, socket.dst_port));
        let state = socket.state as u8;
        sockets.push(message(record(
            state,
            ends.0,
            ends.1,
            timer,
            socket.remaining_ms,
        )));
    };
    root.read_sockets(deadline, on_socket).unwrap();
    let in_datagrams = |messages: Vec<Message>| {
        let mut steps: Vec<Step> = messages
            .chunks(7)
            .map(|some| Step::Datagram(some.to_vec()))
            .collect();
        steps.push(Step::Datagram(vec![Message::done(0)]));
        steps
    };
    FakeKernel::new([[in_datagrams(owners), in_datagrams(sockets)].concat()])
}

#[test]
fn dumps_with_each_kernels_record_length_give_the_values_of_its_proc_files() {
    for (name, attribute_bytes) in TREES {
        let config = CollectorConfig {
            source: SourceChoice::Netlink,
            procfs: tree(name),
            // Read from the running kernel, not from the tree.
            enabled: Enabled::default().without(&[CollectorId::Failures, CollectorId::Udp]),
            census: CensusOptions::default(),
            ..config(&[]).collector
        };
        let collector = Collector::open(config, Box::new(dumps(name, attribute_bytes))).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let snapshot = runtime.block_on(collector.scrape(deadline));
        let exporter = ExporterMetrics {
            build: BUILD,
            process: None,
            handler: None,
        };
        let body = encode(families(&snapshot, &exporter), Format::Text).unwrap();
        let text = String::from_utf8(body).unwrap();
        let as_procfs = text.replace("{source=\"netlink\"}", "{source=\"procfs\"}");
        assert_same(name, &without_udp(&golden(name)), &masked(&as_procfs));
    }
}

#[test]
fn what_a_kernel_does_not_have_is_absent() {
    let is_exported = |name: &str, series: &str| {
        let text = golden(name).replace(" <varies>", " 0");
        Metrics::parse(&text).get(series).is_some()
    };
    // Of Linux 3.10, 4.19, 5.15, 6.18, 7.2 and Alibaba Cloud Linux.
    for (series, kernels) in [
        ("timewait_sysctl_tcp_tw_recycle", [1, 0, 0, 0, 0, 0]),
        ("timewait_sysctl_tcp_tw_reuse", [1, 1, 1, 1, 1, 1]),
        ("timewait_sysctl_tcp_tw_reuse_delay", [0, 0, 0, 1, 1, 0]),
        (
            "timewait_sysctl_ip_unprivileged_port_start",
            [0, 1, 1, 1, 1, 1],
        ),
        (
            "timewait_sysctl_ip_local_port_step_width",
            [0, 0, 0, 0, 1, 0],
        ),
        ("timewait_sysctl_tcp_tw_timeout", [0, 0, 0, 0, 0, 1]),
        ("timewait_conntrack_entries", [0, 0, 0, 0, 1, 0]),
        (
            "timewait_scrape_collector_success{collector=\"conntrack\"}",
            [0, 0, 0, 0, 1, 0],
        ),
        (
            "timewait_paws_rejects_total{counter=\"PAWSPassive\"}",
            [1, 0, 0, 0, 0, 0],
        ),
        (
            "timewait_paws_rejects_total{counter=\"TSEcrRejected\"}",
            [0, 0, 0, 1, 1, 0],
        ),
    ] {
        let got = TREES.map(|(name, _)| u8::from(is_exported(name, series)));
        assert_eq!(got, kernels, "{series}");
    }
}

//! Failed connect() calls: the counter against what connect() returned, in bursts between scrapes.
//!
//! The counter covers the whole host, and other tests exhaust ports meanwhile. So a second perf event counts
//! failures towards other ports than this test's. Where it counts none, the increase must be exact; otherwise it
//! must lie between this test's failures and the sum of both.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use perf_event_open::config::{Cpu, Opts, Proc};
use perf_event_open::count::Counter;
use perf_event_open::event::tp::Tracepoint;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, connect, ipproto, socket, sockopt};
use tempfile::TempDir;

use crate::support::namespace::enter_new_namespace;
use crate::support::program::{self, Program};
use crate::support::skip::skip;
use crate::support::sockets::{at, bound, connect_bound, listening};

const METRIC: &str = "timewait_connect_failures_total";

/// How many random bursts; `TIMEWAIT_FAILURE_RUNS` sets more.
const RUNS: u32 = 20;

/// How long each burst lasts: a fraction of any scrape interval.
const BURST: Duration = Duration::from_millis(200);

/// Outside of every range of this test.
const FIRST_SERVER_PORT: u16 = 20_000;

/// The tracepoint's id in a directory, as the service manager passes a credential.
struct Credential {
    directory: TempDir,
    id: u64,
}

impl Credential {
    /// `None` where the test is skipped.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("only root can read the tracepoint's id");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mount_point = directory.path().join("tracefs");
        fs::create_dir(&mount_point).unwrap();
        let Some(id) = std::thread::spawn(move || read_id(&mount_point))
            .join()
            .unwrap()
        else {
            skip("this kernel has no tracefs, or no tracepoint sock:inet_sock_set_state");
            return None;
        };
        let file = directory.path().join("inet_sock_set_state");
        fs::write(file, format!("{id}\n")).unwrap();
        Some(Self { directory, id })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Reads it in a mount namespace that ends with this thread.
fn read_id(mount_point: &PathBuf) -> Option<u64> {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let nothing = None::<&str>;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .unwrap();
    mount(
        nothing,
        mount_point,
        Some("tracefs"),
        MsFlags::empty(),
        nothing,
    )
    .ok()?;
    let file = mount_point.join("events/sock/inet_sock_set_state/id");
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Counts the failures of others: perf events on all CPUs.
struct Others(Vec<Counter>);

impl Others {
    fn new(id: u64, own_ports: std::ops::Range<u16>) -> Self {
        let filter = format!(
            "protocol==6 && oldstate==2 && newstate==7 && sport==0 && (dport<{} || dport>={})\0",
            own_ports.start, own_ports.end
        );
        let filter = std::ffi::CStr::from_bytes_with_nul(filter.as_bytes()).unwrap();
        let counters = (0..).map_while(|cpu| {
            let target = (Proc::ALL, Cpu(cpu));
            let counter = Counter::new(Tracepoint { id }, target, Opts::default()).ok()?;
            counter.with_ftrace_filter(filter).unwrap();
            counter.enable().unwrap();
            Some(counter)
        });
        Self(counters.collect())
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|one| one.stat().unwrap().count).sum()
    }
}

/// One burst.
#[derive(Clone, Debug)]
struct Burst {
    ports: u16,
    threads: u16,
    /// How long each thread waits after each of its connect() calls, in microseconds.
    pause_us: u64,
    is_v6: bool,
    /// Also calls that fail for other reasons: refused, or from a port fixed by bind().
    has_others: bool,
    is_multipath: bool,
}

fn bursts() -> impl Strategy<Value = Burst> {
    (
        5_u16..60,
        1_u16..5,
        0_u64..2_000,
        any::<bool>(),
        any::<bool>(),
        0_u8..4,
    )
        .prop_map(
            |(ports, threads, pause_us, is_v6, has_others, kind)| Burst {
                ports,
                threads,
                pause_us,
                is_v6,
                has_others,
                is_multipath: kind == 0,
            },
        )
}

/// connect() without bind().
fn connect_to(to: SocketAddr, is_multipath: bool) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let multipath = is_multipath.then(|| socket(family, SocketType::STREAM, Some(ipproto::MPTCP)));
    let socket = match multipath {
        Some(Ok(socket)) => socket,
        // A kernel without MPTCP.
        _ => socket(family, SocketType::STREAM, None).unwrap(),
    };
    // No TIME-WAIT: the next burst finds the range empty.
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
    connect(&socket, &to)?;
    Ok(socket)
}

/// How many calls returned EADDRNOTAVAIL without having bound a port.
fn fail(burst: &Burst, port: u16) -> u64 {
    let address = if burst.is_v6 { "::1" } else { "127.0.0.1" };
    let range = format!("{} {}", 40_000, 40_000 + burst.ports - 1);
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).unwrap();
    let to = at(address, port);
    let listener = listening(to);
    let end = Instant::now() + BURST;
    let one = || {
        let mut failures = 0;
        let mut open = Vec::new();
        for call in 0_u64.. {
            if Instant::now() >= end {
                break;
            }
            std::thread::sleep(Duration::from_micros(burst.pause_us));
            match connect_to(to, burst.is_multipath) {
                Ok(socket) => open.push(socket),
                Err(Errno::ADDRNOTAVAIL) => failures += 1,
                Err(error) => panic!("{error}"),
            }
            if burst.has_others && call % 3 == 0 {
                // Nothing listens there; or no port is left for this call either, which is also a failure.
                let refused = connect_to(at(address, port + 1), false).unwrap_err();
                failures += u64::from(refused == Errno::ADDRNOTAVAIL);
                let fixed = at(address, 30_000);
                let _in_use = bound(fixed).map(|_| connect_bound(fixed, to));
            }
        }
        (failures, open)
    };
    let failures = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..burst.threads).map(|_| scope.spawn(one)).collect();
        let results: Vec<_> = threads.into_iter().map(|one| one.join().unwrap()).collect();
        results.iter().map(|(failures, _open)| failures).sum()
    });
    drop(listener);
    failures
}

#[test]
fn bursts_between_two_scrapes_are_counted_exactly() {
    let Some(credential) = Credential::new() else {
        return;
    };
    let runs = std::env::var("TIMEWAIT_FAILURE_RUNS").ok();
    let runs = runs.map_or(RUNS, |runs| runs.parse().unwrap());
    let base = FIRST_SERVER_PORT + u16::try_from(std::process::id() % 5_000).unwrap() * 2;
    let others = Others::new(credential.id, base..base + 2);
    let program = Program::spawn(
        program::command()
            .arg("--web.listen-address=127.0.0.1:0")
            .env("CREDENTIALS_DIRECTORY", credential.path()),
    );
    let mut scraper = program.scraper();
    let measure = move || {
        // The connection to the exporter stays in the namespace that it was made in.
        enter_new_namespace(&[]);
        let mut value = || {
            scraper
                .metrics()
                .value(METRIC)
                .to_string()
                .parse::<u64>()
                .unwrap()
        };
        let mut runner = TestRunner::default();
        let (mut exact, mut failed) = (0, 0);
        for _ in 0..runs {
            let burst = bursts().new_tree(&mut runner).unwrap().current();
            let (noise, before) = (others.count(), value());
            let begin = Instant::now();
            let failures = fail(&burst, base);
            let took = begin.elapsed();
            let increase = value() - before;
            let noise = others.count() - noise;
            let numbers = format!(
                "{failures} failures counted as {increase} in {took:?}, {noise} of others: {burst:?}"
            );
            assert!(
                (failures..=failures + noise).contains(&increase),
                "{numbers}"
            );
            exact += u32::from(noise == 0);
            failed += failures;
        }
        println!("{runs} bursts, {failed} failures, {exact} bursts without others' failures");
        assert!(failed > 0 && exact > 0);
    };
    std::thread::spawn(measure).join().unwrap();
    program.end();
}

#[test]
fn cap_perfmon_is_enough_and_without_it_the_collector_is_off() {
    let Some(credential) = Credential::new() else {
        return;
    };
    let binary = credential.path().join("timewait_exporter");
    fs::copy(program::path(), &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let start = |capabilities: &str, with_id: bool, flags: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--no-new-privs",
            ])
            .args(
                ["--bounding-set", "--inh-caps", "--ambient-caps"]
                    .map(|set| format!("{set}={capabilities}")),
            )
            .arg(&binary)
            .args(["--web.listen-address=127.0.0.1:0", "--log.level=debug"])
            .args(flags);
        if with_id {
            command.env("CREDENTIALS_DIRECTORY", credential.path());
        }
        Program::spawn(&mut command)
    };
    let series = format!(
        "timewait_scrape_collector_success{{collector=\"{}\"}}",
        "failures"
    );
    let program = start("-all,+perfmon", true, &[]);
    let metrics = program.scraper().metrics();
    assert_eq!(metrics.get(&series), Some(1.0));
    assert!(metrics.get(METRIC).is_some());
    program.end();
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap();
    let is_open = paranoid.trim().parse::<i32>().unwrap() < 1;
    for (capabilities, with_id, flags, says) in [
        ("-all", true, &[][..], "cannot open a perf event on CPU 0"),
        (
            "-all,+perfmon",
            false,
            &[],
            "cannot read the tracepoint's id",
        ),
        ("-all,+perfmon", true, &["--no-collector.failures"], ""),
    ] {
        if is_open && !says.is_empty() {
            continue;
        }
        let program = start(capabilities, with_id, flags);
        let metrics = program.scraper().metrics();
        assert_eq!(metrics.get(METRIC), None);
        assert_eq!(metrics.get(&series), None);
        assert!(metrics.success("netstat"));
        let off = program.logged("The collector is off");
        assert_eq!(off.len(), usize::from(!says.is_empty()), "{off:?}");
        for line in off {
            assert!(
                line.contains(says) && line.contains("level=DEBUG"),
                "{line}"
            );
        }
        program.end();
    }
}

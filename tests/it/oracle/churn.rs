//! Scrapes while clients open and close connections as fast as they can. A dump is not atomic, but its sums
//! must be equal.
//!
//! `TIMEWAIT_CHURN_SCRAPES` is the number of scrapes of a longer measurement.

use std::env;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use timewait_exporter::domain::collectors::CollectorId;
use timewait_exporter::domain::snapshot::Snapshot;
use timewait_exporter::kernel::procfs::ProcRoot;

use crate::support::PATIENCE;
use crate::support::namespace::{in_namespace, set_sysctl, set_sysctl_if_any};
use crate::support::scraper::Scraper;
use crate::support::sockets::{accepted, at, connect_from, listening};

/// Threads that open and close connections, each towards a server address of its own.
const CLIENTS: u8 = 3;

/// How long the usual run takes.
const DURATION: Duration = Duration::from_secs(8);

/// The minimum number of connections: a slow machine runs longer.
const LEAST_CONNECTIONS: u64 = 8_000;

#[test]
fn scrapes_add_up_while_thousands_of_connections_per_second_come_and_go() {
    in_namespace(|| {
        set_sysctl("ip_local_port_range", "20000 60999");
        // So that ports are reused, and TIME-WAIT sockets end as well as begin.
        set_sysctl("tcp_tw_reuse", "2");
        set_sysctl_if_any("tcp_tw_reuse_delay", "500");
        let churn = Churn::default();
        thread::scope(|scope| {
            let stop = StopOnDrop(&churn.is_over);
            for client in 0..CLIENTS {
                let churn = &churn;
                scope.spawn(move || churn.run(client));
            }
            scrape_and_report(&churn);
            drop(stop);
        });
    });
}

fn scrape_and_report(churn: &Churn) {
    let wanted: Option<u64> = env::var("TIMEWAIT_CHURN_SCRAPES")
        .ok()
        .map(|count| count.parse().expect("a number"));
    let scraper = Scraper::open([]);
    let begin = Instant::now();
    let mut deviations = Deviations::default();
    let is_churn = || {
        let connections = churn.count.load(Ordering::Relaxed);
        begin.elapsed() >= DURATION && connections >= LEAST_CONNECTIONS
    };
    let is_enough = |scrapes| wanted.map_or_else(is_churn, |count| scrapes >= count);
    while !is_enough(deviations.scrapes) {
        assert!(
            begin.elapsed() < 10 * PATIENCE || wanted.is_some(),
            "{deviations:?}"
        );
        let opened = churn.count.load(Ordering::Relaxed);
        let before = buckets();
        // This checks the sums.
        let snapshot = scraper.scrape();
        let after = buckets();
        // Each client may have a connection that it has not counted yet.
        let opened = churn.count.load(Ordering::Relaxed) - opened + u64::from(CLIENTS);
        deviations.note(&snapshot, before, after, opened);
        thread::sleep(Duration::from_millis(10));
    }
    let rate = churn.count.load(Ordering::Relaxed) / begin.elapsed().as_secs().max(1);
    println!("{rate} connections a second; {deviations:?}");
    // A socket that exists during the whole dump is counted once; those that come or go may be missed, or counted
    // after their end.
    let most_outside = deviations.most_below.max(deviations.most_above);
    assert!(most_outside <= deviations.most_opened, "{deviations:?}");
}

/// Connections that come and go.
#[derive(Default)]
struct Churn {
    is_over: AtomicBool,
    count: AtomicU64,
}

/// Lets the clients stop even if a scrape does not add up.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Churn {
    fn run(&self, client: u8) {
        let ip = if client == 0 {
            "::1".to_owned()
        } else {
            format!("127.0.0.{}", client + 1)
        };
        let listener = listening(at(&ip, 80));
        let mut closes_first = true;
        while !self.is_over.load(Ordering::Relaxed) {
            // The range may be full for a moment.
            if let Ok(socket) = connect_from(None, at(&ip, 80)) {
                self.close(socket, &listener, closes_first);
            }
            closes_first = !closes_first;
        }
    }

    fn close(&self, socket: OwnedFd, listener: &OwnedFd, client_first: bool) {
        let connection = accepted(socket, listener);
        if client_first {
            connection.close_client_first();
        } else {
            connection.close_server_first();
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// How far the scrapes were from the kernel's own count.
#[derive(Debug, Default)]
struct Deviations {
    scrapes: u64,
    /// The most TIME-WAIT sockets that a scrape counted.
    most_counted: u64,
    /// The most by which the kernel's count changed during a scrape.
    most_changed: u64,
    /// The most connections that were opened during a scrape, of which each may enter or leave.
    most_opened: u64,
    /// The most by which a scrape counted fewer than the kernel counted both right before and right
    /// after it.
    most_below: u64,
    /// The most by which one counted more than the kernel counted at both times.
    most_above: u64,
    /// How many scrapes were outside of both counts.
    outside: u64,
    /// The most by which one was off the nearer of both counts.
    most_off: u64,
    longest_dump: Duration,
}

impl Deviations {
    fn note(&mut self, snapshot: &Snapshot, before: u64, after: u64, opened: u64) {
        let outcome = snapshot.outcome(CollectorId::Sockets);
        let outcome = outcome.expect("the collector is on");
        let sums = snapshot.sockets().expect("there is a dump").time_wait;
        let counted = sums.ipv4 + sums.ipv6;
        let (least, most) = (before.min(after), before.max(after));
        let off = counted.abs_diff(before).min(counted.abs_diff(after));
        self.scrapes += 1;
        self.most_counted = self.most_counted.max(counted);
        self.most_changed = self.most_changed.max(most - least);
        self.most_opened = self.most_opened.max(opened);
        self.most_below = self.most_below.max(least.saturating_sub(counted));
        self.most_above = self.most_above.max(counted.saturating_sub(most));
        self.outside += u64::from(counted < least || counted > most);
        self.most_off = self.most_off.max(off);
        self.longest_dump = self.longest_dump.max(outcome.duration);
    }
}

/// Time-wait buckets in use. The mini-sockets in FIN-WAIT-2 are among them, of which there is one at most for
/// each client here, while its server has yet to close.
fn buckets() -> u64 {
    let statistics = ProcRoot::new("/proc").read_socket_statistics();
    statistics.expect("sockstat").get("tw").expect("tw")
}

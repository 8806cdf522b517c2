//! Hours in minutes: connections come and go during ten scrapes per second.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::exporter::{Server, exchange};
use crate::sockets;
use crate::table::{Table, mib};

const PERIOD: Duration = Duration::from_millis(100);

/// The Accept headers of different scrapers.
const ACCEPT: [&str; 3] = [
    "text/plain",
    "application/openmetrics-text;version=1.0.0",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
];

/// The state of the process at one moment.
struct Sample {
    resident: u64,
    descriptors: usize,
}

/// Runs for this time, and reports growth and errors.
pub fn run(duration: Duration, table: &mut Table) {
    let server = Server::exporter(&[]);
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut samples, mut failures, mut scrapes) = (Vec::new(), BTreeSet::new(), 0_usize);
    thread::scope(|scope| {
        scope.spawn(|| churn(&stop, &made));
        let begin = Instant::now();
        while begin.elapsed() < duration {
            let next = Instant::now() + PERIOD;
            let mut stream = TcpStream::connect(server.address).expect("it listens");
            let answer = exchange(&mut stream, ACCEPT[scrapes % ACCEPT.len()]);
            if !answer.starts_with("HTTP/1.1 200") {
                failures.insert(answer.lines().next().unwrap_or_default().to_owned());
            }
            if scrapes.is_multiple_of(ACCEPT.len())
                && !answer.contains("collector_success{collector=\"sockets\"} 1")
            {
                failures.insert("the sockets collector failed".to_owned());
            }
            scrapes += 1;
            samples.push(Sample {
                resident: server.status_bytes("VmRSS"),
                descriptors: server.descriptors(),
            });
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        stop.store(true, Ordering::Relaxed);
    });
    failures.extend(server.errors());
    let situation = format!(
        "{} s of churn ({} connections) and {scrapes} scrapes",
        duration.as_secs(),
        made.load(Ordering::Relaxed)
    );
    record(&situation, &samples, &failures, table);
}

fn record(situation: &str, samples: &[Sample], failures: &BTreeSet<String>, table: &mut Table) {
    // The first fifth is the warm-up: the number of TIME-WAIT sockets grows for 60 s.
    let (_, steady) = samples.split_at(samples.len() / 5);
    let (first, last) = steady.split_at(steady.len() / 2);
    let highest = |part: &[Sample]| part.iter().map(|one| one.resident).max().unwrap_or(0);
    table.add(
        situation,
        "resident memory, highest",
        "flat",
        format!("{}, then {}", mib(highest(first)), mib(highest(last))),
    );
    let descriptors = |part: &[Sample]| part.iter().map(|one| one.descriptors).max().unwrap_or(0);
    table.add(
        situation,
        "file descriptors, most",
        "flat",
        format!("{}, then {}", descriptors(first), descriptors(last)),
    );
    let failures: Vec<&str> = failures.iter().map(String::as_str).collect();
    let measured = if failures.is_empty() {
        "none".to_owned()
    } else {
        failures.join("; ")
    };
    table.add(situation, "errors", "none", measured);
}

/// Connections of clients and servers that come and go, some 2,000 per second.
fn churn(stop: &AtomicBool, made: &AtomicUsize) {
    const BATCH: usize = 100;
    while !stop.load(Ordering::Relaxed) {
        let next = Instant::now() + PERIOD;
        sockets::time_wait_of_clients(BATCH, BATCH.div_ceil(5));
        sockets::time_wait_of_servers(BATCH, false);
        made.fetch_add(2 * BATCH, Ordering::Relaxed);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

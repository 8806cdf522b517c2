//! A node with many pods: what other network namespaces add to a scrape.
//!
//! Each pod has a listener, some connections in TIME-WAIT and an open one. Of two exporters one reads only the
//! exporter's namespace, the other the pods too. They are scraped alternately; the result is the mean of each and the
//! ratio of the means.
//!
//! The mean is meant for scrapes every 15 s. At that interval a row would take minutes, and TIME-WAIT lasts one: with
//! scrapes every 3 s and a fifth of `--collector.netns-max-age`, each scrape makes the same number of dumps.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use tempfile::TempDir;

use crate::exporter::{Cost, Server, values};
use crate::namespace::{ip, sysctl};
use crate::rows::{ORDINARY, Scale, TIMES, Time, grouped};
use crate::sockets::{self, client, listen_at};
use crate::table::{Table, mean, mib, ms, ratio};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// TIME-WAIT sockets of each pod.
const WAITING: usize = 20;

/// The number of pods near their limit, in the row that has some.
const NEAR: usize = 5;

/// Named network namespaces in a directory of their own, which end with the benchmark's mount namespace.
struct Pods {
    names: TempDir,
    count: usize,
    /// Keeps their sockets open.
    _sockets: Vec<OwnedFd>,
}

impl Pods {
    /// So many, each with so many sockets in TIME-WAIT.
    fn start(count: usize, waiting: usize) -> Self {
        let names = tempfile::tempdir().expect("a directory can be made");
        let directory = names.path().to_owned();
        let make = move || {
            let mut sockets = Vec::new();
            for number in 0..count {
                unshare(CloneFlags::CLONE_NEWNET).expect("namespaces can be made");
                ip(&["link", "set", "lo", "up"]);
                sysctl("ipv4/tcp_tw_reuse", "0");
                let file = directory.join(format!("pod{number}"));
                fs::write(&file, "").unwrap();
                let (from, none) = (Some("/proc/thread-self/ns/net"), None::<&str>);
                mount(from, &file, none, MsFlags::MS_BIND, none).expect("it can be given a name");
                sockets.extend(occupied(1, waiting));
            }
            sockets
        };
        // On a separate thread, which stays in the last namespace.
        let sockets = thread::spawn(make).join().unwrap();
        Self {
            names,
            count,
            _sockets: sockets,
        }
    }

    /// Runs something in each of some pods, on a separate thread.
    fn inside<T: Send>(&self, pods: usize, run: impl Fn() -> T + Sync) -> Vec<T> {
        let work = || {
            let each = |pod| {
                let file = File::open(self.names.path().join(format!("pod{pod}"))).unwrap();
                setns(file, CloneFlags::CLONE_NEWNET).expect("it can be entered");
                run()
            };
            (0..pods).map(each).collect()
        };
        thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    /// An exporter that reads them too.
    fn exporter(&self, flags: &[&str]) -> Server {
        let names = format!("--path.netns={}", self.names.path().display());
        let flags: Vec<&str> = [ORDINARY, "--collector.netns-max=1000", &names]
            .iter()
            .chain(flags)
            .copied()
            .collect();
        Server::exporter_at(SocketAddr::from(([127, 0, 0, 1], 10_073)), &flags)
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for pod in 0..self.count {
            let file = self.names.path().join(format!("pod{pod}"));
            let _not_mounted = umount2(&file, MntFlags::MNT_DETACH);
        }
    }
}

/// A listener, so many open connections to it, and so many in TIME-WAIT.
fn occupied(open: usize, waiting: usize) -> Vec<OwnedFd> {
    let listener = listen_at(LOOPBACK, 8_080);
    let to = listener.local_addr().unwrap();
    let mut sockets = Vec::new();
    for _ in 0..waiting {
        drop(client(None, to));
        drop(listener.accept().unwrap());
    }
    for _ in 0..open {
        sockets.push(client(None, to));
        sockets.push(listener.accept().unwrap().0.into());
    }
    sockets.push(listener.into());
    sockets
}

/// The number of namespaces with socket metrics in an answer.
fn read(answer: &str) -> usize {
    let ages = answer.lines();
    ages.filter(|line| line.starts_with("timewait_netns_age_seconds{"))
        .count()
}

/// The number of them that were dumped for it.
fn dumped(answer: &str) -> usize {
    let ages = answer.lines();
    ages.filter(|line| line.starts_with("timewait_netns_age_seconds{") && line.ends_with(" 0"))
        .count()
}

/// Scrapes until all namespaces were dumped once.
fn read_all(server: &Server, pods: &Pods) {
    let until = Instant::now() + Duration::from_secs(180);
    loop {
        let exported = read(&server.scrape().0);
        if exported >= pods.count {
            return;
        }
        assert!(Instant::now() < until, "{exported} namespaces are exported");
    }
}

/// Alternating scrapes of two exporters.
#[derive(Default)]
struct Turns {
    alone: Vec<Cost>,
    all: Vec<Cost>,
    dumps: usize,
}

impl Turns {
    fn measure(alone: &Server, all: &Server, count: usize, pace: Duration) -> Self {
        let mut turns = Self::default();
        // Dumps that became due while the sockets were created are not counted.
        all.scrape();
        alone.scrape();
        let begin = Instant::now();
        for number in 1..=u32::try_from(count).expect("few") {
            thread::sleep((begin + pace * number).saturating_duration_since(Instant::now()));
            turns.alone.push(alone.scrape().1);
            let (answer, cost) = all.scrape();
            turns.all.push(cost);
            turns.dumps += dumped(&answer);
        }
        turns
    }

    fn record(&self, situation: &str, goal: &str, table: &mut Table) {
        let (alone, all) = (mean(&self.alone), mean(&self.all));
        let dumps = self.dumps as f64 / self.all.len() as f64;
        for ((name, time), goal) in TIMES.into_iter().zip([goal, ""]) {
            let (alone, all) = (time(&alone), time(&all));
            let measured = format!(
                "{:.2} ({} of {}; {dumps:.1} dumps of pods a scrape)",
                ratio(all, alone),
                ms(all),
                ms(alone)
            );
            let measure = format!("{name}, of the exporter's namespace alone");
            table.add(situation, &measure, goal, measured);
        }
    }
}

fn situation(count: usize, scale: &Scale) -> String {
    format!("{count} pods beside {} TIME-WAIT", grouped(scale.some))
}

/// A fifth of the default age, or the age that makes the same number of dumps at another interval.
fn age_for(pace: Duration) -> String {
    let age = Duration::from_secs(300).as_secs_f64() * pace.as_secs_f64() / 15.0;
    format!("--collector.netns-max-age={age}")
}

/// Measures a row with as many dumps per scrape as every 15 s; `during` runs meanwhile.
fn in_turn(
    count: usize,
    name: &str,
    goal: &str,
    scale: &Scale,
    table: &mut Table,
    during: impl FnOnce(&Pods, &AtomicBool) + Send,
) {
    let situation = situation(count, scale) + name;
    let pods = Pods::start(count, WAITING);
    let alone = Server::exporter(&[ORDINARY]);
    let all = pods.exporter(&["--collector.netns=named", &age_for(scale.pace)]);
    read_all(&all, &pods);
    sockets::many_time_wait_of_clients(scale.some, scale.some / 10);
    let stop = AtomicBool::new(false);
    let turns = thread::scope(|scope| {
        scope.spawn(|| during(&pods, &stop));
        let turns = Turns::measure(&alone, &all, scale.turns, scale.pace);
        stop.store(true, Ordering::Relaxed);
        turns
    });
    turns.record(&situation, goal, table);
    for (name, field) in [
        ("peak memory", "VmHWM"),
        ("resident after a scrape", "VmRSS"),
    ] {
        let bytes = all.status_bytes(field);
        table.add(&situation, name, "≤ 40 MiB", mib(bytes));
    }
    let left = grouped(crate::namespace::time_wait_sockets());
    table.add(
        &situation,
        "TIME-WAIT sockets at the end",
        "as at the start",
        left,
    );
}

pub fn pods(scale: &Scale, table: &mut Table) {
    in_turn(scale.pods, "", "≤ 4", scale, table, |_, _| {});
}

pub fn many_pods(scale: &Scale, table: &mut Table) {
    in_turn(scale.pods * 5, "", "≤ 15", scale, table, |_, _| {});
}

pub fn churn(scale: &Scale, table: &mut Table) {
    let name = ", 5 connections a second in each pod";
    in_turn(scale.pods, name, "≤ 5", scale, table, |pods, stop| {
        while !stop.load(Ordering::Relaxed) {
            let begin = Instant::now();
            pods.inside(pods.count, || {
                let listener = listen_at(LOOPBACK, 8_081);
                drop(client(None, listener.local_addr().unwrap()));
                drop(listener.accept().unwrap());
            });
            thread::sleep(Duration::from_millis(200).saturating_sub(begin.elapsed()));
        }
    });
}

/// Pods that were all just dumped, and then with some near their limit.
pub fn checked(scale: &Scale, table: &mut Table) {
    let situation = situation(scale.pods, scale);
    let pods = Pods::start(scale.pods, WAITING);
    let alone = Server::exporter(&[ORDINARY]);
    let all = pods.exporter(&["--collector.netns=named"]);
    read_all(&all, &pods);
    sockets::many_time_wait_of_clients(scale.some, scale.some / 10);
    read_all(&all, &pods);
    let quiet = Turns::measure(&alone, &all, scale.turns, scale.pace / 20);
    quiet.record(
        &format!("{situation}, all dumped within the last seconds"),
        "≤ 1.5",
        table,
    );
    let near = NEAR.min(pods.count);
    let _sockets = pods.inside(near, || {
        sysctl("ipv4/ip_local_port_range", "40000 40099");
        let listener = listen_at(LOOPBACK, 8_081);
        let to = listener.local_addr().unwrap();
        let sockets = (0..90).map(|_| (client(None, to), listener.accept().unwrap()));
        (sockets.collect::<Vec<_>>(), listener)
    });
    let busy = Turns::measure(&alone, &all, scale.turns, scale.pace / 20);
    drop(all);
    let names: Vec<String> = (0..near).map(|pod| format!("pod{pod}")).collect();
    let names = format!("--collector.netns={}", names.join(","));
    let those = pods.exporter(&[&names, "--collector.netns-max-age=0"]);
    let dumps = Turns::measure(&alone, &those, scale.turns, scale.pace / 20);
    let more = |turns: &Turns, time: Time| {
        time(&mean(&turns.all)).saturating_sub(time(&mean(&turns.alone)))
    };
    for (name, time) in TIMES {
        let (busy, quiet, dumps) = (more(&busy, time), more(&quiet, time), more(&dumps, time));
        let measured = format!(
            "{:.2} ({} more than the exporter's namespace; {} with none near, {} for these {near} alone)",
            ratio(busy, quiet + dumps),
            ms(busy),
            ms(quiet),
            ms(dumps)
        );
        let measure = format!("{name}, of the same and {near} dumps");
        table.add(
            &format!("{situation}, {near} of them near their limit"),
            &measure,
            "≤ 1.1",
            measured,
        );
    }
}

/// How long the first scrapes wait for pods that were never dumped.
pub fn first(scale: &Scale, table: &mut Table) {
    let (count, beside) = (scale.pods * 11 / 10, scale.some * 3 / 2);
    let pods = Pods::start(count, 298);
    sockets::many_time_wait_of_clients(beside, beside / 10);
    let situation = format!(
        "{count} pods with 300 sockets each beside {} TIME-WAIT",
        grouped(beside)
    );
    let server = pods.exporter(&["--collector.netns=named"]);
    let mut longest = Duration::ZERO;
    for number in 1..=4 {
        let (answer, cost) = server.scrape();
        longest = longest.max(cost.wall);
        let sockets = values(&answer, "timewait_sockets{family=\"ipv4\"}");
        let measured = format!(
            "{}, with {} of {count} pods beside {sockets:?}",
            ms(cost.wall),
            read(&answer)
        );
        let measure = format!("wall time of scrape {number}");
        table.add(&situation, &measure, "≤ 2 s", measured);
    }
}

//! The headroom oracle for several other namespaces at once: sockets are opened by connect() and accept() and closed
//! in different ways at random, with random times between scrapes. Values from older dumps are compared with those of
//! a program that dumps every namespace in each scrape, and headroom with what connect() then does.
//!
//! `TIMEWAIT_ORACLE_SITUATIONS` is the number of scrapes, `TIMEWAIT_ORACLE_SEED` replays a run.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::net::listen;

use super::place::{Names, Place};
use super::{by_netns, start, start_by_age};
use crate::oracle::random::Random;
use crate::oracle::setting;
use crate::support::exposition::Metrics;
use crate::support::namespace::{in_namespace, set_sysctl};
use crate::support::sockets::{
    Connection, Sharing, accepted, at, bound_with, connect_from, connect_sharing, listening,
};

/// An even number: of an odd one the kernel's search skips one port.
const PORTS: u16 = 400;
const FIRST: u16 = 40_000;
const SERVERS: [&str; 3] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
const SERVER_PORT: u16 = 7_000;

/// A namespace, and its open sockets.
struct Pod {
    name: String,
    place: Place,
    load: Arc<Mutex<Load>>,
}

struct Load {
    listeners: Vec<OwnedFd>,
    open: [Vec<Connection>; 3],
    /// Ends that were accepted on a port of the range by a listener that is closed now.
    inherited: Vec<Connection>,
}

impl Load {
    fn new() -> Self {
        set_sysctl("tcp_tw_reuse", "0");
        let range = format!("{FIRST} {}", FIRST + PORTS - 1);
        set_sysctl("ip_local_port_range", &range);
        Self {
            listeners: (0..3).map(|index| listening(server(index))).collect(),
            open: Default::default(),
            inherited: Vec::new(),
        }
    }

    fn change(&mut self, random: &mut Random) {
        let which = random.below(3);
        let many = usize::from(random.pick(&[3_u16, 10, 30, 200]));
        match random.below(6) {
            0 | 1 => self.connect(which, many),
            2 => (0..many).for_each(|_| self.accept(random)),
            3 => {
                let left = self.open[which].len().saturating_sub(many);
                for connection in self.open[which].drain(left..) {
                    connection.close_client_first();
                }
            }
            4 => {
                let left = self.open[which].len().saturating_sub(many);
                for connection in self.open[which].drain(left..) {
                    connection.close_server_first();
                }
            }
            _ => self
                .inherited
                .truncate(self.inherited.len().saturating_sub(many)),
        }
    }

    fn connect(&mut self, which: usize, many: usize) {
        for _ in 0..many {
            let Ok(client) = connect_from(None, server(which)) else {
                return;
            };
            let connection = accepted(client, &self.listeners[which]);
            self.open[which].push(connection);
        }
    }

    /// A connection from a client's port to any port of the range, if that is free.
    fn accept(&mut self, random: &mut Random) {
        let to = at("127.0.0.1", random.between(FIRST, FIRST + PORTS - 1));
        let Ok(listener) = bound_with(to, true, false) else {
            return;
        };
        if listen(&listener, 16).is_err() {
            return;
        }
        if let Ok(client) = connect_sharing(Sharing::ReuseAddr, at("127.0.0.9", 500), to) {
            self.inherited.push(accepted(client, &listener));
        }
    }

    /// How many more connect() calls to a server find a port; `None` if TIME-WAIT sockets have expired meanwhile.
    fn granted(&mut self, which: usize, time_wait: f64) -> Option<usize> {
        let before = self.open[which].len();
        self.connect(which, usize::from(PORTS) + 1);
        let granted = self.open[which].len() - before;
        let is_same = waiting() == time_wait;
        for connection in self.open[which].drain(before..) {
            connection.close_server_first();
        }
        is_same.then_some(granted)
    }
}

fn server(index: usize) -> SocketAddr {
    at(SERVERS[index], SERVER_PORT)
}

/// TIME-WAIT sockets of the calling thread's namespace.
fn waiting() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/net/sockstat").unwrap();
    let (_, rest) = text.split_once(" tw ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

fn ratio(metrics: &Metrics, name: &str) -> f64 {
    let ratio = "timewait_port_range_exhaustion_ratio";
    by_netns(metrics, ratio, "family=\"ipv4\"")[name]
}

/// The headroom towards a server, where it is exported.
fn headroom(metrics: &Metrics, name: &str, which: usize) -> Option<f64> {
    let labels = format!(
        "src_addr=\"127.0.0.1\",dst_addr=\"{}\",dst_port=\"{SERVER_PORT}\"",
        SERVERS[which]
    );
    let headroom = by_netns(metrics, "timewait_destination_headroom_ports", &labels);
    headroom.get(name).copied()
}

#[test]
fn a_ratio_of_two_fifths_or_more_is_exact_in_each_namespace_whatever_happened_between_scrapes() {
    in_namespace(|| {
        let seed = setting("TIMEWAIT_ORACLE_SEED").unwrap_or_else(|| {
            let since_epoch = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
            u64::from(since_epoch.subsec_nanos())
        });
        let count = setting("TIMEWAIT_ORACLE_SITUATIONS").unwrap_or(200);
        println!("netns: {count} situations from TIMEWAIT_ORACLE_SEED={seed}");
        let random = &mut Random::new(seed);
        let names = Names::new();
        let pods: Vec<Pod> = (0..3)
            .map(|index| {
                let name = format!("pod{index}");
                let place = names.named(&name);
                let load = Arc::new(Mutex::new(place.run(Load::new)));
                Pod { name, place, load }
            })
            .collect();
        let max_age = format!("--collector.netns-max-age={}", random.pick(&["2", "300"]));
        let by_age = start_by_age(&names, &["--collector.netns=named", &max_age]);
        let fresh = start(&names, &["--collector.netns=named"]);
        let (mut by_age, mut fresh) = (by_age.scraper(), fresh.scraper());
        let (mut high, mut older, mut calls) = (0, 0, 0);
        for situation in 0..count {
            for (index, pod) in (0..).zip(&pods) {
                let mut random = Random::new(seed ^ (situation << 8) ^ (index << 4));
                let load = Arc::clone(&pod.load);
                if random.percent(40) {
                    pod.place
                        .run(move || load.lock().unwrap().change(&mut random));
                }
            }
            thread::sleep(Duration::from_millis(random.between(0, 60).into()));
            let before = fresh.metrics();
            let metrics = by_age.metrics();
            let after = fresh.metrics();
            for pod in &pods {
                let [truth, exported, then] =
                    [&before, &metrics, &after].map(|metrics| ratio(metrics, &pod.name));
                let age = by_netns(&metrics, "timewait_netns_age_seconds", "")[&pod.name];
                older += u32::from(age > 0.0);
                // TIME-WAIT sockets expire.
                if truth != then || truth.max(exported) < 0.4 {
                    continue;
                }
                let text = format!(
                    "situation {situation}, {}: {exported} instead of {truth}",
                    pod.name
                );
                assert!(age == 0.0 && exported == truth, "{text}, {age} s old");
                high += 1;
                let which = random.below(3);
                if let Some(headroom) = headroom(&metrics, &pod.name, which)
                    && random.percent(20)
                {
                    let load = Arc::clone(&pod.load);
                    let buckets = by_netns(&metrics, "timewait_buckets", "")[&pod.name];
                    let granted = move || load.lock().unwrap().granted(which, buckets);
                    let granted = pod.place.run(granted);
                    assert!(
                        granted.is_none_or(|granted| granted as f64 == headroom),
                        "{text}, headroom {headroom} is {granted:?}"
                    );
                    calls += granted.unwrap_or(0);
                }
            }
        }
        println!(
            "netns: {high} high ratios exact, {older} of older dumps, {calls} calls as reported"
        );
        let is_long = count >= 100;
        assert!(!is_long || (high > 0 && older > 0 && calls > 0));
    });
}

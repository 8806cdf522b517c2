//! `timewait_destination_search_ports`, compared with the time that connect() takes: a crowded range is slow
//! before it fails.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use timewait_exporter::domain::snapshot::Destination;

use crate::support::namespace::{in_namespace, set_sysctl};
use crate::support::scraper::{Scraper, usage_of};
use crate::support::skip;
use crate::support::sockets::{accepted, at, connect_from, connected, listening};

/// Connections timed in one round; the median counts.
const TIMED: usize = 31;

/// On a busy machine a single round may be misleading.
const ROUNDS: usize = 20;

/// How much longer connect() to the crowded destination must take than to the empty one. Measured on
/// Linux 6.18, with other work on both cores: 16 us without a search, 90 us with 500 ports to search,
/// 470 us with 3,000; in emulated machines 60 and 210 us (amd64), and on arm64 220 us or, with 1,500 ports,
/// 640 us. The sockets that fill the range must stay in TIME-WAIT until the end, on a slow machine too.
const FACTOR: u32 = 3;

#[test]
fn connect_takes_longer_the_more_ports_there_are_to_search() {
    in_namespace(|| {
        set_sysctl("tcp_tw_reuse", "0");
        let (crowded, empty) = (Server::new("127.0.0.2"), Server::new("127.0.0.3"));
        let scraper = Scraper::open([crowded.destination(), empty.destination()]);
        let mut in_use = 0;
        let mut slowdowns = Vec::new();
        for ports in [1_000, 4_000] {
            set_sysctl(
                "ip_local_port_range",
                &format!("40000 {}", 40_000 + ports - 1),
            );
            // All ports of one parity, which are tried first, and most of the others.
            while in_use < ports / 10 * 9 {
                connected(None, &crowded.listener, crowded.address).close_client_first();
                in_use += 1;
            }
            let scraped = scraper.ports();
            assert_eq!(usage_of(&scraped, empty.destination()).search_ports, 0);
            let search_ports = usage_of(&scraped, crowded.destination()).search_ports;
            assert!(
                (ports / 2 - 10..=ports / 2).contains(&search_ports),
                "{search_ports}"
            );
            // The shortest time is the least disturbed.
            let rounds = (0..ROUNDS).map(|_| (empty.median_time(), crowded.median_time()));
            let rounds: Vec<_> = rounds.collect();
            let without = rounds
                .iter()
                .map(|round| round.0)
                .min()
                .expect("some rounds");
            let with = rounds
                .iter()
                .map(|round| round.1)
                .min()
                .expect("some rounds");
            println!("{search_ports} ports to search: {with:?}, none: {without:?}");
            slowdowns.push((with, without));
        }
        let [(some, _), (many, none)] = slowdowns[..] else {
            panic!("two ranges")
        };
        // A machine whose fine clock is unstable, as an emulated one's may be.
        if none.is_zero() {
            return skip::lacks("a clock of computing time that is finer than a tick");
        }
        assert!(none < some && some < many, "{none:?}, {some:?}, {many:?}");
        assert!(many > none * FACTOR, "{none:?}, {many:?}");
    });
}

struct Server {
    address: SocketAddr,
    listener: OwnedFd,
}

impl Server {
    fn new(address: &str) -> Self {
        let address = at(address, 80);
        let listener = listening(address);
        Self { address, listener }
    }

    fn destination(&self) -> Destination {
        Destination {
            src_addr: at("127.0.0.1", 0).ip().into(),
            dst_addr: self.address.ip().into(),
            dst_port: self.address.port(),
        }
    }

    /// How much CPU time connect() takes, independent of other load. The connections are closed completely.
    fn median_time(&self) -> Duration {
        let mut times: Vec<Duration> = (0..TIMED).map(|_| self.time()).collect();
        times.sort_unstable();
        times[TIMED / 2]
    }

    fn time(&self) -> Duration {
        let begin = thread_time();
        let client = connect_from(None, self.address).unwrap();
        let time = thread_time().saturating_sub(begin);
        // Closed by a reset, without TIME-WAIT.
        set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        drop(accepted(client, &self.listener).client);
        time
    }
}

/// The CPU time of the calling thread, including the kernel's.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.try_into().unwrap()
}

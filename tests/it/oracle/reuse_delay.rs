//! When a port in TIME-WAIT becomes reusable without the sysctl (Linux before 6.14): not after a second, but when
//! the second of the kernel's clock has changed.

use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use timewait_exporter::domain::snapshot::Destination;

use crate::support::features::Feature;
use crate::support::namespace::{in_namespace, set_sysctl};
use crate::support::scraper::{Scraper, usage_of};
use crate::support::skip;
use crate::support::sockets::{at, connect_from, connected, listening};

/// A machine may be too slow to fill the range within one second.
const TRIES: u8 = 10;

#[test]
fn without_the_reuse_delay_sysctl_a_port_is_reusable_when_the_second_has_changed() {
    in_namespace(|| {
        if Feature::ReuseDelay.is_here() {
            return;
        }
        set_sysctl("ip_local_port_range", "40000 40009");
        set_sysctl("tcp_tw_reuse", "1");
        if !(1..=TRIES).any(fills_a_range_within_a_second) {
            skip::lacks("the speed to fill ten ports within a second");
        }
    });
}

/// Compares what is reusable in the second in which a range was filled, and in the next one.
fn fills_a_range_within_a_second(server: u8) -> bool {
    let (source, to) = (
        at("127.0.0.1", 0).ip(),
        at(&format!("127.0.1.{server}"), 80),
    );
    let destination = Destination {
        src_addr: source.into(),
        dst_addr: to.ip().into(),
        dst_port: to.port(),
    };
    let scraper = Scraper::open([destination]);
    let headroom = || usage_of(&scraper.ports(), destination).headroom;
    let listener = listening(to);
    // The kernel counts in ticks: avoid the boundaries of a second.
    let begin = until(|now| (100_000_000..300_000_000).contains(&now.tv_nsec)).tv_sec;
    for _ in 0..10 {
        connected(Some(source), &listener, to).close_client_first();
    }
    let young = (headroom(), connect_from(Some(source), to).is_ok());
    let now = clock_gettime(ClockId::Monotonic);
    if now.tv_sec != begin || now.tv_nsec > 900_000_000 {
        return false;
    }
    assert_eq!(young, (0, false));
    until(|now| now.tv_sec > begin && now.tv_nsec > 50_000_000);
    assert_eq!(headroom(), 10);
    assert!(connect_from(Some(source), to).is_ok());
    true
}

fn until(is_time: impl Fn(&Timespec) -> bool) -> Timespec {
    loop {
        let now = clock_gettime(ClockId::Monotonic);
        if is_time(&now) {
            return now;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

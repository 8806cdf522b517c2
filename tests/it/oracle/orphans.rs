//! FIN-WAIT-2 sockets without a process: kernels without a fix of 2024 reuse their ports. Where it is unknown
//! whether the kernel has the fix, the ratio is an upper bound, and a lower bound is exported too.

use std::thread;
use std::time::Duration;

use timewait_exporter::domain::snapshot::Destination;

use crate::support::features::Feature;
use crate::support::namespace::{in_namespace, set_sysctl};
use crate::support::scraper::{Scraper, usage_of};
use crate::support::sockets::{at, connect_from, connected, listening};

#[test]
fn ports_in_fin_wait_2_are_in_use_or_excluded_from_the_lower_bound() {
    in_namespace(|| {
        set_sysctl("ip_local_port_range", "40000 40099");
        set_sysctl("tcp_tw_reuse", "1");
        let (source, to) = (at("127.0.0.1", 0).ip(), at("127.0.0.2", 80));
        let listener = listening(to);
        let orphaned = |_| connected(Some(source), &listener, to).orphan_client();
        let mut kept: Vec<_> = (0..50).map(orphaned).collect();
        // Where no delay can be set, sockets are reusable once the second has changed.
        thread::sleep(Duration::from_millis(1_100));
        let destination = Destination {
            src_addr: source.into(),
            dst_addr: to.ip().into(),
            dst_port: to.port(),
        };
        let before = Scraper::open([destination]).ports();
        let usage = usage_of(&before, destination);
        assert_eq!((usage.headroom, usage.exhaustion_ratio), (50, 0.5));

        kept.extend(std::iter::from_fn(|| connect_from(Some(source), to).ok()));
        let connects = kept.len() - 50;
        let least = before.least_ratio.map(|least| least.ipv4);
        println!(
            "{connects} connects succeeded, with a headroom of 50 and a lower bound of {least:?}"
        );
        if Feature::OrphansKeepPorts.is_here() {
            assert_eq!(connects, 50);
            assert!(least.is_none_or(|least| least == 0.0));
        } else {
            assert_eq!((connects, least), (100, Some(0.0)));
        }
    });
}

//! What the program tells of real sockets, held against ss(8) and /proc/net/sockstat.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use timewait_exporter::collector::{Collector, CollectorConfig, Enabled, SourceChoice};
use timewait_exporter::domain::options::CensusOptions;
use timewait_exporter::domain::snapshot::{Snapshot, SocketFigures};
use timewait_exporter::kernel::sock_diag::NetlinkConnect;

use crate::namespace::{add_address, in_namespace, set_sysctl};
use crate::net::{at, connected, listening, mapped};

const PROBE: &str = "to be replaced";

#[test]
fn a_client_that_closes_first_keeps_time_wait_towards_its_destination() {
    in_namespace(|| {
        println!("{PROBE}");
        set_sysctl("tcp_tw_reuse", "0");
        add_address("2001:db8::1/128");
        let listener = listening(at("127.0.0.1", 80));
        for _ in 0..30 {
            connected(None, &listener, at("127.0.0.1", 80)).close_client_first();
        }
        let config = CollectorConfig {
            source: SourceChoice::Netlink,
            procfs: "/proc".into(),
            enabled: Enabled::default(),
            census: CensusOptions::default(),
        };
        let collector = Collector::open(config, Box::new(NetlinkConnect)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let snapshot = runtime.block_on(collector.scrape(Instant::now() + Duration::from_secs(5)));
        println!("{snapshot:#?}");
    });
}

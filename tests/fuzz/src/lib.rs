//! Shared by several targets: a procfs whose files they write, and the invariants of any census.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use timewait_exporter::domain::census::{Census, Moment};
use timewait_exporter::domain::options::CensusOptions;
use timewait_exporter::domain::ports::PortRange;
use timewait_exporter::domain::settings::Settings;
use timewait_exporter::domain::snapshot::Source;
use timewait_exporter::domain::socket::{PortOwner, Socket, TcpState};
use timewait_exporter::kernel::procfs::ProcRoot;

/// An empty procfs for this process, with a sysfs beside it: in the folder in memory that tests/fuzz/run creates and
/// removes, or else in the default place.
#[must_use]
pub fn procfs() -> &'static ProcRoot {
    static ROOT: OnceLock<ProcRoot> = OnceLock::new();
    ROOT.get_or_init(|| {
        let place = std::env::var_os("FUZZ_PROCFS").map_or_else(std::env::temp_dir, PathBuf::from);
        let host = place.join(format!("host-{}", std::process::id()));
        for folder in [
            "proc/net",
            "proc/sys/net/ipv4",
            "sys/kernel/slab/tw_sock_TCP",
            "sys/kernel/slab/tw_sock_TCPv6",
        ] {
            fs::create_dir_all(host.join(folder)).expect("a folder can be made");
        }
        ProcRoot::new(host.join("proc"))
    })
}

/// Writes one of its files.
pub fn write(file: &str, content: &[u8]) {
    let path: PathBuf = procfs().path().join(file);
    fs::write(&path, content).expect("the file can be written");
}

/// Removes one of its files.
pub fn remove(file: &str) {
    let _never_there = fs::remove_file(procfs().path().join(file));
}

/// Counts sockets and checks the invariants of any census.
pub fn assert_census(owners: &[PortOwner], sockets: &[Socket]) {
    let settings = Settings {
        port_range: PortRange::new(32_768, 60_999),
        tcp_timestamps: Some(1),
        tcp_tw_reuse: Some(1),
        ..Settings::default()
    };
    let mut census = Census::new(CensusOptions::default(), &settings, Moment::default(),  owners);
    for socket in sockets {
        census.add(socket);
    }
    let summary = census.finish(Source::Netlink, 0);
    let is_time_wait = |socket: &&Socket| socket.state == TcpState::TimeWait;
    let total = u64::try_from(sockets.iter().filter(is_time_wait).count());
    let total = total.expect("a number of sockets");
    let time_wait = summary.time_wait;
    assert_eq!(time_wait.ipv4 + time_wait.ipv6, total);
    assert_eq!(summary.by_src_addr.map(|by| by.total()), Some(total));
    assert_eq!(summary.by_dst_addr.map(|by| by.total()), Some(total));
    assert_eq!(summary.by_age.map(|by| by.iter().sum()), Some(total));
    let ports = summary.ports.expect("the range is known");
    assert!(ports.usable + ports.reserved + ports.blocked == ports.range.ports());
    assert!(ports.free <= ports.usable);
    let is_ratio = |ratio: f64| (0.0..=1.0).contains(&ratio);
    assert!(is_ratio(ports.worst_ratio.ipv4) && is_ratio(ports.worst_ratio.ipv6));
    for usage in ports.by_destination.expect("destinations are exported").exported {
        assert!(is_ratio(usage.exhaustion_ratio) && usage.headroom <= ports.usable);
    }
    for usage in ports.by_source.expect("sources are exported") {
        assert!(is_ratio(usage.exhaustion_ratio));
    }
}

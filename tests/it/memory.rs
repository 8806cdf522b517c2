//! The memory for very many destinations, compared with the limit of the service.

use std::net::Ipv4Addr;

use timewait_exporter::domain::address::Address;
use timewait_exporter::domain::census::{Census, Moment};
use timewait_exporter::domain::options::CensusOptions;
use timewait_exporter::domain::ports::PortRange;
use timewait_exporter::domain::settings::Settings;
use timewait_exporter::domain::snapshot::Source;
use timewait_exporter::domain::socket::{Socket, TcpState};

use crate::support::namespace::in_namespace;
use crate::support::program::resident_kib;

const UNIT: &str = include_str!("../../deploy/systemd/timewait_exporter.service");

/// The kernel's hash tables are rarely larger.
const DESTINATIONS: u32 = 1_000_000;

fn memory_max_mib() -> u64 {
    let mut lines = UNIT.lines();
    let value = lines.find_map(|line| line.strip_prefix("MemoryMax="));
    let value = value.and_then(|value| value.strip_suffix('M'));
    value.unwrap().parse().unwrap()
}

#[test]
fn a_million_destinations_use_at_most_two_thirds_of_the_services_memory_limit() {
    // In a separate process.
    in_namespace(|| {
        let settings = Settings {
            port_range: PortRange::new(32_768, 60_999),
            tcp_tw_reuse: Some(1),
            tcp_timestamps: Some(1),
            ..Settings::default()
        };
        let address = |bits: u32| Address::from_v4_bytes(Ipv4Addr::from_bits(bits).octets());
        let before = resident_kib("self");
        let mut census = Census::new(CensusOptions::default(), &settings, Moment::default(), &[]);
        for number in 0..DESTINATIONS {
            census.add(&Socket {
                src_addr: address(0xc000_0201),
                dst_addr: address(0x0b00_0000 + number),
                src_port: 32_768 + u16::try_from(number % 28_232).unwrap(),
                dst_port: 443,
                state: TcpState::TimeWait,
                remaining_ms: 30_000,
                is_on_loopback_device: false,
            });
        }
        let sockets = census.finish(Source::Netlink, DESTINATIONS.into());
        let peak = peak_kib() - before;
        println!(
            "{DESTINATIONS} destinations: {} MiB at most, {} bytes each",
            peak / 1_024,
            peak * 1_024 / u64::from(DESTINATIONS)
        );
        assert_eq!(sockets.ports.unwrap().destinations, u64::from(DESTINATIONS));
        assert!(peak / 1_024 < memory_max_mib() * 2 / 3, "{peak} KiB");
    });
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let peak = lines.find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    peak.unwrap().trim().parse().unwrap()
}

//! The filter that the kernel applies to a dump: it removes nothing that is counted.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use timewait_exporter::domain::census::{Census, Moment};
use timewait_exporter::domain::options::CensusOptions;
use timewait_exporter::domain::ports::PortRange;
use timewait_exporter::domain::settings::Settings;
use timewait_exporter::domain::snapshot::{SocketSummary, Source};
use timewait_exporter::domain::socket::{Socket, TcpState};
use timewait_exporter::kernel::sock_diag::{Dumper, NetlinkConnect};

use crate::support::eventually;
use crate::support::fake_kernel::{FakeKernel, Message, Step, record};
use crate::support::namespace::{add_address, in_namespace, set_sysctl};
use crate::support::sockets::{at, connected, connecting, listening, mapped};

fn range() -> PortRange {
    PortRange::new(40_000, 40_999).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Everything about a socket but its timer, which runs on between two dumps.
fn identity(socket: &Socket) -> (String, u16, String, u16, u8) {
    (
        socket.src_addr.to_string(),
        socket.src_port,
        socket.dst_addr.to_string(),
        socket.dst_port,
        socket.state as u8,
    )
}

fn summary(sockets: &[Socket]) -> SocketSummary {
    let settings = Settings {
        port_range: Some(range()),
        ..Settings::default()
    };
    let mut census = Census::new(CensusOptions::default(), &settings, Moment::default(), &[]);
    for socket in sockets {
        census.add(&Socket {
            remaining_ms: 30_000,
            ..*socket
        });
    }
    census.finish(Source::Netlink, 0)
}

/// All connected sockets, and those that pass the filter.
fn dumps() -> (Vec<Socket>, Vec<Socket>) {
    let mut dumper = Dumper::new(Box::new(NetlinkConnect));
    let mut dump = dumper.open(soon()).unwrap();
    let (mut all, mut filtered) = (Vec::new(), Vec::new());
    dump.sockets(|socket| all.push(socket)).unwrap();
    dump.sockets_of_range(range(), |socket| filtered.push(socket))
        .unwrap();
    (all, filtered)
}

/// Whether the filtered dump has the same summary, and consists of the sockets of the range and TIME-WAIT sockets.
fn agree(all: &[Socket], filtered: &[Socket]) -> bool {
    let is_service = |socket: &&Socket| socket.src_port == 80;
    assert!(all.iter().filter(is_service).count() > 30, "{all:?}");
    // Linux before 5.9, and without cgroups of sockets, ignores the filter.
    let is_filtered = filtered.len() < all.len();
    let got: BTreeSet<_> = filtered.iter().map(identity).collect();
    let is_kept = |socket: &&Socket| match socket.state {
        // FIN-WAIT-2 may be a time-wait mini-socket or not.
        TcpState::FinWait2 => range().contains(socket.src_port) || got.contains(&identity(socket)),
        state => range().contains(socket.src_port) || state == TcpState::TimeWait,
    };
    let kept: BTreeSet<_> = all.iter().filter(is_kept).map(identity).collect();
    summary(filtered) == summary(all) && (!is_filtered || got == kept)
}

#[test]
fn the_filter_passes_exactly_the_ports_of_the_range_and_time_wait() {
    in_namespace(|| {
        set_sysctl("ip_local_port_range", "40000 40999");
        add_address("2001:db8::1/128");
        // A service below the range and one inside it; IPv4, IPv6 and mapped clients.
        let v4 = [at("127.0.0.1", 80), at("127.0.0.1", 40_500)];
        let v6 = [at("2001:db8::1", 80), at("2001:db8::1", 40_500)];
        let mut open = Vec::new();
        // All of them before any connect(), which may take the port inside the range.
        let services = v4.into_iter().chain(v6);
        let services: Vec<_> = services.map(|to| (to, listening(to))).collect();
        for (to, listener) in services {
            for _ in 0..5 {
                connected(None, &listener, to).close_client_first();
                connected(None, &listener, to).close_server_first();
                open.push(connected(None, &listener, to));
                let half = connected(None, &listener, to);
                half.half_close_client();
                open.push(half);
                let half = connected(None, &listener, to);
                half.half_close_server();
                open.push(half);
            }
            if to.is_ipv4() {
                open.push(connected(None, &listener, mapped(to)));
                connected(None, &listener, mapped(to)).close_server_first();
            }
        }
        let _unanswered = connecting(None, at("192.0.2.1", 80));
        // The last segments may still be on their way: a socket may change between the dumps.
        eventually("the dumps agree", || {
            let (all, filtered) = dumps();
            agree(&all, &filtered)
        });
    });
}

#[test]
fn a_kernel_that_refuses_the_filter_is_dumped_unfiltered_at_once_and_from_then_on() {
    let socket = |port| Message::record(record(1, ("192.0.2.1", port), ("192.0.2.2", 443), 0, 0));
    let refused = || Step::Datagram(vec![Message::refused(22)]);
    let dump = || Step::Datagram(vec![socket(80), socket(40_001), Message::done(0)]);
    let fake = FakeKernel::new([vec![refused(), dump(), dump()], vec![dump()]]);
    let mut dumper = Dumper::new(Box::new(fake.clone()));
    for dumps in [2, 1] {
        let mut dump = dumper.open(soon()).unwrap();
        for _ in 0..dumps {
            let mut ports = Vec::new();
            dump.sockets_of_range(range(), |socket| ports.push(socket.src_port))
                .unwrap();
            assert_eq!(ports, [80, 40_001]);
        }
    }
    let lengths: Vec<usize> = fake.requests().iter().map(Vec::len).collect();
    assert_eq!(lengths, [112, 76, 76, 76]);
}

#[test]
fn a_refusal_for_another_reason_is_not_blamed_on_the_filter() {
    let fake = FakeKernel::new([vec![Step::Datagram(vec![Message::refused(16)])]]);
    let mut dumper = Dumper::new(Box::new(fake.clone()));
    let error = dumper
        .open(soon())
        .unwrap()
        .sockets_of_range(range(), |_| ())
        .unwrap_err();
    assert!(error.is_passing());
    assert_eq!(fake.requests().len(), 1);
}

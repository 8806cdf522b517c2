//! Less common kinds of sockets, each counted as connect() and bind() treat it.

use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use nix::sys::socket::sockopt::BindToDevice;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, connect, ipproto, netdevice, sendto,
    socket, socket_with,
};
use timewait_exporter::domain::snapshot::{Destination, DestinationUsage, PeerTimestamps};

use crate::support::eventually;
use crate::support::namespace::{add_address, in_namespace, ip, set_sysctl, set_sysctl_if_any};
use crate::support::program::Program;
use crate::support::scraper::{Scraper, usage_of};
use crate::support::sockets::{Connection, accepted, at, connect_from, connected, listening};

const RANGE: &str = "40000 40039";

fn to(src: &str, dst: &str, dst_port: u16) -> Destination {
    Destination {
        src_addr: src.parse().unwrap(),
        dst_addr: dst.parse().unwrap(),
        dst_port,
    }
}

/// How many more connect() calls succeed.
fn count(mut one_more: impl FnMut() -> Result<OwnedFd, Errno>) -> u32 {
    let mut kept = Vec::new();
    loop {
        match one_more() {
            Ok(socket) => kept.push(socket),
            Err(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => return kept.len().try_into().unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn usage(scraper: &Scraper, destination: Destination) -> DestinationUsage {
    usage_of(&scraper.ports(), destination)
}

#[test]
fn a_link_local_address_on_two_links_is_two_destinations_and_two_sources() {
    in_namespace(|| {
        set_sysctl("ip_local_port_range", RANGE);
        for (link, peer) in [("one", "one-peer"), ("two", "two-peer")] {
            ip(&["link", "add", link, "type", "veth", "peer", "name", peer]);
            for end in [link, peer] {
                ip(&["link", "set", end, "up"]);
            }
            ip(&["-6", "address", "add", "fe80::1/64", "dev", link, "nodad"]);
            // This address never answers.
            let lladdr = ["lladdr", "02:00:00:00:00:07", "nud", "permanent"];
            let neighbour = ["-6", "neighbour", "add", "fe80::2", "dev", link];
            ip(&[&neighbour[..], &lladdr[..]].concat());
        }
        let on_link = |name: &str, address: &str, port: u16| {
            let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
            let scope = netdevice::name_to_index(&any, name).unwrap();
            SocketAddr::V6(SocketAddrV6::new(address.parse().unwrap(), port, 0, scope))
        };
        let connecting = |link: &str| {
            let (kind, flags) = (SocketType::STREAM, SocketFlags::NONBLOCK);
            let socket = socket_with(AddressFamily::INET6, kind, flags, None).unwrap();
            match connect(&socket, &on_link(link, "fe80::2", 80)) {
                Err(Errno::INPROGRESS) => Ok(socket),
                result => result.map(|()| socket),
            }
        };
        let bound = |link: &str| {
            let socket = socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap();
            bind(&socket, &on_link(link, "fe80::1", 0)).map(|()| socket)
        };
        eventually("the links are ready", || connecting("two").is_ok());
        let _kept: Vec<_> = (0..30).map(|_| connecting("one").unwrap()).collect();
        let [one, two] = ["one", "two"]
            .map(|link| to(&format!("fe80::1%{link}"), &format!("fe80::2%{link}"), 80));
        let scraper = Scraper::open([one, two]);
        for (link, destination, headroom) in [("one", one, 10), ("two", two, 40)] {
            assert_eq!(usage(&scraper, destination).headroom, headroom, "{link}");
            assert_eq!(count(|| connecting(link)), headroom, "{link}");
        }
        let sources = scraper.ports().by_source.unwrap();
        let source = |address: &str| {
            let address = address.parse().unwrap();
            let mut found = sources.iter().filter(|source| source.src_addr == address);
            found.next().map_or(0, |source| source.ports)
        };
        assert_eq!(source("fe80::1%one"), 30);
        for link in ["one", "two"] {
            let expected = 40 - source(&format!("fe80::1%{link}"));
            assert_eq!(count(|| bound(link)), expected, "{link}");
        }
        let text = format!("{one:?}");
        assert!(
            text.contains("fe80::1%one") && text.contains("fe80::2%one"),
            "{text}"
        );
    });
}

/// 30 sockets in TIME-WAIT.
fn time_wait(connection: impl Fn() -> Connection) {
    set_sysctl("ip_local_port_range", RANGE);
    set_sysctl_if_any("tcp_tw_reuse_delay", "100");
    set_sysctl("tcp_tw_reuse", "0");
    for _ in 0..30 {
        connection().close_client_first();
    }
}

/// Waits until the sockets are old enough, with or without the sysctl.
fn wait_for_the_delay() {
    thread::sleep(Duration::from_millis(1_200));
}

#[test]
fn sockets_on_the_device_lo_are_reusable_with_the_value_two_whatever_their_addresses() {
    in_namespace(|| {
        for address in ["192.0.2.1/32", "192.0.2.2/32"] {
            add_address(address);
        }
        let server = at("192.0.2.2", 80);
        let listener = listening(server);
        let on_lo = || {
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            nix::sys::socket::setsockopt(&socket, BindToDevice, &"lo".into()).unwrap();
            connect(&socket, &server).map(|()| socket)
        };
        time_wait(|| accepted(on_lo().unwrap(), &listener));
        set_sysctl("tcp_tw_reuse", "2");
        wait_for_the_delay();
        let destination = to("192.0.2.2", "192.0.2.2", 80);
        let scraper = Scraper::open([destination]);
        let usage = usage(&scraper, destination);
        assert_eq!((usage.reusable, usage.headroom), (30, 40), "{usage:?}");
        assert_eq!(count(on_lo), 40);
    });
}

/// Sockets made with one value of `tcp_timestamps`, scraped with another, after the exporter saw it change.
fn timestamps_change(before: &str, after: &str, reusable: u64) {
    let server = at("127.0.0.2", 80);
    let listener = listening(server);
    let destination = to("127.0.0.1", "127.0.0.2", 80);
    set_sysctl("tcp_timestamps", before);
    let scraper = Scraper::open([destination]);
    time_wait(|| connected(None, &listener, server));
    // The ages that the kernel reports are not exact.
    thread::sleep(Duration::from_millis(50));
    scraper.ports();
    set_sysctl("tcp_timestamps", after);
    set_sysctl("tcp_tw_reuse", "1");
    wait_for_the_delay();
    let usage = usage(&scraper, destination);
    assert_eq!(usage.reusable, reusable, "{usage:?}");
    assert_eq!(count(|| connect_from(None, server)), usage.headroom);
}

#[test]
fn sockets_made_with_timestamps_stay_reusable_when_timestamps_are_disabled() {
    in_namespace(|| timestamps_change("1", "0", 30));
}

#[test]
fn sockets_made_without_timestamps_are_not_reusable_when_timestamps_are_enabled() {
    in_namespace(|| timestamps_change("0", "1", 0));
}

#[test]
fn time_wait_of_a_peer_without_timestamps_is_not_reusable() {
    in_namespace(|| {
        let server = at("127.0.0.2", 80);
        let listener = listening(server);
        let destination = to("127.0.0.1", "127.0.0.2", 80);
        // Both ends lack timestamps, as with a peer that has none.
        set_sysctl("tcp_timestamps", "0");
        time_wait(|| connected(None, &listener, server));
        let live = connected(None, &listener, server);
        set_sysctl("tcp_timestamps", "1");
        set_sysctl("tcp_tw_reuse", "1");
        wait_for_the_delay();
        // This scraper has not seen them being enabled.
        let scraper = Scraper::open([destination]);
        let found = usage(&scraper, destination);
        assert_eq!(found.peer_timestamps, PeerTimestamps::Absent);
        assert_eq!((found.reusable, found.headroom), (0, 9), "{found:?}");
        // Without a live socket it is unknown.
        drop(live);
        let found = usage(&scraper, destination);
        assert_eq!(found.peer_timestamps, PeerTimestamps::Unknown);
        assert_eq!(count(|| connect_from(None, server)), 9);
    });
}

#[test]
fn a_peer_with_timestamps_is_recognised_by_its_live_sockets() {
    in_namespace(|| {
        let server = at("127.0.0.2", 80);
        let listener = listening(server);
        let destination = to("127.0.0.1", "127.0.0.2", 80);
        time_wait(|| connected(None, &listener, server));
        let _live = connected(None, &listener, server);
        set_sysctl("tcp_tw_reuse", "1");
        wait_for_the_delay();
        let found = usage(&Scraper::open([destination]), destination);
        assert_eq!(found.peer_timestamps, PeerTimestamps::Present);
        assert_eq!((found.reusable, found.headroom), (30, 39), "{found:?}");
        assert_eq!(count(|| connect_from(None, server)), 39);
    });
}

/// A SYN from an address to which no answer gets through.
fn send_syn(raw: &OwnedFd, from: (IpAddr, u16), to: SocketAddrV4) {
    let IpAddr::V4(source) = from.0 else {
        panic!("IPv4 only")
    };
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    packet.extend(source.octets());
    packet.extend(to.ip().octets());
    let mut segment = Vec::new();
    segment.extend(from.1.to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    // Sequence number, no acknowledgment, header of five words, SYN, window, checksum, no urgent data.
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = [&packet[12..20], &[0, 6, 0, 20], &segment].concat();
    let words = pseudo
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(segment);
    sendto(raw, &packet, SendFlags::empty(), &SocketAddr::V4(to)).unwrap();
}

#[test]
fn half_open_requests_use_no_port_and_are_neither_dumped_nor_counted() {
    in_namespace(|| {
        set_sysctl("ip_local_port_range", RANGE);
        set_sysctl("tcp_syncookies", "0");
        // With little memory it is 128, of which the kernel keeps a quarter for peers that it knows.
        set_sysctl("tcp_max_syn_backlog", "1024");
        ip(&[
            "link", "add", "away", "type", "veth", "peer", "name", "nowhere",
        ]);
        for link in ["away", "nowhere"] {
            ip(&["link", "set", link, "up"]);
        }
        ip(&["route", "add", "203.0.113.0/24", "dev", "away"]);
        // Where an address is found to have no neighbour, its requests are dropped after 3 s.
        let lladdr = ["lladdr", "02:00:00:00:00:07", "nud", "permanent"];
        let neighbour = ["neighbour", "add", "203.0.113.9", "dev", "away"];
        ip(&[&neighbour[..], &lladdr[..]].concat());
        for link in ["all", "lo"] {
            fs::write(format!("/proc/sys/net/ipv4/conf/{link}/rp_filter"), "0").unwrap();
        }
        add_address("192.0.2.1/32");
        let server = SocketAddrV4::new([192, 0, 2, 1].into(), 40_010);
        let listener = listening(SocketAddr::V4(server));
        let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).unwrap();
        for port in 1_000..1_200 {
            send_syn(&raw, ("203.0.113.9".parse().unwrap(), port), server);
        }
        let half_open = || {
            fs::read_to_string("/proc/self/net/tcp")
                .unwrap()
                .matches(" 03 ")
                .count()
        };
        eventually("the requests have arrived", || half_open() == 200);
        for source in ["netlink", "procfs"] {
            let flags = [&*format!("--collector.source={source}")];
            let program = Program::start(&flags);
            let metrics = program.scraper().metrics();
            assert!(
                metrics.value("timewait_scrape_dump_messages") < 20.0,
                "{source}"
            );
            // The scrapers' own connections.
            assert!(metrics.value("timewait_destinations") <= 2.0, "{source}");
        }
        drop(listener);
        // None of them took the port from the addresses of the server.
        assert_eq!(half_open(), 200);
        let port_is_free = bind(
            socket(AddressFamily::INET, SocketType::STREAM, None).unwrap(),
            &SocketAddr::V4(server),
        );
        assert_eq!(port_is_free, Ok(()));
        let sources = Scraper::open([]).ports().by_source.unwrap();
        let mut sources = sources
            .iter()
            .filter(|source| !source.src_addr.is_wildcard());
        assert!(sources.all(|source| source.src_addr.is_loopback() || source.ports == 0));
    });
}

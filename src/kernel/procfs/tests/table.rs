//! The connection table.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ::procfs::net::TcpNetEntries;
use ::procfs::prelude::*;

use super::super::*;
use super::{KERNELS, fixture, tree};
use crate::domain::address::Address;
use crate::domain::socket::{PortOwner, Socket, TcpState};

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn in_an_hour() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

pub(super) fn sockets(root: &ProcRoot) -> Result<(Vec<Socket>, u64), ReadError> {
    let mut sockets = Vec::new();
    let count = root.read_sockets(in_an_hour(), &mut |socket| sockets.push(socket))?;
    Ok((sockets, count))
}

pub(super) fn owners(root: &ProcRoot) -> Result<Vec<PortOwner>, ReadError> {
    let mut owners = Vec::new();
    let count = root.read_owners(in_an_hour(), &mut |owner| owners.push(owner))?;
    assert_eq!(count, u64::try_from(owners.len()).unwrap());
    Ok(owners)
}

#[test]
fn the_table_of_each_kernel_has_the_same_sockets() {
    let (expected, _) = sockets(&fixture("linux-6.18")).unwrap();
    for kernel in KERNELS {
        let (found, count) = sockets(&fixture(kernel)).unwrap();
        assert_eq!(count, 25 + 9, "{kernel}");
        assert_eq!(found, expected, "{kernel}");
    }
}

#[test]
fn a_socket_is_read_with_its_ends_its_state_and_its_remaining_time() {
    let (found, _) = sockets(&fixture("linux-5.15")).unwrap();
    let time_wait = |socket: &&Socket| socket.state == TcpState::TimeWait;
    let first = found.iter().find(time_wait).unwrap();
    assert_eq!(
        *first,
        Socket {
            src_addr: address("192.0.2.10"),
            dst_addr: address("198.51.100.5"),
            src_port: 40_000,
            dst_port: 443,
            state: TcpState::TimeWait,
            remaining_ms: 59_990,
            is_on_loopback_device: false,
        }
    );
    // Through its mapped address in tcp6, it uses an IPv4 tuple.
    let mapped = found
        .iter()
        .find(|socket| (socket.src_port, socket.dst_port) == (40_016, 443))
        .unwrap();
    assert_eq!(mapped.dst_addr, address("198.51.100.5"));
    let v6 = found
        .iter()
        .filter(time_wait)
        .filter(|socket| socket.dst_addr == address("2001:db8:5::1"));
    assert_eq!(v6.count(), 3);
    assert_eq!(found.iter().filter(time_wait).count(), 20);
}

#[test]
fn an_orphaned_fin_wait_2_socket_stays_fin_wait_2() {
    let (found, _) = sockets(&fixture("linux-6.18")).unwrap();
    let states: Vec<(u16, u32)> = found
        .iter()
        .filter(|socket| socket.state == TcpState::FinWait2)
        .map(|socket| (socket.src_port, socket.remaining_ms))
        .collect();
    // The first is a mini-socket, the second a full one with its keepalive timer.
    assert_eq!(states, [(40_015, 56_000), (40_008, 0)]);
}

#[test]
fn all_listeners_are_read_even_with_request_sockets_between_them() {
    for kernel in KERNELS {
        let found = owners(&fixture(kernel)).unwrap();
        let ports: Vec<u16> = found.iter().map(|owner| owner.port).collect();
        assert_eq!(
            ports,
            [22, 443, 8_080, 40_003, 22, 8_443, 40_019],
            "{kernel}"
        );
        assert!(found.iter().all(|owner| owner.listening && !owner.v6_only));
        let addresses: Vec<Address> = found.iter().map(|owner| owner.addr).collect();
        let local = address("127.0.0.1");
        let any = Address::ANY_V4;
        assert_eq!(addresses[..4], [any, any, local, any], "{kernel}");
        assert_eq!(
            addresses[4..],
            [Address::ANY_V6, Address::ANY_V6, address("::1")]
        );
    }
}

#[test]
fn listeners_are_read_without_reading_the_rest_of_the_table() {
    let mut table = fs::read(fixture("linux-6.18").path().join("net/tcp")).unwrap();
    table.extend_from_slice(b"junk that a whole reading stumbles over\n");
    let (_directory, root) = tree(&[("net/tcp", &table)]);
    assert_eq!(owners(&root).unwrap().len(), 4);
    let error = sockets(&root).unwrap_err();
    assert!(error.to_string().contains("net/tcp, line 33"), "{error}");
    assert!(error.to_string().contains("junk that"), "{error}");
}

#[test]
fn a_table_without_a_header_or_with_an_endless_line_is_refused() {
    let header = fs::read(fixture("linux-6.18").path().join("net/tcp6")).unwrap();
    let header = header
        .split_inclusive(|byte| *byte == b'\n')
        .next()
        .unwrap();
    let endless = [header, &vec![b'0'; 128 * 1024]].concat();
    let cut = [header, b"   0: 0A0200C0:9C40 056433C6:01BB 06 0000"].concat();
    for (content, line) in [(&b""[..], 1), (b"no table\n", 1), (&endless, 2), (&cut, 2)] {
        let (_directory, root) = tree(&[("net/tcp", content)]);
        let error = sockets(&root).unwrap_err().to_string();
        assert!(error.contains(&format!("net/tcp, line {line}")), "{error}");
    }
}

#[test]
fn a_host_without_any_table_is_an_error() {
    let (_directory, root) = tree(&[]);
    let error = sockets(&root).unwrap_err();
    assert_eq!(error.io_kind(), Some(io::ErrorKind::NotFound), "{error}");
    assert!(error.to_string().contains("net/tcp"), "{error}");
    owners(&root).unwrap_err();
}

#[test]
fn a_host_without_ipv6_has_no_second_table() {
    let table = fs::read(fixture("linux-6.18").path().join("net/tcp")).unwrap();
    let (_directory, root) = tree(&[("net/tcp", &table)]);
    assert_eq!(sockets(&root).unwrap().1, 25);
    assert_eq!(owners(&root).unwrap().len(), 4);
}

#[test]
fn a_state_that_no_kernel_has_is_counted_and_skipped() {
    let table = fs::read_to_string(fixture("linux-6.18").path().join("net/tcp")).unwrap();
    let table = table.replace(" 06 ", " 0F ").replace(" 08 ", " 07 ");
    let (_directory, root) = tree(&[("net/tcp", table.as_bytes())]);
    let (found, count) = sockets(&root).unwrap();
    assert_eq!(count, 25);
    // One in CLOSE. The two requests in SYN-RECV are no sockets.
    assert_eq!(found.len(), 25 - 14 - 1);
}

#[test]
fn a_deadline_in_the_past_ends_the_read_before_the_first_socket() {
    let root = fixture("linux-6.18");
    let mut reported = 0;
    let result = root.read_sockets(Instant::now(), &mut |_| reported += 1);
    let error = result.unwrap_err();
    assert!(error.is_late());
    let text = "the deadline came after 0 sockets of the connection table";
    assert_eq!((error.to_string().as_str(), reported), (text, 0));
}

/// Sockets in several states, so that the real table has something to show.
fn open_sockets() -> Vec<Box<dyn Send>> {
    let mut kept: Vec<Box<dyn Send>> = Vec::new();
    let v4 = TcpListener::bind(("127.0.0.1", 0)).ok();
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok();
    for listener in [v4, v6].into_iter().flatten() {
        let there = listener.local_addr().unwrap();
        let client = TcpStream::connect(there).unwrap();
        kept.push(Box::new((client, listener.accept().unwrap())));
        let mut client = TcpStream::connect(there).unwrap();
        drop(listener.accept().unwrap());
        // The end of the stream says that the server's half is closed: the socket is in CLOSE-WAIT.
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        kept.push(Box::new(client));
        kept.push(Box::new(listener));
    }
    kept
}

#[test]
fn the_real_table_reads_as_the_procfs_crate_reads_it() {
    let _open = open_sockets();
    // Copied, since the real one would change between two reads.
    let v4 = fs::read("/proc/net/tcp").unwrap();
    let v6 = fs::read("/proc/net/tcp6").unwrap_or_default();
    let mut files = vec![("net/tcp", &*v4)];
    if !v6.is_empty() {
        files.push(("net/tcp6", &v6));
    }
    let (_directory, root) = tree(&files);

    let mut theirs = Vec::new();
    for (_, content) in &files {
        let entries = TcpNetEntries::from_read(*content, ::procfs::current_system_info()).unwrap();
        theirs.extend(entries.0.into_iter().map(|entry| {
            let (local, remote) = (entry.local_address, entry.remote_address);
            (
                local.ip(),
                local.port(),
                remote.ip(),
                remote.port(),
                entry.state.to_u8(),
            )
        }));
    }
    let listens = |state: u8| state == 10;
    let their_sockets: Vec<_> = theirs
        .iter()
        .filter(|(.., state)| !listens(*state) && *state != 7)
        .map(|(local, port, remote, remote_port, state)| {
            let ends = (
                Address::from(*local),
                *port,
                Address::from(*remote),
                *remote_port,
            );
            (ends, TcpState::from_number(*state).unwrap())
        })
        .collect();
    let their_listeners: Vec<_> = theirs
        .iter()
        .filter(|(.., state)| listens(*state))
        .map(|(local, port, ..)| (Address::from(*local), *port))
        .collect();

    let (found, _) = sockets(&root).unwrap();
    let our_sockets: Vec<_> = found
        .iter()
        .map(|s| ((s.src_addr, s.src_port, s.dst_addr, s.dst_port), s.state))
        .collect();
    let our_listeners: Vec<_> = owners(&root)
        .unwrap()
        .iter()
        .map(|owner| (owner.addr, owner.port))
        .collect();
    assert_eq!(our_sockets, their_sockets);
    assert_eq!(our_listeners, their_listeners);
    assert!(our_sockets.len() >= 2 && !our_listeners.is_empty());
}

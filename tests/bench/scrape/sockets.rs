//! Creates millions of TCP sockets over loopback.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::exporter::Cost;
use crate::namespace::sysctl;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

/// The first argument of a helper process that keeps connections open.
pub const KEEP_OPEN: &str = "--keep-open";

/// Below the ephemeral range, so that the servers' sockets do not count as outgoing.
const SERVER_PORT: u16 = 8_080;

/// Of the 32,256 ports of one parity in [`WIDE_RANGE`]: connect() tries those of one parity first, and beyond this
/// number it would search all of them each time.
const FOR_EACH_SERVER: usize = 20_000;

/// As configured on busy hosts.
const WIDE_RANGE: &str = "1024 65535";

/// The number of threads that create sockets: the kernel's work for each is in the caller's context.
const MAKERS: usize = 2;

/// Any number of TIME-WAIT sockets of clients, for which the range is widened.
pub fn many_time_wait_of_clients(count: usize, for_each_server: usize) {
    sysctl("ipv4/ip_local_port_range", WIDE_RANGE);
    time_wait_of_clients(count, for_each_server);
}

/// TIME-WAIT sockets of a client that closed first, at most 20,000 to each of as many servers as needed.
pub fn time_wait_of_clients(count: usize, for_each_server: usize) {
    let for_each_server = for_each_server.min(FOR_EACH_SERVER);
    let servers = count.div_ceil(for_each_server);
    thread::scope(|scope| {
        for maker in 0..MAKERS {
            scope.spawn(move || {
                for server in (maker..servers).step_by(MAKERS) {
                    let done = server * for_each_server;
                    let address = loopback(1, u32::try_from(server).unwrap());
                    let listener = listen(IpAddr::V4(address));
                    for _ in 0..for_each_server.min(count - done) {
                        let client = client(None, listener.local_addr().unwrap());
                        let (server, _) = listener.accept().unwrap();
                        drop(client);
                        drop(server);
                    }
                }
            });
        }
    });
}

/// TIME-WAIT sockets of a server that closed first, each of another client's address.
pub fn time_wait_of_servers(count: usize, is_v6: bool) {
    thread::scope(|scope| {
        for maker in 0..MAKERS {
            scope.spawn(move || {
                let own = u32::try_from(maker).unwrap();
                let listener = listen(if is_v6 {
                    remote_v6(own)
                } else {
                    loopback(1, own).into()
                });
                let to = listener.local_addr().unwrap();
                for number in (maker..count).step_by(MAKERS) {
                    let number = u32::try_from(number).unwrap();
                    let from = if is_v6 {
                        remote_v6(0x1_0000 + number)
                    } else {
                        loopback(64, number).into()
                    };
                    let client = client(Some(from), to);
                    let (server, _) = listener.accept().unwrap();
                    drop(server);
                    drop(client);
                }
            });
        }
    });
}

/// 127.`second`.0.0 plus a number.
fn loopback(second: u8, number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, second, 0, 1).to_bits() + number)
}

fn remote_v6(number: u32) -> IpAddr {
    let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).to_bits();
    // Spread like real networks, not consecutive.
    Ipv6Addr::from_bits(prefix + (u128::from(number) << 40)).into()
}

fn listen(address: IpAddr) -> TcpListener {
    listen_at(address, SERVER_PORT)
}

pub fn listen_at(address: IpAddr, port: u16) -> TcpListener {
    TcpListener::bind((address, port)).expect("the server address is free")
}

/// A connected client; from an address, with a port that connect() chooses.
pub fn client(from: Option<IpAddr>, to: SocketAddr) -> OwnedFd {
    let family = if to.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let client = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    if let Some(from) = from {
        setsockopt(&client, IpBindAddressNoPort, &true).unwrap();
        bind(&client, &SocketAddr::new(from, 0)).unwrap();
    }
    connect(&client, &to).unwrap();
    client
}

/// The cost of this number of connect() calls, without creating and closing sockets. Leaves none behind, not even in
/// TIME-WAIT. At most 4,096: the listener's queue.
pub fn connects(count: usize) -> Cost {
    let listener = listen(Ipv4Addr::LOCALHOST.into());
    rustix::net::listen(&listener, i32::try_from(count).unwrap()).unwrap();
    let to = listener.local_addr().unwrap();
    let socket = |_| {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
        socket
    };
    let clients: Vec<OwnedFd> = (0..count).map(socket).collect();
    let ((), cost) = Cost::of_this_thread(|| {
        for client in &clients {
            connect(client, &to).unwrap();
        }
    });
    let accepted: Vec<_> = (0..count).map(|_| listener.accept().unwrap()).collect();
    drop(clients);
    drop(accepted);
    cost
}

/// Helper processes that keep established connections open until they exit.
#[derive(Debug)]
pub struct Helpers {
    helpers: Vec<Child>,
}

impl Drop for Helpers {
    fn drop(&mut self) {
        for helper in &mut self.helpers {
            // Its standard input was closed with it.
            let _gone = helper.kill();
            let _reaped = helper.wait();
        }
    }
}

/// Established sockets, both ends of each connection counted, none on a port of the ephemeral range, like those
/// that a server accepted.
pub fn established(count: usize) -> Helpers {
    in_helpers("tcp", count)
}

/// UDP sockets, of 20,000 ports on each of as many addresses as needed.
pub fn udp(count: usize) -> Helpers {
    in_helpers("udp", count)
}

fn in_helpers(kind: &str, count: usize) -> Helpers {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let for_each = usize::try_from(limit)
        .unwrap()
        .saturating_sub(100)
        .min(count);
    let helpers = (0..count.div_ceil(for_each)).map(|helper| {
        let number = for_each.min(count - helper * for_each);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([KEEP_OPEN, kind, &helper.to_string(), &number.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the benchmark can start itself");
        let mut line = String::new();
        let output = child.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the helper failed");
        child
    });
    Helpers {
        helpers: helpers.collect(),
    }
}

/// The helper process: creates sockets, reports it, and keeps them open until its input ends.
pub fn keep_open(arguments: &[String]) {
    let [kind, helper, count] = arguments else {
        panic!("a kind and two numbers are needed");
    };
    let (helper, count) = (helper.parse().unwrap(), count.parse().unwrap());
    let _sockets = match kind.as_str() {
        "udp" => udp_sockets(helper, count),
        _ => connections(helper, count),
    };
    println!("ready");
    std::io::stdout().flush().unwrap();
    let _ended = std::io::stdin().read_line(&mut String::new());
}

fn udp_sockets(helper: u32, count: usize) -> Vec<OwnedFd> {
    let sockets = (0..count).map(|number| {
        let (address, port) = (number / 20_000, number % 20_000);
        let address = loopback(4, helper * 256 + u32::try_from(address).unwrap());
        let port = 33_000 + u16::try_from(port).unwrap();
        std::net::UdpSocket::bind((address, port)).unwrap().into()
    });
    sockets.collect()
}

fn connections(helper: u32, count: usize) -> Vec<OwnedFd> {
    let listener = listen(loopback(2, helper).into());
    let to = listener.local_addr().unwrap();
    let mut kept = Vec::with_capacity(count);
    for number in 0..count / 2 {
        // Ports 10,000 to 29,999 of as many client addresses as needed.
        let (address, port) = (number / 20_000, number % 20_000);
        let address = loopback(3, helper * 256 + u32::try_from(address).unwrap());
        let from = SocketAddr::new(address.into(), 10_000 + u16::try_from(port).unwrap());
        let client = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        bind(&client, &from).unwrap();
        connect(&client, &to).unwrap();
        kept.push(client);
        kept.push(listener.accept().unwrap().0.into());
    }
    kept
}

//! Real TCP sockets in any state, bound to any address and port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, accept_with, bind, connect, listen, shutdown,
    socket_with, sockopt,
};

use timewait_exporter::domain::socket::TcpState;
use timewait_exporter::kernel::sock_diag::{Dumper, NetlinkConnect};

use super::{PATIENCE, eventually};

/// An unbound TCP socket of the address's family; an IPv4-mapped address needs IPv6.
pub fn tcp_socket(for_address: SocketAddr) -> OwnedFd {
    tcp_socket_with(for_address, SocketFlags::empty())
}

fn tcp_socket_with(for_address: SocketAddr, flags: SocketFlags) -> OwnedFd {
    let family = match for_address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = flags | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None).unwrap();
    if is_mapped(for_address) {
        sockopt::set_ipv6_v6only(&socket, false).unwrap();
    }
    // An unanswered connect() must fail the test, not hang it.
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE)).unwrap();
    socket
}

/// `ip:port`, or `[ip]:port`.
pub fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), port)
}

/// A bound socket that does not listen.
pub fn bound(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = tcp_socket(address);
    bind(&socket, &address)?;
    Ok(socket)
}

/// A listening socket.
pub fn listening(address: SocketAddr) -> OwnedFd {
    listening_with(address, 4096, false)
}

/// A listening socket; an IPv6 wildcard can be for IPv6 only.
pub fn listening_with(address: SocketAddr, backlog: i32, v6_only: bool) -> OwnedFd {
    let socket = bound_with(address, true, v6_only)
        .unwrap_or_else(|error| panic!("cannot bind {address}: {error}"));
    listen(&socket, backlog).unwrap();
    socket
}

/// A bound socket, optionally with SO_REUSEADDR or, for IPv6, IPV6_V6ONLY.
pub fn bound_with(address: SocketAddr, reuse_addr: bool, v6_only: bool) -> io::Result<OwnedFd> {
    let socket = tcp_socket(address);
    sockopt::set_socket_reuseaddr(&socket, reuse_addr)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, v6_only)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

/// A connection: the client's end and the server's.
pub struct Connection {
    pub client: OwnedFd,
    pub server: OwnedFd,
}

/// connect() from an address (or none), with a port that connect() chooses.
///
/// With an address, `IP_BIND_ADDRESS_NO_PORT` leaves the port to connect(), so that it is a port of the
/// destination and not one of those available to bind().
pub fn connect_from(source: Option<IpAddr>, to: SocketAddr) -> Result<OwnedFd, Errno> {
    connect_with(to, SocketFlags::empty(), |socket| {
        choose_source(socket, source)
    })
}

/// The same, not waiting for an answer: SYN-SENT, where the listener's backlog is full.
pub fn connecting(source: Option<IpAddr>, to: SocketAddr) -> Result<OwnedFd, Errno> {
    connect_with(to, SocketFlags::NONBLOCK, |socket| {
        choose_source(socket, source)
    })
}

/// connect() after bind(), with the requested port or, if that is 0, one that bind() chooses.
pub fn connect_bound(local: SocketAddr, to: SocketAddr) -> Result<OwnedFd, Errno> {
    connect_with(to, SocketFlags::empty(), |socket| bind(socket, &local))
}

/// How a client shares the requested port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    ReuseAddr,
    ReusePort,
}

/// connect() after bind() to a port that others may use too.
pub fn connect_sharing(
    sharing: Sharing,
    local: SocketAddr,
    to: SocketAddr,
) -> Result<OwnedFd, Errno> {
    connect_with(to, SocketFlags::empty(), |socket| {
        match sharing {
            Sharing::ReuseAddr => sockopt::set_socket_reuseaddr(socket, true)?,
            Sharing::ReusePort => sockopt::set_socket_reuseport(socket, true)?,
        }
        bind(socket, &local)
    })
}

/// A socket that CRIU restored as connected (`TCP_REPAIR`): no peer knows of it.
pub fn repaired(local: SocketAddr, to: SocketAddr) -> Result<OwnedFd, Errno> {
    connect_with(to, SocketFlags::empty(), |socket| {
        nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::TcpRepair, &1)
            .map_err(|error| Errno::from_raw_os_error(error as i32))?;
        bind(socket, &local)
    })
}

fn choose_source(socket: &OwnedFd, source: Option<IpAddr>) -> Result<(), Errno> {
    let Some(source) = source else { return Ok(()) };
    set_bind_address_no_port(socket);
    bind(socket, &SocketAddr::new(source, 0))
}

fn connect_with(
    to: SocketAddr,
    flags: SocketFlags,
    prepare: impl Fn(&OwnedFd) -> Result<(), Errno>,
) -> Result<OwnedFd, Errno> {
    let mut tries = 1;
    loop {
        let socket = tcp_socket_with(to, flags);
        prepare(&socket)?;
        match connect(&socket, &to) {
            Ok(()) => return Ok(socket),
            Err(Errno::INPROGRESS) if flags.contains(SocketFlags::NONBLOCK) => return Ok(socket),
            // Seen for a moment in IPv6, with every route in place, while other namespaces come
            // and go.
            Err(Errno::NETUNREACH) if tries < 100 => tries += 1,
            Err(error) => return Err(error),
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn set_bind_address_no_port(socket: &OwnedFd) {
    // rustix does not have this option.
    nix::sys::socket::setsockopt(
        socket,
        nix::sys::socket::sockopt::IpBindAddressNoPort,
        &true,
    )
    .unwrap();
}

/// Connects to a listener and accepts.
pub fn connected(source: Option<IpAddr>, listener: &OwnedFd, to: SocketAddr) -> Connection {
    let client =
        connect_from(source, to).unwrap_or_else(|error| panic!("cannot connect to {to}: {error}"));
    accepted(client, listener)
}

/// The connection of a client's end that has not been accepted yet.
pub fn accepted(client: OwnedFd, listener: &OwnedFd) -> Connection {
    let server = accept_with(listener, SocketFlags::CLOEXEC).unwrap();
    Connection { client, server }
}

impl Connection {
    /// The client closes first and keeps TIME-WAIT.
    pub fn close_client_first(self) {
        drop(self.client);
        wait_for_end_of_stream(&self.server);
        drop(self.server);
    }

    /// The server closes first and keeps TIME-WAIT.
    pub fn close_server_first(self) {
        drop(self.server);
        wait_for_end_of_stream(&self.client);
        drop(self.client);
    }

    /// The client closes but the server does not: the client's end becomes a mini-socket in FIN-WAIT-2
    /// without a process. Returns the server's end.
    pub fn orphan_client(self) -> OwnedFd {
        drop(self.client);
        wait_for_end_of_stream(&self.server);
        self.server
    }

    /// The client shuts down its sending side: FIN-WAIT-2 for the client, CLOSE-WAIT for the server.
    pub fn half_close_client(&self) {
        shutdown(&self.client, Shutdown::Write).unwrap();
        wait_for_end_of_stream(&self.server);
    }

    /// The server shuts down its sending side: CLOSE-WAIT for the client, FIN-WAIT-2 for the server.
    pub fn half_close_server(&self) {
        shutdown(&self.server, Shutdown::Write).unwrap();
        wait_for_end_of_stream(&self.client);
    }
}

fn wait_for_end_of_stream(socket: &OwnedFd) {
    let mut byte = [0; 1];
    assert_eq!(
        rustix::io::read(socket, &mut byte),
        Ok(0),
        "the other end has sent nothing"
    );
}

/// The local address of an unbound socket, found with a UDP socket, which sends nothing and uses no TCP port.
/// Fails while an address that was just added is not ready.
pub fn source_towards(to: SocketAddr) -> io::Result<IpAddr> {
    if is_mapped(to) {
        let plain = SocketAddr::new(to.ip().to_canonical(), to.port());
        return Ok(mapped(SocketAddr::new(source_towards(plain)?, 0)).ip());
    }
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port outside of every test's range, which may be full or reserved. A child that another thread is
    // starting has a copy of the last socket on it until exec().
    let bound = (0..1_000).find_map(|_| match UdpSocket::bind((any, 53)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            thread::sleep(Duration::from_millis(2));
            None
        }
        bound => Some(bound),
    });
    let probe = bound.unwrap_or_else(|| UdpSocket::bind((any, 53)))?;
    probe.connect(to)?;
    Ok(probe.local_addr()?.ip())
}

/// Whether an IPv6 address is IPv4 in its mapped form.
pub fn is_mapped(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// The IPv4-mapped form of an IPv4 address.
pub fn mapped(address: SocketAddr) -> SocketAddr {
    let IpAddr::V4(v4) = address.ip() else {
        panic!("{address} is not IPv4")
    };
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::from(v4.to_ipv6_mapped().octets())),
        address.port(),
    )
}

/// A socket leaves these states as soon as its peer answers.
const PASSING_STATES: [TcpState; 4] = [
    TcpState::SynRecv,
    TcpState::FinWait1,
    TcpState::LastAck,
    TcpState::Closing,
];

/// Waits until no socket is in a transient state. (With /proc/net/tcp that would take ten times as long.)
pub fn settle() {
    let mut dumper = Dumper::new(Box::new(NetlinkConnect));
    eventually("no socket is on its way to another state", || {
        let mut dump = dumper.open(Instant::now() + PATIENCE).unwrap();
        let mut passing = 0;
        dump.sockets(|socket| passing += u32::from(PASSING_STATES.contains(&socket.state)))
            .unwrap();
        passing == 0
    });
}

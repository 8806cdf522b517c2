//! Real TCP sockets in any state, bound to any address and port.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, accept_with, bind, connect, listen, shutdown,
    socket_with, sockopt,
};

/// How long a state may take to come about on loopback.
const PATIENCE: Duration = Duration::from_secs(5);

/// An unbound TCP socket of the family that fits the address; an IPv4-mapped one needs IPv6.
pub fn tcp_socket(for_address: SocketAddr) -> OwnedFd {
    tcp_socket_with(for_address, SocketFlags::empty())
}

fn tcp_socket_with(for_address: SocketAddr, flags: SocketFlags) -> OwnedFd {
    let family = match for_address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    socket_with(
        family,
        SocketType::STREAM,
        flags | SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

/// `ip:port`, or `[ip]:port`.
pub fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), port)
}

/// A socket that is merely bound.
pub fn bound(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = tcp_socket(address);
    bind(&socket, &address)?;
    Ok(socket)
}

/// A listening socket.
pub fn listening(address: SocketAddr) -> OwnedFd {
    listening_with(address, 4096, false)
}

/// A listening socket; as an IPv6 wildcard perhaps for IPv6 only.
pub fn listening_with(address: SocketAddr, backlog: i32, v6_only: bool) -> OwnedFd {
    let socket = tcp_socket(address);
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, v6_only).unwrap();
    }
    bind(&socket, &address).unwrap_or_else(|error| panic!("cannot bind {address}: {error}"));
    listen(&socket, backlog).unwrap();
    socket
}

/// A connection: the client's end and the server's.
pub struct Connection {
    pub client: OwnedFd,
    pub server: OwnedFd,
}

/// connect() from an address (or none), with a port that the kernel chooses in connect().
///
/// With an address, the port is left to connect() by `IP_BIND_ADDRESS_NO_PORT`, so that it is the
/// destination that is spent and not the pool of the address.
pub fn connect_from(source: Option<IpAddr>, to: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = tcp_socket(to);
    if let Some(source) = source {
        set_bind_address_no_port(&socket);
        bind(&socket, &SocketAddr::new(source, 0))?;
    }
    connect(&socket, &to)?;
    Ok(socket)
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

    /// The client is done sending: FIN-WAIT-2 for the client, CLOSE-WAIT for the server.
    pub fn half_close_client(&self) {
        shutdown(&self.client, Shutdown::Write).unwrap();
        wait_for_end_of_stream(&self.server);
    }

    /// The server is done sending: CLOSE-WAIT for the client, FIN-WAIT-2 for the server.
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

/// A connect() that gets no answer, since the listener's backlog is full: SYN-SENT.
pub fn connecting(source: Option<IpAddr>, to: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = tcp_socket_with(to, SocketFlags::NONBLOCK);
    if let Some(source) = source {
        set_bind_address_no_port(&socket);
        bind(&socket, &SocketAddr::new(source, 0))?;
    }
    match connect(&socket, &to) {
        Err(Errno::INPROGRESS) | Ok(()) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Waits until a condition holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
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

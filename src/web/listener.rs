//! Sockets to accept connections on: TCP ports, sockets in the file system (see
//! [`unix_socket`]) and those that systemd passes (see [`passed`](super::passed)).
//! Names are resolved and addresses bound once, at start, and that may block.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{
    SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, accept_with, getsockname, sockopt,
};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::address::{ListenAddress, TcpAddress};
use super::passed::Passed;
use super::unix_socket::{self, SocketFile};

/// Connections that may wait to be accepted. The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A bound socket that listens.
#[derive(Debug)]
pub struct Listener {
    // Before the socket, so that the file is gone before nobody answers there.
    _file: Option<SocketFile>,
    socket: TcpStream,
    /// Where it listens, as the Go exporters write it: with the port that port 0 became; a path, or `@`
    /// and a name.
    pub address: String,
    /// The same, if it is an address of TCP.
    pub tcp: Option<SocketAddr>,
}

const NEW: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

fn cannot(address: impl fmt::Display, reason: impl fmt::Display) -> String {
    format!("cannot listen on {address}: {reason}")
}

/// What to do about the kernel's refusal.
fn remedy(errno: Errno, tried: SocketAddr, earlier: &[Listener]) -> String {
    let (ip, port) = (tried.ip(), tried.port());
    let includes = |known: &SocketAddr| {
        let is_any = known.ip().is_unspecified() || ip.is_unspecified();
        known.port() == port && (is_any || known.ip() == ip)
    };
    let mut earlier = earlier.iter().filter_map(|listener| listener.tcp);
    match errno {
        Errno::ADDRINUSE => match earlier.find(includes) {
            Some(other) => format!(
                ": the exporter itself listens on {other} already, which includes it: remove one of \
                 the two from --web.listen-address"
            ),
            // With -a, for an outgoing connection can have the port as well.
            None => format!(
                ": end the program that uses the port (ss -Htanp 'sport = :{port}' shows it), or \
                 choose another port with --web.listen-address"
            ),
        },
        Errno::ACCESS => format!(
            ": ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE; choose a \
             port above {port} with --web.listen-address"
        ),
        Errno::ADDRNOTAVAIL => format!(
            ": no interface of this machine has the address {ip}; name one of its own with \
             --web.listen-address"
        ),
        _ => String::new(),
    }
}

impl Listener {
    /// Resolves and binds addresses, in their order. Must be called on a tokio runtime.
    pub fn bind_all(addresses: &[ListenAddress]) -> Result<Vec<Self>, String> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for address in addresses {
            listeners.push(Self::bind(address, &listeners)?);
        }
        Ok(listeners)
    }

    fn bind(address: &ListenAddress, earlier: &[Self]) -> Result<Self, String> {
        let bound = match address {
            ListenAddress::Tcp(tcp) => bind_tcp(tcp, earlier).map(|socket| (socket, None)),
            ListenAddress::Unix(path) => {
                unix_socket::bind(path).map(|(socket, file)| (socket, Some(file)))
            }
        };
        let (socket, file) = bound.map_err(|reason| cannot(address, reason))?;
        Self::register(socket, file).map_err(|error| cannot(address, error))
    }

    /// Takes a socket that listens already. Must be called on a tokio runtime.
    pub(crate) fn take_over(passed: Passed) -> Result<Self, String> {
        Self::register(passed.0, None).map_err(|error| cannot("a passed socket", error))
    }

    fn register(socket: OwnedFd, file: Option<SocketFile>) -> io::Result<Self> {
        ioctl_fionbio(&socket, true)?;
        let address = getsockname(&socket)?;
        let tcp = SocketAddr::try_from(address.clone()).ok();
        Ok(Self {
            _file: file,
            socket: TcpStream::from_std(socket.into())?,
            address: match tcp {
                Some(tcp) => tcp.to_string(),
                None => unix_name(&SocketAddrUnix::try_from(address)?),
            },
            tcp,
        })
    }

    /// The next connection. tokio's `TcpStream` makes the same system calls as its `UnixStream`, so that
    /// it serves for both, and for a socket that listens.
    pub(super) async fn accept(&self, unread_limit: Duration) -> io::Result<TcpStream> {
        let accept = || Ok(accept_with(&self.socket, NEW)?);
        let stream = self.socket.async_io(Interest::READABLE, accept).await?;
        let stream = TcpStream::from_std(stream.into())?;
        if self.tcp.is_some() {
            // The failure of a connection that is gone already shows soon enough. An answer is written in
            // one go, so that waiting for more to send with it only costs time.
            let _gone = stream.set_nodelay(true);
            let limit = u32::try_from(unread_limit.as_millis()).unwrap_or(u32::MAX);
            let _gone = sockopt::set_tcp_user_timeout(&stream, limit);
        }
        Ok(stream)
    }

    /// Whether somebody waits to be accepted. Without a free descriptor accept() fails before it checks,
    /// and fails where nobody waits, too.
    pub(super) fn is_awaited(&self) -> bool {
        let mut asked = [PollFd::new(&self.socket, PollFlags::IN)];
        // If in doubt, somebody does.
        poll(&mut asked, Some(&Timespec::default())).map_or(true, |ready| ready > 0)
    }
}

fn unix_name(address: &SocketAddrUnix) -> String {
    match (address.path(), address.abstract_name()) {
        (Some(path), _) => path.to_string_lossy().into_owned(),
        (None, name) => format!("@{}", String::from_utf8_lossy(name.unwrap_or_default())),
    }
}

fn bind_tcp(address: &TcpAddress, earlier: &[Listener]) -> Result<OwnedFd, String> {
    let mut bound = Err("the host name has no address".to_owned());
    for candidate in resolve(address)? {
        let tried = bind_one(candidate);
        // The kernel knows no IPv6, or it is switched off.
        let is_unavailable = matches!(tried, Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL));
        bound = tried.map_err(|errno| {
            let remedy = remedy(errno, candidate, earlier);
            format!("{}{remedy}", io::Error::from(errno))
        });
        if !is_unavailable {
            break;
        }
    }
    bound
}

/// What to try until one can be used: more than one only for hosts without IPv6. To connect() the
/// unspecified address is the loopback address, so these serve for both ends.
pub(crate) fn resolve(TcpAddress { host, port }: &TcpAddress) -> Result<Vec<SocketAddr>, String> {
    if host.is_empty() {
        let all: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        return Ok(all.map(|ip| (ip, *port).into()).to_vec());
    }
    let found = (host.as_str(), *port).to_socket_addrs();
    let found = found.map_err(|error| format!("the host name cannot be resolved: {error}"))?;
    // IPv4 first, as Go does it: "localhost" means 127.0.0.1 to most configurations.
    let mut first = found.min_by_key(SocketAddr::is_ipv6);
    if let Some(address) = &mut first {
        // An IPv4-mapped address is the IPv4 address, here as everywhere.
        address.set_ip(address.ip().to_canonical());
    }
    Ok(first.into_iter().collect())
}

/// std and tokio leave `IPV6_V6ONLY` to `net.ipv6.bindv6only`, so the socket is made here.
fn bind_one(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = SocketAddrAny::from(address).address_family();
    let socket = rustix::net::socket_with(family, SocketType::STREAM, NEW, None)?;
    // Otherwise connections in TIME-WAIT, of all things, would keep the program from restarting.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // As in Go, "[::]" is all addresses of both families; for others it makes no difference.
        let is_wildcard = address.ip().is_unspecified();
        sockopt::set_ipv6_v6only(&socket, !is_wildcard)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    fn tcp(listener: &Listener) -> SocketAddr {
        listener.tcp.unwrap()
    }

    fn bind(text: &str) -> Result<Listener, String> {
        Listener::bind(&text.parse().unwrap(), &[])
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        for text in [":0", "[::]:0"] {
            let listener = bind(text).unwrap();
            let port = tcp(&listener).port();
            assert_ne!(port, 0);
            TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            listener.accept(Duration::from_secs(1)).await.unwrap();
            // A machine without IPv6 has fallen back.
            if tcp(&listener).is_ipv6() {
                TcpStream::connect(("::1", port)).await.unwrap();
                listener.accept(Duration::from_secs(1)).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_ipv4_preferred() {
        let listener = bind("localhost:0").unwrap();
        assert!(tcp(&listener).ip().is_loopback());
        assert!(tcp(&listener).is_ipv4());
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_with_a_suggestion() {
        let first = bind("127.0.0.1:0").unwrap();
        let address = format!("127.0.0.1:{}", tcp(&first).port());
        let error = bind(&address).unwrap_err();
        for part in [
            format!("cannot listen on {address}"),
            "in use".to_owned(),
            format!("sport = :{}", tcp(&first).port()),
            "--web.listen-address".to_owned(),
        ] {
            assert!(error.contains(&part), "{error}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_by_another_address_of_the_exporter_is_reported_as_such() {
        for (first, second) in [
            ("127.0.0.1", ""),
            ("", "127.0.0.1"),
            ("127.0.0.1", "localhost"),
            ("0.0.0.0", "127.0.0.2"),
            ("", "0.0.0.0"),
        ] {
            let free = tcp(&bind("127.0.0.1:0").unwrap()).port();
            let addresses = [first, second].map(|host| format!("{host}:{free}"));
            let parsed = addresses.each_ref().map(|text| text.parse().unwrap());
            let text = Listener::bind_all(&parsed).unwrap_err();
            assert!(text.contains("the exporter itself listens on"), "{text}");
            assert!(
                text.starts_with(&format!("cannot listen on {}", addresses[1])),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_an_error() {
        let error = bind("192.0.2.1:0").unwrap_err();
        let is_named = error.contains("no interface");
        assert!(is_named, "{error}");
    }
}

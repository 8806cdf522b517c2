//! Sockets to accept connections on.
//!
//! An address is resolved and bound once, at start. A socket in the file system is the matter of
//! [`super::unix_socket`], one that systemd passed of [`super::passed`]. Does not accept: see
//! [`super::server`].

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use super::passed::Passed;
use super::unix_socket::{self, SocketFile, UnixSocketError};
use crate::config::{ListenAddress, ListenHost, TcpAddress};

/// Connections that may wait to be accepted. The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A bound socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    local: LocalAddress,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix {
        // Before the socket, so that the file is gone before nobody answers there.
        _file: Option<SocketFile>,
        socket: UnixListener,
    },
}

/// Where a listener listens, as the Go exporters write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// With the port that port 0 became.
    Tcp(SocketAddr),
    /// A path, or `@` and a name.
    Unix(String),
}

impl LocalAddress {
    /// The address, if it is one of TCP.
    #[must_use]
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    fn unix(address: &std::os::unix::net::SocketAddr) -> Self {
        Self::Unix(match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(name)) => format!("@{}", String::from_utf8_lossy(name)),
            (None, None) => "@".to_owned(),
        })
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

/// A connection, whatever it came over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The name means nothing, or there is no one to ask.
    #[error("cannot listen on {address}: the host name cannot be resolved: {source}")]
    Resolve {
        /// As it was configured.
        address: TcpAddress,
        /// What the resolver said.
        source: io::Error,
    },
    /// The name is known and has no address.
    #[error("cannot listen on {address}: the host name has no address")]
    NoAddress {
        /// As it was configured.
        address: TcpAddress,
    },
    /// The kernel refused.
    #[error("cannot listen on {address}: {source}{}", remedy(*.source, *.socket_address))]
    Refused {
        /// As it was configured.
        address: TcpAddress,
        /// The address that was tried.
        socket_address: SocketAddr,
        /// What the kernel said.
        source: Errno,
    },
    /// The exporter itself listens there already.
    #[error(
        "cannot listen on {address}: the exporter itself listens on {other} already, which takes \
         that port: leave one of the two out of --web.listen-address"
    )]
    Overlap {
        /// As it was configured.
        address: TcpAddress,
        /// The earlier one.
        other: SocketAddr,
    },
    /// A socket cannot be made in the file system.
    #[error("cannot listen on {address}: {source}")]
    Unix {
        /// As it was configured.
        address: ListenAddress,
        /// Why.
        source: UnixSocketError,
    },
    /// The socket could not be handed to the runtime.
    #[error("cannot listen on {address}: {source}")]
    Register {
        /// As it was configured, or as the socket has it.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do about the kernel's refusal.
fn remedy(errno: Errno, tried: SocketAddr) -> String {
    let port = tried.port();
    match errno {
        // With -a, for an outgoing connection can hold the port as well.
        Errno::ADDRINUSE => format!(
            ": end the program that holds the port (ss -Htanp 'sport = :{port}' shows it), or \
             choose another port with --web.listen-address"
        ),
        Errno::ACCESS => format!(
            ": ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE; choose a \
             port above {port} with --web.listen-address"
        ),
        Errno::ADDRNOTAVAIL => format!(
            ": no interface of this machine has the address {}; name one of its own with \
             --web.listen-address",
            tried.ip()
        ),
        _ => String::new(),
    }
}

impl Listener {
    /// Resolves and binds addresses, in their order. Must be called on a tokio runtime.
    pub async fn bind_all(addresses: &[ListenAddress]) -> Result<Vec<Self>, BindError> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for address in addresses {
            let result = Self::bind(address).await;
            listeners.push(result.map_err(|error| blame_overlap(error, &listeners))?);
        }
        Ok(listeners)
    }

    /// Resolves and binds an address. Must be called on a tokio runtime.
    pub async fn bind(address: &ListenAddress) -> Result<Self, BindError> {
        match address {
            ListenAddress::Tcp(tcp) => Self::register_tcp(bind_tcp(tcp).await?),
            ListenAddress::Unix(path) => {
                let bound = unix_socket::bind(path.as_path()).await;
                let (socket, file) = bound.map_err(|source| BindError::Unix {
                    address: address.clone(),
                    source,
                })?;
                Self::register_unix(socket, Some(file))
            }
        }
    }

    /// Whether somebody waits to be accepted. Without a free descriptor accept() fails before it looks,
    /// and fails where nobody waits, too.
    pub(super) fn is_awaited(&self) -> bool {
        let socket = match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix { socket, .. } => socket.as_fd(),
        };
        let mut asked = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // What cannot be told is taken for somebody.
        poll(&mut asked, Some(&at_once)).map_or(true, |ready| ready > 0)
    }

    /// Takes over a socket that listens already. Must be called on a tokio runtime.
    pub fn take_over(passed: Passed) -> Result<Self, BindError> {
        match passed {
            Passed::Tcp(socket) => Self::register_tcp(socket),
            Passed::Unix(socket) => Self::register_unix(socket, None),
        }
    }

    fn register_tcp(socket: std::net::TcpListener) -> Result<Self, BindError> {
        let register = || {
            let local = LocalAddress::Tcp(socket.local_addr()?);
            socket.set_nonblocking(true)?;
            Ok((local, socket))
        };
        let (local, socket) = register().map_err(|source| unregistered("a TCP port", source))?;
        match TcpListener::from_std(socket) {
            Ok(socket) => Ok(Self {
                socket: Socket::Tcp(socket),
                local,
            }),
            Err(source) => Err(unregistered(local, source)),
        }
    }

    fn register_unix(
        socket: std::os::unix::net::UnixListener,
        file: Option<SocketFile>,
    ) -> Result<Self, BindError> {
        let register = || {
            let local = LocalAddress::unix(&socket.local_addr()?);
            socket.set_nonblocking(true)?;
            Ok((local, socket))
        };
        let (local, socket) = register().map_err(|source| unregistered("a Unix socket", source))?;
        match UnixListener::from_std(socket) {
            Ok(socket) => Ok(Self {
                socket: Socket::Unix {
                    _file: file,
                    socket,
                },
                local,
            }),
            Err(source) => Err(unregistered(local, source)),
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_address(&self) -> &LocalAddress {
        &self.local
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, _peer) = socket.accept().await?;
                // An answer is written in one go, so waiting for more to send with it only costs
                // time. The failure of a connection that is gone already shows soon enough.
                let _gone = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Socket::Unix { socket, .. } => {
                let (stream, _peer) = socket.accept().await?;
                Ok(Box::new(stream))
            }
        }
    }
}

fn unregistered(address: impl fmt::Display, source: io::Error) -> BindError {
    BindError::Register {
        address: address.to_string(),
        source,
    }
}

/// A port may be in use by the listener before.
fn blame_overlap(error: BindError, earlier: &[Listener]) -> BindError {
    let BindError::Refused {
        address,
        socket_address: refused,
        source: Errno::ADDRINUSE,
    } = &error
    else {
        return error;
    };
    let is_same = |known: &SocketAddr| {
        let is_any = known.ip().is_unspecified() || refused.ip().is_unspecified();
        known.port() == refused.port() && (is_any || known.ip() == refused.ip())
    };
    let mut known = earlier.iter().filter_map(|listener| listener.local.tcp());
    match known.find(is_same) {
        Some(other) => BindError::Overlap {
            address: address.clone(),
            other,
        },
        None => error,
    }
}

async fn bind_tcp(address: &TcpAddress) -> Result<std::net::TcpListener, BindError> {
    let (candidates, family) = candidates(address).await?;
    let mut result = Err(BindError::NoAddress {
        address: address.clone(),
    });
    for candidate in candidates {
        result = bind_one(candidate).map_err(|source| BindError::Refused {
            address: address.clone(),
            socket_address: candidate,
            source,
        });
        let may_go_on = match &result {
            Err(BindError::Refused { source, .. }) => family.tries_next_after(*source),
            _ => false,
        };
        if !may_go_on {
            break;
        }
    }
    result
}

/// What several candidates for one address mean.
#[derive(Clone, Copy, Debug)]
enum Candidates {
    /// The same, for hosts with and without IPv6.
    Fallback,
    /// Only the first, as Go does it.
    First,
}

impl Candidates {
    fn tries_next_after(self, errno: Errno) -> bool {
        match self {
            // The kernel knows no IPv6, or it is switched off.
            Self::Fallback => matches!(errno, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL),
            Self::First => false,
        }
    }
}

async fn candidates(address: &TcpAddress) -> Result<(Vec<SocketAddr>, Candidates), BindError> {
    let any_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port));
    let any_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port));
    match &address.host {
        ListenHost::All => Ok((vec![any_v6, any_v4], Candidates::Fallback)),
        ListenHost::Ip(ip) => {
            // An IPv4-mapped address is the IPv4 address, here as everywhere.
            let one = SocketAddr::new(ip.to_canonical(), address.port);
            Ok((vec![one], Candidates::First))
        }
        ListenHost::Name(name) => {
            let found = tokio::net::lookup_host((name.as_str(), address.port))
                .await
                .map_err(|source| BindError::Resolve {
                    address: address.clone(),
                    source,
                })?;
            let mut found: Vec<_> = found.collect();
            // IPv4 first, as Go does it: "localhost" means 127.0.0.1 to most configurations.
            found.sort_by_key(SocketAddr::is_ipv6);
            Ok((found, Candidates::First))
        }
    }
}

/// std and tokio leave `IPV6_V6ONLY` to `net.ipv6.bindv6only`, so the socket is made here.
fn bind_one(address: SocketAddr) -> Result<std::net::TcpListener, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Otherwise connections in TIME-WAIT, of all things, would keep the program from restarting.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // As in Go, "[::]" is all addresses of both families; for others it makes no difference.
        let is_wildcard = address.ip().is_unspecified();
        sockopt::set_ipv6_v6only(&socket, !is_wildcard)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(std::net::TcpListener::from(socket))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    fn tcp(listener: &Listener) -> SocketAddr {
        listener.local_address().tcp().unwrap()
    }

    async fn bind(text: &str) -> Result<Listener, BindError> {
        Listener::bind(&text.parse().unwrap()).await
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        for text in [":0", "[::]:0"] {
            let listener = bind(text).await.unwrap();
            let port = tcp(&listener).port();
            assert_ne!(port, 0);
            TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            listener.accept().await.unwrap();
            // A machine without IPv6 has fallen back.
            if tcp(&listener).is_ipv6() {
                TcpStream::connect(("::1", port)).await.unwrap();
                listener.accept().await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_ipv4_preferred() {
        let listener = bind("localhost:0").await.unwrap();
        assert!(tcp(&listener).ip().is_loopback());
        assert!(tcp(&listener).is_ipv4());
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_says_what_to_do() {
        let first = bind("127.0.0.1:0").await.unwrap();
        let address = format!("127.0.0.1:{}", tcp(&first).port());
        let error = bind(&address).await.unwrap_err().to_string();
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
    async fn a_port_in_use_by_another_own_address_is_told_as_that() {
        for (first, second) in [
            ("127.0.0.1", ""),
            ("", "127.0.0.1"),
            ("127.0.0.1", "localhost"),
            ("0.0.0.0", "127.0.0.2"),
            ("", "0.0.0.0"),
        ] {
            let free = tcp(&bind("127.0.0.1:0").await.unwrap()).port();
            let addresses = [first, second].map(|host| format!("{host}:{free}"));
            let parsed = addresses.each_ref().map(|text| text.parse().unwrap());
            let error = Listener::bind_all(&parsed).await.unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, BindError::Overlap { .. }), "{text}");
            assert!(
                text.starts_with(&format!("cannot listen on {}", addresses[1])),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_an_error() {
        let error = bind("192.0.2.1:0").await.unwrap_err();
        let is_named = error.to_string().contains("no interface");
        assert!(is_named, "{error}");
    }

    #[test]
    fn only_a_missing_family_makes_way_for_the_other() {
        assert!(Candidates::Fallback.tries_next_after(Errno::AFNOSUPPORT));
        assert!(!Candidates::Fallback.tries_next_after(Errno::ADDRINUSE));
        assert!(!Candidates::First.tries_next_after(Errno::AFNOSUPPORT));
    }
}

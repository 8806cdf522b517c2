//! Sockets to accept connections on.
//!
//! An address is resolved and bound once, at start. Does not accept: see [`super::server`].

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream};

use crate::config::{ListenAddress, ListenHost};

/// Connections that may wait to be accepted. The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A bound socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The name means nothing, or there is no one to ask.
    #[error("cannot listen on {address}: the host name cannot be resolved: {source}")]
    Resolve {
        /// As it was configured.
        address: ListenAddress,
        /// What the resolver said.
        source: io::Error,
    },
    /// The name is known and has no address.
    #[error("cannot listen on {address}: the host name has no address")]
    NoAddress {
        /// As it was configured.
        address: ListenAddress,
    },
    /// The kernel refused.
    #[error("cannot listen on {address}: {source}{}", remedy(*.source, *.socket_address))]
    Refused {
        /// As it was configured.
        address: ListenAddress,
        /// The address that was tried.
        socket_address: SocketAddr,
        /// What the kernel said.
        source: Errno,
    },
    /// The socket could not be handed to the runtime.
    #[error("cannot listen on {address}: {source}")]
    Register {
        /// As it was configured.
        address: ListenAddress,
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
    /// Resolves and binds an address. Must be called on a tokio runtime.
    pub async fn bind(address: &ListenAddress) -> Result<Self, BindError> {
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
        let register = |socket| {
            Self::register(socket).map_err(|source| BindError::Register {
                address: address.clone(),
                source,
            })
        };
        result.and_then(register)
    }

    fn register(socket: std::net::TcpListener) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let socket = TcpListener::from_std(socket)?;
        Ok(Self { socket, local })
    }

    /// Where it listens, with the port that port 0 became.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _peer) = self.socket.accept().await?;
        // An answer is written in one go, so waiting for more to send with it only costs time. The
        // failure of a connection that is gone already shows soon enough.
        let _gone = stream.set_nodelay(true);
        Ok(stream)
    }
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

async fn candidates(address: &ListenAddress) -> Result<(Vec<SocketAddr>, Candidates), BindError> {
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
    use super::*;

    async fn bind(text: &str) -> Result<Listener, BindError> {
        Listener::bind(&text.parse().unwrap()).await
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        for text in [":0", "[::]:0"] {
            let listener = bind(text).await.unwrap();
            let port = listener.local_address().port();
            assert_ne!(port, 0);
            TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            listener.accept().await.unwrap();
            // A machine without IPv6 has fallen back.
            if listener.local_address().is_ipv6() {
                TcpStream::connect(("::1", port)).await.unwrap();
                listener.accept().await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_ipv4_preferred() {
        let listener = bind("localhost:0").await.unwrap();
        assert!(listener.local_address().ip().is_loopback());
        assert!(listener.local_address().is_ipv4());
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_says_what_to_do() {
        let first = bind("127.0.0.1:0").await.unwrap();
        let address = format!("127.0.0.1:{}", first.local_address().port());
        let error = bind(&address).await.unwrap_err().to_string();
        for part in [
            format!("cannot listen on {address}"),
            "in use".to_owned(),
            format!("sport = :{}", first.local_address().port()),
            "--web.listen-address".to_owned(),
        ] {
            assert!(error.contains(&part), "{error}");
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

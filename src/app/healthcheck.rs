//! `healthcheck`: whether the server with these settings answers, for images that have nothing else in
//! them that could ask.
//!
//! Asks for `/-/healthy` at the first address that the server listens on. A server that wants a password
//! or TLS and says so is healthy: it is alive, and this has neither. Looks at no figures: that is `check`.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::config::WebConfig;
use crate::web::{ListenAddress, ListenHost, TcpAddress};

/// How long connecting and each read and write may take. Docker's own limit is 30 s.
const PATIENCE: Duration = Duration::from_secs(3);

const REQUEST: &[u8] =
    b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nUser-Agent: healthcheck\r\nConnection: close\r\n\r\n";

/// "HTTP/1.1 200".
const STATUS_BYTES: u64 = 12;

/// Why the server is not healthy, or cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// systemd knows the address, and this does not.
    #[error("the server is on sockets of systemd, whose addresses are not known here")]
    SystemdSocket,
    /// The port is the kernel's choice.
    #[error("the server is on port 0, which is any that was free")]
    AnyPort,
    /// Nobody listens, or the name of the host cannot be resolved.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// It takes the connection and says nothing, or does not even take it.
    #[error("{address} does not answer: timed out after {} s", PATIENCE.as_secs())]
    Late {
        /// Who.
        address: String,
    },
    /// It ends the connection.
    #[error("{address} does not answer: {source}")]
    Silent {
        /// Who.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is another program, or it is in trouble.
    #[error("{address} answers \"{answer}\"")]
    Unhealthy {
        /// Who.
        address: String,
        /// The beginning of what it says.
        answer: String,
    },
}

/// Asks once.
pub fn run(web: &WebConfig) -> Result<(), HealthError> {
    if web.systemd_socket {
        return Err(HealthError::SystemdSocket);
    }
    match web.listen_addresses.first() {
        Some(ListenAddress::Tcp(tcp)) if tcp.port == 0 => Err(HealthError::AnyPort),
        Some(address) => ask(address),
        None => Ok(()),
    }
}

fn ask(address: &ListenAddress) -> Result<(), HealthError> {
    let stream = match address {
        ListenAddress::Tcp(tcp) => connect(tcp).map(OwnedFd::from),
        ListenAddress::Unix(path) => UnixStream::connect(path.as_path()).map(OwnedFd::from),
    };
    let address = address.to_string();
    let answer = match stream {
        Ok(stream) => beginning(stream),
        Err(error) if has_timed_out(&error) => return Err(HealthError::Late { address }),
        Err(source) => return Err(HealthError::Connect { address, source }),
    };
    match answer {
        Ok(answer) if is_alive(&answer) => Ok(()),
        Ok(answer) => Err(HealthError::Unhealthy {
            address,
            answer: String::from_utf8_lossy(&answer).escape_debug().to_string(),
        }),
        Err(error) if has_timed_out(&error) => Err(HealthError::Late { address }),
        Err(source) => Err(HealthError::Silent { address, source }),
    }
}

/// Whether it is [`PATIENCE`] that ended. A socket tells that as EAGAIN, and the standard library's
/// connecting by an error of its own; ETIMEDOUT is the kernel's, after another time.
fn has_timed_out(error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::WouldBlock => true,
        io::ErrorKind::TimedOut => error.raw_os_error().is_none(),
        _ => false,
    }
}

/// Connects to the first of the addresses that takes it.
fn connect(tcp: &TcpAddress) -> io::Result<TcpStream> {
    let mut failure = io::ErrorKind::NotFound.into();
    for target in targets(tcp)? {
        match TcpStream::connect_timeout(&target, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Where one who is on this machine reaches it.
fn targets(tcp: &TcpAddress) -> io::Result<Vec<SocketAddr>> {
    let loopback = |ip: IpAddr| SocketAddr::new(ip, tcp.port);
    let v4 = loopback(Ipv4Addr::LOCALHOST.into());
    let v6 = loopback(Ipv6Addr::LOCALHOST.into());
    Ok(match &tcp.host {
        ListenHost::All => vec![v4, v6],
        ListenHost::Ip(IpAddr::V6(ip)) if ip.is_unspecified() => vec![v4, v6],
        ListenHost::Ip(IpAddr::V4(ip)) if ip.is_unspecified() => vec![v4],
        ListenHost::Ip(ip) => vec![SocketAddr::new(*ip, tcp.port)],
        ListenHost::Name(name) => (name.as_str(), tcp.port).to_socket_addrs()?.collect(),
    })
}

/// The status that it answers with, or as much as came of it.
fn beginning(stream: OwnedFd) -> io::Result<Vec<u8>> {
    set_socket_timeout(&stream, Timeout::Send, Some(PATIENCE))?;
    set_socket_timeout(&stream, Timeout::Recv, Some(PATIENCE))?;
    let mut stream = File::from(stream);
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    match stream.take(STATUS_BYTES).read_to_end(&mut answer) {
        // Whoever ends the connection may reset it, after what it had to say.
        Err(_) if !answer.is_empty() => Ok(answer),
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(answer),
        Err(error) => Err(error),
    }
}

/// 200; or another answer of a server that is well: it wants a password (401), does not know the client
/// (403), wants fewer requests (429), or TLS, which alone is said in HTTP/1.0.
fn is_alive(answer: &[u8]) -> bool {
    const ALIVE: [&[u8]; 5] = [
        b"HTTP/1.1 200",
        b"HTTP/1.1 401",
        b"HTTP/1.1 403",
        b"HTTP/1.1 429",
        b"HTTP/1.0 400",
    ];
    ALIVE.contains(&answer)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_a_server_in_order_gives_is_alive() {
        for answer in [
            "HTTP/1.1 200",
            "HTTP/1.1 401",
            "HTTP/1.1 429",
            "HTTP/1.0 400",
        ] {
            assert!(is_alive(answer.as_bytes()), "{answer}");
        }
        for answer in [
            "",
            "HTTP/1.1 400",
            "HTTP/1.1 500",
            "HTTP/1.1",
            "SSH-2.0-Open",
        ] {
            assert!(!is_alive(answer.as_bytes()), "{answer}");
        }
    }

    #[test]
    fn a_server_on_all_addresses_is_asked_on_the_loopback_ones() {
        let of = |text: &str| match text.parse().unwrap() {
            ListenAddress::Tcp(tcp) => targets(&tcp).unwrap(),
            ListenAddress::Unix(_) => Vec::new(),
        };
        let v4 = "127.0.0.1:10072".parse().unwrap();
        let v6 = "[::1]:10072".parse().unwrap();
        assert_eq!(of(":10072"), [v4, v6]);
        assert_eq!(of("[::]:10072"), [v4, v6]);
        assert_eq!(of("0.0.0.0:10072"), [v4]);
        assert_eq!(of("192.0.2.1:80"), ["192.0.2.1:80".parse().unwrap()]);
    }
}

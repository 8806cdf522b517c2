//! `healthcheck`: whether the server with these flags answers, for images that contain nothing else that
//! could ask.
//!
//! Asks for `/-/healthy` at the first address that the server listens on. A server that wants a password
//! or TLS and says so is healthy: it is alive, and this has neither. Reads no metrics: that is `check`.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::config::WebConfig;
use crate::web::{ListenAddress, TcpAddress, resolve, unix_socket};

/// How long connecting and each read and write may take. Docker's own limit is 30 s.
const PATIENCE: Duration = Duration::from_secs(3);

const REQUEST: &[u8] =
    b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nUser-Agent: healthcheck\r\nConnection: close\r\n\r\n";

/// "HTTP/1.1 200".
const STATUS_BYTES: u64 = 12;

/// Asks once; the error says why the server is not healthy, or cannot be asked.
pub fn run(web: &WebConfig) -> Result<(), String> {
    if web.systemd_socket {
        let reason = "the sockets are passed by systemd: their addresses are unknown here";
        return Err(reason.to_owned());
    }
    let Some(address) = web.listen_addresses.first() else {
        return Ok(());
    };
    let stream = match address {
        ListenAddress::Tcp(tcp) if tcp.port == 0 => {
            return Err("the server's port is 0: the actual one is unknown here".to_owned());
        }
        ListenAddress::Tcp(tcp) => connect(tcp).map(OwnedFd::from),
        ListenAddress::Unix(path) => unix_socket::connect(path, PATIENCE).map_err(io::Error::from),
    };
    let stream =
        stream.map_err(|error| format!("cannot connect to {address}: {}", reason(&error)))?;
    let answer = beginning(stream)
        .map_err(|error| format!("{address} does not answer: {}", reason(&error)))?;
    if is_alive(&answer) {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(&answer);
    Err(format!("{address} answers \"{}\"", answer.escape_debug()))
}

/// A socket reports the end of [`PATIENCE`] as EAGAIN, and the standard library's connect by an error of its
/// own; ETIMEDOUT is the kernel's, after another time.
fn reason(error: &io::Error) -> String {
    let is_own = error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none();
    if is_own || error.kind() == io::ErrorKind::WouldBlock {
        return format!("timed out after {} s", PATIENCE.as_secs());
    }
    error.to_string()
}

/// Connects to the address that the server listens on, or the first that takes it if it has several.
fn connect(tcp: &TcpAddress) -> io::Result<TcpStream> {
    let mut addresses = resolve(tcp).map_err(io::Error::other)?;
    if addresses
        .iter()
        .any(|address| address.ip() == Ipv6Addr::UNSPECIFIED)
    {
        // It serves IPv4, too, and there may be no ::1.
        addresses.insert(0, (Ipv4Addr::UNSPECIFIED, tcp.port).into());
    }
    let mut failure = io::ErrorKind::NotFound.into();
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The status that it answers with, or as much as came of it.
fn beginning(stream: OwnedFd) -> io::Result<Vec<u8>> {
    set_socket_timeout(&stream, Timeout::Send, Some(PATIENCE))?;
    set_socket_timeout(&stream, Timeout::Recv, Some(PATIENCE))?;
    let mut stream = File::from(stream);
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    match stream.take(STATUS_BYTES).read_to_end(&mut answer) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) if answer.is_empty() => Err(error),
        // The server may reset the connection after its answer.
        _ => Ok(answer),
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
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_the_answer_of_a_working_server_is_healthy() {
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
    fn a_server_on_all_addresses_is_checked_on_loopback() {
        for (host, listens_on) in [
            ("0.0.0.0", "0.0.0.0:0"),
            ("", "0.0.0.0:0"),
            ("", "[::]:0"),
            ("::", "[::]:0"),
        ] {
            // This machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(listens_on) else {
                continue;
            };
            let (host, port) = (host.to_owned(), listener.local_addr().unwrap().port());
            let stream = connect(&TcpAddress { host, port }).unwrap();
            assert!(stream.peer_addr().unwrap().ip().is_loopback());
        }
    }

    #[test]
    fn a_server_with_a_host_name_is_checked_on_its_listen_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (host, port) = ("localhost".to_owned(), address.port());
        let _another_program = TcpListener::bind(("::1", port));
        let stream = connect(&TcpAddress { host, port }).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
    }
}

//! Addresses to listen on, as they are written in flags. Nothing is resolved here.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

/// What the kernel takes as the path of a socket, less the byte that ends it (`struct sockaddr_un`).
const MAX_PATH_BYTES: usize = 107;

/// Where a server is to listen, as the Go exporters write it: `:10072`, `host:port`, `[::1]:port`; or
/// `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP port.
    Tcp(TcpAddress),
    /// A socket in the file system. The path is absolute, and short enough for the kernel.
    Unix(PathBuf),
}

/// A TCP port of one or all of this machine's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpAddress {
    /// An IP address or a name that is resolved at start; empty for all addresses of both families, as
    /// `::` is.
    pub host: String,
    /// The port; 0 for any that is free.
    pub port: u16,
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            // A host may be called "unix".
            Some(path) if decimal_port(path).is_none() => socket_path(path).map(Self::Unix),
            _ => tcp(text).map(Self::Tcp),
        }
    }
}

fn socket_path(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') || text.ends_with('/') || text.contains('\0') {
        return Err("a Unix socket needs the absolute path of a file: \"unix:/PATH\"".to_owned());
    }
    match text.len() {
        ..=MAX_PATH_BYTES => Ok(PathBuf::from(text)),
        length => Err(format!(
            "the path of a Unix socket may have {MAX_PATH_BYTES} bytes, and this has {length}"
        )),
    }
}

fn tcp(text: &str) -> Result<TcpAddress, String> {
    // The last colon of "[::1]" is none of a port.
    let split = text.rsplit_once(':');
    let (host, port) = split
        .filter(|(_, port)| !port.ends_with(']'))
        .ok_or("the port is missing: write \":PORT\" for all addresses, or \"HOST:PORT\"")?;
    if host.contains(':') && !host.starts_with('[') {
        return Err("an IPv6 address must stand in brackets: \"[::1]:PORT\"".to_owned());
    }
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if !bracketed.map_or_else(|| is_plain_host(host), is_bracketed_host) {
        return Err(format!(
            "\"{host}\" is neither an IP address nor a host name"
        ));
    }
    Ok(TcpAddress {
        host: bracketed.unwrap_or(host).to_owned(),
        port: decimal_port(port).ok_or_else(|| {
            format!("\"{port}\" is not a port: it must be a number from 0 to 65535")
        })?,
    })
}

/// `str::parse` alone would take "+80".
fn decimal_port(text: &str) -> Option<u16> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| text.parse().ok()).flatten()
}

/// An address, perhaps link-local with its zone, which the resolver knows.
fn is_bracketed_host(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "none"));
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty()
}

/// The resolver takes "127.1" and "1234" for addresses, and a slip such as "256.0.0.1" for a name.
fn is_plain_host(host: &str) -> bool {
    let is_numeric = |c: char| c.is_ascii_digit() || c == '.';
    if !host.is_empty() && host.chars().all(is_numeric) {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    host.chars()
        .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(TcpAddress { host, port }) if host.contains(':') => {
                write!(f, "[{host}]:{port}")
            }
            Self::Tcp(TcpAddress { host, port }) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn listen(text: &str) -> Result<ListenAddress, String> {
        text.parse()
    }

    #[test]
    fn listen_addresses_are_read_as_go_exporters_read_them() {
        for (text, host, port) in [
            (":10072", "", 10072),
            (":0", "", 0),
            ("127.0.0.1:80", "127.0.0.1", 80),
            ("[::1]:65535", "::1", 65535),
            ("[::]:1", "::", 1),
            ("localhost:9", "localhost", 9),
            ("unix:80", "unix", 80),
            ("[fe80::1%eth0]:9", "fe80::1%eth0", 9),
        ] {
            let address = listen(text).unwrap();
            let host = host.to_owned();
            assert_eq!(address, ListenAddress::Tcp(TcpAddress { host, port }));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn other_listen_addresses_are_refused_with_their_reason() {
        for (text, reason) in [
            ("10072", "the port is missing"),
            ("", "the port is missing"),
            ("[::1]", "the port is missing"),
            (":", "\"\" is not a port"),
            (":65536", "\"65536\" is not a port"),
            (":+80", "\"+80\" is not a port"),
            ("a:http", "\"http\" is not a port"),
            ("::1:80", "must stand in brackets"),
            (
                "[::1:80",
                "\"[::1\" is neither an IP address nor a host name",
            ),
            ("[1.2.3.4]:80", "neither an IP address"),
            ("[]:80", "neither an IP address"),
            ("256.0.0.1:80", "neither an IP address"),
            ("1234:80", "neither an IP address"),
            ("a b:80", "neither an IP address"),
            ("[fe80::1%]:9", "neither an IP address"),
        ] {
            let said = listen(text).unwrap_err();
            assert!(said.contains(reason), "{text}: {said}");
        }
    }

    #[test]
    fn a_unix_socket_has_an_absolute_path_that_the_kernel_accepts() {
        let longest = format!("/{}", "x".repeat(MAX_PATH_BYTES - 1));
        for path in ["/run/x.sock", "/80", &longest] {
            let text = format!("unix:{path}");
            let ListenAddress::Unix(socket) = listen(&text).unwrap() else {
                panic!("{text}");
            };
            assert_eq!(socket, PathBuf::from(path));
            assert_eq!(ListenAddress::Unix(socket).to_string(), text);
        }
        for text in [
            "unix:", "unix:x", "unix:@x", "unix:/", "unix:/x/", "unix:\0",
        ] {
            let said = listen(text).unwrap_err();
            assert!(said.contains("absolute path"), "{text}: {said}");
        }
        let said = listen(&format!("unix:{longest}x")).unwrap_err();
        assert!(said.contains("and this has 108"), "{said}");
    }
}

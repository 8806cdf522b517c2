//! Which ports in use are closed to connect(), asked by a connect() that sends nothing.
//!
//! A bind bucket that bind() has opened (`tb->fastreuse` >= 0) is skipped by connect() for every
//! destination (`__inet_hash_connect` in net/ipv4/inet_hashtables.c), and no table shows it. A socket
//! with `IP_LOCAL_PORT_RANGE` P..P (Linux >= 6.3) that is to connect() to a destination without
//! sockets gets EADDRNOTAVAIL exactly then. With `TCP_FASTOPEN_CONNECT` and `TCP_FASTOPEN_NO_COOKIE`
//! success leaves the SYN until data is written (`tcp_fastopen_defer_connect`), which never is: no
//! segment, no counter, no TIME-WAIT. Three system calls and 1.2 us a port; no privilege.
//!
//! A port that is free by now belongs to the probe for about a microsecond, as the port of a
//! connected socket with SO_REUSEADDR on [`SOURCE`], an address that no other program uses: bind() to any
//! other address, bind() to a wildcard with SO_REUSEADDR, and connect() succeed all the same.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, connect_unspec, socket_with, sockopt,
};
use thiserror::Error;

use super::procfs::ProcRoot;
use crate::domain::ports::PortSet;

const SOURCE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 255, 255, 254), 0);
const DESTINATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 255, 255, 253), 9);

/// Ports between two checks of the deadline: about 0.3 ms.
const PORTS_PER_DEADLINE_CHECK: usize = 256;

/// Why ports could not be probed.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// What is missing here and now: trying again later may go better, and no failure.
    #[error("{0}")]
    Unavailable(String),
    /// A system call failed that fails on no kernel with the feature.
    #[error("probing port {0} failed: {1}")]
    Failed(u16, io::Error),
    /// The port range or the reserved ports are not what they were.
    #[error("the port range was changed meanwhile")]
    RangeChanged,
    /// The deadline came first.
    #[error("the deadline came before all ports were probed")]
    Deadline,
}

/// A socket of the network namespace in which the calling thread is.
#[derive(Debug)]
pub struct PortProbe {
    socket: OwnedFd,
}

impl PortProbe {
    /// Opens it. `procfs` is where the sysctls are read that decide whether it sends nothing.
    pub fn open(procfs: &ProcRoot) -> Result<Self, ProbeError> {
        // Above 0, Fast Open may be switched off by a lost SYN, and with it the deferring of ours.
        if procfs.fast_open_blackhole_timeout() != Some(0) {
            let needed = "the port probe needs net.ipv4.tcp_fastopen_blackhole_timeout_sec 0";
            return Err(ProbeError::Unavailable(needed.to_owned()));
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let needs = |needed: &'static str| {
            move |error| ProbeError::Unavailable(format!("the port probe needs {needed} ({error})"))
        };
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).map_err(|error| {
                ProbeError::Unavailable(format!("cannot open a TCP socket: {error}"))
            })?;
        probe_options::set_local_port(&socket, 1)
            .map_err(needs("IP_LOCAL_PORT_RANGE, which Linux 6.3 has"))?;
        probe_options::defer_syn(&socket).map_err(needs("bit 0 of net.ipv4.tcp_fastopen"))?;
        let bound = || {
            sockopt::set_socket_reuseaddr(&socket, true)?;
            probe_options::leave_port_to_connect(&socket)?;
            Ok(bind(&socket, &SOURCE)?)
        };
        bound().map_err(needs("a socket on 127.255.255.254"))?;
        Ok(Self { socket })
    }

    /// Those of the ports that connect() skips for every destination. Each must lie inside
    /// `ip_local_port_range` and not be reserved: the kernel ignores a range of its own outside.
    pub fn closed_to_connect(
        &self,
        ports: &PortSet,
        deadline: Instant,
    ) -> Result<PortSet, ProbeError> {
        let mut closed = PortSet::new();
        for (index, port) in ports.iter().enumerate() {
            if index.is_multiple_of(PORTS_PER_DEADLINE_CHECK) && Instant::now() >= deadline {
                return Err(ProbeError::Deadline);
            }
            let reason = match self.try_port(port) {
                Ok(()) => continue,
                Err(Errno::ADDRNOTAVAIL) => {
                    closed.insert(port);
                    continue;
                }
                Err(Errno::NETUNREACH) => "the port probe needs the interface lo, up".to_owned(),
                // A filter of the cgroup, or a security module.
                Err(error) if index == 0 => format!("connect() to {DESTINATION}: {error}"),
                Err(error) => return Err(ProbeError::Failed(port, error.into())),
            };
            return Err(ProbeError::Unavailable(reason));
        }
        Ok(closed)
    }

    fn try_port(&self, port: u16) -> Result<(), Errno> {
        probe_options::set_local_port(&self.socket, port)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
        connect(&self.socket, &DESTINATION)?;
        connect_unspec(&self.socket)
    }
}

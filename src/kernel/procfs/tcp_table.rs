//! The connection table as `/proc/net/tcp` and `tcp6` show it: what is left where netlink is shut.
//!
//! It has less than netlink: bound, unconnected sockets are not in it at all, nor whether an IPv6
//! listener is for IPv6 only. It costs more: the kernel takes 1.9 us a socket to print 150 bytes, seven
//! times what a netlink dump takes; reading them back adds less than a tenth to that (Linux 6.18,
//! 60,000 sockets).
//!
//! Read once with one buffer; no list of sockets anywhere. What a socket means is not decided here.
//!
//! Every reading fails where `net/tcp` (`net/udp`) is not there, a file cannot be read or understood, or the deadline
//! came. Sockets passed on until then are not all.

use std::fs::File;
use std::time::Instant;

use super::error::{Fault, Malformed, ReadError};
use super::file::Lines;
use super::tcp_line::{self, Record};
use super::{ProcRoot, if_there};
use crate::domain::snapshot::Destination;
use crate::domain::socket::TcpState::{Close, Listen, NewSynRecv, SynRecv, TimeWait};
use crate::domain::socket::{LiveSocket, PortOwner, Socket};
use crate::domain::udp::UdpSocket;

/// What every line but the first should be.
const EXPECTED: &str = "a socket: sl local remote st tx:rx tr:when";

/// Lines read between two checks of the deadline: about half a millisecond.
const LINES_PER_DEADLINE_CHECK: usize = 256;

impl ProcRoot {
    /// Passes on every listening socket, and returns how many they were.
    ///
    /// Bound, unconnected sockets are not in these files, and `v6_only` is always false, since they do not
    /// contain it: a wildcard listener of IPv6 is assumed to own its port for IPv4 too.
    ///
    /// Listeners come first in each file, so that the rest of it is not read.
    pub fn read_owners(
        &self,
        deadline: Instant,
        on_owner: &mut dyn FnMut(PortOwner),
    ) -> Result<u64, ReadError> {
        let mut owners = 0;
        self.read_table("tcp", deadline, |record, _| {
            if record.state == Some(Listen) {
                owners += 1;
                on_owner(PortOwner {
                    addr: record.local_addr,
                    port: record.local_port,
                    listening: true,
                    v6_only: false,
                });
            }
            // Before Linux 4.4 the requests of a listener stand behind it, in front of the next
            // listener. One that is just being closed is shown as CLOSE.
            matches!(record.state, Some(Listen | SynRecv | Close))
        })?;
        Ok(owners)
    }

    /// Passes on every socket that uses a port: all but LISTEN and CLOSE. Returns how many sockets there were, listeners
    /// left out, those included that were skipped, since no kernel known to us has such a state.
    ///
    /// The table is not a snapshot: a socket that changes its place while it is read can be missing
    /// or be passed on twice.
    pub fn read_sockets(
        &self,
        deadline: Instant,
        on_socket: &mut impl FnMut(Socket),
    ) -> Result<u64, ReadError> {
        let mut records = 0;
        self.read_table("tcp", deadline, |record, _| {
            // SYN-RECV are nearly always requests to a listener, which use no port; netlink is not asked for them.
            let is_counted = !matches!(record.state, Some(Listen | SynRecv));
            records += u64::from(is_counted);
            let connected = record.state.filter(|state| state.is_connected());
            if let Some(state) = connected.filter(|_| is_counted) {
                on_socket(Socket {
                    src_addr: record.local_addr,
                    dst_addr: record.remote_addr,
                    src_port: record.local_port,
                    dst_port: record.remote_port,
                    state,
                    remaining_ms: record.remaining_ms,
                    is_on_loopback_device: false,
                });
            }
            true
        })?;
        Ok(records)
    }

    /// Every connected socket that a process may have open, with what leads to that process.
    pub(crate) fn read_live(
        &self,
        deadline: Instant,
        on_live: &mut impl FnMut(LiveSocket),
    ) -> Result<(), ReadError> {
        self.read_table("tcp", deadline, |record, line| {
            let connected = record.state.filter(|state| state.is_connected());
            if let Some((user, inode)) = tcp_line::owner(line)
                && !matches!(connected, None | Some(NewSynRecv | SynRecv | TimeWait))
            {
                on_live(LiveSocket {
                    destination: Destination {
                        src_addr: record.local_addr,
                        dst_addr: record.remote_addr,
                        dst_port: record.remote_port,
                    },
                    user,
                    inode,
                    has_timestamps: None,
                });
            }
            true
        })
    }

    /// Every UDP socket that has a local port, of `net/udp` and `net/udp6`. `IPV6_V6ONLY` is not shown there; bind() to an
    /// IPv6 address sets it.
    pub(crate) fn read_udp(
        &self,
        deadline: Instant,
        on_socket: &mut impl FnMut(&UdpSocket),
    ) -> Result<(), ReadError> {
        self.read_table("udp", deadline, |record, _| {
            let is_bound = record.state == Some(Close) && !record.local_addr.is_wildcard();
            on_socket(&UdpSocket {
                addr: record.local_addr,
                port: record.local_port,
                v6_only: is_bound.then_some(true),
            });
            true
        })
    }

    /// Calls `visit` with each record of both families' files, and its line, and leaves a file where that says no.
    fn read_table(
        &self,
        protocol: &str,
        deadline: Instant,
        mut visit: impl FnMut(&Record, &[u8]) -> bool,
    ) -> Result<(), ReadError> {
        let mut visited = 0_usize;
        let mut read = |file: File, is_v6| {
            let mut lines = Lines::new(file);
            // The kernel prints a header even where there is no socket: a file without is not its table.
            let (_, header) = lines.next()?.unwrap_or_default();
            if !header.trim_ascii_start().starts_with(b"sl  local_address") {
                return Err(Malformed::new(1, header, "the header of a connection table").into());
            }
            while let Some((number, line)) = lines.next()? {
                if visited.is_multiple_of(LINES_PER_DEADLINE_CHECK) && Instant::now() >= deadline {
                    return Err(Fault::Deadline(visited));
                }
                visited += 1;
                let record = tcp_line::parse(line, is_v6)
                    .ok_or_else(|| Malformed::new(number, line, EXPECTED))?;
                if !visit(&record, line) {
                    break;
                }
            }
            Ok(())
        };
        self.network.read(protocol, |file| read(file, false))?;
        let v6 = format!("{protocol}6");
        // Without IPv6 there is none.
        if_there(self.network.read(&v6, |file| read(file, true))).map(|_| ())
    }
}

//! The connection table as `/proc/net/tcp` and `tcp6` show it: what is left where netlink is shut.
//!
//! It has less than netlink: bound, unconnected sockets are not in it at all, nor whether an IPv6
//! listener is for IPv6 only. It costs more: the kernel takes 1.9 us a socket to print 150 bytes, seven
//! times what a netlink dump takes; reading them back adds less than a tenth to that (Linux 6.18,
//! 60,000 sockets).
//!
//! One pass with one buffer; no list of sockets anywhere. What a socket means is not decided here.
//!
//! Every reading fails where `net/tcp` (`net/udp`) is not there, a file cannot be read or understood, or the deadline
//! came. Sockets passed on until then are not all.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::time::Instant;

use super::ProcRoot;
use super::error::{Fault, Malformed, ReadError};
use super::file::Lines;
use super::tcp_line::{self, Record};
use crate::domain::snapshot::Destination;
use crate::domain::socket::{LiveSocket, PortOwner, Socket, TcpState};
use crate::domain::udp::UdpSocket;

/// How many lines are read between two looks at the clock: about half a millisecond's worth.
const LINES_PER_DEADLINE_CHECK: usize = 256;

impl ProcRoot {
    /// Passes on every listening socket, and returns how many they were.
    ///
    /// Merely bound sockets are not in these files, and `v6_only` is always false, for they do not
    /// contain it: a wildcard listener of IPv6 is taken to own its port for IPv4 too.
    ///
    /// Listeners come first in each file, so that the rest of it is not read.
    pub fn read_owners(
        &self,
        deadline: Instant,
        on_owner: &mut dyn FnMut(PortOwner),
    ) -> Result<u64, ReadError> {
        let mut owners = 0;
        self.read_table("tcp", deadline, |record, _| {
            match TcpState::from_number(record.state) {
                Some(TcpState::Listen) => {
                    owners += 1;
                    on_owner(PortOwner {
                        addr: record.local_addr,
                        port: record.local_port,
                        listening: true,
                        v6_only: false,
                    });
                    ControlFlow::Continue(())
                }
                // Before Linux 4.4 the requests of a listener stand behind it, in front of the next
                // listener. One that is just being closed is shown as CLOSE.
                Some(TcpState::SynRecv | TcpState::Close) => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
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
            let state = TcpState::from_number(record.state);
            // SYN-RECV are nearly always requests to a listener, which use no port; netlink is not asked for them.
            if matches!(state, Some(TcpState::Listen | TcpState::SynRecv)) {
                return ControlFlow::Continue(());
            }
            records += 1;
            if let Some(state) = state.filter(|state| state.is_connected()) {
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
            ControlFlow::Continue(())
        })?;
        Ok(records)
    }

    /// Every connected socket that a process may have open, with what leads to that process.
    pub(crate) fn read_live(
        &self,
        deadline: Instant,
        on_live: &mut impl FnMut(LiveSocket),
    ) -> Result<(), ReadError> {
        use TcpState::{NewSynRecv, SynRecv, TimeWait};
        self.read_table("tcp", deadline, |record, line| {
            let state = TcpState::from_number(record.state);
            let state = state.filter(|state| state.is_connected());
            if let Some((user, inode)) = tcp_line::owner(line)
                && !matches!(state, None | Some(NewSynRecv | SynRecv | TimeWait))
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
            ControlFlow::Continue(())
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
            let is_bound = TcpState::from_number(record.state) == Some(TcpState::Close)
                && !record.local_addr.is_wildcard();
            on_socket(&UdpSocket {
                addr: record.local_addr,
                port: record.local_port,
                v6_only: is_bound.then_some(true),
            });
            ControlFlow::Continue(())
        })
    }

    /// Calls `visit` with each record of both families' files, and its line; on to the next file where it says stop.
    fn read_table(
        &self,
        protocol: &str,
        deadline: Instant,
        mut visit: impl FnMut(&Record, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut visited = 0_usize;
        let mut timed = |record: &Record, line: &[u8]| {
            if visited.is_multiple_of(LINES_PER_DEADLINE_CHECK) && Instant::now() >= deadline {
                return Err(Fault::Deadline(visited));
            }
            visited += 1;
            Ok(visit(record, line))
        };
        self.network
            .read(protocol, |file| read_file(file, false, &mut timed))?;
        let v6 = self.network.read(&format!("{protocol}6"), |file| {
            read_file(file, true, &mut timed)
        });
        match v6 {
            // IPv6 is off.
            Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => Ok(()),
            v6 => v6,
        }
    }
}

fn read_file(
    file: File,
    is_v6: bool,
    mut visit: impl FnMut(&Record, &[u8]) -> Result<ControlFlow<()>, Fault>,
) -> Result<(), Fault> {
    let mut lines = Lines::new(file);
    // The kernel prints a header even where there is no socket: a file without is not its table.
    let (_, header) = lines.next()?.unwrap_or_default();
    if !header
        .trim_ascii_start()
        .starts_with(tcp_line::HEADER_START)
    {
        return Err(Malformed::new(1, header, "the header of a connection table").into());
    }
    while let Some((number, line)) = lines.next()? {
        let record = tcp_line::parse(line, is_v6)
            .ok_or_else(|| Malformed::new(number, line, tcp_line::EXPECTED))?;
        if visit(&record, line)?.is_break() {
            break;
        }
    }
    Ok(())
}

//! The connection table as `/proc/net/tcp` and `tcp6` show it: what is left where netlink is shut.
//!
//! It has less than netlink: bound, unconnected sockets are not in it at all, nor whether an IPv6
//! listener is for IPv6 only. It costs more: the kernel takes 1.9 us a socket to print 150 bytes, seven
//! times what a netlink dump takes; reading them back adds less than a tenth to that (Linux 6.18,
//! 60,000 sockets).
//!
//! One pass with one buffer; no list of sockets anywhere. What a socket means is not decided here.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use super::ProcRoot;
use super::error::{Malformed, ReadError};
use super::file;
use super::line_reader::{LINE_LIMIT_BYTES, LineFault, LineReader};
use super::tcp_line::{self, Record, Width};
use crate::domain::snapshot::Destination;
use crate::domain::socket::{LiveSocket, PortOwner, Socket, TcpState};
use crate::domain::udp::UdpSocket;

/// How many lines are read between two looks at the clock: about half a millisecond's worth.
const LINES_PER_DEADLINE_CHECK: u64 = 256;

/// Why the table was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// One of its files could not be used.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The time was up.
    #[error("the deadline came after {records} sockets of the connection table")]
    DeadlineReached {
        /// How many had been read by then.
        records: u64,
    },
}

/// What a pass over the table went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCount {
    /// Sockets in the table, listeners left out.
    pub records: u64,
    /// Those among them that were skipped, since no kernel known to us has such a state.
    pub unknown_states: u64,
}

/// The table in one procfs. Each call reads it anew.
#[derive(Clone, Copy, Debug)]
pub struct TcpTable<'root> {
    root: &'root ProcRoot,
}

impl<'root> TcpTable<'root> {
    pub(super) fn new(root: &'root ProcRoot) -> Self {
        Self { root }
    }

    /// Passes on every listening socket, and returns how many they were.
    ///
    /// Merely bound sockets are not in these files, and `v6_only` is always false, for they do not
    /// contain it: a wildcard listener of IPv6 is taken to own its port for IPv4 too.
    ///
    /// Listeners come first in each file, so that the rest of it is not read.
    ///
    /// # Errors
    /// `net/tcp` is not there, or a file cannot be read or understood.
    pub fn read_owners(&self, on_owner: &mut dyn FnMut(PortOwner)) -> Result<u64, TableError> {
        let mut owners = 0;
        for width in [Width::V4, Width::V6] {
            self.walk("tcp", width, |record, _| {
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
        }
        Ok(owners)
    }

    /// Passes on every socket that uses a port: all but LISTEN and CLOSE. The deadline is checked
    /// every few hundred sockets.
    ///
    /// The table is not a snapshot: a socket that changes its place while it is read can be missing
    /// or be passed on twice.
    ///
    /// # Errors
    /// `net/tcp` is not there, a file cannot be read or understood, or the deadline came. Sockets
    /// passed on until then are not all.
    pub fn read_sockets(
        &self,
        deadline: Instant,
        on_socket: &mut impl FnMut(Socket),
    ) -> Result<TableCount, TableError> {
        let mut count = TableCount::default();
        let mut lines = 0_u64;
        for width in [Width::V4, Width::V6] {
            let mut is_late = false;
            self.walk("tcp", width, |record, _| {
                is_late =
                    lines.is_multiple_of(LINES_PER_DEADLINE_CHECK) && Instant::now() >= deadline;
                if is_late {
                    return ControlFlow::Break(());
                }
                lines += 1;
                tell_socket(record, &mut count, on_socket);
                ControlFlow::Continue(())
            })?;
            if is_late {
                let records = count.records;
                return Err(TableError::DeadlineReached { records });
            }
        }
        Ok(count)
    }

    /// Every connected socket that a process may have open, with what leads to that process.
    ///
    /// # Errors
    /// `net/tcp` is not there, or a file cannot be read or understood.
    pub(crate) fn read_live(self, on_live: &mut impl FnMut(LiveSocket)) -> Result<(), ReadError> {
        use TcpState::{BoundInactive, Close, Listen, NewSynRecv, SynRecv, TimeWait};
        for width in [Width::V4, Width::V6] {
            self.walk("tcp", width, |record, line| {
                match (TcpState::from_number(record.state), tcp_line::owner(line)) {
                    (
                        None
                        | Some(BoundInactive | Close | Listen | NewSynRecv | SynRecv | TimeWait),
                        _,
                    )
                    | (_, None) => {}
                    (Some(_), Some((user, inode))) => on_live(LiveSocket {
                        destination: Destination {
                            src_addr: record.local_addr,
                            dst_addr: record.remote_addr,
                            dst_port: record.remote_port,
                        },
                        user,
                        inode,
                        has_timestamps: None,
                    }),
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(())
    }

    /// Every UDP socket that has a local port, of `net/udp` and `net/udp6`. `IPV6_V6ONLY` is not shown there; bind() to an
    /// IPv6 address sets it.
    ///
    /// # Errors
    /// `net/udp` does not exist, a file cannot be read or understood, or the deadline came.
    pub(crate) fn read_udp(
        self,
        deadline: Instant,
        on_socket: &mut impl FnMut(&UdpSocket),
    ) -> Result<(), TableError> {
        let mut records = 0_u64;
        for width in [Width::V4, Width::V6] {
            let mut is_late = false;
            self.walk("udp", width, |record, _| {
                is_late =
                    records.is_multiple_of(LINES_PER_DEADLINE_CHECK) && Instant::now() >= deadline;
                if is_late {
                    return ControlFlow::Break(());
                }
                records += 1;
                let is_bound = TcpState::from_number(record.state) == Some(TcpState::Close)
                    && !record.local_addr.is_wildcard();
                on_socket(&UdpSocket {
                    addr: record.local_addr,
                    port: record.local_port,
                    v6_only: is_bound.then_some(true),
                });
                ControlFlow::Continue(())
            })?;
            if is_late {
                return Err(TableError::DeadlineReached { records });
            }
        }
        Ok(())
    }

    /// Calls `visit` with each record of one file, and its line, until it says stop. No `tcp6` is an empty one:
    /// IPv6 is off.
    fn walk(
        self,
        protocol: &str,
        width: Width,
        visit: impl FnMut(&Record, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let suffix = match width {
            Width::V4 => "",
            Width::V6 => "6",
        };
        let path = self.root.network().join(format!("{protocol}{suffix}"));
        match file::open(&path) {
            Ok(file) => walk_file(file, width, visit).map_err(|fault| fault.at(&path)),
            Err(error) if width == Width::V6 && error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(ReadError::Io { path, source }),
        }
    }
}

fn tell_socket(record: &Record, count: &mut TableCount, on_socket: &mut impl FnMut(Socket)) {
    let state = TcpState::from_number(record.state);
    // SYN-RECV are nearly always requests to a listener, which use no port; netlink is not asked for them.
    if matches!(state, Some(TcpState::Listen | TcpState::SynRecv)) {
        return;
    }
    count.records += 1;
    match state {
        // The files show no merely bound socket; one that they did show would hold no connection.
        Some(TcpState::Close | TcpState::BoundInactive) => {}
        Some(state) => on_socket(Socket {
            src_addr: record.local_addr,
            dst_addr: record.remote_addr,
            src_port: record.local_port,
            dst_port: record.remote_port,
            state,
            remaining_ms: record.remaining_ms,
            is_on_loopback_device: false,
        }),
        None => count.unknown_states += 1,
    }
}

/// What is wrong with a table, its path left out.
enum TableFault {
    Line(LineFault, u64),
    Malformed(Malformed),
}

impl TableFault {
    fn at(self, path: &Path) -> ReadError {
        let path = path.to_owned();
        match self {
            Self::Line(LineFault::Io(source), _) => ReadError::Io { path, source },
            Self::Line(LineFault::TooLong, line) => ReadError::LineTooLong {
                path,
                line,
                limit_bytes: LINE_LIMIT_BYTES,
            },
            Self::Malformed(fault) => ReadError::Malformed { path, fault },
        }
    }
}

fn walk_file(
    input: impl io::Read,
    width: Width,
    mut visit: impl FnMut(&Record, &[u8]) -> ControlFlow<()>,
) -> Result<(), TableFault> {
    let mut lines = LineReader::new(input);
    skip_header(&mut lines)?;
    loop {
        let number = lines.line_number() + 1;
        let line = match lines.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(fault) => return Err(TableFault::Line(fault, number)),
        };
        let record = tcp_line::parse(line, width).ok_or_else(|| {
            TableFault::Malformed(Malformed::new(number, line, tcp_line::EXPECTED))
        })?;
        if visit(&record, line).is_break() {
            return Ok(());
        }
    }
}

/// The kernel prints a header even where there is no socket: a file without is not its table.
fn skip_header(lines: &mut LineReader<impl io::Read>) -> Result<(), TableFault> {
    let line = lines
        .next_line()
        .map_err(|fault| TableFault::Line(fault, 1))?
        .unwrap_or_default();
    if line.trim_ascii_start().starts_with(tcp_line::HEADER_START) {
        Ok(())
    } else {
        let fault = Malformed::new(1, line, "the header of a connection table");
        Err(TableFault::Malformed(fault))
    }
}

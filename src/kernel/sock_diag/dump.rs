//! Conducts a dump from its request to its end.

use std::error::Error as _;
use std::io;
use std::time::Instant;

use netlink_packet_sock_diag::{AF_INET, AF_INET6, SOCK_DIAG_BY_FAMILY};
use rustix::io::Errno;
use thiserror::Error;

use super::datagram::{DatagramError, Message, Messages};
use super::filter::{ephemeral_or_time_wait, to_any_of};
use super::links::LinkNames;
use super::record::{Record, decode_live, decode_owner, decode_socket, decode_udp};
use super::request::{CONNECTED, LISTENING, LIVE, OWNERS, Request, TCPDIAG_GETSOCK};
use super::transport::{Connect, RECEIVE_BUFFER_BYTES, Transport};
use crate::domain::ports::PortRange;
use crate::domain::snapshot::Destination;
use crate::domain::socket::{LiveSocket, PortOwner, Socket};
use crate::domain::udp::UdpSocket;

/// How many records a dump had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpCount {
    /// All of them.
    pub records: u64,
    /// Those among them of a family or state that this program does not know, which it skipped.
    pub unknown: u64,
    /// Family and state of the last of these.
    pub last_unknown: Option<(u8, u8)>,
    /// Whether the kernel says that records may be missing (`NLM_F_DUMP_INTR`).
    pub interrupted: bool,
}

/// Why a dump failed. Whatever it reported before must not be used. The last number is that of the records
/// that had come, for [`DumpError::ShortRecord`] with the malformed one.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "their messages say it")]
pub enum DumpError {
    #[error("cannot open a netlink socket for sock_diag: {0}")]
    Open(#[source] io::Error),
    #[error("cannot send a sock_diag request: {0}")]
    Send(#[source] io::Error),
    #[error("cannot receive from sock_diag: {0}")]
    Receive(#[source] io::Error),
    #[error("the kernel refused the sock_diag dump: {0}")]
    Refused(#[source] io::Error),
    #[error("the sock_diag dump failed after {1} records: {0}")]
    Failed(#[source] io::Error, u64),
    #[error("a sock_diag datagram of {0} bytes was cut to {1}")]
    Truncated(usize, usize),
    #[error("the sock_diag dump ended after {0} records without NLMSG_DONE")]
    EndedEarly(u64),
    #[error("the kernel lost data of the sock_diag dump after {0} records")]
    Overrun(u64),
    #[error("a sock_diag datagram after {1} records is malformed: {0}")]
    Datagram(DatagramError, u64),
    #[error(
        "sock_diag record {1} is malformed: a record has {0} bytes, an inet_diag_msg has {len}",
        len = size_of::<Record>()
    )]
    ShortRecord(usize, u64),
    #[error("a sock_diag record after {1} others has the unknown type {0}")]
    UnknownType(u16, u64),
    #[error("the deadline came after {0} records of the sock_diag dump")]
    Deadline(u64),
}

impl DumpError {
    /// Whether sock_diag cannot be used here at all, so that trying again does not help: no such
    /// protocol, no kernel module, or not allowed.
    ///
    /// Without the tcp_diag module alone, inet_diag being there, the dump begins and ends at once with
    /// ENOENT in its NLMSG_DONE (`__inet_diag_dump` in net/ipv4/inet_diag.c).
    pub fn is_unusable(&self) -> bool {
        const UNUSABLE: [Errno; 10] = [
            Errno::PERM,
            Errno::ACCESS,
            Errno::NOSYS,
            Errno::INVAL,
            Errno::NOENT,
            Errno::OPNOTSUPP,
            Errno::PROTONOSUPPORT,
            Errno::SOCKTNOSUPPORT,
            Errno::AFNOSUPPORT,
            Errno::CONNREFUSED,
        ];
        let errno = self.errno();
        errno.is_some_and(|errno| UNUSABLE.contains(&errno))
            && !matches!(self, Self::Receive(_) | Self::Failed(_, 1..))
    }

    /// Whether the next try, in a new conversation, may succeed: a transient error.
    pub fn is_passing(&self) -> bool {
        const PASSING: [Errno; 4] = [Errno::BUSY, Errno::AGAIN, Errno::NOBUFS, Errno::NOMEM];
        let errno = self.errno();
        matches!(self, Self::Overrun(_)) || errno.is_some_and(|errno| PASSING.contains(&errno))
    }

    /// The kernel's error, if it is one.
    fn errno(&self) -> Option<Errno> {
        Errno::from_io_error(self.source()?.downcast_ref()?)
    }
}

/// Asks for dumps.
pub struct Dumper {
    connect: Box<dyn Connect>,
    /// Whether the kernel has refused the filter program. It will not change its mind.
    refuses_filter: bool,
}

impl Dumper {
    /// Nothing is opened yet.
    pub fn new(connect: Box<dyn Connect>) -> Self {
        Self {
            connect,
            refuses_filter: false,
        }
    }

    /// Opens a conversation for one or more dumps, one after the other, by the deadline. After an
    /// error it must not be used any more.
    pub fn open(&mut self, deadline: Instant) -> Result<Dump<'_>, DumpError> {
        Ok(Dump {
            transport: self.connect.connect(deadline).map_err(DumpError::Open)?,
            dumper: self,
            deadline,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE_BUFFER_BYTES),
            links: LinkNames::default(),
        })
    }
}

/// An open conversation, with one receive buffer that is used again and again.
pub struct Dump<'a> {
    dumper: &'a mut Dumper,
    transport: Box<dyn Transport>,
    deadline: Instant,
    sequence: u32,
    buffer: Vec<u8>,
    links: LinkNames,
}

impl Dump<'_> {
    /// Whether the running kernel answers.
    pub(crate) fn is_of_this_kernel(&self) -> bool {
        self.dumper.connect.is_this_kernel()
    }

    /// Every listening or bound, unconnected socket.
    pub fn owners(&mut self, on_owner: impl FnMut(PortOwner)) -> Result<DumpCount, DumpError> {
        self.run(&Request::tcp(OWNERS, &[], false), decode_owner, on_owner)
    }

    /// Every listening socket.
    pub fn listeners(&mut self, on_owner: impl FnMut(PortOwner)) -> Result<DumpCount, DumpError> {
        self.run(&Request::tcp(LISTENING, &[], false), decode_owner, on_owner)
    }

    /// Every socket that is or was connected.
    pub fn sockets(&mut self, on_socket: impl FnMut(Socket)) -> Result<DumpCount, DumpError> {
        self.run(
            &Request::tcp(CONNECTED, &[], false),
            decode_socket,
            on_socket,
        )
    }

    /// Every time-wait socket, and of the other connected ones at least those whose local port
    /// lies inside the range: all that a census adds up. The kernel skips the others, which
    /// costs it 15 to 30 ns for each socket that it does report; where it cannot (Linux < 5.9, or
    /// without cgroups of sockets), it reports them all. One dump in either case, so that no
    /// socket is reported twice that is not by [`Dump::sockets`] either.
    pub fn sockets_of_range(
        &mut self,
        range: PortRange,
        mut on_socket: impl FnMut(Socket),
    ) -> Result<DumpCount, DumpError> {
        if !self.dumper.refuses_filter {
            let request = Request::tcp(CONNECTED, &ephemeral_or_time_wait(range), false);
            // A refusal is all that comes of a refused request: the conversation can go on.
            match self.run(&request, decode_socket, &mut on_socket) {
                Err(DumpError::Refused(error))
                    if Errno::from_io_error(&error) == Some(Errno::INVAL) =>
                {
                    self.dumper.refuses_filter = true;
                }
                result => return result,
            }
        }
        self.sockets(on_socket)
    }

    /// Every connected socket that a process may have open and that has the remote end of one of these
    /// destinations, of which there must be few. Of sockets in FIN-WAIT-2, also those that no process has.
    pub fn live_sockets(
        &mut self,
        destinations: &[Destination],
        on_socket: impl FnMut(LiveSocket),
    ) -> Result<DumpCount, DumpError> {
        let request = Request::tcp(LIVE, &to_any_of(destinations), true);
        self.run(&request, decode_live, on_socket)
    }

    /// Every UDP socket that has a local port: a dump of each family. Returns whether the kernel says that one may miss
    /// sockets.
    pub fn udp_sockets(&mut self, mut on_socket: impl FnMut(UdpSocket)) -> Result<bool, DumpError> {
        let mut interrupted = false;
        for family in [AF_INET, AF_INET6] {
            let count = self.run(&Request::udp(family), decode_udp, &mut on_socket)?;
            interrupted |= count.interrupted;
        }
        Ok(interrupted)
    }

    fn run<T>(
        &mut self,
        request: &Request,
        decode: impl Fn(&Record, &[u8], &mut LinkNames) -> Option<T>,
        mut on_record: impl FnMut(T),
    ) -> Result<DumpCount, DumpError> {
        self.sequence = self.sequence.wrapping_add(1);
        while let Err(error) = self.transport.send(&request.bytes(self.sequence)) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(DumpError::Send(error));
            }
        }
        let reason = io::Error::from_raw_os_error;
        let mut count = DumpCount::default();
        loop {
            self.receive(count.records)?;
            let mut messages = Messages::new(&self.buffer, self.sequence);
            while let Some(message) = messages.next() {
                count.interrupted |= messages.interrupted;
                let records = count.records;
                let message = message.map_err(|error| DumpError::Datagram(error, records))?;
                let error = match message {
                    Message::Record(TCPDIAG_GETSOCK | SOCK_DIAG_BY_FAMILY, payload) => {
                        count.records += 1;
                        let Some((record, attributes)) = Record::parse(payload) else {
                            return Err(DumpError::ShortRecord(payload.len(), count.records));
                        };
                        if let Some(decoded) = decode(record, attributes, &mut self.links) {
                            on_record(decoded);
                        } else {
                            count.unknown += 1;
                            count.last_unknown = Some((record.family, record.state));
                        }
                        continue;
                    }
                    Message::Noop => continue,
                    Message::Done(0) => return Ok(count),
                    Message::Record(other, _) => DumpError::UnknownType(other, records),
                    Message::Done(errno) => DumpError::Failed(reason(errno), records),
                    Message::Refused(errno) => DumpError::Refused(reason(errno)),
                    Message::Overrun => DumpError::Overrun(records),
                };
                return Err(error);
            }
        }
    }

    /// Receives one whole datagram.
    fn receive(&mut self, records: u64) -> Result<(), DumpError> {
        while Instant::now() < self.deadline {
            let error = match self.transport.receive(&mut self.buffer) {
                Ok(0) => DumpError::EndedEarly(records),
                Ok(length) if length > self.buffer.len() => {
                    DumpError::Truncated(length, self.buffer.len())
                }
                Ok(_) => return Ok(()),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => break,
                    _ if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => {
                        DumpError::Overrun(records)
                    }
                    _ => DumpError::Receive(error),
                },
            };
            return Err(error);
        }
        Err(DumpError::Deadline(records))
    }
}

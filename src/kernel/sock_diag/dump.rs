//! Conducts a dump from its request to its end.

use std::io;
use std::time::Instant;

use netlink_packet_sock_diag::{AF_INET, AF_INET6, SOCK_DIAG_BY_FAMILY};
use rustix::io::Errno;
use thiserror::Error;

use super::datagram::{DatagramError, Message, Messages};
use super::filter::{ephemeral_or_time_wait, to_any_of};
use super::links::LinkNames;
use super::record::{Decoded, ShortRecord, decode_live, decode_owner, decode_socket, decode_udp};
use super::request::{Asked, States, TCPDIAG_GETSOCK, dump_request, udp_dump_request};
use super::transport::{Connect, RECEIVE_BUFFER_BYTES, Transport};
use crate::domain::address::Address;
use crate::domain::ports::PortRange;
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

impl DumpCount {
    #[inline]
    fn add<T>(&mut self, decoded: Decoded<T>) -> Option<T> {
        self.records += 1;
        match decoded {
            Decoded::Known(value) => Some(value),
            Decoded::Unknown { family, state } => {
                self.unknown += 1;
                self.last_unknown = Some((family, state));
                None
            }
        }
    }
}

/// Why a dump failed. Whatever it reported before must not be used. The last number is that of the records
/// that had come, for [`DumpError::Record`] with the malformed one.
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
    #[error("sock_diag record {1} is malformed: {0}")]
    Record(ShortRecord, u64),
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
    #[must_use]
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
        match self {
            Self::Open(error)
            | Self::Send(error)
            | Self::Refused(error)
            | Self::Failed(error, 0) => is_one_of(error, &UNUSABLE),
            _ => false,
        }
    }

    /// Whether the next try, in a new conversation, may go better: a passing state of the kernel's.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        const PASSING: [Errno; 4] = [Errno::BUSY, Errno::AGAIN, Errno::NOBUFS, Errno::NOMEM];
        match self {
            Self::Open(error)
            | Self::Send(error)
            | Self::Receive(error)
            | Self::Refused(error)
            | Self::Failed(error, _) => is_one_of(error, &PASSING),
            Self::Overrun(_) => true,
            _ => false,
        }
    }
}

fn is_one_of(error: &io::Error, errnos: &[Errno]) -> bool {
    errnos
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Asks for dumps, with one receive buffer that is used again and again.
#[derive(Debug)]
pub struct Dumper {
    connect: Box<dyn Connect>,
    buffer: Vec<u8>,
    sequence: u32,
    /// Whether the kernel has refused the filter program. It will not change its mind.
    refuses_filter: bool,
    links: LinkNames,
}

impl Dumper {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(connect: Box<dyn Connect>) -> Self {
        Self {
            connect,
            buffer: Vec::new(),
            sequence: 0,
            refuses_filter: false,
            links: LinkNames::default(),
        }
    }

    /// Opens a conversation for one or more dumps, one after the other, by the deadline. After an
    /// error it must not be used any more.
    pub fn open(&mut self, deadline: Instant) -> Result<Dump<'_>, DumpError> {
        let transport = self.connect.connect(deadline).map_err(DumpError::Open)?;
        self.buffer
            .reserve_exact(RECEIVE_BUFFER_BYTES.saturating_sub(self.buffer.len()));
        self.links = LinkNames::default();
        Ok(Dump {
            transport,
            is_of_this_kernel: self.connect.is_this_kernel(),
            buffer: &mut self.buffer,
            sequence: &mut self.sequence,
            refuses_filter: &mut self.refuses_filter,
            links: &mut self.links,
            deadline,
        })
    }
}

/// An open conversation.
pub struct Dump<'a> {
    transport: Box<dyn Transport>,
    is_of_this_kernel: bool,
    buffer: &'a mut Vec<u8>,
    sequence: &'a mut u32,
    refuses_filter: &'a mut bool,
    links: &'a mut LinkNames,
    deadline: Instant,
}

impl Dump<'_> {
    /// Whether the running kernel answers.
    #[must_use]
    pub(crate) const fn is_of_this_kernel(&self) -> bool {
        self.is_of_this_kernel
    }

    /// Every listening or bound, unconnected socket.
    pub fn owners(&mut self, on_owner: impl FnMut(PortOwner)) -> Result<DumpCount, DumpError> {
        self.owners_in(States::OWNERS, on_owner)
    }

    /// Every listening socket.
    pub fn listeners(&mut self, on_owner: impl FnMut(PortOwner)) -> Result<DumpCount, DumpError> {
        self.owners_in(States::LISTENING, on_owner)
    }

    fn owners_in(
        &mut self,
        states: States,
        on_owner: impl FnMut(PortOwner),
    ) -> Result<DumpCount, DumpError> {
        self.run(states, &[], decode_owner, on_owner)
    }

    /// Every socket that is or was connected.
    pub fn sockets(&mut self, on_socket: impl FnMut(Socket)) -> Result<DumpCount, DumpError> {
        self.run(States::CONNECTED, &[], decode_socket, on_socket)
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
        if !*self.refuses_filter {
            let filter = ephemeral_or_time_wait(range);
            // A refusal is all that comes of a refused request: the conversation can go on.
            match self.run(States::CONNECTED, &filter, decode_socket, &mut on_socket) {
                Err(DumpError::Refused(error)) if is_one_of(&error, &[Errno::INVAL]) => {
                    *self.refuses_filter = true;
                }
                result => return result,
            }
        }
        self.sockets(on_socket)
    }

    /// Every connected socket that a process may have open and that has one of these remote ends, of
    /// which there must be few. Of sockets in FIN-WAIT-2, also those that no process has.
    pub fn live_sockets(
        &mut self,
        ends: &[(Address, u16)],
        on_socket: impl FnMut(LiveSocket),
    ) -> Result<DumpCount, DumpError> {
        self.run(States::LIVE, &to_any_of(ends), decode_live, on_socket)
    }

    /// Every UDP socket that has a local port: a dump of each family.
    pub fn udp_sockets(
        &mut self,
        mut on_socket: impl FnMut(UdpSocket),
    ) -> Result<DumpCount, DumpError> {
        let mut all = DumpCount::default();
        for family in [AF_INET, AF_INET6] {
            let request = |sequence| udp_dump_request(family, sequence);
            let count = self.run_request(request, decode_udp, &mut on_socket)?;
            all.records += count.records;
            all.unknown += count.unknown;
        }
        Ok(all)
    }

    fn run<T>(
        &mut self,
        states: States,
        filter: &[u8],
        decode: impl Fn(&[u8], &mut LinkNames) -> Result<Decoded<T>, ShortRecord>,
        on_record: impl FnMut(T),
    ) -> Result<DumpCount, DumpError> {
        let asked = Asked {
            states,
            filter,
            info: states == States::LIVE,
        };
        self.run_request(|sequence| dump_request(asked, sequence), decode, on_record)
    }

    fn run_request<T>(
        &mut self,
        request: impl FnOnce(u32) -> Vec<u8>,
        decode: impl Fn(&[u8], &mut LinkNames) -> Result<Decoded<T>, ShortRecord>,
        mut on_record: impl FnMut(T),
    ) -> Result<DumpCount, DumpError> {
        *self.sequence = self.sequence.wrapping_add(1);
        self.send(&request(*self.sequence))?;
        let mut count = DumpCount::default();
        loop {
            self.receive(count.records)?;
            let mut messages = Messages::new(self.buffer, *self.sequence);
            while let Some(message) = messages.next() {
                count.interrupted |= messages.is_interrupted();
                let records = count.records;
                match message.map_err(|error| DumpError::Datagram(error, records))? {
                    Message::Record(TCPDIAG_GETSOCK | SOCK_DIAG_BY_FAMILY, payload) => {
                        let decoded = decode(payload, self.links)
                            .map_err(|error| DumpError::Record(error, records + 1))?;
                        if let Some(record) = count.add(decoded) {
                            on_record(record);
                        }
                    }
                    Message::Record(other, _) => {
                        return Err(DumpError::UnknownType(other, records));
                    }
                    Message::Done(0) => return Ok(count),
                    Message::Done(errno) => {
                        let error = io::Error::from_raw_os_error(errno);
                        return Err(DumpError::Failed(error, records));
                    }
                    Message::Refused(errno) => {
                        return Err(DumpError::Refused(io::Error::from_raw_os_error(errno)));
                    }
                    Message::Overrun => return Err(DumpError::Overrun(records)),
                    Message::Noop => {}
                }
            }
        }
    }

    fn send(&mut self, request: &[u8]) -> Result<(), DumpError> {
        loop {
            match self.transport.send(request) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(DumpError::Send),
            }
        }
    }

    /// Receives one whole datagram.
    fn receive(&mut self, records: u64) -> Result<(), DumpError> {
        let received = loop {
            if Instant::now() >= self.deadline {
                return Err(DumpError::Deadline(records));
            }
            match self.transport.receive(self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let length = received.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => DumpError::Deadline(records),
            _ if is_one_of(&error, &[Errno::NOBUFS]) => DumpError::Overrun(records),
            _ => DumpError::Receive(error),
        })?;
        let capacity = self.buffer.len();
        if length > capacity {
            return Err(DumpError::Truncated(length, capacity));
        }
        if length == 0 {
            return Err(DumpError::EndedEarly(records));
        }
        Ok(())
    }
}

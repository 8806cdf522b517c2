//! What a census adds up: one socket at a time, whatever the source.

use zerocopy::TryFromBytes;

use super::address::Address;
use super::snapshot::Destination;

/// The states of a TCP socket, numbered as in include/net/tcp_states.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromBytes)]
#[repr(u8)]
pub enum TcpState {
    /// Data can flow both ways.
    Established = 1,
    /// connect() was called, no answer yet.
    SynSent = 2,
    /// A connection request was answered but not confirmed yet.
    SynRecv = 3,
    /// We closed first and wait for the acknowledgment.
    FinWait1 = 4,
    /// We closed first and wait for the peer to close; also its time-wait mini-socket.
    FinWait2 = 5,
    /// TIME-WAIT proper.
    TimeWait = 6,
    /// Not connected.
    Close = 7,
    /// The peer closed first and waits for us.
    CloseWait = 8,
    /// Both have closed; we wait for the last acknowledgment.
    LastAck = 9,
    /// Waits for connections.
    Listen = 10,
    /// Both closed at once.
    Closing = 11,
    /// A request socket, which the kernel reports as `SynRecv`.
    NewSynRecv = 12,
    /// Bound but neither listening nor connected, Linux >= 6.8.
    BoundInactive = 13,
}

impl TcpState {
    /// The state with this number, or nothing for a number that no kernel known to us uses.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::try_read_from_bytes(&[number]).ok()
    }

    /// Whether a socket in this state is or was connected.
    pub(crate) const fn is_connected(self) -> bool {
        !matches!(self, Self::Listen | Self::Close | Self::BoundInactive)
    }
}

/// A socket that is or was connected: every TCP state but LISTEN and CLOSE. Each uses its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The local end's address.
    pub src_addr: Address,
    /// The remote end's address.
    pub dst_addr: Address,
    /// The local end's port.
    pub src_port: u16,
    /// The remote end's port.
    pub dst_port: u16,
    /// Never `Listen`, `Close` or `BoundInactive`.
    pub state: TcpState,
    /// For a time-wait socket, also one in `FinWait2`: the time that it has left, in milliseconds; 0 for
    /// all others.
    pub remaining_ms: u32,
    /// It is bound to the device `lo`, by SO_BINDTODEVICE or by a link-local address.
    pub is_on_loopback_device: bool,
}

impl Socket {
    /// In FIN-WAIT-2 without a process: a time-wait socket to the kernel.
    pub(crate) const fn is_orphan(&self) -> bool {
        matches!(self.state, TcpState::FinWait2) && self.remaining_ms > 0
    }
}

/// A socket that owns a port without being connected: it listens, or is only bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortOwner {
    /// The address it is bound to, perhaps a wildcard.
    pub addr: Address,
    /// The port it owns.
    pub port: u16,
    /// Whether it listens.
    pub listening: bool,
    /// An IPv6 socket with `IPV6_V6ONLY`: as a wildcard it does not cover IPv4 addresses.
    pub v6_only: bool,
}

/// A connected socket that a process may have open, with what leads to that process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSocket {
    /// From where to where.
    pub destination: Destination,
    /// The user who made it.
    pub user: u32,
    /// Its number among the kernel's files; 0 where no process has it open any more.
    pub inode: u64,
    /// Whether its peer uses TCP timestamps, if that was asked for and is known by now.
    pub(crate) has_timestamps: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_their_numbers_are_inverse_and_others_are_unknown() {
        for number in 0..=u8::MAX {
            match TcpState::from_number(number) {
                #[expect(clippy::as_conversions, reason = "reads the discriminant")]
                Some(state) => assert_eq!(state as u8, number),
                None => assert!(number == 0 || number > 13),
            }
        }
    }
}

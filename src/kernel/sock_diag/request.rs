//! The bytes of a dump request. Pure: sends nothing.

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_sock_diag::{
    INET_DIAG_INFO, IPPROTO_UDP, SOCK_DIAG_BY_FAMILY, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_CLOSING,
    TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_LAST_ACK, TCP_LISTEN, TCP_SYN_SENT,
    TCP_TIME_WAIT,
};

/// `TCPDIAG_GETSOCK` in include/uapi/linux/inet_diag.h: TCP sockets of both families in one dump.
pub const TCPDIAG_GETSOCK: u16 = 18;

/// A netlink header (16 bytes) and a `struct inet_diag_req` (60), without attributes.
pub(crate) const REQUEST_LENGTH: usize = 76;

/// The same with a `struct inet_diag_req_v2` (56).
const UDP_REQUEST_LENGTH: usize = 72;

/// `TCP_BOUND_INACTIVE` in include/net/tcp_states.h: a pseudo state of bound but unconnected sockets,
/// asked for by this bit and reported as CLOSE. Kernels before 6.8 ignore it.
const TCP_BOUND_INACTIVE: u8 = 13;

/// Which sockets to dump: a mask with one bit for each state's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u32);

impl States {
    /// Listening sockets. They stand in a table of their own: 0.2 ms however many connections there are.
    pub const LISTENING: Self = Self::of(&[TCP_LISTEN]);

    /// Sockets that own a port without a connection: listening, or bound and unconnected. For the latter
    /// the kernel goes through all sockets that have a local port, which takes two thirds as long as
    /// reporting them.
    pub const OWNERS: Self = Self::of(&[TCP_LISTEN, TCP_BOUND_INACTIVE]);

    /// Sockets that are or were connected: all that use a port. Without SYN-RECV, with which the kernel
    /// sends request sockets too: those use no port, belong to a listener and are many under a SYN flood.
    /// A socket of its own is in SYN-RECV only while both ends connect at once, or with Fast Open on a
    /// listener's port.
    pub const CONNECTED: Self = Self::of(&[
        TCP_ESTABLISHED,
        TCP_SYN_SENT,
        TCP_FIN_WAIT1,
        TCP_FIN_WAIT2,
        TCP_TIME_WAIT,
        TCP_CLOSE_WAIT,
        TCP_LAST_ACK,
        TCP_CLOSING,
    ]);

    /// Those of [`CONNECTED`](Self::CONNECTED) that a process may have open.
    pub(crate) const LIVE: Self = Self(Self::CONNECTED.0 & !(1 << TCP_TIME_WAIT));

    const fn of(states: &[u8]) -> Self {
        let mut mask = 0;
        let mut rest = states;
        while let [state, others @ ..] = rest {
            mask |= 1 << *state;
            rest = others;
        }
        Self(mask)
    }

    /// The mask as the kernel takes it.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// What of the sockets is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// In which states.
    pub states: States,
    /// An attribute with a program that skips sockets (see [`filter`](super::filter)); empty for none.
    pub filter: &'a [u8],
    /// Whether the kernel is to add its `struct tcp_info`.
    pub info: bool,
}

/// A request to dump TCP sockets of both families.
#[must_use]
pub(crate) fn dump_request(asked: Asked<'_>, sequence: u32) -> Vec<u8> {
    let Asked {
        states,
        filter,
        info,
    } = asked;
    let mut request = vec![0; REQUEST_LENGTH];
    request.extend_from_slice(filter);
    let extensions = u8::from(info) << (INET_DIAG_INFO - 1);
    // Behind the header (16): family, src_len and dst_len, all 0, and ext; then an empty
    // inet_diag_sockid (48). The last field, dbs, stays 0 as well.
    let fields: [(usize, &[u8]); 2] = [(19, &[extensions]), (68, &states.bits().to_ne_bytes())];
    filled(request, TCPDIAG_GETSOCK, sequence, &fields)
}

/// A request to dump every UDP socket of one family (`AF_INET`, `AF_INET6`). There is no request for both.
#[must_use]
pub(crate) fn udp_dump_request(family: u8, sequence: u32) -> Vec<u8> {
    let states = (1_u32 << TCP_ESTABLISHED) | (1 << TCP_CLOSE);
    // A `struct inet_diag_req_v2` behind the header: family and protocol; 2 bytes that stay 0; the state mask.
    let fields: [(usize, &[u8]); 2] = [(16, &[family, IPPROTO_UDP]), (20, &states.to_ne_bytes())];
    filled(
        vec![0; UDP_REQUEST_LENGTH],
        SOCK_DIAG_BY_FAMILY,
        sequence,
        &fields,
    )
}

/// The request with its netlink header and these fields, each at its offset.
fn filled(
    mut request: Vec<u8>,
    message_type: u16,
    sequence: u32,
    fields: &[(usize, &[u8])],
) -> Vec<u8> {
    let length = u32::try_from(request.len()).unwrap_or_default();
    let header: [(usize, &[u8]); 4] = [
        (0, &length.to_ne_bytes()),
        (4, &message_type.to_ne_bytes()),
        (6, &(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes()),
        (8, &sequence.to_ne_bytes()),
    ];
    for (offset, bytes) in header.iter().chain(fields) {
        for (to, from) in request.iter_mut().skip(*offset).zip(*bytes) {
            *to = *from;
        }
    }
    request
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use netlink_packet_core::{Emitable, NetlinkBuffer};
    use netlink_packet_sock_diag::AF_INET6;
    use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};

    use super::*;

    const fn asked(filter: &[u8]) -> Asked<'_> {
        Asked {
            states: States::CONNECTED,
            filter,
            info: false,
        }
    }

    #[test]
    fn a_request_is_a_whole_netlink_message_with_the_state_mask_in_place() {
        let bytes = dump_request(asked(&[]), 0x0102_0304);
        let message = NetlinkBuffer::new_checked(&bytes[..]).unwrap();
        assert_eq!(message.length(), 76);
        assert_eq!(message.message_type(), TCPDIAG_GETSOCK);
        assert_eq!(message.flags(), NLM_F_REQUEST | NLM_F_DUMP);
        assert_eq!(message.sequence_number(), 0x0102_0304);
        let (front, states) = message.payload().split_at(52);
        assert!(front.iter().all(|byte| *byte == 0));
        assert_eq!(
            states.first_chunk::<4>().unwrap(),
            &0b1011_0111_0110_u32.to_ne_bytes()
        );
        assert!(states.iter().skip(4).all(|byte| *byte == 0));
    }

    #[test]
    fn tcp_info_is_an_extension() {
        let with = |info| dump_request(Asked { info, ..asked(&[]) }, 1);
        assert_eq!(
            [with(false), with(true)].map(|bytes| bytes.get(19).copied()),
            [Some(0), Some(2)]
        );
    }

    #[test]
    fn an_attribute_stands_behind_the_request_and_is_counted() {
        let bytes = dump_request(asked(&[7; 36]), 1);
        let bare = dump_request(asked(&[]), 1);
        let message = NetlinkBuffer::new_checked(&bytes).unwrap();
        assert_eq!((message.length(), bytes.len()), (112, 112));
        assert_eq!(bytes.get(4..76), bare.get(4..));
        assert_eq!(bytes.get(76..), Some(&[7; 36][..]));
    }

    #[test]
    fn a_udp_request_is_the_one_that_netlink_packet_sock_diag_builds() {
        let bytes = udp_dump_request(AF_INET6, 7);
        let message = NetlinkBuffer::new_checked(&bytes[..]).unwrap();
        assert_eq!((message.length(), bytes.len()), (72, 72));
        assert_eq!(message.message_type(), SOCK_DIAG_BY_FAMILY);
        assert_eq!(message.flags(), NLM_F_REQUEST | NLM_F_DUMP);
        assert_eq!(message.sequence_number(), 7);
        let theirs = InetRequest {
            family: AF_INET6,
            protocol: IPPROTO_UDP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::ESTABLISHED | StateFlags::CLOSE,
            socket_id: SocketId::new_v6(),
        };
        let mut expected = vec![0; theirs.buffer_len()];
        theirs.emit(&mut expected);
        // They fill the cookie with ones, which a dump ignores.
        assert_eq!(message.payload().get(..48), expected.get(..48));
    }

    #[test]
    fn owners_are_the_states_listen_and_bound_inactive() {
        assert_eq!(States::OWNERS.bits(), 0x2400);
        assert_eq!(States::OWNERS.bits() & States::CONNECTED.bits(), 0);
    }
}

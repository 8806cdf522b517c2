//! The bytes of a dump request. Pure: sends nothing.

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_sock_diag::{
    INET_DIAG_INFO, IPPROTO_UDP, SOCK_DIAG_BY_FAMILY, TCP_CLOSE, TCP_CLOSING, TCP_ESTABLISHED,
    TCP_LISTEN, TCP_SYN_RECV, TCP_TIME_WAIT,
};

/// `TCPDIAG_GETSOCK` in include/uapi/linux/inet_diag.h: TCP sockets of both families in one dump.
pub(super) const TCPDIAG_GETSOCK: u16 = 18;

/// `TCP_BOUND_INACTIVE` in include/net/tcp_states.h: a pseudo state of bound but unconnected sockets,
/// asked for by this bit and reported as CLOSE. Kernels before 6.8 ignore it.
const TCP_BOUND_INACTIVE: u8 = 13;

/// A mask of states, with one bit for each state's number: listening sockets. They stand in a table of their own: 0.2 ms
/// however many connections there are.
pub(super) const LISTENING: u32 = 1 << TCP_LISTEN;

/// Sockets that own a port without a connection: listening, or bound and unconnected. For the latter
/// the kernel goes through all sockets that have a local port, which takes two thirds as long as
/// reporting them.
pub(super) const OWNERS: u32 = LISTENING | 1 << TCP_BOUND_INACTIVE;

/// Sockets that are or were connected: all that use a port. Without SYN-RECV, with which the kernel
/// sends request sockets too: those use no port, belong to a listener and are many under a SYN flood.
/// A socket of its own is in SYN-RECV only while both ends connect at once, or with Fast Open on a
/// listener's port.
pub(super) const CONNECTED: u32 = ((2 << TCP_CLOSING) - (1 << TCP_ESTABLISHED))
    & !(1 << TCP_SYN_RECV | 1 << TCP_CLOSE | 1 << TCP_LISTEN);

/// Those of [`CONNECTED`] that a process may have open.
pub(super) const LIVE: u32 = CONNECTED & !(1 << TCP_TIME_WAIT);

/// A message without its netlink header.
pub(super) struct Request {
    message_type: u16,
    body: Vec<u8>,
}

impl Request {
    /// A dump of TCP sockets of both families in these states. The filter is an attribute with a program that skips
    /// sockets (see [`filter`](super::filter)), empty for none; `with_info` asks for the kernel's `struct tcp_info`.
    pub(super) fn tcp(states: u32, filter: &[u8], with_info: bool) -> Self {
        let extensions = u8::from(with_info) << (INET_DIAG_INFO - 1);
        // A `struct inet_diag_req`: family, src_len and dst_len, all 0, and ext; an empty inet_diag_sockid; the state
        // mask; dbs.
        let fields: [&[u8]; 5] = [
            &[0, 0, 0, extensions],
            &[0; 48],
            &states.to_ne_bytes(),
            &[0; 4],
            filter,
        ];
        Self {
            message_type: TCPDIAG_GETSOCK,
            body: fields.concat(),
        }
    }

    /// A dump of every UDP socket of one family (`AF_INET`, `AF_INET6`). There is no request for both.
    pub(super) fn udp(family: u8) -> Self {
        let states = (1_u32 << TCP_ESTABLISHED) | (1 << TCP_CLOSE);
        // A `struct inet_diag_req_v2`: family and protocol; 2 bytes that stay 0; the state mask; an empty
        // inet_diag_sockid.
        let fields: [&[u8]; 3] = [
            &[family, IPPROTO_UDP, 0, 0],
            &states.to_ne_bytes(),
            &[0; 48],
        ];
        Self {
            message_type: SOCK_DIAG_BY_FAMILY,
            body: fields.concat(),
        }
    }

    /// The whole message.
    pub(super) fn bytes(&self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(16 + self.body.len()).unwrap_or_default();
        let fields: [&[u8]; 6] = [
            &length.to_ne_bytes(),
            &self.message_type.to_ne_bytes(),
            &(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes(),
            &sequence.to_ne_bytes(),
            &[0; 4],
            &self.body,
        ];
        fields.concat()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use netlink_packet_core::{Emitable, NetlinkBuffer};
    use netlink_packet_sock_diag::AF_INET6;
    use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};

    use super::*;

    fn connected(filter: &[u8]) -> Vec<u8> {
        Request::tcp(CONNECTED, filter, false).bytes(0x0102_0304)
    }

    #[test]
    fn a_request_is_a_whole_netlink_message_with_the_state_mask_in_place() {
        let bytes = connected(&[]);
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
        let with = |info| Request::tcp(LIVE, &[], info).bytes(1);
        assert_eq!(
            [with(false), with(true)].map(|bytes| bytes.get(19).copied()),
            [Some(0), Some(2)]
        );
    }

    #[test]
    fn an_attribute_follows_the_request_and_is_counted_in_its_length() {
        let bytes = connected(&[7; 36]);
        let bare = connected(&[]);
        let message = NetlinkBuffer::new_checked(&bytes).unwrap();
        assert_eq!((message.length(), bytes.len()), (112, 112));
        assert_eq!(bytes.get(4..76), bare.get(4..));
        assert_eq!(bytes.get(76..), Some(&[7; 36][..]));
    }

    #[test]
    fn a_udp_request_is_the_one_that_netlink_packet_sock_diag_builds() {
        let bytes = Request::udp(AF_INET6).bytes(7);
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
        assert_eq!(OWNERS, 0x2400);
        assert_eq!(OWNERS & CONNECTED, 0);
    }
}

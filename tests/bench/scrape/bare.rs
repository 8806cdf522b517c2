//! The baseline: a loop that requests one dump and discards the bytes.
//!
//! Deliberately shares no code with the exporter, and does the minimum that proves a dump complete.

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, connect, recv, send, socket};

use crate::exporter::Cost;

/// ESTABLISHED to CLOSING without CLOSE and LISTEN, as the exporter requests.
pub const CONNECTED: u32 = 0b1011_0111_1110;
/// LISTEN and bound but unconnected.
pub const OWNERS: u32 = 1 << 10 | 1 << 13;
/// TIME-WAIT alone.
pub const TIME_WAIT: u32 = 1 << 6;

const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDP_REQUEST_LENGTH: usize = 72;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const FLAGS: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const STATES_OFFSET: usize = 68;

/// One dump of the sockets in these states: the number of bytes received, and the cost for this thread.
pub fn dump(states: u32) -> (usize, Cost) {
    dump_through(&[], states)
}

/// The same with a filter program that passes the ports 32768 to 60999 and all sockets without a cgroup, such
/// as TIME-WAIT sockets.
pub fn filtered_dump(states: u32) -> (usize, Cost) {
    // INET_DIAG_REQ_BYTECODE; then operations of a code, a jump in a byte, and one in two bytes.
    let mut attribute = Vec::new();
    for half in [36, 1] {
        attribute.extend(u16::to_ne_bytes(half));
    }
    for (code, yes, no) in [
        (2, 8, 20),
        (0, 0, 32_768),
        (3, 8, 12),
        (0, 0, 60_999),
        (1, 4, 16),
        (13, 12, 16),
    ] {
        attribute.extend([code, yes]);
        attribute.extend(u16::to_ne_bytes(no));
    }
    attribute.extend([0; 8]);
    dump_through(&attribute, states)
}

/// A dump of the UDP sockets of each family.
pub fn udp_dump() -> (usize, Cost) {
    const UDP: u8 = 17;
    let requests: Vec<Vec<u8>> = [AddressFamily::INET, AddressFamily::INET6]
        .map(|family| {
            let mut request = header(SOCK_DIAG_BY_FAMILY);
            request.extend([u8::try_from(family.as_raw()).unwrap(), UDP, 0, 0]);
            request.extend(u32::MAX.to_ne_bytes());
            request.resize(UDP_REQUEST_LENGTH, 0);
            request
        })
        .into();
    received(requests)
}

fn dump_through(attribute: &[u8], states: u32) -> (usize, Cost) {
    let mut request = header(TCPDIAG_GETSOCK);
    request.resize(STATES_OFFSET, 0);
    request.extend(states.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request.extend(attribute);
    received(vec![request])
}

/// A netlink header without its length.
fn header(message_type: u16) -> Vec<u8> {
    let mut request = vec![0; 4];
    request.extend(message_type.to_ne_bytes());
    request.extend(FLAGS.to_ne_bytes());
    request.extend(1_u32.to_ne_bytes());
    // The port, 0 for the kernel.
    request.extend(0_u32.to_ne_bytes());
    request
}

fn received(requests: Vec<Vec<u8>>) -> (usize, Cost) {
    let mut buffer = vec![0; 32 * 1024];
    Cost::of_this_thread(|| {
        let answers = requests
            .into_iter()
            .map(|request| answer(request, &mut buffer));
        answers.sum()
    })
}

fn answer(mut request: Vec<u8>, buffer: &mut [u8]) -> usize {
    let length = u32::try_from(request.len()).unwrap();
    request.splice(..4, length.to_ne_bytes());
    let netlink = socket(AddressFamily::NETLINK, SocketType::DGRAM, Some(SOCK_DIAG)).unwrap();
    connect(&netlink, &SocketAddrNetlink::new(0, 0)).unwrap();
    send(&netlink, &request, SendFlags::empty()).unwrap();
    let mut total = 0;
    loop {
        let (length, _) = recv(&netlink, &mut *buffer, RecvFlags::empty()).unwrap();
        let datagram = &buffer[..length];
        let kind = u16::from_ne_bytes([datagram[4], datagram[5]]);
        assert_ne!(kind, NLMSG_ERROR, "the kernel refused the dump");
        if kind == NLMSG_DONE {
            return total;
        }
        total += length;
    }
}

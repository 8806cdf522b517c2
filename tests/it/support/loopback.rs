//! Sets lo up by rtnetlink instead of ip(8): a child process has a copy of every socket of this process until
//! exec(), and until then close() does not end the connection.

use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

const LO: u32 = 1;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const NLMSG_ERROR: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE`.
const FLAGS: u16 = 0x1 | 0x4 | 0x400;
const IFF_UP: u32 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// No duplicate address detection, which would delay the address for a second.
const IFA_F_NODAD: u32 = 2;

/// Brings lo up in the calling thread's namespace.
pub fn bring_up() {
    let family_and_type = [0; 4];
    let payload = [
        family_and_type,
        LO.to_ne_bytes(),
        IFF_UP.to_ne_bytes(),
        IFF_UP.to_ne_bytes(),
    ];
    request(RTM_NEWLINK, &payload.concat());
}

/// Adds an address, `ip/bits`, to lo.
pub fn add_address(address: &str) {
    let (ip, bits) = address.split_once('/').expect("ip/bits");
    let (family, octets) = match ip.parse().expect("an address") {
        IpAddr::V4(v4) => (2, v4.octets().to_vec()),
        IpAddr::V6(v6) => (10, v6.octets().to_vec()),
    };
    let mut payload = vec![family, bits.parse().expect("a number"), 0, 0];
    payload.extend(LO.to_ne_bytes());
    for (kind, value) in [
        (IFA_LOCAL, octets),
        (IFA_FLAGS, IFA_F_NODAD.to_ne_bytes().to_vec()),
    ] {
        let length = u16::try_from(4 + value.len()).expect("short");
        payload.extend(length.to_ne_bytes());
        payload.extend(kind.to_ne_bytes());
        payload.extend(value);
    }
    request(RTM_NEWADDR, &payload);
}

fn request(message_type: u16, payload: &[u8]) {
    let mut message = u32::try_from(16 + payload.len())
        .expect("short")
        .to_ne_bytes()
        .to_vec();
    message.extend(message_type.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(payload);
    let socket = Socket::new(NETLINK_ROUTE).expect("a netlink socket");
    socket
        .send_to(&message, &SocketAddr::new(0, 0), 0)
        .expect("rtnetlink listens");
    let (answer, _) = socket.recv_from_full().expect("rtnetlink answers");
    let answer_type = u16::from_ne_bytes([answer[4], answer[5]]);
    let errno = i32::from_ne_bytes(answer[16..20].try_into().expect("four bytes"));
    assert_eq!(
        (answer_type, errno),
        (NLMSG_ERROR, 0),
        "request {message_type}"
    );
}

//! Decodes one record of a dump: a `struct inet_diag_msg` and, for some, attributes.
//!
//! A record of a family or state that was not asked for, or that this program does not know, is from a kernel newer than
//! it, and decoded to nothing.

use netlink_packet_sock_diag::{AF_INET, AF_INET6, INET_DIAG_INFO, INET_DIAG_SKV6ONLY};
use zerocopy::byteorder::native_endian::{U16, U32};
use zerocopy::byteorder::network_endian::U16 as BigU16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::links::LinkNames;
use crate::domain::address::Address;
use crate::domain::snapshot::Destination;
use crate::domain::socket::{LiveSocket, PortOwner, Socket, TcpState};
use crate::domain::udp::UdpSocket;

/// `struct inet_diag_msg`, include/uapi/linux/inet_diag.h: 72 bytes on every kernel so far.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Record {
    pub(super) family: u8,
    pub(super) state: u8,
    timer: u8,
    retransmits: u8,
    src_port: BigU16,
    dst_port: BigU16,
    src: [u8; 16],
    dst: [u8; 16],
    interface: U32,
    cookie: [U32; 2],
    /// What is left of the timer, in milliseconds.
    expires: U32,
    receive_queue: U32,
    send_queue: U32,
    uid: U32,
    inode: U32,
}

/// `timer` of a time-wait socket, FIN-WAIT-2 ones included (`inet_twsk_diag_fill`).
const TIME_WAIT_TIMER: u8 = 3;

/// `tcpi_options` in `struct tcp_info`, include/uapi/linux/tcp.h.
const TCP_INFO_OPTIONS: usize = 5;
const TCPI_OPT_TIMESTAMPS: u8 = 1;

/// What the kernel numbers `lo`, in every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK_INTERFACE: u32 = 1;

/// Decodes a connected socket; attributes are of no interest.
#[inline]
pub fn decode_socket(record: &Record, _: &[u8], links: &mut LinkNames) -> Option<Socket> {
    let state = TcpState::from_number(record.state).filter(|state| state.is_connected())?;
    Some(Socket {
        src_addr: record.address(&record.src, links)?,
        dst_addr: record.address(&record.dst, links)?,
        src_port: record.src_port.get(),
        dst_port: record.dst_port.get(),
        state,
        remaining_ms: if record.timer == TIME_WAIT_TIMER {
            record.expires.get()
        } else {
            0
        },
        is_on_loopback_device: record.interface.get() == LOOPBACK_INTERFACE,
    })
}

/// Decodes a connected socket with what leads to its process, which one in TIME-WAIT has not.
pub(super) fn decode_live(
    record: &Record,
    attributes: &[u8],
    links: &mut LinkNames,
) -> Option<LiveSocket> {
    let socket = decode_socket(record, attributes, links)?;
    if socket.state == TcpState::TimeWait {
        return None;
    }
    // Negotiated by the answer to the SYN.
    let is_negotiated = socket.state != TcpState::SynSent;
    let info = attribute(attributes, INET_DIAG_INFO).filter(|_| is_negotiated);
    let options = info.and_then(|info| info.get(TCP_INFO_OPTIONS));
    Some(LiveSocket {
        destination: Destination {
            src_addr: socket.src_addr,
            dst_addr: socket.dst_addr,
            dst_port: socket.dst_port,
        },
        user: record.uid.get(),
        inode: record.inode.get().into(),
        has_timestamps: options.map(|options| options & TCPI_OPT_TIMESTAMPS != 0),
    })
}

/// Decodes a socket that owns a port without a connection: LISTEN, or bound and unconnected, which the
/// kernel reports as CLOSE (as 13 in case a later one does otherwise).
pub(super) fn decode_owner(
    record: &Record,
    attributes: &[u8],
    links: &mut LinkNames,
) -> Option<PortOwner> {
    let listening = match TcpState::from_number(record.state)? {
        TcpState::Listen => true,
        TcpState::Close | TcpState::BoundInactive => false,
        _ => return None,
    };
    Some(PortOwner {
        addr: record.address(&record.src, links)?,
        port: record.src_port.get(),
        listening,
        v6_only: is_v6_only(attributes),
    })
}

/// Decodes a UDP socket, connected (ESTABLISHED) or not (CLOSE).
#[inline]
pub(super) fn decode_udp(
    record: &Record,
    attributes: &[u8],
    links: &mut LinkNames,
) -> Option<UdpSocket> {
    let v6_only = match TcpState::from_number(record.state)? {
        TcpState::Close => Some(is_v6_only(attributes)),
        TcpState::Established => None,
        _ => return None,
    };
    Some(UdpSocket {
        addr: record.address(&record.src, links)?,
        port: record.src_port.get(),
        v6_only,
    })
}

impl Record {
    /// The record and its attributes; `None` for one that is too short.
    #[inline]
    pub fn parse(payload: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(payload).ok()
    }

    #[inline]
    fn address(&self, bytes: &[u8; 16], links: &mut LinkNames) -> Option<Address> {
        match self.family {
            AF_INET => bytes.first_chunk().map(|v4| Address::from_v4_bytes(*v4)),
            AF_INET6 => {
                let address = Address::from_v6_bytes(*bytes);
                let link = self.interface.get();
                if link != 0 && address.is_link_local() {
                    return Some(address.with_zone(links.zone(link)));
                }
                Some(address)
            }
            _ => None,
        }
    }
}

fn is_v6_only(attributes: &[u8]) -> bool {
    attribute(attributes, INET_DIAG_SKV6ONLY)
        .and_then(<[u8]>::first)
        .is_some_and(|value| *value != 0)
}

/// The value of the first attribute of this kind. Attributes whose lengths lie end the search.
fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        // `struct nlattr`: its length without padding, and its kind.
        let ([length, found], _) = <[U16; 2]>::ref_from_prefix(bytes).ok()?;
        let length = usize::from(length.get());
        let value = bytes.get(size_of::<[U16; 2]>()..length)?;
        if found.get() == kind {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use netlink_packet_core::Parseable;
    use netlink_packet_sock_diag::TCP_CLOSE;
    use netlink_packet_sock_diag::inet::InetResponse;
    use proptest::prelude::*;

    use super::*;

    /// An interface that no host has: its zone is its number.
    const NO_INTERFACE: u32 = 1_234_567_890;

    type Decode<T> = fn(&Record, &[u8], &mut LinkNames) -> Option<T>;

    /// `None` also for a record that is too short.
    fn decoded<T>(decode: Decode<T>, record: &[u8]) -> Option<T> {
        let (record, attributes) = Record::parse(record)?;
        decode(record, attributes, &mut LinkNames::default())
    }

    fn socket(record: &[u8]) -> Socket {
        decoded(decode_socket, record).unwrap()
    }

    /// A record as Linux lays it out, by hand and not by the struct under test.
    fn bytes(family: u8, state: u8, src: [u8; 16], dst: [u8; 16], expires: u32) -> Vec<u8> {
        let mut bytes = vec![family, state, 3, 0];
        bytes.extend(40_000_u16.to_be_bytes());
        bytes.extend(443_u16.to_be_bytes());
        bytes.extend(src);
        bytes.extend(dst);
        bytes.extend([0; 12]);
        bytes.extend(expires.to_ne_bytes());
        bytes.extend([0; 16]);
        bytes
    }

    fn v4(last: u8) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes
            .iter_mut()
            .zip([192, 0, 2, last])
            .for_each(|(to, from)| *to = from);
        bytes
    }

    fn v6(text: &str) -> [u8; 16] {
        text.parse::<std::net::Ipv6Addr>().unwrap().octets()
    }

    #[test]
    fn a_time_wait_record_of_any_length_a_kernel_sends_is_decoded() {
        // 72 bytes as on 3.10, 88 - 16 with a capability less, and more with attributes.
        for extra in [0, 8, 36, 500] {
            let mut record = bytes(AF_INET, 6, v4(1), v4(2), 59_999);
            record.extend(vec![0xff; extra]);
            let socket = socket(&record);
            assert_eq!(socket.src_addr.to_string(), "192.0.2.1");
            assert_eq!(socket.dst_addr.to_string(), "192.0.2.2");
            assert_eq!((socket.src_port, socket.dst_port), (40_000, 443));
            assert_eq!(
                (socket.state, socket.remaining_ms),
                (TcpState::TimeWait, 59_999)
            );
        }
    }

    #[test]
    fn a_mapped_address_of_an_ipv6_socket_is_ipv4() {
        let record = bytes(
            AF_INET6,
            1,
            v6("::ffff:192.0.2.1"),
            v6("::ffff:192.0.2.2"),
            0,
        );
        let socket = socket(&record);
        assert_eq!(socket.src_addr.to_string(), "192.0.2.1");
        assert_eq!(socket.dst_addr.to_string(), "192.0.2.2");
    }

    #[test]
    fn only_a_time_wait_timer_is_remaining_time() {
        let mut record = bytes(AF_INET, 5, v4(1), v4(2), 9_000);
        let left = |record: &[u8]| socket(record).remaining_ms;
        assert_eq!(left(&record), 9_000);
        // The keepalive timer of a socket that a process owns.
        *record.get_mut(2).unwrap() = 2;
        assert_eq!(left(&record), 0);
    }

    #[test]
    fn a_link_local_address_has_its_link_and_the_device_lo_is_known() {
        let ends = |address: &str, family, link: u32| {
            let mut record = bytes(family, 1, v6(address), v6(address), 0);
            record.splice(40..44, link.to_ne_bytes());
            let socket = socket(&record);
            (socket.src_addr.to_string(), socket.is_on_loopback_device)
        };
        assert_eq!(
            ends("fe80::1", AF_INET6, NO_INTERFACE),
            (format!("fe80::1%{NO_INTERFACE}"), false)
        );
        assert_eq!(ends("fe80::1", AF_INET6, 0), ("fe80::1".to_owned(), false));
        assert_eq!(
            ends("2001:db8::1", AF_INET6, 1),
            ("2001:db8::1".to_owned(), true)
        );
    }

    #[test]
    fn the_options_of_a_live_socket_say_whether_its_peer_has_timestamps() {
        // INET_DIAG_INFO (2), shorter than any kernel's.
        let of = |state, options: Option<u8>| {
            let mut record = bytes(AF_INET, state, v4(1), v4(2), 0);
            if let Some(options) = options {
                record.extend([12, 0, 2, 0, state, 0, 0, 0, 0, options, 0, 0]);
            }
            decoded(decode_live, &record).map(|live| live.has_timestamps)
        };
        assert_eq!(of(1, Some(0b111)), Some(Some(true)));
        assert_eq!(of(1, Some(0b110)), Some(Some(false)));
        assert_eq!(of(1, None), Some(None));
        // Not yet known.
        assert_eq!(of(2, Some(0)), Some(None));
        assert_eq!(of(6, Some(1)), None);
    }

    #[test]
    fn a_short_record_is_an_error() {
        let record = bytes(AF_INET, 6, v4(1), v4(2), 0);
        assert!(Record::parse(&record).is_some());
        for length in [0, 1, 71] {
            assert!(Record::parse(record.get(..length).unwrap()).is_none());
        }
    }

    #[test]
    fn unknown_families_and_states_are_decoded_to_nothing() {
        for (family, state) in [(AF_INET, 0), (AF_INET, 14), (AF_INET, 255), (1, 6), (0, 1)] {
            let record = bytes(family, state, v4(1), v4(2), 0);
            assert_eq!(decoded(decode_socket, &record), None);
            assert_eq!(decoded(decode_owner, &record), None);
            assert_eq!(decoded(decode_udp, &record), None);
        }
        // States that the other dump requests.
        for state in [7, 10, 13] {
            let record = bytes(AF_INET, state, v4(1), v4(2), 0);
            assert_eq!(decoded(decode_socket, &record), None);
        }
        let record = bytes(AF_INET, 6, v4(1), v4(2), 0);
        assert_eq!(decoded(decode_owner, &record), None);
    }

    #[test]
    fn owners_show_whether_they_listen_and_whether_they_keep_to_ipv6() {
        let mut record = bytes(AF_INET6, 10, v6("::"), v6("::"), 0);
        // INET_DIAG_SHUTDOWN (8) in front, padded to four bytes, then INET_DIAG_SKV6ONLY (11).
        record.extend([5, 0, 8, 0, 1, 0, 0, 0, 5, 0, 11, 0, 1, 0, 0, 0]);
        let owner = decoded(decode_owner, &record).unwrap();
        assert!(owner.listening && owner.v6_only && owner.addr.is_wildcard());
        assert_eq!(owner.port, 40_000);
        let bound = bytes(AF_INET6, TCP_CLOSE, v6("::1"), v6("::"), 0);
        let owner = decoded(decode_owner, &bound).unwrap();
        assert!(!owner.listening && !owner.v6_only);
    }

    #[test]
    fn attributes_with_wrong_lengths_are_ignored() {
        let owner = |attributes: &[u8]| {
            let mut record = bytes(AF_INET6, 10, v6("::"), v6("::"), 0);
            record.extend(attributes);
            decoded(decode_owner, &record).unwrap().v6_only
        };
        assert!(owner(&[5, 0, 11, 0, 1]));
        for lying in [[3, 0, 8, 0], [0, 0, 8, 0], [200, 0, 8, 0]] {
            assert!(!owner(&[&lying, &[5, 0, 11, 0, 1][..]].concat()));
        }
        assert!(!owner(&[6, 0, 11, 0, 1]) && !owner(&[4, 0, 11, 0]) && !owner(&[5, 0, 11]));
    }

    #[test]
    fn a_udp_socket_reports_ipv6_only_unless_it_is_connected() {
        let mut record = bytes(AF_INET6, TCP_CLOSE, v6("::"), v6("::"), 0);
        record.extend([5, 0, 11, 0, 1, 0, 0, 0]);
        let udp = |record: &[u8]| decoded(decode_udp, record);
        assert_eq!(udp(&record).unwrap().v6_only, Some(true));
        assert_eq!(udp(&record).unwrap().port, 40_000);
        let unset = bytes(AF_INET, TCP_CLOSE, v4(1), v4(0), 0);
        assert_eq!(udp(&unset).unwrap().v6_only, Some(false));
        let connected = bytes(AF_INET6, 1, v6("::1"), v6("::1"), 0);
        assert_eq!(udp(&connected).unwrap().v6_only, None);
        assert_eq!(udp(&bytes(AF_INET, 10, v4(1), v4(0), 0)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(
            record in prop::collection::vec(any::<u8>(), 0..200),
            family in prop::sample::select(&[AF_INET, AF_INET6][..]),
            state in 0_u8..15,
        ) {
            let mut likely = record.clone();
            likely.splice(..2.min(record.len()), [family, state]);
            for record in [record, likely] {
                let _ = decoded(decode_socket, &record);
                let _ = decoded(decode_live, &record);
                let _ = decoded(decode_owner, &record);
                let _ = decoded(decode_udp, &record);
            }
        }

        #[test]
        fn it_agrees_with_netlink_packet_sock_diag(
            src: [u8; 16], dst: [u8; 16], is_v6: bool, state in 1_u8..=11, expires: u32,
        ) {
            let family = if is_v6 { AF_INET6 } else { AF_INET };
            let record = bytes(family, state, src, dst, expires);
            let theirs = InetResponse::parse(&record).unwrap().header;
            let socket = decoded(decode_socket, &record);
            let (addr, src_port) = match (socket, decoded(decode_owner, &record)) {
                (Some(socket), _) => {
                    let their_dst = theirs.socket_id.destination_address;
                    prop_assert_eq!(socket.dst_addr, Address::from(their_dst));
                    prop_assert_eq!(socket.dst_port, theirs.socket_id.destination_port);
                    (socket.src_addr, socket.src_port)
                }
                (_, Some(owner)) => (owner.addr, owner.port),
                _ => return Err(TestCaseError::fail("neither socket nor owner")),
            };
            prop_assert_eq!(addr, Address::from(theirs.socket_id.source_address));
            prop_assert_eq!(src_port, theirs.socket_id.source_port);
            prop_assert_eq!(state, theirs.state);
        }
    }
}

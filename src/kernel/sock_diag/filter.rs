//! Programs that the kernel runs on each socket before it reports it. Pure: bytes only.
//!
//! A record of an established socket costs some 850 ns, skipping one some 170: on a busy server most
//! sockets were accepted, use no ephemeral port, and would be sent only to be thrown away (10,000 in
//! TIME-WAIT beside 100,000 of those: 20 ms of CPU with the program, 90 without).
//!
//! The language is that of `INET_DIAG_REQ_BYTECODE` (include/uapi/linux/inet_diag.h; checked by
//! `inet_diag_bc_audit`, run by `inet_diag_bc_run` in net/ipv4/inet_diag.c). An operation is a code and
//! two jumps, in bytes forward: one if it is true, one if not. The program lets a socket pass that ends
//! exactly at its end; a jump to four bytes behind it does not. A jump can only go where the chain of
//! `yes` jumps from the beginning comes by.

use std::net::IpAddr;

use netlink_packet_sock_diag::{AF_INET, AF_INET6};

use crate::domain::ports::PortRange;
use crate::domain::snapshot::Destination;

/// `INET_DIAG_REQ_BYTECODE`: the attribute with the program.
const REQUEST_BYTECODE: u16 = 1;

/// A condition that is never true.
const JUMP: u8 = 1;
/// Local port >= operand.
const SOURCE_PORT_FROM: u8 = 2;
/// Local port <= operand.
const SOURCE_PORT_TO: u8 = 3;
/// The remote end is this address and port, `struct inet_diag_hostcond`.
const DESTINATION_IS: u8 = 8;
/// The socket's cgroup has this number, of 8 bytes. Linux >= 5.9 with `CONFIG_SOCK_CGROUP_DATA`.
const CGROUP_IS: u8 = 13;

/// `struct inet_diag_bc_op`: code, `yes`, `no`. The operand of a port comparison is another one, with the port as its
/// `no`.
type Operation = (u8, u8, u16);

/// How long they are.
const OPERATION: u8 = 4;
const PORT_COMPARISON: u8 = 2 * OPERATION;
const CGROUP_COMPARISON: u8 = OPERATION + 8;

/// The attribute whose program lets pass
/// - sockets whose local port lies inside the range, and
/// - time-wait sockets (TIME-WAIT, and FIN-WAIT-2 without a process) on whatever port: they are no
///   full sockets and have no cgroup, which the kernel takes for number 0 (`inet_diag_bc_sk`). There
///   is no operation for a socket's state.
///
/// A kernel without cgroups of sockets refuses it with EINVAL.
pub(super) fn ephemeral_or_time_wait(range: PortRange) -> Vec<u8> {
    // Both comparisons go on to the cgroup if they fail. The jump is to the end: it passes. The last goes to the end as
    // well, or past it: it does not.
    let program = bytes(&[
        (SOURCE_PORT_FROM, PORT_COMPARISON, 20),
        (0, 0, range.min()),
        (SOURCE_PORT_TO, PORT_COMPARISON, 12),
        (0, 0, range.max()),
        (JUMP, OPERATION, 16),
        (CGROUP_IS, CGROUP_COMPARISON, 16),
        (0, 0, 0),
        (0, 0, 0),
    ]);
    attribute(&program)
}

/// The attribute whose program lets pass sockets with the remote end of one of these destinations, of which there must
/// be few: a hundred at most.
pub(super) fn to_any_of(destinations: &[Destination]) -> Vec<u8> {
    let mut program = Vec::new();
    // Backwards, since each one that is true jumps over all behind it.
    for destination in destinations.iter().rev() {
        let (family, bits, address) = match IpAddr::from(destination.dst_addr) {
            IpAddr::V4(v4) => (AF_INET, 32, v4.octets().to_vec()),
            IpAddr::V6(v6) => (AF_INET6, 128, v6.octets().to_vec()),
        };
        let length = 2 * OPERATION + 4 + bits / 8;
        let mut one = bytes(&[
            (DESTINATION_IS, length, u16::from(length + OPERATION)),
            (family, bits, 0),
        ]);
        one.extend(i32::from(destination.dst_port).to_ne_bytes());
        one.extend(address);
        if !program.is_empty() {
            let over = u16::try_from(usize::from(OPERATION) + program.len());
            one.extend(bytes(&[(JUMP, OPERATION, over.unwrap_or(u16::MAX))]));
        }
        one.append(&mut program);
        program = one;
    }
    attribute(&program)
}

fn bytes(operations: &[Operation]) -> Vec<u8> {
    let bytes = operations.iter().flat_map(|(code, yes, no)| {
        let [low, high] = no.to_ne_bytes();
        [*code, *yes, low, high]
    });
    bytes.collect()
}

fn attribute(program: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + program.len()).unwrap_or(u16::MAX);
    let header = [length, REQUEST_BYTECODE].map(u16::to_ne_bytes);
    [header.as_flattened(), program].concat()
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::address::Address;

    fn unwrapped(attribute: &[u8]) -> Vec<u8> {
        let half = |at: usize| u16::from_ne_bytes([attribute[at], attribute[at + 1]]);
        assert_eq!((usize::from(half(0)), half(2)), (attribute.len(), 1));
        attribute[4..].to_vec()
    }

    fn program(range: PortRange) -> Vec<u8> {
        unwrapped(&ephemeral_or_time_wait(range))
    }

    fn operation(program: &[u8], at: usize) -> (u8, usize, usize) {
        let no = u16::from_ne_bytes([program[at + 2], program[at + 3]]);
        (program[at], program[at + 1].into(), no.into())
    }

    fn operand(program: &[u8], at: usize) -> u16 {
        u16::from_ne_bytes([program[at + 6], program[at + 7]])
    }

    /// `inet_diag_bc_run`: whether the socket passes.
    fn passes(program: &[u8], port: u16, cgroup: u64, remote: (Address, u16)) -> bool {
        let mut at = 0;
        while at < program.len() {
            let (code, yes, no) = operation(program, at);
            let is_true = match code {
                1 => false,
                2 => port >= operand(program, at),
                3 => port <= operand(program, at),
                8 => {
                    let length = usize::from(program[at + 5]) / 8;
                    let port = i32::from_ne_bytes(program[at + 8..at + 12].try_into().unwrap());
                    let bytes = &program[at + 12..at + 12 + length];
                    let address = match program[at + 4] {
                        AF_INET => Address::from_v4_bytes(bytes.try_into().unwrap()),
                        _ => Address::from_v6_bytes(bytes.try_into().unwrap()),
                    };
                    remote == (address, u16::try_from(port).unwrap())
                }
                13 => cgroup == u64::from_ne_bytes(program[at + 4..at + 12].try_into().unwrap()),
                other => panic!("operation {other}"),
            };
            at += if is_true { yes } else { no };
        }
        at == program.len()
    }

    /// `inet_diag_bc_audit`: whether the kernel accepts the program.
    fn is_taken(program: &[u8]) -> bool {
        let length = program.len();
        let chain = || {
            std::iter::successors(Some(0), |at| {
                (*at < length).then(|| at + operation(program, *at).1)
            })
        };
        let mut at = 0;
        while at < length {
            let (code, yes, no) = operation(program, at);
            let left = length - at;
            let least = match code {
                1 => 4,
                2 | 3 => 8,
                8 => 12 + usize::from(program[at + 5]) / 8,
                13 => 12,
                other => panic!("operation {other}"),
            };
            let fits = |jump: usize| jump >= least && jump <= left + 4 && jump.is_multiple_of(4);
            let lands = no >= left || chain().any(|place| place == at + no);
            if left < least || !fits(no) || !lands || !fits(yes) {
                return false;
            }
            at += yes;
        }
        at == length
    }

    #[test]
    fn the_program_is_these_bytes() {
        let range = PortRange::new(0x8000, 0xee47).unwrap();
        let expected = [
            [2, 8].as_slice(),
            &20_u16.to_ne_bytes(),
            &[0, 0],
            &0x8000_u16.to_ne_bytes(),
            &[3, 8],
            &12_u16.to_ne_bytes(),
            &[0, 0],
            &0xee47_u16.to_ne_bytes(),
            &[1, 4],
            &16_u16.to_ne_bytes(),
            &[13, 12],
            &16_u16.to_ne_bytes(),
            &[0; 8],
        ];
        assert_eq!(program(range), expected.concat());
    }

    proptest! {
        #[test]
        fn it_passes_what_the_census_counts(min in 1_u16.., max in 1_u16.., port: u16, cgroup in 0_u64..3) {
            let Some(range) = PortRange::new(min, max) else { return Ok(()) };
            let program = program(range);
            prop_assert!(is_taken(&program));
            for port in [port, min, max, min - 1, max.saturating_add(1)] {
                let expected = range.contains(port) || cgroup == 0;
                prop_assert_eq!(passes(&program, port, cgroup, (Address::ANY_V4, 0)), expected);
            }
        }

        #[test]
        fn a_filter_of_remote_ends_passes_only_these(
            ends in prop::collection::vec((any::<bool>(), 0_u8..9, 0_u16..9), 1..20),
            others in prop::collection::vec((any::<bool>(), 0_u8..9, 0_u16..9), 0..20),
        ) {
            let end = |(is_v6, last, port): &(bool, u8, u16)| {
                let v6 = [0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, *last];
                let v4 = Address::from_v4_bytes([192, 0, 2, *last]);
                (if *is_v6 { Address::from_v6_bytes(v6) } else { v4 }, *port)
            };
            let ends: Vec<_> = ends.iter().map(end).collect();
            let to = |(dst_addr, dst_port): &(Address, u16)| Destination {
                src_addr: Address::ANY_V4,
                dst_addr: *dst_addr,
                dst_port: *dst_port,
            };
            let program = unwrapped(&to_any_of(&ends.iter().map(to).collect::<Vec<_>>()));
            prop_assert!(is_taken(&program));
            for remote in ends.iter().copied().chain(others.iter().map(end)) {
                prop_assert_eq!(passes(&program, 1, 1, remote), ends.contains(&remote));
            }
        }
    }
}

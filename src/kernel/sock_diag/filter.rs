//! A program that the kernel runs on each socket before it tells it. Pure: bytes only.
//!
//! A record of an established socket costs some 850 ns, leaving it out some 170: on a busy server most
//! sockets were accepted, hold no ephemeral port, and would be told only to be thrown away (10,000 in
//! TIME-WAIT beside 100,000 of those: 20 ms of CPU with the program, 90 without).
//!
//! The language is that of `INET_DIAG_REQ_BYTECODE` (include/uapi/linux/inet_diag.h; checked by
//! `inet_diag_bc_audit`, run by `inet_diag_bc_run` in net/ipv4/inet_diag.c). An operation is a code and
//! two jumps, in bytes forward: one if it holds, one if not. The program lets a socket pass that ends
//! exactly at its end; a jump to four bytes behind it does not. A jump can only go where the chain of
//! `yes` jumps from the beginning comes by.

use crate::domain::ports::PortRange;

/// `INET_DIAG_REQ_BYTECODE`: the attribute that holds the program.
const REQUEST_BYTECODE: u16 = 1;

const JUMP: u8 = 1;
/// Local port >= operand.
const SOURCE_PORT_FROM: u8 = 2;
/// Local port <= operand.
const SOURCE_PORT_TO: u8 = 3;
/// The socket's cgroup has this number, of 8 bytes. Linux >= 5.9 with `CONFIG_SOCK_CGROUP_DATA`.
const CGROUP_IS: u8 = 13;

/// `struct inet_diag_bc_op`: code, `yes` (1 byte), `no` (2 bytes).
const OPERATION: u16 = 4;
const PORT_COMPARISON: u16 = 2 * OPERATION;
const CGROUP_COMPARISON: u16 = OPERATION + 8;

/// Where the operations begin.
const CGROUP_AT: u16 = 2 * PORT_COMPARISON + OPERATION;
const PROGRAM: u16 = CGROUP_AT + CGROUP_COMPARISON;

/// The attribute with its program.
pub const ATTRIBUTE_LENGTH: usize = 36;

/// The attribute whose program lets pass
/// - sockets whose local port lies inside the range, and
/// - time-wait sockets (TIME-WAIT, and FIN-WAIT-2 without a process) on whatever port: they are no
///   full sockets and have no cgroup, which the kernel takes for number 0 (`inet_diag_bc_sk`). There
///   is no operation for a socket's state.
///
/// A kernel without cgroups of sockets refuses it with EINVAL.
#[must_use]
pub fn ephemeral_or_time_wait(range: PortRange) -> [u8; ATTRIBUTE_LENGTH] {
    let reject_from = |at: u16| PROGRAM - at + OPERATION;
    let length = PROGRAM + 4;
    let to_cgroup_from = |at: u16| CGROUP_AT - at;
    let mut program = Writer::default();
    program.halves([length, REQUEST_BYTECODE]);
    program.operation(SOURCE_PORT_FROM, PORT_COMPARISON, to_cgroup_from(0));
    program.operation(0, 0, range.min());
    program.operation(
        SOURCE_PORT_TO,
        PORT_COMPARISON,
        to_cgroup_from(PORT_COMPARISON),
    );
    program.operation(0, 0, range.max());
    // A jump is a condition that never holds: past the last comparison, to the end.
    program.operation(JUMP, OPERATION, OPERATION + CGROUP_COMPARISON);
    program.operation(CGROUP_IS, CGROUP_COMPARISON, reject_from(CGROUP_AT));
    program.bytes
}

/// Writes one field after the other. Cgroup 0, at the end, is what is not written.
struct Writer {
    bytes: [u8; ATTRIBUTE_LENGTH],
    written: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            bytes: [0; ATTRIBUTE_LENGTH],
            written: 0,
        }
    }
}

impl Writer {
    fn put(&mut self, field: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.written).zip(field) {
            *to = *from;
        }
        self.written += field.len();
    }

    fn halves(&mut self, halves: [u16; 2]) {
        for half in halves {
            self.put(&half.to_ne_bytes());
        }
    }

    /// `yes` is less than 256 in every program here.
    fn operation(&mut self, code: u8, yes: u16, no: u16) {
        self.put(&[code, u8::try_from(yes).unwrap_or(u8::MAX)]);
        self.put(&no.to_ne_bytes());
    }
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

    fn program(range: PortRange) -> Vec<u8> {
        let attribute = ephemeral_or_time_wait(range);
        let half = |at: usize| u16::from_ne_bytes([attribute[at], attribute[at + 1]]);
        assert_eq!((half(0), half(2)), (36, 1));
        attribute[4..].to_vec()
    }

    fn operation(program: &[u8], at: usize) -> (u8, usize, usize) {
        let no = u16::from_ne_bytes([program[at + 2], program[at + 3]]);
        (program[at], program[at + 1].into(), no.into())
    }

    fn operand(program: &[u8], at: usize) -> u16 {
        u16::from_ne_bytes([program[at + 6], program[at + 7]])
    }

    /// `inet_diag_bc_run`: whether the socket passes.
    fn passes(program: &[u8], port: u16, cgroup: u64) -> bool {
        let mut at = 0;
        while at < program.len() {
            let (code, yes, no) = operation(program, at);
            let holds = match code {
                1 => false,
                2 => port >= operand(program, at),
                3 => port <= operand(program, at),
                13 => cgroup == u64::from_ne_bytes(program[at + 4..at + 12].try_into().unwrap()),
                other => panic!("operation {other}"),
            };
            at += if holds { yes } else { no };
        }
        at == program.len()
    }

    /// `inet_diag_bc_audit`: whether the kernel takes the program.
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
        fn it_lets_pass_what_the_census_adds_up(min in 1_u16.., max in 1_u16.., port: u16, cgroup in 0_u64..3) {
            let Some(range) = PortRange::new(min, max) else { return Ok(()) };
            let program = program(range);
            prop_assert!(is_taken(&program));
            for port in [port, min, max, min - 1, max.saturating_add(1)] {
                let expected = range.contains(port) || cgroup == 0;
                prop_assert_eq!(passes(&program, port, cgroup), expected);
            }
        }
    }
}

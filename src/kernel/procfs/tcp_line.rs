//! One line of `/proc/net/tcp` or `tcp6` (and of `udp` and `udp6`, which have the same columns), as `tcp4_seq_show` in `net/ipv4/tcp_ipv4.c` and
//! `tcp6_seq_show` in `net/ipv6/tcp_ipv6.c` print it:
//!
//! ```text
//!    5: 0100007F:A4D4 0100007F:A68B 06 00000000:00000000 03:00001770 00000000     0        0 0 3 …
//!   sl  local         remote        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
//! ```
//!
//! Allocates nothing, and ignores what stands behind the timer but for user and inode.

use super::text::unsigned;
use crate::domain::address::Address;
use crate::domain::socket::TcpState;

/// `tr` of a time-wait socket, `get_timewait4_sock` in `net/ipv4/tcp_ipv4.c`.
const TIME_WAIT_TIMER: u32 = 3;

/// `tm->when` counts clock ticks of `USER_HZ`, 100 a second everywhere but on Alpha and Itanium.
const MS_PER_TICK: u64 = 10;

/// One socket as the table shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) local_addr: Address,
    pub(super) local_port: u16,
    pub(super) remote_addr: Address,
    pub(super) remote_port: u16,
    /// `None` for one that no kernel known to us has.
    pub(super) state: Option<TcpState>,
    /// What a time-wait socket (FIN-WAIT-2 ones included) has left; 0 for others.
    pub(super) remaining_ms: u32,
}

/// Reads a line, or nothing if it has not the kernel's form up to and including the timer.
pub(super) fn parse(line: &[u8], is_v6: bool) -> Option<Record> {
    let mut fields = str::from_utf8(line).ok()?.split_ascii_whitespace();
    unsigned(fields.next()?.strip_suffix(':')?, 10)?;
    let (local_addr, local_port) = endpoint(fields.next()?, is_v6)?;
    let (remote_addr, remote_port) = endpoint(fields.next()?, is_v6)?;
    let state = u8::try_from(hex(fields.next()?, 2)?).ok()?;
    let (sent, received) = fields.next()?.split_once(':')?;
    hex(sent, 8)?;
    hex(received, 8)?;
    let (timer, ticks) = fields.next()?.split_once(':')?;
    // `%08lX`: 8 to 16 digits; fewer are the rest of a line that was cut.
    let ticks = unsigned(ticks, 16).filter(|_| (8..=16).contains(&ticks.len()))?;
    Some(Record {
        local_addr,
        local_port,
        remote_addr,
        remote_port,
        state: TcpState::from_number(state),
        remaining_ms: if hex(timer, 2)? == TIME_WAIT_TIMER {
            u32::try_from(ticks.saturating_mul(MS_PER_TICK)).unwrap_or(u32::MAX)
        } else {
            0
        },
    })
}

/// The user and the inode of a socket, 0 where no process has it open.
pub(super) fn owner(line: &[u8]) -> Option<(u32, u64)> {
    let mut fields = str::from_utf8(line).ok()?.split_ascii_whitespace().skip(7);
    let user = fields.next()?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some((user, inode))
}

/// An address and a port. The kernel prints each word of an address as a number, so that its bytes in memory, which
/// are in network order, are those of that number.
fn endpoint(text: &str, is_v6: bool) -> Option<(Address, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::try_from(hex(port, 4)?).ok()?;
    if !is_v6 {
        return Some((Address::from_v4_bytes(hex(address, 8)?.to_ne_bytes()), port));
    }
    let mut bytes = [0; 16];
    let mut rest = address;
    for word in bytes.as_chunks_mut::<4>().0 {
        let (digits, others) = rest.split_at_checked(8)?;
        *word = hex(digits, 8)?.to_ne_bytes();
        rest = others;
    }
    rest.is_empty()
        .then_some((Address::from_v6_bytes(bytes), port))
}

/// Exactly this many hexadecimal digits, at most 8.
fn hex(text: &str, digits: usize) -> Option<u32> {
    let number = unsigned(text, 16).filter(|_| text.len() == digits)?;
    u32::try_from(number).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME_WAIT: &[u8] = b"   5: 0100007F:A4D4 0100007F:A68B 06 00000000:00000000 03:00001770 \
        00000000     0        0 0 3 000000007ed3d2ea                                     ";

    #[test]
    fn the_owner_of_a_socket_is_its_user_and_inode() {
        let line = "   0: 0100007F:A4D4 0100007F:0050 01 00000000:00000000 00:00000000 00000000  \
            1000        0 123456789 1 0000000000000000 20 4 30 10 -1";
        assert_eq!(owner(line.as_bytes()), Some((1_000, 123_456_789)));
        assert_eq!(owner(TIME_WAIT), Some((0, 0)));
        assert_eq!(owner(b"   0: 0100007F:A4D4 0100007F:0050 01"), None);
    }

    fn hex_words(address: Address, is_v6: bool) -> String {
        let bytes = u128::from(address).to_be_bytes();
        let words = bytes.as_chunks::<4>().0;
        let from = if is_v6 { 0 } else { 3 };
        words.iter().skip(from).fold(String::new(), |text, word| {
            text + &format!("{:08X}", u32::from_ne_bytes(*word))
        })
    }

    /// A line as the kernel prints it.
    fn render(record: &Record, is_v6: bool, state: u8, slot: u32, timer: u8, ticks: u64) -> String {
        format!(
            "{slot:4}: {}:{:04X} {}:{:04X} {:02X} 00000001:00000002 {timer:02X}:{ticks:08X} \
             00000000  1000        0 18465 2 00000000af04352e 20 0 0 10 -1",
            hex_words(record.local_addr, is_v6),
            record.local_port,
            hex_words(record.remote_addr, is_v6),
            record.remote_port,
            state,
        )
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_line_of_linux_6_18_is_understood() {
        let record = parse(TIME_WAIT, false).unwrap();
        assert_eq!(record.local_addr, "127.0.0.1".parse().unwrap());
        assert_eq!((record.local_port, record.remote_port), (42_196, 42_635));
        assert_eq!(
            (record.state, record.remaining_ms),
            (Some(TcpState::TimeWait), 60_000)
        );

        let line = b"   6: 0000000000000000FFFF00000100007F:91E1 B80D0120000000000000000001000000\
            :870A 01 00000000:00000000 02:00001B5A 00000000     0        0 18466 1 0 20 0 0 10 -1";
        let record = parse(line, true).unwrap();
        assert_eq!(record.local_addr, "127.0.0.1".parse().unwrap());
        assert_eq!(record.remote_addr, "2001:db8::1".parse().unwrap());
        assert_eq!(
            (record.state, record.remaining_ms),
            (Some(TcpState::Established), 0)
        );
    }

    #[test]
    fn a_line_that_is_cut_before_the_end_of_its_timer_is_refused() {
        let needed = TIME_WAIT
            .windows(8)
            .position(|bytes| bytes == b"00001770")
            .unwrap()
            + 8;
        for length in 0..=TIME_WAIT.len() {
            let parsed = parse(TIME_WAIT.get(..length).unwrap(), false);
            assert_eq!(parsed.is_some(), length >= needed, "{length} bytes");
        }
    }

    #[test]
    fn a_line_of_the_other_table_is_refused() {
        assert_eq!(parse(TIME_WAIT, true), None);
    }

    #[test]
    fn a_timer_beyond_all_bounds_saturates() {
        let text = String::from_utf8(TIME_WAIT.to_vec()).unwrap();
        for (when, remaining_ms) in [
            ("FFFFFFFF", Some(u32::MAX)),
            ("FFFFFFFFFFFFFFFF", Some(u32::MAX)),
            ("0FFFFFFFFFFFFFFFF", None),
            ("0000177G", None),
            ("1770", None),
        ] {
            let line = text.replace("00001770", when);
            let parsed = parse(line.as_bytes(), false);
            assert_eq!(parsed.map(|record| record.remaining_ms), remaining_ms);
        }
    }

    proptest! {
        #[test]
        fn a_line_is_read_as_it_was_printed(
            local: u128, remote: u128, is_v6: bool, local_port: u16, remote_port: u16, state: u8,
            slot: u32, timer in 0_u8..5, ticks in 0_u64..100_000_000,
        ) {
            let address = |bits: u128| if is_v6 {
                Address::from_v6_bytes(bits.to_be_bytes())
            } else {
                Address::from_v4_bytes(bits.to_le_bytes()[..4].try_into().unwrap())
            };
            let remaining_ms = if timer == 3 { u32::try_from(ticks * 10).unwrap() } else { 0 };
            let record = Record {
                local_addr: address(local),
                local_port,
                remote_addr: address(remote),
                remote_port,
                state: TcpState::from_number(state),
                remaining_ms,
            };
            let line = render(&record, is_v6, state, slot, timer, ticks);
            prop_assert_eq!(parse(line.as_bytes(), is_v6), Some(record));
        }

        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            position in 0..TIME_WAIT.len(),
            byte: u8,
        ) {
            let mut line = TIME_WAIT.to_vec();
            line[position] = byte;
            for bytes in [bytes, line] {
                let _ = parse(&bytes, false);
                let _ = parse(&bytes, true);
            }
        }
    }
}

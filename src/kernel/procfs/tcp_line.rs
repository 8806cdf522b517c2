//! One line of `/proc/net/tcp` or `tcp6` (and of `udp` and `udp6`, which have the same columns), as `tcp4_seq_show` in `net/ipv4/tcp_ipv4.c` and
//! `tcp6_seq_show` in `net/ipv6/tcp_ipv6.c` print it:
//!
//! ```text
//!    5: 0100007F:A4D4 0100007F:A68B 06 00000000:00000000 03:00001770 00000000     0        0 0 3 …
//!   sl  local         remote        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
//! ```
//!
//! Reads bytes, allocates nothing, and ignores what stands behind the timer but for user and inode.
//! What a state means is not known here.

use crate::domain::address::Address;

/// What every line but the first should be.
pub(super) const EXPECTED: &str = "a socket: sl local remote st tx:rx tr:when";

/// How every table begins its first line, after some blanks.
pub(super) const HEADER_START: &[u8] = b"sl  local_address";

/// `tr` of a time-wait socket, `get_timewait4_sock` in `net/ipv4/tcp_ipv4.c`.
const TIME_WAIT_TIMER: u32 = 3;

/// `tm->when` counts clock ticks of `USER_HZ`, 100 a second everywhere but on Alpha and Itanium.
const MS_PER_TICK: u64 = 10;

/// How long the addresses of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// `net/tcp`: one word of 32 bits.
    V4,
    /// `net/tcp6`: four of them.
    V6,
}

/// One socket as the table shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) local_addr: Address,
    pub(super) local_port: u16,
    pub(super) remote_addr: Address,
    pub(super) remote_port: u16,
    /// As in `include/net/tcp_states.h`.
    pub(super) state: u8,
    /// What a time-wait socket (FIN-WAIT-2 ones included) has left; 0 for others.
    pub(super) remaining_ms: u32,
}

/// Reads a line, or nothing if it has not the kernel's form up to and including the timer.
pub(super) fn parse(line: &[u8], width: Width) -> Option<Record> {
    let mut cursor = Cursor { rest: line };
    cursor.slot_number()?;
    let (local_addr, local_port) = cursor.endpoint(width)?;
    let (remote_addr, remote_port) = cursor.endpoint(width)?;
    cursor.byte(b' ')?;
    let state = u8::try_from(cursor.hex(2)?).ok()?;
    cursor.byte(b' ')?;
    cursor.hex(8)?; // tx_queue
    cursor.byte(b':')?;
    cursor.hex(8)?; // rx_queue
    cursor.byte(b' ')?;
    let timer = cursor.hex(2)?;
    cursor.byte(b':')?;
    let ticks = cursor.ticks()?;
    Some(Record {
        local_addr,
        local_port,
        remote_addr,
        remote_port,
        state,
        remaining_ms: if timer == TIME_WAIT_TIMER {
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

/// What of a line is still to be read.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    #[inline]
    fn byte(&mut self, expected: u8) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        (*first == expected).then_some(())
    }

    /// `%4d:`, wider from slot 10,000 on.
    fn slot_number(&mut self) -> Option<()> {
        let number = self.rest.trim_ascii_start();
        let digits = number.iter().take_while(|byte| byte.is_ascii_digit());
        let length = digits.count();
        self.rest = number.get(length..)?;
        (length > 0).then_some(())?;
        self.byte(b':')
    }

    /// Exactly so many hexadecimal digits, at most 8.
    #[inline]
    fn hex(&mut self, digits: usize) -> Option<u32> {
        let (number, rest) = self.rest.split_at_checked(digits)?;
        self.rest = rest;
        number
            .iter()
            .try_fold(0_u32, |value, byte| Some(value << 4 | hex_digit(*byte)?))
    }

    /// A blank, an address, a colon and a port. The kernel prints each word of an address as a
    /// number, so that its bytes in memory, which are in network order, are those of that number.
    #[inline]
    fn endpoint(&mut self, width: Width) -> Option<(Address, u16)> {
        self.byte(b' ')?;
        let address = match width {
            Width::V4 => Address::from_v4_bytes(self.hex(8)?.to_ne_bytes()),
            Width::V6 => self.v6_address()?,
        };
        self.byte(b':')?;
        let port = u16::try_from(self.hex(4)?).ok()?;
        Some((address, port))
    }

    fn v6_address(&mut self) -> Option<Address> {
        let mut bytes = [0; 16];
        for word in bytes.as_chunks_mut::<4>().0 {
            *word = self.hex(8)?.to_ne_bytes();
        }
        Some(Address::from_v6_bytes(bytes))
    }

    /// `%08lX`: 8 to 16 digits, with a blank or the end of the line behind them. Fewer digits are
    /// the rest of a line that was cut.
    fn ticks(&mut self) -> Option<u64> {
        let mut value: u64 = 0;
        let mut digits: u32 = 0;
        for byte in self.rest.iter().take_while(|byte| **byte != b' ') {
            value = value << 4 | u64::from(hex_digit(*byte)?);
            digits += 1;
            if digits > 16 {
                return None;
            }
        }
        (digits >= 8).then_some(value)
    }
}

#[inline]
fn hex_digit(byte: u8) -> Option<u32> {
    let value = match byte {
        b'0'..=b'9' => byte - b'0',
        b'A'..=b'F' => byte - b'A' + 10,
        b'a'..=b'f' => byte - b'a' + 10,
        _ => return None,
    };
    Some(u32::from(value))
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

    fn hex_words(address: Address, width: Width) -> String {
        let bytes = u128::from(address).to_be_bytes();
        let words = bytes.as_chunks::<4>().0;
        let from = match width {
            Width::V4 => 3,
            Width::V6 => 0,
        };
        words.iter().skip(from).fold(String::new(), |text, word| {
            text + &format!("{:08X}", u32::from_ne_bytes(*word))
        })
    }

    /// A line as the kernel prints it.
    fn render(record: &Record, width: Width, slot: u32, timer: u8, ticks: u64) -> String {
        format!(
            "{slot:4}: {}:{:04X} {}:{:04X} {:02X} 00000001:00000002 {timer:02X}:{ticks:08X} \
             00000000  1000        0 18465 2 00000000af04352e 20 0 0 10 -1",
            hex_words(record.local_addr, width),
            record.local_port,
            hex_words(record.remote_addr, width),
            record.remote_port,
            record.state,
        )
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_line_of_linux_6_18_is_understood() {
        let record = parse(TIME_WAIT, Width::V4).unwrap();
        assert_eq!(record.local_addr, "127.0.0.1".parse().unwrap());
        assert_eq!((record.local_port, record.remote_port), (42_196, 42_635));
        assert_eq!((record.state, record.remaining_ms), (6, 60_000));

        let line = b"   6: 0000000000000000FFFF00000100007F:91E1 B80D0120000000000000000001000000\
            :870A 01 00000000:00000000 02:00001B5A 00000000     0        0 18466 1 0 20 0 0 10 -1";
        let record = parse(line, Width::V6).unwrap();
        assert_eq!(record.local_addr, "127.0.0.1".parse().unwrap());
        assert_eq!(record.remote_addr, "2001:db8::1".parse().unwrap());
        assert_eq!((record.state, record.remaining_ms), (1, 0));
    }

    #[test]
    fn a_line_that_is_cut_before_the_end_of_its_timer_is_refused() {
        let needed = TIME_WAIT
            .windows(8)
            .position(|bytes| bytes == b"00001770")
            .unwrap()
            + 8;
        for length in 0..=TIME_WAIT.len() {
            let parsed = parse(TIME_WAIT.get(..length).unwrap(), Width::V4);
            assert_eq!(parsed.is_some(), length >= needed, "{length} bytes");
        }
    }

    #[test]
    fn a_line_of_the_other_table_is_refused() {
        assert_eq!(parse(TIME_WAIT, Width::V6), None);
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
            let parsed = parse(line.as_bytes(), Width::V4);
            assert_eq!(parsed.map(|record| record.remaining_ms), remaining_ms);
        }
    }

    proptest! {
        #[test]
        fn a_line_is_read_as_it_was_printed(
            local: u128, remote: u128, is_v4: bool, local_port: u16, remote_port: u16, state: u8,
            slot: u32, timer in 0_u8..5, ticks in 0_u64..100_000_000,
        ) {
            let width = if is_v4 { Width::V4 } else { Width::V6 };
            let address = |bits: u128| match width {
                Width::V4 => Address::from_v4_bytes(bits.to_le_bytes()[..4].try_into().unwrap()),
                Width::V6 => Address::from_v6_bytes(bits.to_be_bytes()),
            };
            let remaining_ms = if timer == 3 { u32::try_from(ticks * 10).unwrap() } else { 0 };
            let record = Record {
                local_addr: address(local),
                local_port,
                remote_addr: address(remote),
                remote_port,
                state,
                remaining_ms,
            };
            let line = render(&record, width, slot, timer, ticks);
            prop_assert_eq!(parse(line.as_bytes(), width), Some(record));
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
                let _ = parse(&bytes, Width::V4);
                let _ = parse(&bytes, Width::V6);
            }
        }
    }
}

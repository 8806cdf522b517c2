//! The text of `/proc/net/netstat` and `snmp`: groups of two lines, names and then values, as `netstat_seq_show`
//! in net/ipv4/proc.c prints them.
//!
//! Reads no file, and none of the groups but `TcpExt` and `Tcp`. Columns are found by name: kernels add and
//! drop them, and put them in another order.

use super::error::Malformed;
use super::text::{numbered_lines, parse_unsigned};
use crate::domain::snapshot::Counts;

/// What both lines of the group begin with.
const GROUP: &str = "TcpExt:";

/// Columns about TIME-WAIT and segments rejected for their timestamps: `PAWSPassive` up to Linux 4.11,
/// `PAWSOldAck`, `PAWSTimewait` and `TSEcrRejected` in recent kernels.
const COLUMNS: [&str; 10] = [
    "TW",
    "TWRecycled",
    "TWKilled",
    "TCPTimeWaitOverflow",
    "PAWSActive",
    "PAWSEstab",
    "PAWSPassive",
    "PAWSOldAck",
    "PAWSTimewait",
    "TSEcrRejected",
];

/// The counters about TIME-WAIT; all absent where there is no such group.
pub(super) fn parse(text: &str) -> Result<Counts, Malformed> {
    parse_group(text, GROUP, &COLUMNS)
}

/// The counters of connections opened, of the text of `/proc/net/snmp`, which has the same form.
pub(super) fn parse_opens(text: &str) -> Result<Counts, Malformed> {
    parse_group(text, "Tcp:", &["ActiveOpens", "PassiveOpens"])
}

/// Some columns of one group, in the kernel's order; of a name that comes twice the first.
fn parse_group(text: &str, group: &str, columns: &[&'static str]) -> Result<Counts, Malformed> {
    let mut lines = numbered_lines(text);
    let Some((number, names)) =
        lines.find_map(|(number, line)| Some((number, line.strip_prefix(group)?)))
    else {
        return Ok(Counts::default());
    };
    let (number, line) = lines.next().unwrap_or((number + 1, ""));
    let values = line
        .strip_prefix(group)
        .ok_or_else(|| Malformed::new(number, line, "the values of the same group"))?;
    let mut counts = Counts::default();
    let mut names = names.split_ascii_whitespace();
    let mut cells = values.split_ascii_whitespace();
    loop {
        let (name, cell) = match (names.next(), cells.next()) {
            (Some(name), Some(cell)) => (name, cell),
            (None, None) => return Ok(counts),
            _ => return Err(Malformed::new(number, values, "as many values as names")),
        };
        let Some(column) = columns.iter().find(|column| **column == name) else {
            continue;
        };
        let value = parse_unsigned(cell)
            .ok_or_else(|| Malformed::new(number, cell, "a count, not negative"))?;
        if counts.get(column).is_none() {
            counts.add(column, value);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_are_found_by_name_in_any_order_behind_any_group() {
        let text = "IpExt: TW InOctets\nIpExt: 99 98\n\
                    TcpExt: TWKilled New PAWSEstab TW PAWSActive TCPTimeWaitOverflow TWRecycled\n\
                    TcpExt: 3 77 5 1 6 4 2\n";
        let counters = parse(text).unwrap();
        let expected = [
            ("TWKilled", 3),
            ("PAWSEstab", 5),
            ("TW", 1),
            ("PAWSActive", 6),
            ("TCPTimeWaitOverflow", 4),
            ("TWRecycled", 2),
        ];
        assert!(counters.iter().eq(expected));
    }

    #[test]
    fn a_column_that_is_not_there_is_absent_not_zero() {
        let counters = parse("TcpExt: TW\nTcpExt: 18446744073709551615\n").unwrap();
        assert!(counters.iter().eq([("TW", u64::MAX)]));
        assert_eq!(parse("IpExt: A\nIpExt: 1\n").unwrap(), Counts::default());
        assert_eq!(parse("").unwrap(), Counts::default());
    }

    #[test]
    fn the_opens_are_found_among_columns_that_may_be_negative() {
        let text = "Ip: Forwarding\nIp: 1\nTcp: MaxConn ActiveOpens PassiveOpens\nTcp: -1 7 8\n";
        let opens = parse_opens(text).unwrap();
        assert!(opens.iter().eq([("ActiveOpens", 7), ("PassiveOpens", 8)]));
    }

    #[test]
    fn a_column_that_comes_twice_makes_one_series() {
        let counters = parse("TcpExt: PAWSEstab PAWSEstab\nTcpExt: 1 2\n").unwrap();
        assert!(counters.iter().eq([("PAWSEstab", 1)]));
    }

    #[test]
    fn a_line_of_values_that_does_not_match_its_names_is_refused() {
        for (text, line, offending) in [
            ("TcpExt: TW TWKilled\nTcpExt: 1\n", 2, " 1"),
            ("TcpExt: TW\nTcpExt: 1 2\n", 2, " 1 2"),
            ("TcpExt: Other TW\nTcpExt: 1 x\n", 2, "x"),
            ("IpExt: A\nIpExt: 1\nTcpExt: TW\nTcpExt: -1\n", 4, "-1"),
            ("TcpExt: TW\nIpExt: A\n", 2, "IpExt: A"),
            ("TcpExt: TW\n", 2, ""),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.text.as_str()), (line, offending));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in ".{0,80}",
            shaped in "(TcpExt:( ?(TW|PAWSEstab|[0-9]{1,22}|-))*\n){0,4}",
        ) {
            let _ = parse(&text);
            let _ = parse(&shaped);
        }
    }
}

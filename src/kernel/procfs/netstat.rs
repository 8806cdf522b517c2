//! The text of `/proc/net/netstat`: groups of two lines, names and then values, as `netstat_seq_show`
//! in net/ipv4/proc.c prints them.
//!
//! Reads no file, and none of the groups but `TcpExt`. Columns are found by name: kernels add and
//! drop them, and put them in another order.

use super::error::Malformed;
use super::text::{numbered_lines, parse_unsigned};
use crate::domain::snapshot::KernelCounters;

/// What both lines of the group begin with.
const GROUP: &str = "TcpExt:";

/// Columns that count segments rejected for their timestamps: `PAWSPassive` up to Linux 4.11,
/// `PAWSOldAck`, `PAWSTimewait` and `TSEcrRejected` in recent kernels.
const PAWS_COLUMNS: [&str; 6] = [
    "PAWSActive",
    "PAWSEstab",
    "PAWSPassive",
    "PAWSOldAck",
    "PAWSTimewait",
    "TSEcrRejected",
];

/// The counters about TIME-WAIT; all absent where there is no such group.
pub(super) fn parse(text: &str) -> Result<KernelCounters, Malformed> {
    let mut lines = numbered_lines(text);
    let Some((number, names)) =
        lines.find_map(|(number, line)| Some((number, line.strip_prefix(GROUP)?)))
    else {
        return Ok(KernelCounters::default());
    };
    let (number, line) = lines.next().unwrap_or((number + 1, ""));
    let values = line
        .strip_prefix(GROUP)
        .ok_or_else(|| Malformed::new(number, line, "the values of TcpExt"))?;
    parse_columns(names, values, number)
}

fn parse_columns(names: &str, values: &str, line: u64) -> Result<KernelCounters, Malformed> {
    let mut counters = KernelCounters::default();
    let mut names = names.split_ascii_whitespace();
    let mut cells = values.split_ascii_whitespace();
    loop {
        match (names.next(), cells.next()) {
            (Some(name), Some(cell)) => {
                let value = parse_unsigned(cell)
                    .ok_or_else(|| Malformed::new(line, cell, "a count, not negative"))?;
                take_column(&mut counters, name, value);
            }
            (None, None) => return Ok(counters),
            _ => return Err(Malformed::new(line, values, "as many values as names")),
        }
    }
}

fn take_column(counters: &mut KernelCounters, name: &str, value: u64) {
    match name {
        "TW" => counters.entered = Some(value),
        "TWRecycled" => counters.recycled = Some(value),
        "TWKilled" => counters.killed = Some(value),
        "TCPTimeWaitOverflow" => counters.overflows = Some(value),
        _ => take_paws_column(&mut counters.paws_rejects, name, value),
    }
}

/// A name that came before is left out: two of the same would make two series of the same name.
fn take_paws_column(rejects: &mut Vec<(&'static str, u64)>, name: &str, value: u64) {
    let known = PAWS_COLUMNS.into_iter().find(|column| *column == name);
    if let Some(column) = known.filter(|column| rejects.iter().all(|(seen, _)| seen != column)) {
        rejects.push((column, value));
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
        assert_eq!(counters.entered, Some(1));
        assert_eq!(counters.recycled, Some(2));
        assert_eq!(counters.killed, Some(3));
        assert_eq!(counters.overflows, Some(4));
        assert_eq!(counters.paws_rejects, [("PAWSEstab", 5), ("PAWSActive", 6)]);
    }

    #[test]
    fn a_column_that_is_not_there_is_absent_not_zero() {
        let counters = parse("TcpExt: TW\nTcpExt: 18446744073709551615\n").unwrap();
        assert_eq!(counters.entered, Some(u64::MAX));
        assert_eq!(counters.overflows, None);
        assert!(counters.paws_rejects.is_empty());
        assert_eq!(
            parse("IpExt: A\nIpExt: 1\n").unwrap(),
            KernelCounters::default()
        );
        assert_eq!(parse("").unwrap(), KernelCounters::default());
    }

    #[test]
    fn a_column_told_twice_makes_one_series() {
        let counters = parse("TcpExt: PAWSEstab PAWSEstab\nTcpExt: 1 2\n").unwrap();
        assert_eq!(counters.paws_rejects, [("PAWSEstab", 1)]);
    }

    #[test]
    fn a_line_of_values_that_does_not_match_its_names_is_refused() {
        for (text, line, offending) in [
            ("TcpExt: TW TWKilled\nTcpExt: 1\n", 2, " 1"),
            ("TcpExt: TW\nTcpExt: 1 2\n", 2, " 1 2"),
            ("TcpExt: TW Other\nTcpExt: 1 x\n", 2, "x"),
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

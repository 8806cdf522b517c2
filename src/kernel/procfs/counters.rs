//! The texts with counters: `/proc/net/netstat`, `snmp` and `stat/nf_conntrack`.
//!
//! Reads no file. Counters are found by name: kernels add, drop and rename them, and put them in another order.

use super::error::Malformed;
use super::text::{count, numbered_lines, words};
use crate::domain::snapshot::Counts;

/// Counters of netstat about TIME-WAIT and segments rejected for their timestamps: `PAWSPassive` up to Linux 4.11,
/// `PAWSOldAck`, `PAWSTimewait` and `TSEcrRejected` in recent kernels.
const NETSTAT: [&str; 10] = [
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

/// `insert_failed`: no tuple was free, or another packet of the same connection was first. `drop`: there was no room,
/// or the insertion failed. `early_drop`: an entry made room for another.
const CONNTRACK: [&str; 3] = ["insert_failed", "drop", "early_drop"];

/// The counters about TIME-WAIT, of the text of `/proc/net/netstat`; all absent where there is no such group.
pub(super) fn netstat(text: &str) -> Result<Counts, Malformed> {
    group(text, "TcpExt:", &NETSTAT)
}

/// The counters of connections opened, of the text of `/proc/net/snmp`.
pub(super) fn snmp(text: &str) -> Result<Counts, Malformed> {
    group(text, "Tcp:", &["ActiveOpens", "PassiveOpens"])
}

/// Some counters of one group of two lines, names and then values, as `netstat_seq_show` in net/ipv4/proc.c prints them.
fn group(text: &str, group: &str, wanted: &[&'static str]) -> Result<Counts, Malformed> {
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
    named(wanted, &words(names), number, values, 10)
}

/// Adds the sums over all CPUs, of the text of `/proc/net/stat/nf_conntrack`: a line of names, and a line of
/// hexadecimal numbers for each CPU, as `ct_cpu_seq_show` in net/netfilter/nf_conntrack_standalone.c prints them.
pub(super) fn add_conntrack(counts: &mut Counts, text: &str) -> Result<(), Malformed> {
    let mut lines = numbered_lines(text);
    let names = lines.next().map_or_else(Vec::new, |(_, line)| words(line));
    for (number, line) in lines {
        for (name, count) in named(&CONNTRACK, &names, number, line, 16)?.iter() {
            counts.add(name, count);
        }
    }
    Ok(())
}

/// The wanted ones of a line of values that match names; of a name that comes twice the first.
fn named(
    wanted: &[&'static str],
    names: &[&str],
    number: usize,
    values: &str,
    radix: u32,
) -> Result<Counts, Malformed> {
    let cells = words(values);
    if names.len() != cells.len() {
        return Err(Malformed::new(number, values, "as many values as names"));
    }
    let mut counts = Counts::default();
    for (name, cell) in names.iter().zip(cells) {
        if let Some(name) = wanted.iter().find(|wanted| *wanted == name)
            && counts.get(name).is_none()
        {
            counts.add(name, count(number, cell, radix)?);
        }
    }
    Ok(counts)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn conntrack(text: &str) -> Result<Counts, Malformed> {
        let mut counts = Counts::default();
        add_conntrack(&mut counts, text)?;
        Ok(counts)
    }

    #[test]
    fn columns_are_found_by_name_in_any_order_behind_any_group() {
        let text = "IpExt: TW InOctets\nIpExt: 99 98\n\
                    TcpExt: TWKilled New PAWSEstab TW PAWSActive TCPTimeWaitOverflow TWRecycled\n\
                    TcpExt: 3 77 5 1 6 4 2\n";
        let expected = [
            ("TWKilled", 3),
            ("PAWSEstab", 5),
            ("TW", 1),
            ("PAWSActive", 6),
            ("TCPTimeWaitOverflow", 4),
            ("TWRecycled", 2),
        ];
        assert!(netstat(text).unwrap().iter().eq(expected));
    }

    #[test]
    fn a_column_that_is_not_there_is_absent_not_zero() {
        let counters = netstat("TcpExt: TW\nTcpExt: 18446744073709551615\n").unwrap();
        assert!(counters.iter().eq([("TW", u64::MAX)]));
        assert_eq!(netstat("IpExt: A\nIpExt: 1\n").unwrap(), Counts::default());
        assert_eq!(netstat("").unwrap(), Counts::default());
    }

    #[test]
    fn the_opens_are_found_among_columns_that_may_be_negative() {
        let text = "Ip: Forwarding\nIp: 1\nTcp: MaxConn ActiveOpens PassiveOpens\nTcp: -1 7 8\n";
        let opens = snmp(text).unwrap();
        assert!(opens.iter().eq([("ActiveOpens", 7), ("PassiveOpens", 8)]));
    }

    #[test]
    fn a_duplicate_column_makes_one_series() {
        let counters = netstat("TcpExt: PAWSEstab PAWSEstab\nTcpExt: 1 2\n").unwrap();
        assert!(counters.iter().eq([("PAWSEstab", 1)]));
    }

    #[test]
    fn the_conntrack_counts_of_all_cpus_are_added_up_in_any_column_order() {
        let text = "entries  new insert_failed drop early_drop other\n\
                    00000007  00000000 0000000a 00000001 00000000 zz\n\
                    00000007  00000000 00000006 ffffffff 00000003 zz\n";
        let counts = conntrack(text).unwrap();
        let expected = [("insert_failed", 16), ("drop", 1 << 32), ("early_drop", 3)];
        assert!(counts.iter().eq(expected), "{counts:?}");
        let without = conntrack("entries drop\n1 2\n").unwrap();
        assert!(without.iter().eq([("drop", 2)]), "{without:?}");
        assert_eq!(conntrack("").unwrap(), Counts::default());
    }

    #[test]
    fn a_line_of_values_that_does_not_match_its_names_is_refused() {
        type Refused = (
            fn(&str) -> Result<Counts, Malformed>,
            &'static str,
            usize,
            &'static str,
        );
        let cases: [Refused; 10] = [
            (netstat, "TcpExt: TW TWKilled\nTcpExt: 1\n", 2, " 1"),
            (netstat, "TcpExt: TW\nTcpExt: 1 2\n", 2, " 1 2"),
            (netstat, "TcpExt: Other TW\nTcpExt: 1 x\n", 2, "x"),
            (
                netstat,
                "IpExt: A\nIpExt: 1\nTcpExt: TW\nTcpExt: -1\n",
                4,
                "-1",
            ),
            (netstat, "TcpExt: TW\nIpExt: A\n", 2, "IpExt: A"),
            (netstat, "TcpExt: TW\n", 2, ""),
            (conntrack, "drop entries\n1\n", 2, "1"),
            (conntrack, "drop\n1 2\n", 2, "1 2"),
            (conntrack, "drop\n1\n-1\n", 3, "-1"),
            (conntrack, "drop\n0x1\n", 2, "0x1"),
        ];
        for (parse, text, line, offending) in cases {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, &*error.text), (line, offending));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in ".{0,80}",
            netstat_text in "(TcpExt:( ?(TW|PAWSEstab|[0-9]{1,22}|-))*\n){0,4}",
            conntrack_text in "(drop|early_drop| ){0,5}\n(([0-9a-f]{1,20}|-)? ?\n?){0,5}",
        ) {
            for text in [text, netstat_text, conntrack_text] {
                let _ = (netstat(&text), snmp(&text), conntrack(&text));
            }
        }
    }
}

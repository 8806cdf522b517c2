//! The text of `/proc/net/stat/nf_conntrack`: a line of names, and a line of hexadecimal numbers for each CPU, as
//! `ct_cpu_seq_show` in net/netfilter/nf_conntrack_standalone.c prints them.
//!
//! Reads no file. Columns are found by name: Linux 5.9 renamed and dropped some.

use super::error::Malformed;
use super::text::numbered_lines;
use crate::domain::snapshot::Counts;

/// `insert_failed`: no tuple was free, or another packet of the same connection was first. `drop`: there was no room,
/// or the insertion failed. `early_drop`: an entry made room for another.
const COLUMNS: [&str; 3] = ["insert_failed", "drop", "early_drop"];

/// The sums over all CPUs.
pub(super) fn parse(text: &str) -> Result<Counts, Malformed> {
    let mut lines = numbered_lines(text);
    let names: Vec<&str> = lines.next().map_or_else(Vec::new, |(_, line)| {
        line.split_ascii_whitespace().collect()
    });
    let mut counts = Counts::default();
    for (number, line) in lines {
        let cells: Vec<&str> = line.split_ascii_whitespace().collect();
        if cells.len() != names.len() {
            return Err(Malformed::new(number, line, "as many numbers as names"));
        }
        for (name, cell) in names.iter().zip(cells) {
            if let Some(column) = COLUMNS.iter().find(|column| *column == name) {
                let count = u64::from_str_radix(cell, 16)
                    .map_err(|_| Malformed::new(number, cell, "a hexadecimal count"))?;
                counts.add(column, count);
            }
        }
    }
    Ok(counts)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_counts_of_all_cpus_are_added_up_whatever_the_columns() {
        let text = "entries  new insert_failed drop early_drop other\n\
                    00000007  00000000 0000000a 00000001 00000000 zz\n\
                    00000007  00000000 00000006 ffffffff 00000003 zz\n";
        let counts = parse(text).unwrap();
        let expected = [("insert_failed", 16), ("drop", 1 << 32), ("early_drop", 3)];
        assert!(counts.iter().eq(expected), "{counts:?}");
        let without = parse("entries drop\n1 2\n").unwrap();
        assert!(without.iter().eq([("drop", 2)]), "{without:?}");
        assert_eq!(parse("").unwrap(), Counts::default());
    }

    #[test]
    fn a_line_that_does_not_match_the_names_is_refused() {
        for (text, line, offending) in [
            ("drop entries\n1\n", 2, "1"),
            ("drop\n1 2\n", 2, "1 2"),
            ("drop\n1\n-1\n", 3, "-1"),
            ("drop\n0x1\n", 2, "0x1"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.text.as_str()), (line, offending));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in ".{0,80}",
            shaped in "(drop|early_drop| ){0,5}\n(([0-9a-f]{1,20}|-)? ?\n?){0,5}",
        ) {
            let _ = parse(&text);
            let _ = parse(&shaped);
        }
    }
}

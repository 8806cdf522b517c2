//! The text of `/proc/net/sockstat` and `sockstat6`: a line a protocol, with names and values in
//! turns, as `sockstat_seq_show` in net/ipv4/proc.c prints them.
//!
//! Reads no file, and no line but those of TCP, UDP and all sockets.

use super::error::Malformed;
use super::text::{numbered_lines, parse_unsigned};
use crate::domain::snapshot::Counts;

/// The name of `inuse` of the UDP line: UDP sockets that have a local port.
const UDP_IN_USE: &str = "UDP inuse";

/// The `TCP:` line of `/proc/net/sockstat`, and `used` of its `sockets:` line. `inuse` is that of IPv4 sockets alone.
pub(super) fn parse(text: &str) -> Result<Counts, Malformed> {
    let tcp = parse_line(text, "TCP:", &["inuse", "orphan", "tw"])?;
    let all = parse_line(text, "sockets:", &["used"])?;
    let udp = udp_in_use(text, "UDP:")?;
    Ok(tcp.iter().chain(all.iter()).chain(udp).collect())
}

/// `inuse` of the `TCP6:` line of `/proc/net/sockstat6`, which has no other value.
pub(super) fn parse_v6(text: &str) -> Result<Counts, Malformed> {
    let tcp = parse_line(text, "TCP6:", &["inuse"])?;
    let udp = udp_in_use(text, "UDP6:")?;
    Ok(tcp.iter().chain(udp).collect())
}

fn udp_in_use(text: &str, group: &str) -> Result<Option<(&'static str, u64)>, Malformed> {
    let udp = parse_line(text, group, &["inuse"])?;
    Ok(udp.get("inuse").map(|count| (UDP_IN_USE, count)))
}

/// The values of some names on the first line that begins with `group`. A name that we do not look
/// for may have any value (`mem` is a signed one).
fn parse_line(text: &str, group: &str, names: &[&'static str]) -> Result<Counts, Malformed> {
    let mut counts = Counts::default();
    let Some((number, line)) =
        numbered_lines(text).find_map(|(number, line)| Some((number, line.strip_prefix(group)?)))
    else {
        return Ok(counts);
    };
    let mut words = line.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let Some(value) = words.next() else {
            return Err(Malformed::new(number, word, "a name and its value"));
        };
        if let Some(name) = names.iter().find(|name| **name == word) {
            let count = parse_unsigned(value)
                .ok_or_else(|| Malformed::new(number, value, "a count, not negative"))?;
            counts.add(name, count);
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
    fn values_are_found_by_name_and_those_of_other_names_may_be_anything() {
        let text = "sockets: used 12\nUDP: inuse 9 mem 0\nTCP: mem -3 tw 7 new x inuse 5\n";
        let statistics = parse(text).unwrap();
        assert!(
            statistics
                .iter()
                .eq([("tw", 7), ("inuse", 5), ("used", 12), (UDP_IN_USE, 9)])
        );
        let v6 = parse_v6("TCP6: inuse 3\nUDP6: inuse 1\n").unwrap();
        assert!(v6.iter().eq([("inuse", 3), (UDP_IN_USE, 1)]));
    }

    #[test]
    fn a_protocol_that_is_not_there_has_no_values() {
        assert_eq!(parse("TCP6: inuse 3\n").unwrap(), Counts::default());
        assert_eq!(parse_v6("TCP: inuse 3\n").unwrap(), Counts::default());
    }

    #[test]
    fn a_line_that_is_cut_or_has_no_count_is_refused() {
        for (text, offending) in [
            ("\nTCP: inuse\n", "inuse"),
            ("\nTCP: inuse -1\n", "-1"),
            ("\nTCP: tw 1x\n", "1x"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.text.as_str()), (2, offending));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in ".{0,80}",
            shaped in "(TCP6?:( ?(inuse|tw|[0-9]{1,22}|-))*\n){0,3}",
        ) {
            for text in [text, shaped] {
                let _ = parse(&text);
                let _ = parse_v6(&text);
            }
        }
    }
}

//! The text of the sysctls in `/proc/sys/net/ipv4`.
//!
//! Reads no file and does not judge a value: what the kernel says is what is exported, except for a port
//! range that no kernel accepts.

use super::error::Malformed;
use crate::domain::ports::{PortRange, PortSet};

/// One whole number, as `proc_dointvec` and its kin in kernel/sysctl.c print it.
pub(super) fn parse_integer(text: &str) -> Result<i64, Malformed> {
    let number = text.trim_ascii();
    number
        .parse()
        .map_err(|_| Malformed::new(1, number, "a whole number"))
}

/// `ip_local_port_range`: two ports between blanks, the first not 0 and not above the second.
pub(super) fn parse_port_range(text: &str) -> Result<PortRange, Malformed> {
    let mut ports = text.split_ascii_whitespace().map(str::parse::<u16>);
    match (ports.next(), ports.next(), ports.next()) {
        (Some(Ok(min)), Some(Ok(max)), None) => PortRange::new(min, max),
        _ => None,
    }
    .ok_or_else(|| Malformed::new(1, text.trim_ascii(), "two ports, the lower first"))
}

/// `ip_local_reserved_ports`: ports and ranges of ports between commas, in the form of
/// `proc_do_large_bitmap` in kernel/sysctl.c. Nothing at all is the empty set.
pub(super) fn parse_reserved_ports(text: &str) -> Result<PortSet, Malformed> {
    let list = text.trim_ascii();
    let mut set = PortSet::new();
    for item in list.split(',').filter(|_| !list.is_empty()) {
        let (low, high) = parse_ports(item)
            .ok_or_else(|| Malformed::new(1, item, "a port, or two ports joined by \"-\""))?;
        for port in low..=high {
            set.insert(port);
        }
    }
    Ok(set)
}

/// `lo-hi`, or one port, which is a range of one.
fn parse_ports(item: &str) -> Option<(u16, u16)> {
    let (low, high) = item.split_once('-').unwrap_or((item, item));
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (low <= high).then_some((low, high))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As `proc_do_large_bitmap` prints a set.
    fn render(set: &PortSet) -> String {
        let ports: Vec<u16> = set.iter().collect();
        let runs = ports.chunk_by(|a, b| a.checked_add(1) == Some(*b));
        let items: Vec<String> = runs
            .map(|run| match run {
                [port] => port.to_string(),
                [first, .., last] => format!("{first}-{last}"),
                [] => String::new(),
            })
            .collect();
        items.join(",") + "\n"
    }

    #[test]
    fn an_integer_may_be_negative_and_stands_alone() {
        assert_eq!(parse_integer("2\n").unwrap(), 2);
        assert_eq!(parse_integer("-1\n").unwrap(), -1);
        for text in ["", "\n", "1 2\n", "one\n", "9223372036854775808\n"] {
            assert!(parse_integer(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_port_range_is_two_ports_in_order() {
        let range = parse_port_range("32768\t60999\n").unwrap();
        assert_eq!((range.min(), range.max()), (32_768, 60_999));
        for text in [
            "",
            "1\n",
            "1 2 3\n",
            "2 1\n",
            "0 1\n",
            "1 65536\n",
            "-1 5\n",
            "a b",
        ] {
            assert!(parse_port_range(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn no_reserved_port_is_an_empty_set() {
        assert!(parse_reserved_ports("\n").unwrap().is_empty());
        assert!(parse_reserved_ports("").unwrap().is_empty());
    }

    #[test]
    fn reserved_ports_are_single_or_ranges_up_to_the_last_port() {
        let set = parse_reserved_ports("1,3-5,65535\n").unwrap();
        assert!(set.iter().eq([1, 3, 4, 5, 65_535]));
        assert_eq!(parse_reserved_ports("0-65535\n").unwrap().len(), 65_536);
    }

    #[test]
    fn only_the_invalid_part_of_the_reserved_ports_is_quoted() {
        for (text, offending) in [
            ("1,,2\n", ""),
            ("1,5-3\n", "5-3"),
            ("1,65536\n", "65536"),
            ("1-2-3\n", "1-2-3"),
            ("1,2-\n", "2-"),
            ("1 2\n", "1 2"),
        ] {
            let error = parse_reserved_ports(text).unwrap_err();
            assert_eq!(error.text, offending, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn reserved_ports_are_read_as_the_kernel_prints_them(
            ports in prop::collection::vec((any::<u16>(), 0_u16..20), 0..50),
        ) {
            let set: PortSet = ports
                .iter()
                .flat_map(|(port, run)| *port..=port.saturating_add(*run))
                .collect();
            prop_assert_eq!(parse_reserved_ports(&render(&set)).unwrap(), set);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}", digits in "[0-9,\\- \\t\\n]{0,60}") {
            for text in [text, digits] {
                let _ = parse_integer(&text);
                let _ = parse_port_range(&text);
                let _ = parse_reserved_ports(&text);
            }
        }
    }
}

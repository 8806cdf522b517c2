//! How values are written in sentences.

use crate::domain::ports::{PortRange, PortSet};
use crate::domain::snapshot::Destination;

/// With a comma between thousands: `28,232`.
pub fn count(number: impl Into<u64>) -> String {
    let number = number.into();
    if number < 1_000 {
        number.to_string()
    } else {
        format!("{},{:03}", count(number / 1_000), number % 1_000)
    }
}

/// As a percentage with at most one decimal, rounded down: only 1 is 100%.
pub fn percent(ratio: f64) -> String {
    // 0.29 * 1000 is 28.999…: make up for that.
    let tenths = (ratio * 1_000.0 + 1e-9).floor();
    let text = format!("{:.1}", tenths / 10.0);
    let text = text.strip_suffix(".0").unwrap_or(&text);
    format!("{text}%")
}

/// Bytes in the unit that fits.
pub fn bytes(number: u64) -> String {
    match (number >> 20, number >> 10) {
        (mib @ 10.., _) => format!("{} MiB", count(mib)),
        (_, kib @ 10..) => format!("{} KiB", count(kib)),
        _ => format!("{} bytes", count(number)),
    }
}

/// A count with its noun.
pub fn counted(number: impl Into<u64>, one: &str, many: &str) -> String {
    let number = number.into();
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A part of a sentence that is there only in some cases.
pub(super) fn when(is_so: bool, text: &str) -> &str {
    if is_so { text } else { "" }
}

/// A destination in a sentence.
pub fn destination(to: &Destination) -> String {
    let target = format!("{} port {}", to.dst_addr, to.dst_port);
    if to.src_addr.is_wildcard() {
        target
    } else {
        format!("{target} from {}", to.src_addr)
    }
}

pub(crate) fn range(range: PortRange) -> String {
    format!("{}-{}", range.min(), range.max())
}

/// The first few items: `a, b and 3 more`.
pub(crate) fn some_of(items: &[String], most: usize) -> String {
    let shown = items.get(..most).unwrap_or(items).join(", ");
    match items.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A set of ports in a sentence, cut where it is long.
pub(super) fn ports(ports: &PortSet) -> String {
    let all = ports.to_string();
    let parts: Vec<String> = all.split(',').map(str::to_owned).collect();
    some_of(&parts, 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        for (number, text) in [
            (0_u64, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (28_232, "28,232"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn only_one_is_a_hundred_percent() {
        for (ratio, text) in [
            (0.0, "0%"),
            (0.29, "29%"),
            (0.75, "75%"),
            (0.999_964, "99.9%"),
            (1.0, "100%"),
            (0.123_4, "12.3%"),
        ] {
            assert_eq!(percent(ratio), text);
        }
    }

    #[test]
    fn bytes_have_a_unit_that_fits() {
        assert_eq!(bytes(256), "256 bytes");
        assert_eq!(bytes(256_000), "250 KiB");
        assert_eq!(bytes(256_000_000), "244 MiB");
    }
}

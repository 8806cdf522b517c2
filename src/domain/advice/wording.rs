//! How values are written in sentences.

use std::fmt::Write as _;

use crate::domain::ports::PortSet;
use crate::domain::snapshot::Destination;

/// With a comma between thousands: `28,232`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// As a percentage with at most one decimal, rounded down: only 1 is 100%.
#[must_use]
pub fn percent(ratio: f64) -> String {
    // 0.29 * 1000 is 28.999…: make up for that.
    let tenths = (ratio * 1_000.0 + 1e-9).floor();
    let text = format!("{:.1}", tenths / 10.0);
    let text = text.strip_suffix(".0").unwrap_or(&text);
    format!("{text}%")
}

/// Bytes in the unit that fits.
#[must_use]
pub fn bytes(number: u64) -> String {
    let mib = number / (1 << 20);
    let kib = number / (1 << 10);
    if mib >= 10 {
        format!("{} MiB", count(mib))
    } else if kib >= 10 {
        format!("{} KiB", count(kib))
    } else {
        format!("{} bytes", count(number))
    }
}

/// A count with its noun.
#[must_use]
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A destination in a sentence.
#[must_use]
pub fn destination(destination: &Destination) -> String {
    let Destination {
        src_addr,
        dst_addr,
        dst_port,
    } = destination;
    if src_addr.is_wildcard() {
        format!("{dst_addr} port {dst_port}")
    } else {
        format!("{dst_addr} port {dst_port} from {src_addr}")
    }
}

/// The first few items: `a, b and 3 more`.
#[must_use]
pub(crate) fn some_of(items: &[String], most: usize) -> String {
    let shown = items.get(..most).unwrap_or(items);
    let mut text = shown.join(", ");
    if items.len() > shown.len() {
        let _infallible = write!(text, " and {} more", items.len() - shown.len());
    }
    text
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
            (0, "0"),
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

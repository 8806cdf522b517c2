//! What the parsers of small files have in common.

use super::error::Malformed;

/// The lines of a text with their numbers, from 1.
pub(super) fn numbered_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

pub(super) fn words(line: &str) -> Vec<&str> {
    line.split_ascii_whitespace().collect()
}

/// A number as the kernel prints an unsigned one, decimal or hexadecimal: digits alone, no sign, no blanks.
pub(super) fn unsigned(text: &str, radix: u32) -> Option<u64> {
    let is_number = text.chars().all(|digit| digit.is_digit(radix));
    is_number.then(|| u64::from_str_radix(text, radix).ok())?
}

/// The same on some line of a file, where nothing else may stand.
pub(super) fn count(line: usize, text: &str, radix: u32) -> Result<u64, Malformed> {
    let expected = match radix {
        16 => "a hexadecimal count",
        _ => "a count, not negative",
    };
    unsigned(text, radix).ok_or_else(|| Malformed::new(line, text, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_are_a_number() {
        assert_eq!(unsigned("18446744073709551615", 10), Some(u64::MAX));
        for text in [
            "",
            "-1",
            "+1",
            " 1",
            "1.0",
            "0x1",
            "18446744073709551616",
            "a",
        ] {
            assert_eq!(unsigned(text, 10), None, "{text:?}");
        }
        assert_eq!(unsigned("fF", 16), Some(255));
        for text in ["", "+f", "0x1", "g", "10000000000000000"] {
            assert_eq!(unsigned(text, 16), None, "{text:?}");
        }
    }
}

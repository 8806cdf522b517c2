//! What the parsers of small files have in common.

/// The lines of a text with their numbers, from 1.
pub(super) fn numbered_lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    (1..).zip(text.lines())
}

/// A number as the kernel prints an unsigned one: digits alone, no sign, no blanks.
pub(super) fn parse_unsigned(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_make_a_number() {
        assert_eq!(parse_unsigned("18446744073709551615"), Some(u64::MAX));
        for text in ["", "-1", "+1", " 1", "1.0", "0x1", "18446744073709551616"] {
            assert_eq!(parse_unsigned(text), None, "{text:?}");
        }
    }
}

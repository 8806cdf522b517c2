//! Breaks prose into lines.

use super::screen;

/// Lines of at most `width` columns, except for longer words; each begins with `indent` spaces, which
/// are part of the width.
pub(super) fn wrap(text: &str, width: usize, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = screen::width(word);
        if column == 0 {
            lines.push_str(&margin);
            column = indent;
        } else if column + 1 + length > width {
            lines.push('\n');
            lines.push_str(&margin);
            column = indent;
        } else {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines.push('\n');
    lines
}

/// The text, with its end left out where it is longer than this.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_within_the_width_and_begin_with_the_indent() {
        assert_eq!(wrap("one two three", 9, 2), "  one two\n  three\n");
        assert_eq!(wrap("unbreakable x", 4, 0), "unbreakable\nx\n");
        assert_eq!(wrap("", 10, 3), "\n");
    }

    proptest::proptest! {
        #[test]
        fn no_word_is_lost(text in "[a-z ]{0,80}", width in 1_usize..40, indent in 0_usize..10) {
            let wrapped = wrap(&text, width, indent);
            proptest::prop_assert!(wrapped.split_whitespace().eq(text.split_whitespace()));
            for line in wrapped.lines() {
                let is_one_word = line.split_whitespace().count() <= 1;
                proptest::prop_assert!(is_one_word || line.len() <= width);
            }
        }
    }
}

//! Text from outside: names of processes, namespaces and files.

/// Whether a character changes what a terminal or a browser shows of the text around it: control
/// characters, and format characters that are invisible or turn the direction of text. All of them are
/// in the Basic Multilingual Plane.
pub(crate) fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
        )
}

/// The text with a question mark for each character that misleads.
pub(crate) fn printable(text: &str) -> String {
    let safe = |c: char| if misleads(c) { '?' } else { c };
    text.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_all_scripts_are_kept() {
        let text =
            "nginx-1 \u{fc}ber \u{434}\u{430} \u{65e5}\u{672c} \u{5e2}\u{5d1}\u{5e8} \u{1f980}";
        assert_eq!(printable(text), text);
    }

    #[test]
    fn terminal_control_characters_are_replaced() {
        for c in "\u{1b}\u{7}\u{7f}\u{9b}\u{85}\u{ad}\u{61c}\u{200b}\u{200f}\u{2028}\u{202e}\u{2066}\u{feff}".chars() {
            assert_eq!(printable(&format!("a{c}b")), "a?b", "{c:?}");
        }
    }
}

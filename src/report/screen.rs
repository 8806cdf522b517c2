//! Redraws a text in place on a terminal.

use crate::domain::advice::wording::counted;

/// The cursor home; each line is then overwritten and its rest cleared, which does not flicker.
const HOME: &str = "\x1b[H";
/// Clears the rest of the cursor's line.
pub(crate) const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// As many lines of the text as fit on a screen of this size: with more, the terminal would scroll and
/// show only the end. `None` is an unknown number of rows.
pub(crate) fn in_place(text: &str, columns: usize, rows: Option<usize>) -> String {
    let columns = columns.max(1);
    // The cursor ends in the last row.
    let rows = rows.map_or(usize::MAX, |rows| rows.saturating_sub(1));
    let height = |line: &str| width(line).div_ceil(columns).max(1);
    let mut shown: Vec<&str> = text.lines().collect();
    let note: String;
    if shown.iter().map(|line| height(line)).sum::<usize>() > rows {
        let mut used = 1;
        let fits = |line: &&&str| {
            used += height(line);
            used <= rows
        };
        let fitting = shown.iter().take_while(fits).count();
        let more = u64::try_from(shown.len() - fitting).unwrap_or(u64::MAX);
        let more = counted(more, "more line", "more lines");
        let all = format!("({more}; enlarge the terminal)");
        note = all.chars().take(columns).collect();
        shown.truncate(fitting);
        shown.push(&note);
    }
    let mut placed = String::from(HOME);
    for line in shown {
        placed.push_str(line);
        // After a full row the cursor is still on its last character, which would be cleared.
        let width = width(line);
        if width == 0 || !width.is_multiple_of(columns) {
            placed.push_str(CLEAR_LINE);
        }
        placed.push('\n');
    }
    placed + CLEAR_BELOW
}

/// The columns of a line; colours have none.
pub(super) fn width(line: &str) -> usize {
    let mut is_code = false;
    let shown = |c: &char| {
        let was_code = is_code;
        is_code = if is_code { *c != 'm' } else { *c == '\x1b' };
        !was_code && !is_code
    };
    line.chars().filter(shown).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> String {
        let lines: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
        lines.join("\n")
    }

    #[test]
    fn a_screen_shows_the_beginning_and_how_many_lines_follow() {
        assert_eq!(
            in_place(&lines(3), 80, Some(4)),
            "\x1b[H1\x1b[K\n2\x1b[K\n3\x1b[K\n\x1b[J"
        );
        assert_eq!(
            in_place(&lines(9), 80, Some(4)),
            "\x1b[H1\x1b[K\n2\x1b[K\n(7 more lines; enlarge the terminal)\x1b[K\n\x1b[J"
        );
        assert_eq!(in_place(&lines(500), 80, None).matches('\n').count(), 500);
        assert_eq!(in_place(&lines(9), 10, Some(0)), "\x1b[H(9 more li\n\x1b[J");
    }

    #[test]
    fn a_line_wider_than_the_screen_uses_more_than_one_row() {
        let text = format!("\x1b[1m{}\x1b[0m\nlast\nvery last\n", "x".repeat(20));
        let placed = in_place(&text, 20, Some(4));
        assert!(placed.contains("very last"), "{placed}");
        assert!(placed.contains("\x1b[0m\n"), "the row is full: {placed}");
        let placed = in_place(&text, 19, Some(4));
        assert!(placed.contains("\n(2 more lines;"), "{placed}");
    }
}

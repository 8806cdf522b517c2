//! What can go wrong with a file under /proc, with enough said to find the place in it.
//!
//! Decides nothing: whether an absent file matters is for the reader of that file to say.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// How much of an offending text an error quotes, in characters.
const EXCERPT_CHARS: usize = 120;

/// A file under /proc that was not read to its end.
#[derive(Debug, thiserror::Error)]
pub struct ReadError {
    pub(super) path: PathBuf,
    pub(super) fault: Fault,
}

/// What is wrong with a file, whichever it is.
#[derive(Debug)]
pub(super) enum Fault {
    /// The kernel refused to open or to read it.
    Io(io::Error),
    Malformed(Malformed),
    /// It has more bytes than this.
    FileTooLong(usize),
    /// The line with this number has more bytes than this.
    LineTooLong(usize, usize),
    /// The deadline came after this many sockets.
    Deadline(usize),
}

impl ReadError {
    /// Why the kernel refused to open or to read it.
    pub(crate) fn io_kind(&self) -> Option<io::ErrorKind> {
        match &self.fault {
            Fault::Io(error) => Some(error.kind()),
            _ => None,
        }
    }

    /// Whether the deadline came.
    pub(crate) const fn is_late(&self) -> bool {
        matches!(self.fault, Fault::Deadline(_))
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.fault {
            Fault::Io(error) => write!(f, "cannot read {path}: {error}"),
            Fault::Malformed(fault) => write!(f, "{path}, {fault}"),
            Fault::FileTooLong(limit) => write!(f, "{path} is longer than {limit} bytes"),
            Fault::LineTooLong(line, limit) => {
                write!(f, "{path}, line {line} is longer than {limit} bytes")
            }
            Fault::Deadline(sockets) => write!(
                f,
                "the deadline came after {sockets} sockets of the connection table"
            ),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for Fault {
    fn from(fault: Malformed) -> Self {
        Self::Malformed(fault)
    }
}

/// A text that is not what it should be, as a parser sees it: it knows of no file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}, found \"{text}\"")]
pub(super) struct Malformed {
    /// From 1.
    pub(super) line: usize,
    /// The beginning of the offending part, escaped.
    pub(super) text: String,
    pub(super) expected: &'static str,
}

impl Malformed {
    /// `text`, of any bytes, at `line` is not `expected`.
    pub(super) fn new(line: usize, text: impl AsRef<[u8]>, expected: &'static str) -> Self {
        let text = String::from_utf8_lossy(text.as_ref());
        let mut excerpt: String = text.chars().take(EXCERPT_CHARS).collect();
        if excerpt.len() < text.len() {
            excerpt.push('…');
        }
        Self {
            line,
            text: excerpt.escape_debug().to_string(),
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_error_says_where_and_what_and_quotes_the_text_on_one_line() {
        let error = ReadError {
            path: "/proc/net/netstat".into(),
            fault: Malformed::new(2, b"a\n\xffb", "a number").into(),
        };
        assert_eq!(
            error.to_string(),
            "/proc/net/netstat, line 2: expected a number, found \"a\\n\u{fffd}b\""
        );
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let text = |text: &str| Malformed::new(1, text, "").text;
        let excerpt = text(&"é".repeat(500));
        assert_eq!(excerpt.chars().count(), EXCERPT_CHARS + 1);
        assert!(excerpt.ends_with("é…"));
        let whole = "x".repeat(EXCERPT_CHARS);
        assert_eq!(text(&whole), whole);
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_bounded_excerpt(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let text = Malformed::new(1, &bytes, "").text;
            // The longest escape is that of a character of 21 bits: \u{10ffff}.
            prop_assert!(text.chars().count() <= 10 * EXCERPT_CHARS + 1);
            prop_assert!(!text.contains('\n'));
        }
    }
}

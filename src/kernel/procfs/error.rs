//! What can go wrong with a file under /proc, with enough said to find the place in it.
//!
//! Decides nothing: whether an absent file matters is for the reader of that file to say.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// How much of an offending text an error quotes, in characters.
const EXCERPT_CHARS: usize = 120;

/// The longest that [`EXCERPT_CHARS`] characters can be, in bytes of UTF-8.
const EXCERPT_BYTES: usize = 4 * EXCERPT_CHARS;

/// A file under /proc that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The kernel refused to open or to read it.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not; `raw_os_error` has the errno.
        source: io::Error,
    },
    /// It does not have the form that the kernel gives it.
    #[error("{}, {fault}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where in it, and what stands there.
        fault: Malformed,
    },
    /// It is longer than any such file can be.
    #[error("{} is longer than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// What it may have, in bytes.
        limit_bytes: usize,
    },
    /// One of its lines is longer than any such line can be.
    #[error("{}, line {line} is longer than {limit_bytes} bytes", path.display())]
    LineTooLong {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What it may have, in bytes.
        limit_bytes: usize,
    },
}

/// A text that is not what it should be, as a parser sees it: it knows of no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}, found \"{text}\"")]
pub struct Malformed {
    /// Which line, from 1.
    pub line: u64,
    /// The offending part of it, or all of it.
    pub text: Excerpt,
    /// What should have stood there.
    pub expected: &'static str,
}

impl Malformed {
    /// `text` at `line` is not `expected`.
    pub(super) fn new(line: u64, text: impl AsRef<[u8]>, expected: &'static str) -> Self {
        Self {
            line,
            text: Excerpt::new(text.as_ref()),
            expected,
        }
    }
}

/// The first 120 characters of a text, whatever bytes it had, fit to be printed on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt(Box<str>);

impl Excerpt {
    fn new(text: &[u8]) -> Self {
        let head = text.get(..EXCERPT_BYTES).unwrap_or(text);
        let decoded = String::from_utf8_lossy(head);
        let mut excerpt: String = decoded.chars().take(EXCERPT_CHARS).collect();
        if excerpt.len() < decoded.len() || head.len() < text.len() {
            excerpt.push('…');
        }
        Self(excerpt.into())
    }

    /// The text, not escaped.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_debug().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_error_says_where_and_what_and_quotes_the_text_on_one_line() {
        let error = ReadError::Malformed {
            path: "/proc/net/netstat".into(),
            fault: Malformed::new(2, b"a\n\xffb", "a number"),
        };
        assert_eq!(
            error.to_string(),
            "/proc/net/netstat, line 2: expected a number, found \"a\\n\u{fffd}b\""
        );
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let excerpt = Excerpt::new("é".repeat(500).as_bytes());
        assert_eq!(excerpt.as_str().chars().count(), EXCERPT_CHARS + 1);
        assert!(excerpt.as_str().ends_with("é…"));
        let whole = "x".repeat(EXCERPT_CHARS);
        assert_eq!(Excerpt::new(whole.as_bytes()).as_str(), whole);
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_bounded_excerpt(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let excerpt = Excerpt::new(&bytes);
            prop_assert!(excerpt.as_str().chars().count() <= EXCERPT_CHARS + 1);
            prop_assert!(!excerpt.to_string().contains('\n'));
        }
    }
}

//! The lines of a file that may be hundreds of megabytes long, in one buffer that is used again.
//!
//! Allocates once, whatever it reads, and does not look into the lines.

use std::io::{self, Read};

/// The longest line that is taken, in bytes. Those of `net/tcp6` have about 200.
pub(super) const LINE_LIMIT_BYTES: usize = 1024;

/// The kernel fills a few KiB a `read` of a table, whatever is asked for.
const BUFFER_BYTES: usize = 16 * 1024;

/// Why there is no further line.
#[derive(Debug)]
pub(super) enum LineFault {
    Io(io::Error),
    /// The line has more than [`LINE_LIMIT_BYTES`].
    TooLong,
}

/// Gives one line after the other, each only until the next is asked for.
pub(super) struct LineReader<R> {
    input: R,
    buffer: Box<[u8]>,
    /// What is read but not given yet is `buffer[start..end]`.
    start: usize,
    end: usize,
    lines: u64,
}

impl<R: Read> LineReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; BUFFER_BYTES].into(),
            start: 0,
            end: 0,
            lines: 0,
        }
    }

    /// The number of the line given last, from 1; of the one that could not be given, after a fault.
    pub(super) fn line_number(&self) -> u64 {
        self.lines
    }

    /// The next line without its newline, or nothing at the end. What stands behind the last newline
    /// is a line too, unless it is empty.
    pub(super) fn next_line(&mut self) -> Result<Option<&[u8]>, LineFault> {
        self.lines += 1;
        let mut searched = 0;
        let (length, newline) = loop {
            let unsearched = self.pending().get(searched..).unwrap_or_default();
            let found = unsearched.iter().position(|byte| *byte == b'\n');
            let length = searched + found.unwrap_or(unsearched.len());
            if length > LINE_LIMIT_BYTES {
                return Err(LineFault::TooLong);
            }
            if found.is_some() {
                break (length, 1);
            }
            searched = length;
            if self.fill().map_err(LineFault::Io)? == 0 {
                if length == 0 {
                    return Ok(None);
                }
                break (length, 0);
            }
        };
        let start = self.start;
        self.start += length + newline;
        Ok(self.buffer.get(start..start + length))
    }

    fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads more behind what is pending. There is room for it: pending is less than a line.
    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        loop {
            match self.input.read(free) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its content in pieces of these sizes, over and over.
    struct Pieces<'a> {
        content: &'a [u8],
        sizes: std::iter::Cycle<std::vec::IntoIter<usize>>,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.sizes.next().unwrap().min(buffer.len());
            self.content.read(buffer.get_mut(..size).unwrap())
        }
    }

    #[test]
    fn a_line_may_have_as_many_bytes_as_the_limit_and_no_more() {
        for (extra, is_taken) in [(0, true), (1, false)] {
            let line = vec![b'x'; LINE_LIMIT_BYTES + extra];
            let mut reader = LineReader::new(&*line);
            assert_eq!(reader.next_line().is_ok(), is_taken);
        }
    }

    #[test]
    fn a_line_without_end_is_refused_without_being_kept() {
        let mut reader = LineReader::new((&b"one\n"[..]).chain(io::repeat(b'x')));
        assert_eq!(reader.next_line().unwrap(), Some(&b"one"[..]));
        assert!(matches!(reader.next_line(), Err(LineFault::TooLong)));
        assert_eq!(reader.line_number(), 2);
        assert_eq!(reader.buffer.len(), BUFFER_BYTES);
    }

    proptest! {
        #[test]
        fn the_lines_are_those_of_the_text_however_it_arrives(
            lengths in prop::collection::vec(0_usize..300, 0..200),
            sizes in prop::collection::vec(1_usize..20_000, 1..5),
            ends_with_newline: bool,
        ) {
            let lines = (b'a'..=b'z').cycle().zip(&lengths);
            let lines = lines.map(|(byte, length)| char::from(byte).to_string().repeat(*length));
            let mut text = lines.collect::<Vec<_>>().join("\n");
            if ends_with_newline {
                text.push('\n');
            }
            let pieces = Pieces { content: text.as_bytes(), sizes: sizes.into_iter().cycle() };
            let mut reader = LineReader::new(pieces);
            for (number, line) in (1..).zip(text.lines()) {
                prop_assert_eq!(reader.next_line().unwrap(), Some(line.as_bytes()));
                prop_assert_eq!(reader.line_number(), number);
            }
            prop_assert_eq!(reader.next_line().unwrap(), None);
        }
    }
}

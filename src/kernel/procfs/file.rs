//! Reads a small file whole, in the way that /proc needs it.
//!
//! Knows nothing of what the files say, and does not read the connection table, which is not small.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::{Malformed, ReadError};

/// What a file may have. The largest that we read, slabinfo, has some tens of KiB.
const LIMIT_BYTES: usize = 1024 * 1024;

/// How much to ask for with the first `read`.
///
/// A file under /proc/sys answers the **first** `read` only: `proc_dointvec` and
/// `proc_do_large_bitmap` in kernel/sysctl.c return nothing from any offset but 0, so that what did
/// not fit into the first buffer is lost without a sign. `std::fs::read` begins with 32 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum FirstRead {
    /// For some numbers, and for files that go on where they stopped. The kernel allocates and clears
    /// as much as is asked for, hence not always the other.
    Page,
    /// For `ip_local_reserved_ports`, if it fills a page: two ports of every three, told as ranges, make
    /// 262,140 bytes at most, and no set of ports makes more.
    PortBitmap,
}

impl FirstRead {
    const fn bytes(self) -> usize {
        match self {
            Self::Page => 4 * 1024,
            Self::PortBitmap => 256 * 1024,
        }
    }
}

/// The whole content of a file, which must be UTF-8.
pub(super) fn read_text(path: &Path, first: FirstRead) -> Result<String, ReadError> {
    let bytes = read_opened(|| File::open(path), first)
        .map_err(|source| ReadError::Io {
            path: path.to_owned(),
            source,
        })?
        .ok_or_else(|| ReadError::TooLarge {
            path: path.to_owned(),
            limit_bytes: LIMIT_BYTES,
        })?;
    String::from_utf8(bytes).map_err(|error| ReadError::Malformed {
        path: path.to_owned(),
        fault: not_utf8(error.as_bytes(), error.utf8_error().valid_up_to()),
    })
}

/// The whole content of what is opened; twice, if a page was too little for the first `read`.
fn read_opened<R: Read>(
    open: impl Fn() -> io::Result<R>,
    first: FirstRead,
) -> io::Result<Option<Vec<u8>>> {
    let bytes = read_bounded(&mut open()?, FirstRead::Page)?;
    match (&bytes, first) {
        (Some(bytes), FirstRead::PortBitmap) if bytes.len() >= FirstRead::Page.bytes() => {
            read_bounded(&mut open()?, first)
        }
        _ => Ok(bytes),
    }
}

/// Everything that `input` gives, or nothing where that is more than [`LIMIT_BYTES`].
fn read_bounded(input: &mut impl Read, first: FirstRead) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; first.bytes()];
    let mut filled = 0;
    loop {
        if filled > LIMIT_BYTES {
            return Ok(None);
        }
        if filled == buffer.len() {
            buffer.resize((2 * filled).min(LIMIT_BYTES + 1), 0);
        }
        match input.read(buffer.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(Some(buffer))
}

/// Names the line of the first byte that is not UTF-8.
fn not_utf8(bytes: &[u8], valid_up_to: usize) -> Malformed {
    let (before, after) = bytes.split_at_checked(valid_up_to).unwrap_or((bytes, &[]));
    let line = (1..)
        .zip(before.split(|byte| *byte == b'\n'))
        .last()
        .map_or(1, |(number, _)| number);
    let offending = after.split(|byte| *byte == b'\n').next().unwrap_or(after);
    Malformed::new(line, offending, "UTF-8")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A file as those under /proc/sys are: what the first `read` does not take is gone.
    struct Sysctl<'a> {
        content: &'a [u8],
        was_read: bool,
    }

    impl Read for Sysctl<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let content = if self.was_read { &[] } else { self.content };
            self.was_read = true;
            (&mut &*content).read(buffer)
        }
    }

    /// The longest that `ip_local_reserved_ports` can be.
    fn longest_port_bitmap() -> String {
        let mut text: Vec<String> = (0..=u16::MAX)
            .step_by(3)
            .map(|port| format!("{port}-{}", port.saturating_add(1)))
            .collect();
        text.push("\n".to_owned());
        text.join(",")
    }

    #[test]
    fn a_sysctl_is_taken_with_one_read_whatever_its_length() {
        let text = longest_port_bitmap();
        assert!(text.len() > 240_000, "{}", text.len());
        for length in [0, 1, 4_095, 4_096, 4_097, text.len()] {
            let content = text.as_bytes().get(..length).unwrap();
            let open = || {
                Ok(Sysctl {
                    content,
                    was_read: false,
                })
            };
            let bytes = read_opened(open, FirstRead::PortBitmap).unwrap().unwrap();
            assert!(bytes == content, "{length}");
        }
    }

    #[test]
    fn a_file_that_gives_a_little_at_a_time_is_read_to_its_end() {
        let content = vec![b'x'; 3 * FirstRead::Page.bytes() + 5];
        let nothing: Box<dyn Read> = Box::new(io::empty());
        let mut input = content
            .chunks(1_000)
            .fold(nothing, |before, chunk| Box::new(before.chain(chunk)));
        let bytes = read_bounded(&mut input, FirstRead::Page).unwrap().unwrap();
        assert!(bytes == content);
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let read = read_bounded(&mut io::repeat(b'x'), FirstRead::Page).unwrap();
        assert_eq!(read, None);
        let mut limit = io::repeat(b'x').take(u64::try_from(LIMIT_BYTES).unwrap());
        let read = read_bounded(&mut limit, FirstRead::Page).unwrap();
        assert_eq!(read.unwrap().len(), LIMIT_BYTES);
    }

    #[test]
    fn the_first_byte_that_is_not_utf8_is_told_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, b"one\ntwo \xff\xfe\nthree").unwrap();
        let error = read_text(&path, FirstRead::Page).unwrap_err();
        let ReadError::Malformed { fault, .. } = &error else {
            unreachable!("{error}");
        };
        assert_eq!(fault.line, 2);
        assert_eq!(fault.text.as_str(), "\u{fffd}\u{fffd}");
    }
}

//! Reads files in the way that /proc needs it. Knows nothing of what the files say.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::error::{Fault, Malformed, ReadError};

/// What a file may have that is read whole. The largest, slabinfo, has some tens of KiB.
const LIMIT_BYTES: usize = 1024 * 1024;

/// For all files but one, whatever they say, and for most the whole.
const USUAL_BYTES: usize = 4 * 1024;

/// For `ip_local_reserved_ports`: two ports of every three, written as ranges, make 262,140 bytes
/// at most, and no set of ports makes more.
const LONGEST_SETTING_BYTES: usize = 256 * 1024;

/// A text that leaves less than this of the buffer may have been cut: longer than one range of ports.
const CUT_MARGIN_BYTES: usize = 16;

/// The longest line of a connection table that is accepted. Those of `net/tcp6` have about 200 bytes.
const LINE_LIMIT_BYTES: usize = 1024;

/// The kernel fills a few KiB a `read` of a table, whatever is asked for.
const TABLE_BUFFER_BYTES: usize = 16 * 1024;

/// A directory of files.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
    opened: Option<Arc<OwnedFd>>,
}

impl Directory {
    /// Nothing is read yet.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, opened: None }
    }

    /// The path is looked up once for all files; for each, where the directory cannot be opened.
    pub(super) fn opened(path: PathBuf) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::empty());
        Self {
            opened: opened.ok().map(Arc::new),
            path,
        }
    }

    /// Reads one of its files.
    pub(super) fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(File) -> Result<T, Fault>,
    ) -> Result<T, ReadError> {
        let file = match &self.opened {
            Some(directory) => open_in(directory.as_fd(), Path::new(name)),
            None => open_in(CWD, &self.path.join(name)),
        };
        let read = file.map_err(Fault::from).and_then(read);
        read.map_err(|fault| ReadError {
            path: self.path.join(name),
            fault,
        })
    }

    /// What one of its files says that is read whole.
    pub(super) fn parse<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Malformed>,
    ) -> Result<T, ReadError> {
        self.read(name, |file| Ok(parse(&text(file)?)?))
    }

    /// What one of its files says under /proc/sys.
    pub(super) fn parse_setting<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Malformed>,
    ) -> Result<T, ReadError> {
        self.read(name, |file| Ok(parse(&setting(&file)?)?))
    }
}

/// Opens a regular file, which all under /proc and /sys are.
///
/// A named pipe or a device in a tree of `--path.procfs` is refused, and without waiting: it would keep its reader's
/// thread indefinitely.
fn open_in(directory: BorrowedFd<'_>, name: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::other("not a regular file")),
    }
}

/// The short name of the process with this directory; `None` where it has ended.
pub(in crate::kernel) fn process_name(process: &Path) -> Option<String> {
    let name = lossy(&process.join("comm"))?;
    Some(name.trim_end_matches('\n').to_owned())
}

/// The text of a file that may have any bytes; `None` where it cannot be read.
pub(in crate::kernel) fn lossy(path: &Path) -> Option<String> {
    let bytes = bounded(open_in(CWD, path).ok()?).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The whole of a file, which must be UTF-8.
fn text(input: impl Read) -> Result<String, Fault> {
    utf8(bounded(input)?, LIMIT_BYTES)
}

/// All bytes, of too many one more than the limit.
fn bounded(mut input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    let most = u64::try_from(LIMIT_BYTES + 1).unwrap_or(u64::MAX);
    input.by_ref().take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The whole content of a file under /proc/sys.
///
/// Such a file answers a `read` from its beginning only: `proc_dointvec` and `proc_do_large_bitmap` in
/// kernel/sysctl.c return nothing from any offset but 0, so that what did not fit into the buffer is lost
/// without a sign. Hence a text that may have been cut is re-read with the largest buffer. Not with that
/// one at once: the kernel allocates and clears as much as is asked for.
pub(super) fn setting(file: &File) -> Result<String, Fault> {
    let mut bytes = vec![0; USUAL_BYTES];
    let mut length = file.read_at(&mut bytes, 0)?;
    if length + CUT_MARGIN_BYTES >= USUAL_BYTES {
        bytes.resize(LONGEST_SETTING_BYTES + 1, 0);
        length = file.read_at(&mut bytes, 0)?;
    }
    bytes.truncate(length);
    utf8(bytes, LONGEST_SETTING_BYTES)
}

/// An error names the line of the first byte that is not UTF-8.
fn utf8(bytes: Vec<u8>, limit_bytes: usize) -> Result<String, Fault> {
    if bytes.len() > limit_bytes {
        return Err(Fault::FileTooLong(limit_bytes));
    }
    String::from_utf8(bytes).map_err(|error| {
        let (before, after) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let is_newline = |byte: &u8| *byte == b'\n';
        let line = before.split(is_newline).count();
        let offending = after.split(is_newline).next().unwrap_or_default();
        Malformed::new(line, offending, "UTF-8").into()
    })
}

/// The lines of a file that may be hundreds of megabytes long, in one buffer.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    number: usize,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(TABLE_BUFFER_BYTES, input),
            line: Vec::with_capacity(LINE_LIMIT_BYTES + 1),
            number: 0,
        }
    }

    /// The next line without its newline, with its number from 1. What stands behind the last newline is a line too,
    /// unless it is empty.
    pub(super) fn next(&mut self) -> Result<Option<(usize, &[u8])>, Fault> {
        self.line.clear();
        self.number += 1;
        let most = u64::try_from(LINE_LIMIT_BYTES + 1).unwrap_or(u64::MAX);
        let mut input = self.input.by_ref().take(most);
        if input.read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        if line.len() > LINE_LIMIT_BYTES {
            return Err(Fault::LineTooLong(self.number, LINE_LIMIT_BYTES));
        }
        Ok(Some((self.number, line)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
    fn a_sysctl_is_read_with_one_small_read_or_again_with_a_large_one_if_truncated() {
        let path = tempfile::tempdir().unwrap();
        let longest = longest_port_bitmap();
        assert!(longest.len() > 240_000, "{}", longest.len());
        let edge = USUAL_BYTES - CUT_MARGIN_BYTES;
        let (usual, whole) = (USUAL_BYTES, longest.len());
        let directories = [Directory::new, Directory::opened].map(|new| new(path.path().into()));
        for length in [0, 1, edge - 1, edge, usual, usual + 1, whole] {
            let text = longest.get(..length).unwrap();
            std::fs::write(path.path().join("setting"), text).unwrap();
            for directory in &directories {
                let read = directory.read("setting", |file| setting(&file));
                assert!(read.unwrap() == text, "{length}");
            }
        }
        for directory in directories {
            let absent = directory.read("absent", |file| setting(&file)).unwrap_err();
            assert_eq!(absent.io_kind(), Some(io::ErrorKind::NotFound));
            assert_eq!(absent.path, path.path().join("absent"));
        }
    }

    #[test]
    fn a_file_that_gives_a_little_at_a_time_is_read_to_its_end() {
        let content = "x".repeat(3 * USUAL_BYTES + 5);
        let nothing: Box<dyn Read> = Box::new(io::empty());
        let pieces = content.as_bytes().chunks(1_000);
        let input = pieces.fold(nothing, |before, chunk| Box::new(before.chain(chunk)));
        assert!(text(input).unwrap() == content);
    }

    #[test]
    fn an_endless_file_is_refused() {
        let read = text(io::repeat(b'x'));
        assert!(matches!(read, Err(Fault::FileTooLong(LIMIT_BYTES))));
        let limit = io::repeat(b'x').take(u64::try_from(LIMIT_BYTES).unwrap());
        assert_eq!(text(limit).unwrap().len(), LIMIT_BYTES);
    }

    #[test]
    fn the_first_byte_that_is_not_utf8_is_reported_with_its_line() {
        let Err(Fault::Malformed(fault)) = text(&b"one\ntwo \xff\xfe\nthree"[..]) else {
            unreachable!();
        };
        assert_eq!((fault.line, &*fault.text), (2, "\u{fffd}\u{fffd}"));
    }

    /// Returns its content in pieces of these sizes, repeatedly.
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
        for (extra, end, is_taken) in [
            (0, "", true),
            (0, "\n", true),
            (1, "", false),
            (1, "\n", false),
        ] {
            let line = "x".repeat(LINE_LIMIT_BYTES + extra) + end;
            let mut lines = Lines::new(line.as_bytes());
            assert_eq!(lines.next().is_ok(), is_taken);
        }
    }

    #[test]
    fn an_endless_line_is_refused_without_being_buffered() {
        let mut lines = Lines::new((&b"one\n"[..]).chain(io::repeat(b'x')));
        assert_eq!(lines.next().unwrap(), Some((1, &b"one"[..])));
        assert!(matches!(
            lines.next(),
            Err(Fault::LineTooLong(2, LINE_LIMIT_BYTES))
        ));
        assert_eq!(lines.line.capacity(), LINE_LIMIT_BYTES + 1);
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
            let mut lines = Lines::new(pieces);
            for (number, line) in (1..).zip(text.lines()) {
                prop_assert_eq!(lines.next().unwrap(), Some((number, line.as_bytes())));
            }
            prop_assert_eq!(lines.next().unwrap(), None);
        }
    }
}

//! Reads a small file whole, in the way that /proc needs it.
//!
//! Knows nothing of what the files say, and does not read the connection table, which is not small.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::error::{Malformed, ReadError};

/// What a file may have. The largest that we read, slabinfo, has some tens of KiB.
const LIMIT_BYTES: usize = 1024 * 1024;

/// For all files but one, whatever they say, and for most the whole.
const USUAL_BYTES: usize = 4 * 1024;

/// For `ip_local_reserved_ports`: two ports of every three, written as ranges, make 262,140 bytes
/// at most, and no set of ports makes more.
const LONGEST_SETTING_BYTES: usize = 256 * 1024;

/// A text that leaves less than this of the buffer may have been cut: longer than one range of ports.
const CUT_MARGIN_BYTES: usize = 16;

/// The whole content of a file, which must be UTF-8.
pub(in crate::kernel) fn read_text(path: &Path) -> Result<String, ReadError> {
    read_text_in(CWD, path, || path.to_owned())
}

/// The same of a file in a directory that [`open_directory`] has opened.
pub(super) fn read_text_in(
    directory: BorrowedFd<'_>,
    name: &Path,
    path: impl Fn() -> PathBuf,
) -> Result<String, ReadError> {
    let bytes = open_in(directory, name).and_then(|mut file| read_bounded(&mut file));
    text_of(bytes, LIMIT_BYTES, path)
}

/// The text of a short file that may have any bytes, such as the name of a process; `None` where it cannot be read.
pub(in crate::kernel) fn read_lossy(path: &Path) -> Option<String> {
    let bytes = open(path).and_then(|mut file| read_bounded(&mut file));
    Some(String::from_utf8_lossy(&bytes.ok()??).into_owned())
}

/// Opens a directory for files to be read from.
pub(super) fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Opens a regular file, which all under /proc and /sys are.
///
/// A named pipe or a device in a tree of `--path.procfs` is refused, and without waiting: it would keep its reader's
/// thread indefinitely.
pub(in crate::kernel) fn open(path: &Path) -> io::Result<File> {
    open_in(CWD, path)
}

fn open_in(directory: BorrowedFd<'_>, name: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::other("not a regular file")),
    }
}

/// The whole content of a setting in a directory under /proc/sys.
///
/// Such a file answers the **first** `read` only: `proc_dointvec` and `proc_do_large_bitmap` in
/// kernel/sysctl.c return nothing from any offset but 0, so that what did not fit into the first buffer is lost
/// without a sign. Hence a text that may have been cut is read anew with the largest buffer. Not with that
/// one at once: the kernel allocates and clears as much as is asked for.
pub(super) fn read_setting(
    directory: BorrowedFd<'_>,
    name: &Path,
    path: impl Fn() -> PathBuf,
) -> Result<String, ReadError> {
    let read = |bytes: usize| read_once(&mut open_in(directory, name)?, bytes);
    let bytes = read(USUAL_BYTES).and_then(|bytes| {
        if bytes.len() + CUT_MARGIN_BYTES < USUAL_BYTES {
            return Ok(Some(bytes));
        }
        let bytes = read(LONGEST_SETTING_BYTES)?;
        Ok((bytes.len() < LONGEST_SETTING_BYTES).then_some(bytes))
    });
    text_of(bytes, LONGEST_SETTING_BYTES, path)
}

fn text_of(
    bytes: io::Result<Option<Vec<u8>>>,
    limit_bytes: usize,
    path: impl Fn() -> PathBuf,
) -> Result<String, ReadError> {
    let bytes = bytes
        .map_err(|source| ReadError::Io {
            path: path(),
            source,
        })?
        .ok_or_else(|| ReadError::TooLarge {
            path: path(),
            limit_bytes,
        })?;
    String::from_utf8(bytes).map_err(|error| ReadError::Malformed {
        path: path(),
        fault: not_utf8(error.as_bytes(), error.utf8_error().valid_up_to()),
    })
}

/// What the first `read` gives.
fn read_once(input: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; most];
    loop {
        match input.read(&mut buffer) {
            Ok(count) => {
                buffer.truncate(count);
                return Ok(buffer);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Everything that `input` gives, or nothing where that is more than [`LIMIT_BYTES`].
fn read_bounded(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; USUAL_BYTES];
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
    use std::os::fd::AsFd as _;

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
    fn a_setting_is_taken_with_one_read_and_anew_with_a_large_one_if_it_may_be_cut() {
        let directory = tempfile::tempdir().unwrap();
        let longest = longest_port_bitmap();
        assert!(longest.len() > 240_000, "{}", longest.len());
        let edge = USUAL_BYTES - CUT_MARGIN_BYTES;
        for length in [
            0,
            1,
            edge - 1,
            edge,
            USUAL_BYTES,
            USUAL_BYTES + 1,
            longest.len(),
        ] {
            let text = longest.get(..length).unwrap();
            std::fs::write(directory.path().join("setting"), text).unwrap();
            let opened = open_directory(directory.path()).unwrap();
            let read = read_setting(opened.as_fd(), Path::new("setting"), || {
                PathBuf::from("setting")
            });
            assert!(read.unwrap() == text, "{length}");
        }
        let opened = open_directory(directory.path()).unwrap();
        let absent = read_setting(opened.as_fd(), Path::new("absent"), || {
            PathBuf::from("absent")
        });
        assert!(matches!(
            absent,
            Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound
        ));
    }

    #[test]
    fn a_file_that_gives_a_little_at_a_time_is_read_to_its_end() {
        let content = vec![b'x'; 3 * USUAL_BYTES + 5];
        let nothing: Box<dyn Read> = Box::new(io::empty());
        let mut input = content
            .chunks(1_000)
            .fold(nothing, |before, chunk| Box::new(before.chain(chunk)));
        let bytes = read_bounded(&mut input).unwrap().unwrap();
        assert!(bytes == content);
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let read = read_bounded(&mut io::repeat(b'x')).unwrap();
        assert_eq!(read, None);
        let mut limit = io::repeat(b'x').take(u64::try_from(LIMIT_BYTES).unwrap());
        let read = read_bounded(&mut limit).unwrap();
        assert_eq!(read.unwrap().len(), LIMIT_BYTES);
    }

    #[test]
    fn the_first_byte_that_is_not_utf8_is_told_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, b"one\ntwo \xff\xfe\nthree").unwrap();
        let error = read_text(&path).unwrap_err();
        let ReadError::Malformed { fault, .. } = &error else {
            unreachable!("{error}");
        };
        assert_eq!(fault.line, 2);
        assert_eq!(fault.text.as_str(), "\u{fffd}\u{fffd}");
    }
}

//! A listening socket in the file system.
//!
//! **Invariant:** nothing is removed that is not a socket without an answer, or our own.
//!
//! A program that was killed leaves its socket behind, and bind() then fails with EADDRINUSE. connect()
//! shows whether a program listens. Two programs that check this at the same time would remove each
//! other's sockets; a lock prevents that. It is on a temporary file of ours next to the socket, not on the
//! directory, which anyone who can read it could lock.
//!
//! Who may connect is decided by the directory and the process's umask, as the kernel has it.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use tracing::warn;

/// How long another program may have the lock. Ours has it for a few system calls.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

const ANSWERED: &str =
    "another program listens on this path: end it, or choose another path (ss -xlp shows it)";

const NOT_A_SOCKET: &str =
    "a file that is not a socket has this path: remove it, or choose another path";

/// How long another program's backlog may be full until it counts as one that listens.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(100);

/// How often the lock is tried.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// A file by device and inode, which is removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path, found: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            identity: identity(found),
        }
    }

    fn is_still_there(&self) -> bool {
        // Of the name itself, be it a link.
        fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_still_there() {
            // Somebody else may have removed it, or the directory be closed to us: nothing to do.
            let _removed = fs::remove_file(&self.path);
        }
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Makes a socket that listens, in place of one on which nobody does. May block for [`LOCK_TIMEOUT`].
pub(super) fn bind(path: &Path) -> Result<(OwnedFd, SocketFile), String> {
    let _lock = lock(path);
    let mut bound = UnixListener::bind(path);
    if matches!(&bound, Err(error) if error.kind() == ErrorKind::AddrInUse) {
        remove_if_nobody_answers(path)?;
        bound = UnixListener::bind(path);
    }
    let listener = bound.map_err(|error| match path.parent() {
        Some(parent) if error.kind() == ErrorKind::NotFound => {
            format!("the directory {}: {error}", parent.display())
        }
        _ => error.to_string(),
    })?;
    let found = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    Ok((listener.into(), SocketFile::new(path, &found)))
}

fn remove_if_nobody_answers(path: &Path) -> Result<(), String> {
    let unclear = |error| {
        format!(
            "a socket has this path, and it is not clear whether a program listens on it: {error}"
        )
    };
    let found = fs::symlink_metadata(path).map_err(unclear)?;
    if !found.file_type().is_socket() {
        return Err(NOT_A_SOCKET.to_owned());
    }
    match connect(path, CONNECT_TIMEOUT) {
        // It may accept nothing.
        Ok(_) | Err(Errno::AGAIN) => Err(ANSWERED.to_owned()),
        Err(Errno::CONNREFUSED) => fs::remove_file(path)
            .map_err(|error| format!("cannot remove the stale socket that has this path: {error}")),
        Err(errno) => Err(unclear(errno.into())),
    }
}

/// Connects. EAGAIN is that the backlog has been full for this long.
pub(crate) fn connect(path: &Path, timeout: Duration) -> Result<OwnedFd, Errno> {
    let family = AddressFamily::UNIX;
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Locks a file next to the socket, which nobody else may open, and removes it when dropped. `None`, after
/// a while and with a warning, if that fails: anyone who may write to the directory could otherwise keep
/// us from starting.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing says that another program has released its lock"
)]
fn lock(socket: &Path) -> Option<(SocketFile, File)> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let begin = Instant::now();
    let reason = loop {
        match try_lock(path.as_ref()) {
            Ok(Some(lock)) => return Some(lock),
            Ok(None) if begin.elapsed() < LOCK_TIMEOUT => std::thread::sleep(LOCK_POLL),
            Ok(None) => break "another program has locked it (lslocks shows it)".to_owned(),
            // bind() says it too, and better.
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => break error.to_string(),
        }
    };
    warn!(
        path = %path.display(),
        reason,
        "Cannot lock this file; another exporter that starts at the same time may replace the socket"
    );
    None
}

/// `None` if another program has it.
fn try_lock(path: &Path) -> io::Result<Option<(SocketFile, File)>> {
    // Not through a link, and not waiting for the other end of a pipe.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = open(path, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?;
    let file = File::from(file);
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(None),
        locked => locked?,
    }
    let found = file.metadata()?;
    if !found.is_file() || found.len() > 0 {
        return Err(io::Error::other("another program's file has this path"));
    }
    // The program that had it before may have removed it since it was opened.
    let lock = SocketFile::new(path, &found);
    Ok(lock.is_still_there().then_some((lock, file)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        (directory, path)
    }

    #[test]
    fn a_socket_is_created_answers_and_is_removed_afterwards() {
        let (_directory, path) = place();
        let (listener, file) = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(fs::symlink_metadata(&path).is_err());
        drop(listener);
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let (_directory, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        let (_listener, _file) = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_with_a_listener_stays() {
        let (_directory, path) = place();
        let first = UnixListener::bind(&path).unwrap();
        let error = bind(&path).unwrap_err();
        assert_eq!(error, ANSWERED);
        first.accept().unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_of_a_program_that_accepts_nothing_stays_and_is_not_waited_for_indefinitely() {
        let (_directory, path) = place();
        let first = UnixListener::bind(&path).unwrap();
        // Room for one.
        rustix::net::listen(&first, 0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        let timeout = Duration::from_millis(1);
        assert_eq!(connect(&path, timeout).unwrap_err(), Errno::AGAIN);
        let (done, result) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(bind(&path)));
        let result = result.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(result.unwrap_err(), ANSWERED);
    }

    #[test]
    fn a_socket_of_another_type_with_a_listener_stays() {
        let (_directory, path) = place();
        let other = UnixDatagram::bind(&path).unwrap();
        let error = bind(&path).unwrap_err();
        assert!(error.contains("not clear"), "{error}");
        UnixDatagram::unbound()
            .unwrap()
            .send_to(b"x", &path)
            .unwrap();
        other.recv(&mut [0]).unwrap();
    }

    #[test]
    fn a_file_that_is_not_a_socket_stays() {
        let (directory, path) = place();
        let stale = directory.path().join("stale");
        drop(UnixListener::bind(&stale).unwrap());
        for kind in ["file", "folder", "link"] {
            match kind {
                "file" => fs::write(&path, "mine").unwrap(),
                "folder" => fs::create_dir(&path).unwrap(),
                // Even a link to a stale socket.
                _ => std::os::unix::fs::symlink(&stale, &path).unwrap(),
            }
            let error = bind(&path).unwrap_err();
            assert_eq!(error, NOT_A_SOCKET, "{kind}");
            fs::remove_file(&path)
                .or_else(|_| fs::remove_dir(&path))
                .unwrap();
        }
        assert!(fs::symlink_metadata(&stale).is_ok());
    }

    #[test]
    fn a_file_that_replaced_the_socket_is_not_removed_at_the_end() {
        let (_directory, path) = place();
        let (_listener, file) = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _successor = UnixListener::bind(&path).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_missing_directory_is_named() {
        let (directory, _) = place();
        let missing = directory.path().join("none");
        let error = bind(&missing.join("x.sock")).unwrap_err();
        let text = error;
        assert!(text.contains(&missing.display().to_string()), "{text}");
    }

    #[test]
    fn of_many_concurrent_starts_one_listens() {
        let (_directory, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        let starts: Vec<_> = (0..20)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || bind(&path))
            })
            .collect();
        let results: Vec<_> = starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect();
        let mut listening = results.iter().flatten();
        let (listener, _file) = listening.next().unwrap();
        assert!(listening.next().is_none());
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(error, ANSWERED);
        }
        UnixStream::connect(&path).unwrap();
        UnixListener::from(listener.try_clone().unwrap())
            .accept()
            .unwrap();
    }

    #[test]
    fn a_lock_of_another_user_on_the_directory_does_not_matter() {
        let (directory, path) = place();
        let holder = File::open(directory.path()).unwrap();
        holder.lock().unwrap();
        let begin = std::time::Instant::now();
        bind(&path).unwrap();
        assert!(begin.elapsed() < LOCK_TIMEOUT);
    }

    #[test]
    fn a_writable_unreadable_directory_suffices() {
        use std::os::unix::fs::PermissionsExt as _;
        let (directory, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        let allow = |mode| {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        };
        allow(0o300);
        let made = bind(&path);
        allow(0o700);
        made.unwrap();
    }

    #[test]
    fn a_permanent_lock_is_waited_for_for_a_second() {
        let (directory, path) = place();
        let locked = lock(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        // The same as with the lock: a socket with a listener stays, a stale one is replaced.
        let error = bind(&path).unwrap_err();
        assert_eq!(error, ANSWERED);
        drop(listener);
        let _successor = bind(&path).unwrap();
        drop(locked);
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn another_file_with_the_locks_name_is_kept_and_does_not_matter() {
        for kind in ["file", "folder", "link", "pipe"] {
            let (directory, path) = place();
            let name = directory.path().join("x.sock.lock");
            let mode = nix::sys::stat::Mode::S_IRWXU;
            match kind {
                "file" => fs::write(&name, "mine").unwrap(),
                "folder" => fs::create_dir(&name).unwrap(),
                "link" => std::os::unix::fs::symlink("elsewhere", &name).unwrap(),
                _ => nix::unistd::mkfifo(&name, mode).unwrap(),
            }
            bind(&path).unwrap();
            assert!(fs::symlink_metadata(&name).is_ok(), "{kind}");
            assert!(fs::symlink_metadata(directory.path().join("elsewhere")).is_err());
        }
    }
}

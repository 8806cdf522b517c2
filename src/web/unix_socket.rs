//! A listening socket in the file system.
//!
//! **Invariant:** nothing is removed that is not a socket without an answer, or our own.
//!
//! A program that was killed leaves its socket behind, and bind() takes the name for used. Whether
//! somebody listens shows in connect(). Two programs that find out so at the same time would remove
//! each other's sockets; a lock keeps them apart. It is on a file of ours next to the socket, which is
//! there for as long as it takes: anybody who may read the directory could hold a lock on that.
//!
//! Who may connect is decided by the directory and the process's umask, as the kernel has it. Does
//! not know what is served.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use tracing::warn;

/// How long another program may hold the lock. Ours hold it for a few system calls.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Without the lock: how long somebody may have bound the socket and not yet listen on it.
const LISTEN_TIMEOUT: Duration = Duration::from_millis(200);

/// How often the lock is tried.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// Why there is no socket in the file system.
#[derive(Debug, thiserror::Error)]
pub enum UnixSocketError {
    /// The directory is missing.
    #[error("the directory {}: {source}", .directory.display())]
    Directory {
        /// Where the socket was to be.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody listens there.
    #[error("another program listens there: end it, or choose another path (ss -xlp shows it)")]
    Answered,
    /// There is something else of this name.
    #[error(
        "there is something else of this name, which is left alone: remove it, or choose another path"
    )]
    NotASocket,
    /// Whether somebody listens there cannot be found out.
    #[error(
        "there is a socket already, and whether somebody listens on it cannot be told: {source}"
    )]
    Unclear {
        /// What connect() said.
        source: io::Error,
    },
    /// The socket left by another program cannot be removed.
    #[error("the socket there, on which nobody listens, cannot be removed: {source}")]
    Remove {
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{source}")]
    Refused {
        /// What the kernel said.
        source: io::Error,
    },
}

/// A socket's file, which is removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

type Identity = (u64, u64);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = look(&self.path).is_ok_and(|now| identity(&now) == self.identity);
        if is_ours {
            // Somebody else may have removed it, or the directory be closed to us: nothing to do.
            let _removed = fs::remove_file(&self.path);
        }
    }
}

/// Makes a socket that listens, in place of one on which nobody does. Runs into the file system, once.
pub(super) async fn bind(path: &Path) -> Result<(UnixListener, SocketFile), UnixSocketError> {
    let lock = Lock::take(path).await;
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            if lock.is_none() {
                // Somebody may be about to listen on it, whom the lock would have kept apart.
                wait_for_a_listener(path).await;
            }
            remove_if_nobody_answers(path)?;
            UnixListener::bind(path)
        }
        result => result,
    };
    let refused = |source: io::Error| match source.kind() {
        ErrorKind::NotFound => UnixSocketError::Directory {
            directory: path.parent().unwrap_or(path).to_owned(),
            source,
        },
        _ => UnixSocketError::Refused { source },
    };
    let listener = listener.map_err(refused)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(&look(path).map_err(refused)?),
    };
    Ok((listener, file))
}

/// Holds a file next to the socket, which nobody else may open, and removes it when dropped.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// `None`, after a while and with a word in the log, if it is not to be had: whoever may write to the
    /// directory could otherwise keep us from starting.
    async fn take(socket: &Path) -> Option<Self> {
        let mut name = socket.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let begin = tokio::time::Instant::now();
        let reason = loop {
            match Self::try_to_take(&path) {
                Ok(Some(lock)) => return Some(lock),
                Ok(None) if begin.elapsed() < LOCK_TIMEOUT => {
                    tokio::time::sleep(LOCK_POLL).await;
                }
                Ok(None) => break "another program holds it (lslocks shows it)".to_owned(),
                // bind() says it too, and better.
                Err(error) if error.kind() == ErrorKind::NotFound => return None,
                Err(error) => break error.to_string(),
            }
        };
        warn!(
            path = %path.display(),
            reason,
            "Cannot lock this file; another exporter that starts just now may take over the socket"
        );
        None
    }

    /// `None` if another program has it.
    fn try_to_take(path: &Path) -> io::Result<Option<Self>> {
        // Not through a link, and not waiting for the other end of a pipe.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => return Ok(None),
        }
        // Whoever had it before may have removed it since it was opened.
        let lock = Self {
            path: path.to_owned(),
            file,
        };
        Ok(lock.is_the_one_there().then_some(lock))
    }

    fn is_the_one_there(&self) -> bool {
        let (ours, there) = (self.file.metadata(), look(&self.path));
        matches!((ours, there), (Ok(ours), Ok(there)) if identity(&ours) == identity(&there))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // What has something in it is no file of ours.
        let is_empty = { self.file.metadata() }.is_ok_and(|it| it.is_file() && it.len() == 0);
        if is_empty && self.is_the_one_there() {
            // While it is still locked. If it stays it does no harm.
            let _removed = fs::remove_file(&self.path);
        }
    }
}

/// Until somebody listens there, or the time is over in which somebody would.
async fn wait_for_a_listener(path: &Path) {
    let begin = tokio::time::Instant::now();
    while begin.elapsed() < LISTEN_TIMEOUT && is_refused(path) {
        tokio::time::sleep(LOCK_POLL).await;
    }
}

fn is_refused(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn remove_if_nobody_answers(path: &Path) -> Result<(), UnixSocketError> {
    let found = look(path).map_err(|source| UnixSocketError::Unclear { source })?;
    if !found.file_type().is_socket() {
        return Err(UnixSocketError::NotASocket);
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(UnixSocketError::Answered),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|source| UnixSocketError::Remove { source })
        }
        Err(source) => Err(UnixSocketError::Unclear { source }),
    }
}

/// At the name itself, be it a link.
fn look(path: &Path) -> io::Result<Metadata> {
    fs::symlink_metadata(path)
}

fn identity(found: &Metadata) -> Identity {
    (found.dev(), found.ino())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        (directory, path)
    }

    #[tokio::test]
    async fn a_socket_is_made_answers_and_is_gone_afterwards() {
        let (_directory, path) = place();
        let (listener, file) = bind(&path).await.unwrap();
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(look(&path).is_err());
        drop(listener);
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_makes_way() {
        let (_directory, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        assert!(look(&path).unwrap().file_type().is_socket());
        let (_listener, _file) = bind(&path).await.unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn a_socket_on_which_somebody_listens_stays() {
        let (_directory, path) = place();
        let first = UnixListener::bind(&path).unwrap();
        let error = bind(&path).await.unwrap_err();
        assert!(matches!(error, UnixSocketError::Answered), "{error}");
        first.accept().unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn a_socket_of_another_kind_with_somebody_behind_stays() {
        let (_directory, path) = place();
        let other = UnixDatagram::bind(&path).unwrap();
        let error = bind(&path).await.unwrap_err();
        assert!(matches!(error, UnixSocketError::Unclear { .. }), "{error}");
        UnixDatagram::unbound()
            .unwrap()
            .send_to(b"x", &path)
            .unwrap();
        other.recv(&mut [0]).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let (directory, path) = place();
        let stale = directory.path().join("stale");
        drop(UnixListener::bind(&stale).unwrap());
        for kind in ["file", "folder", "link"] {
            match kind {
                "file" => fs::write(&path, "mine").unwrap(),
                "folder" => fs::create_dir(&path).unwrap(),
                // What a link points to may be anything.
                _ => std::os::unix::fs::symlink(&stale, &path).unwrap(),
            }
            let error = bind(&path).await.unwrap_err();
            assert!(
                matches!(error, UnixSocketError::NotASocket),
                "{kind}: {error}"
            );
            fs::remove_file(&path)
                .or_else(|_| fs::remove_dir(&path))
                .unwrap();
        }
        assert!(look(&stale).is_ok());
    }

    #[tokio::test]
    async fn another_ones_file_is_not_removed_at_the_end() {
        let (_directory, path) = place();
        let (_listener, file) = bind(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        let _successor = UnixListener::bind(&path).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn a_missing_directory_is_named() {
        let (directory, _) = place();
        let missing = directory.path().join("none");
        let error = bind(&missing.join("x.sock")).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&missing.display().to_string()), "{text}");
    }

    #[tokio::test]
    async fn of_many_that_start_at_once_one_listens() {
        let (_directory, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        let starts: Vec<_> = (0..20)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread();
                    let runtime = { runtime }.enable_all().build().unwrap();
                    runtime.block_on(bind(&path))
                })
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
            assert!(matches!(error, UnixSocketError::Answered), "{error}");
        }
        UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
    }

    #[tokio::test]
    async fn a_lock_on_the_directory_which_anybody_may_hold_does_not_matter() {
        let (directory, path) = place();
        let holder = File::open(directory.path()).unwrap();
        holder.lock().unwrap();
        let begin = std::time::Instant::now();
        bind(&path).await.unwrap();
        assert!(begin.elapsed() < LOCK_TIMEOUT);
    }

    #[tokio::test]
    async fn a_directory_that_may_be_written_and_not_read_will_do() {
        use std::os::unix::fs::PermissionsExt as _;
        let (directory, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        let allow = |mode| {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        };
        allow(0o300);
        let made = bind(&path).await;
        allow(0o700);
        made.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_that_stays_is_not_waited_for_for_ever() {
        let (directory, path) = place();
        let lock = Lock::take(&path).await.unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        // What holds without the lock, too: who listens stays, who is gone makes way.
        let error = bind(&path).await.unwrap_err();
        assert!(matches!(error, UnixSocketError::Answered), "{error}");
        drop(listener);
        let _successor = bind(&path).await.unwrap();
        drop(lock);
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn something_else_of_the_lock_s_name_is_left_alone_and_stops_nobody() {
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
            bind(&path).await.unwrap();
            assert!(look(&name).is_ok(), "{kind}");
            assert!(look(&directory.path().join("elsewhere")).is_err());
        }
    }
}

//! Enters a network namespace, and returns.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::domain::namespace::NamespaceIdentity;

use super::listing::{FoundNamespace, NamespaceKey, NamespaceLister, process_file};

/// Always the real procfs: `--path.procfs` may be one of a host whose processes are not ours. The main
/// thread never leaves.
const OWN: &str = "/proc/self/ns/net";

/// The same of the thread that reads it (Linux 3.17).
const HERE: &str = "/proc/thread-self/ns/net";

/// The file of a namespace could not be opened, or the namespace not entered.
#[derive(Debug, thiserror::Error)]
#[error("cannot enter the network namespace through {}: {source}{}", path.display(), what_it_takes(source))]
pub(crate) struct EnterError {
    /// The last file that was tried: another one where processes come and go.
    path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// What setns(2) may want, which a process can have in its own user namespace and lack in another.
fn what_it_takes(error: &io::Error) -> &'static str {
    if Errno::from_io_error(error) == Some(Errno::PERM) {
        " (it takes CAP_SYS_ADMIN in the user namespace that it belongs to)"
    } else {
        ""
    }
}

/// The namespace that the exporter began in, for a thread to go back to.
pub(crate) struct Home {
    file: File,
    /// Which one it is.
    pub key: NamespaceKey,
}

impl Home {
    /// The namespace of the process' main thread.
    ///
    /// # Errors
    /// There is no /proc, or no descriptor to be had.
    pub(crate) fn open() -> io::Result<Self> {
        let file = File::open(OWN)?;
        let key = NamespaceKey::of(&file.metadata()?);
        Ok(Self { file, key })
    }

    /// Moves the calling thread into another namespace. Nothing is left open. False where it has gone since it was
    /// listed: none of its files leads to it any more.
    #[expect(
        clippy::unused_self,
        reason = "only a thread that can return may leave"
    )]
    pub(crate) fn leave_for(
        &self,
        lister: &NamespaceLister,
        found: &FoundNamespace,
    ) -> Result<bool, EnterError> {
        let of_process = |pid: &u32| process_file(&lister.procfs, *pid);
        let files = found.files.iter().cloned();
        let mut failure = None;
        for path in files.chain(found.pids.iter().map(of_process)) {
            match enter(&path, found.key) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(source) => failure = Some(EnterError { path, source }),
            }
        }
        failure.map_or(Ok(false), Err)
    }

    /// Moves the calling thread back. One that never left needs no capability.
    ///
    /// # Errors
    /// The capability was dropped meanwhile.
    pub(crate) fn come_back(&self) -> io::Result<()> {
        move_to(&self.file).or_else(|error| {
            let here = fs::metadata(HERE).ok();
            let is_home = here.is_some_and(|here| NamespaceKey::of(&here) == self.key);
            if is_home { Ok(()) } else { Err(error) }
        })
    }
}

/// Whether it was entered.
fn enter(path: &Path, key: NamespaceKey) -> io::Result<bool> {
    let entered = File::open(path).and_then(|file| {
        // It may lead elsewhere by now.
        let is_there = NamespaceKey::of(&file.metadata()?) == key;
        if is_there {
            move_to(&file)?;
        }
        Ok(is_there)
    });
    entered.or_else(|error| match Errno::from_io_error(&error) {
        // It has gone, or is of another kind: somebody gave such a one a name.
        Some(Errno::NOENT | Errno::SRCH | Errno::INVAL) => Ok(false),
        _ => Err(error),
    })
}

/// Runs something on a thread of its own inside a namespace, which ends with it.
///
/// # Errors
/// The namespace has gone, may not be entered, or there is no thread to be had.
pub fn inside<T: Send>(
    identity: &NamespaceIdentity,
    run: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    let path = identity.entrance.as_ref();
    let file = File::open(path.ok_or(io::ErrorKind::NotFound)?)?;
    if file.metadata()?.ino() != identity.inode {
        return Err(io::ErrorKind::NotFound.into());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            move_to(&file)?;
            Ok(run())
        })?;
        let result = thread.join();
        result.unwrap_or_else(|_panic| Err(io::Error::other("the thread inside panicked")))
    })
}

fn move_to(file: &File) -> io::Result<()> {
    Ok(move_into_link_name_space(
        file.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

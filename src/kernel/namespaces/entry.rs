//! The way into a network namespace, and back.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::domain::namespace::NamespaceIdentity;

use super::listing::{FoundNamespace, NamespaceKey, NamespaceLister, has_gone};

/// Always the real procfs: `--path.procfs` may be one of a host whose processes are not ours. The main
/// thread never leaves.
const OWN: &str = "/proc/self/ns/net";

/// The same of the thread that looks (Linux 3.17).
const HERE: &str = "/proc/thread-self/ns/net";

/// Why a namespace was not entered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnterError {
    /// It has gone since it was listed. Not an error.
    #[error("the network namespace has gone")]
    Gone,
    /// The way in could not be opened, or may not be gone.
    #[error("cannot enter the network namespace through {}: {source}{}", path.display(), what_it_takes(source))]
    Failed {
        /// The last file that was tried.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl EnterError {
    /// The same without the file, which is another one where processes come and go.
    #[must_use]
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Gone => self.to_string(),
            Self::Failed { path: _, source } => source.to_string(),
        }
    }
}

/// What setns(2) may want, which a process can have in its own user namespace and lack in another.
fn what_it_takes(error: &io::Error) -> &'static str {
    if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
        " (it takes CAP_SYS_ADMIN in the user namespace that it belongs to)"
    } else {
        ""
    }
}

/// The namespace that the exporter began in, for a thread to go back to.
#[derive(Debug)]
pub(crate) struct Home {
    file: File,
    key: NamespaceKey,
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

    /// Which one it is.
    #[must_use]
    pub(crate) const fn key(&self) -> NamespaceKey {
        self.key
    }

    /// Moves the calling thread into another namespace. Nothing is left open.
    ///
    /// # Errors
    /// [`EnterError::Gone`] where none of its files leads to it any more.
    #[expect(
        clippy::unused_self,
        reason = "only a thread that can return may leave"
    )]
    pub(crate) fn leave_for(
        &self,
        lister: &NamespaceLister,
        found: &FoundNamespace,
    ) -> Result<(), EnterError> {
        let mut last = EnterError::Gone;
        for path in lister.doors(found) {
            match enter(&path, found.key) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(source) if has_gone(&source) => {}
                Err(source) => last = EnterError::Failed { path, source },
            }
        }
        Err(last)
    }

    /// Moves the calling thread back. One that never left needs no right to.
    ///
    /// # Errors
    /// The right to move was taken away meanwhile.
    pub(crate) fn come_back(&self) -> io::Result<()> {
        move_to(&self.file).or_else(|error| {
            let here = fs::metadata(HERE).ok();
            let is_home = here.is_some_and(|here| NamespaceKey::of(&here) == self.key);
            if is_home { Ok(()) } else { Err(error) }
        })
    }
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
    let path = path.ok_or(io::ErrorKind::NotFound)?;
    let file = File::open(path)?;
    if file.metadata()?.ino() != identity.inode {
        return Err(io::ErrorKind::NotFound.into());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            move_to(&file)?;
            Ok(run())
        })?;
        thread.join().unwrap_or_else(|_panic| {
            Err(io::Error::other(
                "the thread inside the network namespace panicked",
            ))
        })
    })
}

/// Whether it was entered: the file may lead elsewhere by now.
fn enter(path: &PathBuf, key: NamespaceKey) -> io::Result<bool> {
    let file = File::open(path)?;
    if NamespaceKey::of(&file.metadata()?) != key {
        return Ok(false);
    }
    match move_to(&file) {
        // A namespace of another kind, which somebody gave a name there.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(false),
        result => result.map(|()| true),
    }
}

fn move_to(file: &File) -> io::Result<()> {
    Ok(move_into_link_name_space(
        file.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

//! Reads the file and what it names, again whenever it is asked.
//!
//! What has not changed is not parsed again: the bytes are compared, so there is no date that could
//! mislead. A trouble is told once, and its end. Blocks while a file is read: not for async threads.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;
use rustls::ServerConfig;
use tracing::{error, info, warn};

use super::error::{FileError, WebFileError};
use super::tls::Texts;
use super::{Warning, WebFile};

/// No file of this kind is as long.
const LONGEST_FILE: u64 = 1024 * 1024;

/// The file of `--web.config.file`.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    state: Mutex<State>,
}

/// What was read last.
#[derive(Default)]
struct State {
    file: Option<(Vec<u8>, Arc<WebFile>)>,
    tls: Option<(Arc<WebFile>, Texts, Arc<ServerConfig>)>,
    file_trouble: Option<String>,
    tls_trouble: Option<String>,
}

/// It has keys and hashes.
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl Source {
    /// Reads everything for the first time, and refuses what would not work.
    pub fn open(path: PathBuf) -> Result<(Self, Arc<WebFile>, Vec<Warning>), WebFileError> {
        let mut source = Self {
            path,
            state: Mutex::default(),
        };
        let mut state = State::default();
        let file = source.read_file(&mut state)?;
        file.users.check()?;
        let mut warnings = Vec::new();
        if file.tls.is_enabled() {
            let texts = file.tls.read(read)?;
            warnings = file.tls.load(&texts)?.warnings;
        }
        source.state = Mutex::new(state);
        Ok((source, file, warnings))
    }

    /// What the file says now. `None` if it is broken, which the log tells.
    #[must_use]
    pub fn now(&self) -> Option<Arc<WebFile>> {
        let mut state = self.lock();
        let result = self.read_file(&mut state);
        note(&mut state.file_trouble, &result, "web config file");
        result.ok()
    }

    /// What a handshake needs now. `None` if anything is broken, which the log tells.
    #[must_use]
    pub fn tls_now(&self) -> Option<Arc<ServerConfig>> {
        let file = self.now()?;
        let mut state = self.lock();
        let result = Self::read_tls(&mut state, &file);
        note(&mut state.tls_trouble, &result, "TLS configuration");
        result.ok()
    }

    fn read_file(&self, state: &mut State) -> Result<Arc<WebFile>, WebFileError> {
        let bytes = read(&self.path)?;
        if let Some((known, file)) = &state.file
            && *known == bytes
        {
            return Ok(Arc::clone(file));
        }
        let directory = self.path.parent().unwrap_or(Path::new(""));
        let file = Arc::new(WebFile::parse(&bytes, directory)?);
        for user in file.users.with_colon() {
            warn!(
                user,
                "Web configuration: basic_auth_users: a name with a colon can never log in"
            );
        }
        state.file = Some((bytes, Arc::clone(&file)));
        Ok(file)
    }

    fn read_tls(state: &mut State, file: &Arc<WebFile>) -> Result<Arc<ServerConfig>, WebFileError> {
        if !file.tls.is_enabled() {
            return Err(WebFileError::TlsGone);
        }
        let texts = file.tls.read(read)?;
        if let Some((of, known, config)) = &state.tls
            && Arc::ptr_eq(of, file)
            && *known == texts
        {
            return Ok(Arc::clone(config));
        }
        let loaded = file.tls.load(&texts)?;
        state.tls = Some((Arc::clone(file), texts, Arc::clone(&loaded.config)));
        Ok(loaded.config)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What it guards is whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what has changed since the last time.
fn note<T>(trouble: &mut Option<String>, result: &Result<T, WebFileError>, what: &'static str) {
    let now = result.as_ref().err().map(ToString::to_string);
    if *trouble == now {
        return;
    }
    if let Some(err) = &now {
        error!(err = err.as_str(), what, "Unable to parse configuration");
    } else {
        info!(what, "Configuration can be used again");
    }
    *trouble = now;
}

/// A file's bytes, if it is a file of a sensible length.
fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Io {
        path: path.to_owned(),
        source,
    };
    let file = open(path).map_err(failed)?;
    let kind = file.metadata().map_err(failed)?.file_type();
    if kind.is_fifo() || kind.is_socket() {
        return Err(FileError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    let length = file
        .take(LONGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if u64::try_from(length).is_ok_and(|length| length <= LONGEST_FILE) {
        Ok(bytes)
    } else {
        Err(FileError::TooLong {
            path: path.to_owned(),
            limit: LONGEST_FILE,
        })
    }
}

/// Not waiting for anyone to open the other end of a pipe.
fn open(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::NONBLOCK.bits();
    OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags).unwrap_or_default())
        .open(path)
}

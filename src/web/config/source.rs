//! Reads the file and what it names, again whenever it is asked.
//!
//! What has not changed is not parsed again: the bytes are compared, so there is no date that could
//! mislead. A fault is logged once, and its end. Blocks while a file is read: not for async threads.
//!
//! **Invariant:** a file that is half written does not let anyone in. When what keeps clients out is gone
//! from it, without a word that this is meant, it is a fault until it has not changed for [`SETTLED`].

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustls::ServerConfig;
use tracing::{error, info, warn};

use super::document::WebFile;
use super::error::{ConfigError, FileError};
use super::tls::Texts;

/// No file of this kind is as long.
const LONGEST_FILE: u64 = 1024 * 1024;

/// For so long a file must be the same before it is believed that nobody is asked for a password.
const SETTLED: Duration = Duration::from_secs(5);

/// The file of `--web.config.file`.
pub struct Source {
    path: PathBuf,
    state: Mutex<State>,
}

/// What was read last.
#[derive(Default)]
struct State {
    file: Option<(Vec<u8>, Arc<WebFile>)>,
    tls: Option<(Arc<WebFile>, Texts, Arc<ServerConfig>)>,
    /// Since when the file has been without what kept clients out, and which it was then.
    lost: Option<(Instant, Identity)>,
    file_fault: Option<String>,
    tls_fault: Option<String>,
}

/// It has keys and hashes.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Source").field(&self.path).finish()
    }
}

impl Source {
    /// Reads everything for the first time, and refuses what would not work. The texts are warnings.
    pub fn open(path: PathBuf) -> Result<(Self, Arc<WebFile>, Vec<String>), ConfigError> {
        let source = Self {
            path,
            state: Mutex::default(),
        };
        let file = source.read_file(&mut source.lock())?;
        file.users.check()?;
        let mut warnings = Vec::new();
        if file.tls.is_enabled() {
            let texts = file.tls.read(source.directory(), read)?;
            warnings = file.tls.load(&texts)?.1;
        }
        Ok((source, file, warnings))
    }

    /// What the file says now. `None` if it is unusable, which is logged.
    #[must_use]
    pub fn now(&self) -> Option<Arc<WebFile>> {
        let mut state = self.lock();
        let result = self.read_file(&mut state);
        note(&mut state.file_fault, &result, "web config file");
        result.ok()
    }

    /// What a handshake needs now. `None` if anything is unusable, which is logged.
    #[must_use]
    pub(crate) fn tls_now(&self) -> Option<Arc<ServerConfig>> {
        let file = self.now()?;
        let mut state = self.lock();
        let result = self.read_tls(&mut state, &file);
        note(&mut state.tls_fault, &result, "TLS configuration");
        result.ok()
    }

    fn read_file(&self, state: &mut State) -> Result<Arc<WebFile>, ConfigError> {
        let (bytes, identity) = read_identified(&self.path)?;
        if let Some((known, file)) = &state.file
            && *known == bytes
        {
            state.lost = None;
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(WebFile::parse(&bytes)?);
        let before = state.file.as_ref().map(|(_, file)| file);
        if let Some((key, explicit)) = before.and_then(|before| file.lost_since(before)) {
            let now = Instant::now();
            let (since, of) = state.lost.get_or_insert((now, identity));
            if *of != identity {
                (*since, *of) = (now, identity);
            }
            if since.elapsed() < SETTLED {
                return Err(ConfigError::Lost {
                    key,
                    explicit,
                    seconds: SETTLED.as_secs(),
                });
            }
            warn!("Web configuration: {key} is gone: clients are not asked for it any more");
        }
        for user in file.users.with_colon() {
            warn!(
                user,
                "Web configuration: basic_auth_users: a name with a colon can never log in"
            );
        }
        state.lost = None;
        state.file = Some((bytes, Arc::clone(&file)));
        Ok(file)
    }

    fn read_tls(
        &self,
        state: &mut State,
        file: &Arc<WebFile>,
    ) -> Result<Arc<ServerConfig>, ConfigError> {
        let texts = file.tls.read(self.directory(), read)?;
        if let Some((of, known, config)) = &state.tls
            && Arc::ptr_eq(of, file)
            && *known == texts
        {
            return Ok(Arc::clone(config));
        }
        let (config, _) = file.tls.load(&texts)?;
        state.tls = Some((Arc::clone(file), texts, Arc::clone(&config)));
        Ok(config)
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What it guards is whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs what has changed since the last time.
fn note<T>(fault: &mut Option<String>, result: &Result<T, ConfigError>, what: &'static str) {
    let now = result.as_ref().err().map(ToString::to_string);
    if *fault == now {
        return;
    }
    if let Some(err) = &now {
        error!(err = err.as_str(), what, "Unable to parse configuration");
    } else {
        info!(what, "Configuration can be used again");
    }
    *fault = now;
}

/// Which file it is, and when it was written last.
type Identity = (u64, u64, i64, i64);

/// A file's bytes, if it is a file of a sensible length.
fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    read_identified(path).map(|(bytes, _)| bytes)
}

fn read_identified(path: &Path) -> Result<(Vec<u8>, Identity), FileError> {
    let failed = |reason: String| FileError {
        path: path.to_owned(),
        reason,
    };
    let io = |error: std::io::Error| failed(plain(&error));
    // Not waiting for anyone to open the other end of a pipe.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default())
        .open(path)
        .map_err(io)?;
    let found = file.metadata().map_err(io)?;
    if found.file_type().is_fifo() || found.file_type().is_socket() {
        let reason = "not a regular file, and it has to be read again and again";
        return Err(failed(reason.to_owned()));
    }
    let mut bytes = Vec::new();
    let length = file
        .take(LONGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if u64::try_from(length).is_ok_and(|length| length <= LONGEST_FILE) {
        let identity = (found.dev(), found.ino(), found.ctime(), found.ctime_nsec());
        Ok((bytes, identity))
    } else {
        Err(failed(format!("longer than {LONGEST_FILE} bytes")))
    }
}

/// As Go writes it: "no such file or directory".
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let (first, rest) = text.split_at_checked(1).unwrap_or_default();
    first.to_lowercase() + rest
}

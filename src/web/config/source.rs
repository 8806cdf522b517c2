//! Reads the file and what it names, again whenever it is asked.
//!
//! What has not changed is not parsed again: the bytes are compared, so there is no date that could
//! mislead. A fault is logged once, and its end. Blocks while a file is read: not for async threads.
//!
//! **Invariant:** a file that is half written does not let anyone in. When what keeps clients out is gone
//! from it, without a word that this is meant, it is a fault until it has not changed for [`SETTLED`].

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustls::ServerConfig;
use tracing::{error, info, warn};

use super::document::WebFile;
use crate::web::lock;

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
    /// Since when the file has been without what kept clients out, and which it was then.
    lost: Option<(Instant, Identity)>,
    file_fault: Option<String>,
    tls_fault: Option<String>,
}

impl Source {
    /// Reads everything for the first time, and refuses what would not work.
    pub fn open(path: PathBuf) -> Result<(Self, Arc<WebFile>), String> {
        let source = Self {
            path,
            state: Mutex::default(),
        };
        let file = source.read_file(&mut lock(&source.state))?;
        file.users.check()?;
        if file.tls.is_enabled() {
            for warning in source.load_tls(&file)?.1 {
                warn!("Web configuration: {warning}");
            }
        }
        Ok((source, file))
    }

    /// What the file says now. `None` if it is unusable, which is logged.
    pub fn now(&self) -> Option<Arc<WebFile>> {
        let mut state = lock(&self.state);
        let result = self.read_file(&mut state);
        or_logged(result, &mut state.file_fault, "web config file")
    }

    /// What a handshake needs now. `None` if anything is unusable, which is logged.
    pub(crate) fn tls_now(&self) -> Option<Arc<ServerConfig>> {
        let file = self.now()?;
        let result = self.load_tls(&file).map(|(config, _)| config);
        let mut state = lock(&self.state);
        or_logged(result, &mut state.tls_fault, "TLS configuration")
    }

    fn read_file(&self, state: &mut State) -> Result<Arc<WebFile>, String> {
        let (bytes, identity) = read(&self.path)?;
        if let Some((known, file)) = &state.file
            && *known == bytes
        {
            state.lost = None;
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(WebFile::parse(&bytes)?);
        let before = state.file.as_ref().map(|(_, file)| file);
        if let Some((key, explicit)) = before.and_then(|before| file.lost_since(before)) {
            let since = match state.lost {
                Some((since, of)) if of == identity => since,
                _ => state.lost.insert((Instant::now(), identity)).0,
            };
            if since.elapsed() < SETTLED {
                return Err(format!(
                    "{key} is missing from the file, which may be incomplete: requests are refused \
                     until it has not changed for {} s; {explicit} takes effect at once",
                    SETTLED.as_secs()
                ));
            }
            warn!("Web configuration: {key} was removed from the file and no longer applies");
        }
        for user in file.users.names().filter(|name| name.contains(':')) {
            warn!(
                user,
                "Web configuration: basic_auth_users: a user name with a colon cannot log in"
            );
        }
        state.lost = None;
        state.file = Some((bytes, Arc::clone(&file)));
        Ok(file)
    }

    fn load_tls(&self, file: &WebFile) -> Result<(Arc<ServerConfig>, Vec<String>), String> {
        let directory = self.path.parent().unwrap_or(Path::new(""));
        file.tls.load(directory, |path| Ok(read(path)?.0))
    }
}

/// Logs what has changed since the last time.
fn or_logged<T>(
    result: Result<T, String>,
    known_fault: &mut Option<String>,
    what: &'static str,
) -> Option<T> {
    let fault = result.as_ref().err().cloned();
    if *known_fault != fault {
        if let Some(err) = &fault {
            error!(err, what, "Unable to parse configuration");
        } else {
            info!(what, "Configuration can be used again");
        }
        *known_fault = fault;
    }
    result.ok()
}

/// Which file it is, and when it was written last.
type Identity = (u64, u64, i64, i64);

/// A file's bytes, if it is a file of a sensible length.
fn read(path: &Path) -> Result<(Vec<u8>, Identity), String> {
    let failed = |reason: &str| format!("open {}: {reason}", path.display());
    // In Go's words: "no such file or directory".
    let io = |error: io::Error| {
        let reason = error.to_string().to_lowercase();
        failed(reason.split(" (os error").next().unwrap_or_default())
    };
    // Not waiting for anyone to open the other end of a pipe.
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty()).map_err(|errno| io(errno.into()))?;
    let file = File::from(file);
    let found = file.metadata().map_err(io)?;
    if found.file_type().is_fifo() || found.file_type().is_socket() {
        return Err(failed(
            "not a regular file, and it has to be read again and again",
        ));
    }
    let mut bytes = Vec::new();
    let mut file = file.take(LONGEST_FILE + 1);
    file.read_to_end(&mut bytes).map_err(io)?;
    if file.limit() == 0 {
        return Err(failed(&format!("longer than {LONGEST_FILE} bytes")));
    }
    let identity = (found.dev(), found.ino(), found.ctime(), found.ctime_nsec());
    Ok((bytes, identity))
}

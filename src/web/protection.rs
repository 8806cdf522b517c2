//! What the web configuration asks of a request before it is answered.
//!
//! In this order, as in Go's exporters: the file as it is now (500 if it is broken), the rate (429),
//! the headers, name and password (401), and then whatever is asked for. Everything is behind it,
//! `/-/healthy` too. The rate and whether there is TLS are as they were at start.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hyper::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{HeaderMap, StatusCode};
use rustls::ServerConfig;
use tracing::{info, warn};

use super::answer::{self, Answer};
use super::basic_auth::credentials;
use super::config::{ConfigError, Source, WebFile};
use super::passwords::{Passwords, Unchecked};
use super::rate_limit::Bucket;

/// From this cost on a password takes seconds.
const EXPENSIVE: u32 = 16;

/// The web configuration at work.
#[derive(Debug)]
pub struct Protection {
    source: Arc<Source>,
    has_tls: bool,
    bucket: Option<Mutex<Bucket>>,
    passwords: Passwords,
}

/// Why there is no protection, and so no server.
#[derive(Debug, thiserror::Error)]
pub enum ProtectionError {
    /// The file, or what it names.
    #[error("--web.config.file={path}: {source}", path = path.display())]
    File {
        /// As it was configured.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// The system.
    #[error("cannot check passwords: {source}")]
    System {
        /// What the system said.
        source: io::Error,
    },
}

impl Protection {
    /// Reads the file of `--web.config.file`, refuses one that would not work, and logs what its
    /// author should know.
    pub fn open(path: PathBuf) -> Result<Self, ProtectionError> {
        let (source, file, warnings) =
            Source::open(path.clone()).map_err(|source| ProtectionError::File { path, source })?;
        for warning in warnings {
            warn!("Web configuration: {warning}");
        }
        let passwords = Passwords::start().map_err(|source| ProtectionError::System { source })?;
        log(&file);
        Ok(Self {
            source: Arc::new(source),
            has_tls: file.tls.is_enabled(),
            bucket: file
                .rate_limit
                .map(|limit| Mutex::new(Bucket::new(limit, Instant::now()))),
            passwords,
        })
    }

    /// For a server with so many connections.
    pub(super) fn leave_room_among(&mut self, connections: u32) {
        self.passwords.leave_room_among(connections);
    }

    /// From now on nobody waits for long.
    pub(super) fn shut_down(&self) {
        self.passwords.shut_down();
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub(crate) const fn has_tls(&self) -> bool {
        self.has_tls
    }

    /// What a handshake needs now; `None` if something is broken.
    pub(super) async fn tls_now(&self) -> Option<Arc<ServerConfig>> {
        let source = Arc::clone(&self.source);
        let reading = tokio::task::spawn_blocking(move || source.tls_now());
        reading.await.ok().flatten()
    }

    /// Answers a request as the handler does, if it may be answered.
    pub(super) async fn guard(
        &self,
        headers: &HeaderMap,
        handler: impl Future<Output = Answer>,
    ) -> Answer {
        let source = Arc::clone(&self.source);
        let reading = tokio::task::spawn_blocking(move || source.now());
        let Some(file) = reading.await.ok().flatten() else {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return answer::text(status, "Internal Server Error");
        };
        if !self.is_within_rate() {
            let status = StatusCode::TOO_MANY_REQUESTS;
            return answer::text(status, "Too Many Requests");
        }
        let mut answer = match self.refusal(&file, headers).await {
            Some(refusal) => refusal,
            None => handler.await,
        };
        // In place of ours where we have one of the name.
        for (name, value) in &file.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        answer
    }

    fn is_within_rate(&self) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(Instant::now())
        })
    }

    async fn refusal(&self, file: &WebFile, headers: &HeaderMap) -> Option<Answer> {
        if file.users.is_empty() {
            return None;
        }
        if let Some(login) = credentials(headers) {
            let checked = self
                .passwords
                .verify(&file.users, &login.user, &login.password);
            match checked.await {
                Ok(true) => return None,
                Ok(false) => {}
                Err(why) => return Some(unavailable(why)),
            }
        }
        let mut answer = answer::text(StatusCode::UNAUTHORIZED, "Unauthorized");
        answer::set(&mut answer, WWW_AUTHENTICATE, "Basic");
        Some(answer)
    }
}

fn unavailable(why: Unchecked) -> Answer {
    let line = match why {
        Unchecked::Busy => "Too many passwords are waiting to be checked.",
        Unchecked::Ending => "The program ends, and checking the password takes longer.",
    };
    let mut answer = answer::text(StatusCode::SERVICE_UNAVAILABLE, line);
    answer::set(&mut answer, RETRY_AFTER, "1");
    answer
}

fn log(file: &WebFile) {
    if let Some(limit) = file.rate_limit {
        let interval = limit.interval;
        info!(burst = limit.burst, ?interval, "Rate Limiter is enabled.");
        if limit.burst == 0 {
            warn!("Web configuration: rate_limit: a burst of 0 refuses every request");
        }
    }
    if file.users.highest_cost() >= EXPENSIVE {
        warn!(
            cost = file.users.highest_cost(),
            "Web configuration: basic_auth_users: a hash of this cost takes seconds to check, and \
             logins with it wait for one another"
        );
    }
    if !file.users.is_empty() && !file.tls.is_enabled() {
        warn!("Web configuration: basic_auth_users without TLS: passwords are sent in the clear");
    }
}

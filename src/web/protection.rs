//! What the web configuration asks of a request before it is answered.
//!
//! In this order, as in Go's exporters: the file as it is now (500 if it is broken), the rate (429),
//! the headers, name and password (401), and then whatever is asked for. Everything is behind it,
//! `/-/healthy` too. The rate and whether there is TLS are as they were at start.

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hyper::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{HeaderMap, StatusCode};
use tracing::{info, warn};

use super::answer::{self, Answer};
use super::basic_auth::credentials;
use super::config::{BcryptHash, Source, WebFile};
use super::lock;
use super::passwords::Passwords;
use super::rate_limit::Bucket;

/// From this cost on a password takes seconds.
const EXPENSIVE: u32 = 16;

/// The web configuration at work.
pub struct Protection {
    source: Arc<Source>,
    /// Whether connections are encrypted.
    pub(crate) has_tls: bool,
    bucket: Option<Mutex<Bucket>>,
    pub(super) passwords: Passwords,
}

/// What is wrong with the file of `--web.config.file`, or with what it names.
#[derive(Debug, thiserror::Error)]
#[error("--web.config.file={path}: {reason}", path = .path.display())]
pub struct ProtectionError {
    path: PathBuf,
    reason: String,
}

impl Protection {
    /// Reads the file of `--web.config.file`, refuses one that would not work, and logs what its
    /// author should know. That is a [`ProtectionError`]; there may also be no thread.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Box<dyn Error>> {
        let path = path.into();
        let (source, file) =
            Source::open(path.clone()).map_err(|reason| ProtectionError { path, reason })?;
        log(&file);
        let bucket = |limit| Mutex::new(Bucket::new(limit, Instant::now()));
        Ok(Self {
            source: Arc::new(source),
            has_tls: file.tls.is_enabled(),
            bucket: file.rate_limit.map(bucket),
            passwords: Passwords::start(BcryptHash::fits)
                .map_err(|error| format!("cannot check passwords: {error}"))?,
        })
    }

    /// What the file, or what it names, says now; `None` if something is broken.
    pub(super) async fn read<T: Send + 'static>(&self, now: fn(&Source) -> Option<T>) -> Option<T> {
        let source = Arc::clone(&self.source);
        let reading = tokio::task::spawn_blocking(move || now(&source));
        reading.await.ok().flatten()
    }

    /// Answers a request as the handler does, if it may be answered.
    pub(super) async fn guard(
        &self,
        headers: &HeaderMap,
        handler: impl Future<Output = Answer>,
    ) -> Answer {
        let Some(file) = self.read(Source::now).await else {
            return answer::text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        };
        if let Some(bucket) = &self.bucket
            && !lock(bucket).take(Instant::now())
        {
            return answer::text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
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

    async fn refusal(&self, file: &WebFile, headers: &HeaderMap) -> Option<Answer> {
        if file.users.is_empty() {
            return None;
        }
        if let Some((user, password)) = credentials(headers) {
            match self.passwords.verify(&file.users, &user, &password).await {
                Ok(true) => return None,
                Ok(false) => {}
                Err(reason) => {
                    let mut answer = answer::text(StatusCode::SERVICE_UNAVAILABLE, reason);
                    answer::set(&mut answer, RETRY_AFTER, "1");
                    return Some(answer);
                }
            }
        }
        let mut answer = answer::text(StatusCode::UNAUTHORIZED, "Unauthorized");
        answer::set(&mut answer, WWW_AUTHENTICATE, "Basic");
        Some(answer)
    }
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
            "Web configuration: basic_auth_users: checking a hash of this cost takes seconds, one \
             login at a time"
        );
    }
    if !file.users.is_empty() && !file.tls.is_enabled() {
        warn!("Web configuration: basic_auth_users without TLS: passwords are sent unencrypted");
    }
}

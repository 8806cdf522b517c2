//! The file of `--web.config.file`, with the keys, the meaning and the messages that it has in the
//! Prometheus exporter-toolkit, so that one file serves every exporter of a host.
//!
//! In reading order: `document` is what the YAML may look like; [`WebFile`] is what it says,
//! with every name and header checked; [`Tls`] makes of its TLS part what a
//! handshake needs; [`Source`] reads the file and what it names again whenever it is asked, and is
//! the only part that reads anything.
//!
//! **Invariant:** what this program cannot do (TLS 1.0 and 1.1, CBC suites, the curve P-521) makes
//! the choice narrower, never wider, and is told at start; where it would leave nothing, the file is
//! refused.
//!
//! **Invariant:** what is accepted here, `promtool check web-config` accepts too.
//!
//! Answers no requests and does no handshakes: see [`crate::web`].

mod client_certs;
mod document;
mod duration;
mod error;
mod names;
mod source;
pub mod tls;
mod users;

use std::path::Path;
use std::time::Duration;

use hyper::HeaderMap;

pub use error::{FileError, HashError, WebFileError};
pub use source::Source;
pub use tls::{Loaded, Tls, Warning};
pub use users::{BcryptHash, Digest, Salt, Users, digest};

/// What a file says, every name in it known and every header sendable.
#[derive(Clone, Debug)]
pub struct WebFile {
    /// Certificates, keys and what is asked of clients.
    pub tls: Tls,
    /// What the file says of HTTP/2, which is not served: see [`crate::web`].
    pub http2: bool,
    /// Headers of every answer, but for those of a broken file or above the rate.
    pub headers: HeaderMap,
    /// Who may ask; nobody listed is everybody.
    pub users: Users,
    /// How often may be asked.
    pub rate_limit: Option<RateLimit>,
}

/// How often may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// From one request to the next, in the long run.
    pub interval: Duration,
    /// How many may come at once. 0 refuses everything.
    pub burst: u32,
}

impl WebFile {
    /// Reads a file's text. Paths in it are relative to this directory.
    pub fn parse(text: &[u8], directory: &Path) -> Result<Self, WebFileError> {
        document::parse(text)?.checked(directory)
    }
}

#[cfg(test)]
mod tests;

//! What can be wrong with the file. The words are those of Go's exporters where they have some, so
//! that a search for them finds help.

use std::path::PathBuf;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("open {path}: {reason}", path = .path.display())]
pub struct FileError {
    pub(super) path: PathBuf,
    pub(super) reason: String,
}

/// What is wrong with the file or with what it names.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file itself cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// No YAML, not of this form, or with a value that is none.
    #[error("yaml: {0}")]
    Yaml(String),
    /// A user's hash is none.
    #[error("basic_auth_users: {user}: crypto/bcrypt: {reason}")]
    Hash {
        /// Whose.
        user: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that the TLS part names cannot be read.
    #[error("failed to read {key} ({path}): {source}", path = .source.path.display())]
    TlsFile {
        /// Which key names it.
        key: &'static str,
        /// Why not.
        source: FileError,
    },
    /// Certificate and key cannot be used, or not together. Has nothing of the key's text.
    #[error("failed to load X509KeyPair: tls: {0}")]
    KeyPair(String),
    /// The TLS part cannot be used.
    #[error("{0}")]
    Tls(String),
    /// What kept clients out is gone, and nothing says that this is meant.
    #[error(
        "{key} is gone from the file, which may be half written: requests are refused until it has \
         not changed for {seconds} s; {explicit} takes effect at once"
    )]
    Lost {
        /// Which key was there before.
        key: &'static str,
        /// What would say that it is meant.
        explicit: &'static str,
        /// How long it takes.
        seconds: u64,
    },
}

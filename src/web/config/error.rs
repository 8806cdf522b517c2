//! What can be wrong with the file. The words are those of Go's exporters where they have some, so
//! that a search for them finds help.

use std::io;
use std::path::PathBuf;

use rustls::pki_types::pem;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("open {path}: {reason}", path = path.display(), reason = plain(source))]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A pipe or a socket: there is nothing to read again the next time.
    #[error("open {path}: not a regular file, and it has to be read again and again", path = path.display())]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// Nothing of this kind is as long.
    #[error("read {path}: longer than {limit} bytes", path = path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// How long it may be.
        limit: u64,
    },
}

/// As Go writes it: "no such file or directory".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

/// Why a text is no bcrypt hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Shorter than any; a password in plain, most likely.
    #[error("crypto/bcrypt: hashedSecret too short to be a bcrypted password")]
    TooShort,
    /// Another kind of text.
    #[error(
        "crypto/bcrypt: bcrypt hashes must start with '$', but hashedSecret started with '{first}'"
    )]
    Prefix {
        /// What it begins with.
        first: char,
    },
    /// Another algorithm, as $6$ is.
    #[error(
        "crypto/bcrypt: bcrypt algorithm version '{version}' requested is newer than current version '2'"
    )]
    Version {
        /// Its number.
        version: char,
    },
    /// Not between 4 and 31.
    #[error("crypto/bcrypt: cost {cost} is outside allowed inclusive range 4..31")]
    Cost {
        /// The number, or what stands in its place.
        cost: u32,
    },
    /// Nothing that bcrypt could have written, so no password would ever fit.
    #[error("crypto/bcrypt: malformed hash: no password can fit it")]
    Malformed,
}

/// What is wrong with the file or with what it names.
#[derive(Debug, thiserror::Error)]
pub enum WebFileError {
    /// The file itself cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not YAML, or not of this form.
    #[error("yaml: {message}")]
    Yaml {
        /// What, and where.
        message: String,
    },
    /// Not UTF-8, which YAML has to be.
    #[error("yaml: line {line}: not UTF-8")]
    NotText {
        /// The line, from 1.
        line: usize,
    },
    /// YAML that Go's reader refuses.
    #[error("yaml: line {line}: {what}")]
    NotInGo {
        /// The line, from 1.
        line: usize,
        /// What stands there.
        what: &'static str,
    },
    /// No cipher suite of Go's.
    #[error("unknown cipher: {name}")]
    UnknownCipher {
        /// What stands there.
        name: String,
    },
    /// No curve of Go's.
    #[error("unknown curve: {name}")]
    UnknownCurve {
        /// What stands there.
        name: String,
    },
    /// No version.
    #[error("unknown TLS version: {name}")]
    UnknownVersion {
        /// What stands there.
        name: String,
    },
    /// A header that is not the operator's to set.
    #[error("HTTP header {name:?} can not be configured")]
    Header {
        /// Its name.
        name: String,
    },
    /// A header with few possible values, and another.
    #[error("invalid value for {name}. Expected one of: {expected}, but got: {value:?}")]
    HeaderValue {
        /// Its name.
        name: &'static str,
        /// What it may be, each in quotes.
        expected: &'static str,
        /// What it is.
        value: String,
    },
    /// A header's value that cannot be sent.
    #[error("invalid value for {name}: {value:?} has a character that no header may have")]
    HeaderText {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: String,
    },
    /// No time that Go knows.
    #[error("yaml: rate_limit: interval: {source}")]
    Interval {
        /// What is wrong with it.
        source: super::duration::DurationError,
    },
    /// Below zero, or more than anyone can mean.
    #[error("yaml: rate_limit: burst: {burst} is not between 0 and 4294967295")]
    Burst {
        /// What stands there.
        burst: i64,
    },
    /// A user's hash that is none.
    #[error("basic_auth_users: {user}: {source}")]
    Hash {
        /// Whose.
        user: String,
        /// What is wrong with it.
        source: HashError,
    },
    /// TLS without a certificate.
    #[error("missing one of cert or cert_file")]
    MissingCert,
    /// TLS without a key.
    #[error("missing one of key or key_file")]
    MissingKey,
    /// TLS was on at start and is not configured any more: it is not given up.
    #[error(
        "TLS config is not present: it was when the program started, which only a restart changes"
    )]
    TlsGone,
    /// A file that the TLS part names cannot be read.
    #[error("failed to read {key} ({path}): {source}", path = source.path().display())]
    TlsFile {
        /// Which key names it.
        key: &'static str,
        /// Why not.
        source: FileError,
    },
    /// The text itself in place of the file's name, which is not repeated: it may be a key.
    #[error("{key}: the text itself stands where the name of a file belongs: call it {}", key.trim_end_matches("_file"))]
    TextForFile {
        /// Which key has it.
        key: &'static str,
    },
    /// Certificate and key cannot be used, or not together.
    #[error("failed to load X509KeyPair: {source}")]
    KeyPair {
        /// Why not.
        source: KeyPairError,
    },
    /// No policy of Go's.
    #[error("invalid ClientAuth: {name}")]
    ClientAuth {
        /// What stands there.
        name: String,
    },
    /// Clients' certificates would be checked against these, and nobody asks for any.
    #[error("client CA's have been configured without a Client Auth Policy")]
    ClientCaWithoutPolicy,
    /// The CA is none.
    #[error(
        "client_ca: no certificate found that can be used: expected PEM, \"-----BEGIN CERTIFICATE-----\""
    )]
    NoClientCa,
    /// The versions leave none.
    #[error(
        "min_version and max_version leave no TLS version: the first is above the second; TLS12 and \
         TLS13 can be used here"
    )]
    NoVersion,
    /// The versions leave none that rustls has.
    #[error(
        "max_version: {version} leaves no TLS version: TLS 1.0 and 1.1 cannot be used here, TLS12 and \
         TLS13 can"
    )]
    OldMaxVersion {
        /// As the file has it.
        version: &'static str,
    },
    /// The suites leave none.
    #[error(
        "cipher_suites leave none that can be used with max_version TLS12: CBC suites cannot be used \
         here, and those of TLS 1.3 are not for TLS 1.2"
    )]
    NoCipher,
    /// The suites are for another kind of key.
    #[error(
        "cipher_suites leave none that fits the certificate's key: an RSA key needs one with \
         ECDHE_RSA, any other ECDHE_ECDSA"
    )]
    NoCipherForKey,
    /// The curves leave none.
    #[error("curve_preferences leave none that can be used: CurveP521 cannot be used here")]
    NoCurve,
    /// The library refuses what should be sound by now.
    #[error("tls: {source}")]
    Rustls {
        /// Why.
        source: rustls::Error,
    },
}

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyPairError {
    /// Nothing like it in the text.
    #[error("tls: failed to find any PEM data in certificate input")]
    NoCertificate,
    /// Nothing like it in the text.
    #[error("tls: failed to find any PEM private key that is not encrypted in key input")]
    NoKey,
    /// It looks like PEM and is none.
    #[error("tls: bad PEM in {what} input: {source}")]
    Pem {
        /// certificate or key.
        what: &'static str,
        /// What is wrong with it.
        source: PemFault,
    },
    /// Nobody is there to type its password.
    #[error("tls: the key is encrypted: decrypt it first (openssl pkey -in KEY -out NEW)")]
    Encrypted,
    /// DSA's or OpenSSH's, most likely.
    #[error(
        "tls: failed to parse private key: the first one is of another kind than PRIVATE KEY, RSA \
         PRIVATE KEY and EC PRIVATE KEY, and the first one counts"
    )]
    KeyKind,
    /// As `openssl x509 -req` makes it unless it is told of extensions.
    #[error(
        "tls: the certificate is one of X.509 version 1, which cannot be used here: make one with \
         subjectAltName, which is of version 3 (openssl x509 -req -extfile)"
    )]
    Version1,
    /// The two do not belong together.
    #[error("tls: private key does not match public key")]
    Mismatch,
    /// Neither RSA of 2048 to 8192 bits, nor P-256, P-384 or Ed25519; or a certificate that is none.
    #[error(
        "tls: {source} (keys may be RSA with 2048 to 8192 bits, ECDSA P-256 or P-384, Ed25519)"
    )]
    Unusable {
        /// What the library said.
        source: rustls::Error,
    },
}

/// What is wrong with a PEM text, in words that hold nothing of it: it may be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// Most likely all of it is one line.
    #[error(
        "a section has no line \"-----END ...-----\" (in YAML a text of several lines stands after |, \
         not after >)"
    )]
    NoEnd,
    /// The first line of a section.
    #[error("a line that begins with \"-----BEGIN\" has more than that in it, or less")]
    Beginning,
    /// The lines between them.
    #[error("what stands between \"-----BEGIN\" and \"-----END\" is not base64")]
    NotBase64,
}

impl From<pem::Error> for PemFault {
    fn from(error: pem::Error) -> Self {
        match error {
            pem::Error::MissingSectionEnd { .. } => Self::NoEnd,
            pem::Error::IllegalSectionStart { .. } => Self::Beginning,
            _ => Self::NotBase64,
        }
    }
}

impl FileError {
    /// Which file.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::Io { path, .. } | Self::NotAFile { path } | Self::TooLong { path, .. } => path,
        }
    }
}

//! What the TLS part of the file comes to in rustls.
//!
//! Reads nothing itself: files are read by what the caller hands in, in the order in which Go reads
//! them, so that the same mistake is told first.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version,
};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::client_certs::ClientCerts;
use super::error::{FileError, KeyPairError, WebFileError};
use super::names::{Cipher, CipherKind, ClientAuth, Curve, Version};

/// A PEM text, or where it is.
#[derive(Clone)]
pub(super) enum Pem {
    File(PathBuf),
    Inline(String),
}

/// One of them is the key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Inline(_) => f.write_str("inline"),
        }
    }
}

/// The TLS part of the file.
#[derive(Clone, Debug)]
pub struct Tls {
    pub(super) cert: Option<Pem>,
    pub(super) key: Option<Pem>,
    pub(super) client_ca: Option<Pem>,
    /// Not yet known to be one: exporter-toolkit looks at it last.
    pub(super) client_auth_type: String,
    /// An empty list allows nobody.
    pub(super) client_allowed_sans: Option<Vec<String>>,
    pub(super) min_version: Version,
    pub(super) max_version: Version,
    pub(super) ciphers: Vec<Cipher>,
    pub(super) prefers_own_order: bool,
    pub(super) curves: Vec<Curve>,
}

/// The texts that the TLS part names.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Texts {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// Everything that a handshake needs, and what the operator should know.
#[derive(Debug)]
pub struct Loaded {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// What is narrower here than the file says.
    pub warnings: Vec<Warning>,
}

/// What is narrower here than the file says, or wider than its author may think.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Versions that rustls does not have.
    #[error(
        "min_version: {version}: TLS 1.0 and 1.1 cannot be used here; it is as if it were TLS12"
    )]
    OldVersion {
        /// As the file has it.
        version: &'static str,
    },
    /// Suites that rustls does not have.
    #[error("cipher_suites: {names}: CBC suites cannot be used here; they are left out")]
    Cbc {
        /// Which, with commas.
        names: String,
    },
    /// A list that leaves nothing of TLS 1.2.
    #[error("cipher_suites: none of them can be used with TLS 1.2 here; only TLS 1.3 is left")]
    OnlyTls13,
    /// A list that leaves nothing of TLS 1.2 for this key.
    #[error(
        "cipher_suites: none of them fits the certificate's key with TLS 1.2; only TLS 1.3 works"
    )]
    OnlyTls13ForKey,
    /// A curve that ring does not have.
    #[error("curve_preferences: CurveP521 cannot be used here; it is left out")]
    P521,
    /// Verification without a CA.
    #[error(
        "client_auth_type: {policy} without client_ca: no client certificate can be verified, so \
         every one is refused (Go would take the system's CAs)"
    )]
    NoCa {
        /// As the file has it.
        policy: String,
    },
    /// A certificate that nobody verifies.
    #[error(
        "client_auth_type: {policy} does not verify client certificates: anyone can make one. \
         RequireAndVerifyClientCert does"
    )]
    NotVerified {
        /// As the file has it.
        policy: String,
    },
    /// Names that nobody looks at.
    #[error(
        "client_allowed_sans without a client_auth_type: clients are not asked for a certificate, \
             so the list is of no effect"
    )]
    SansWithoutPolicy,
    /// Certificates in the CA's file that are none.
    #[error("client_ca: {count} of its certificates cannot be used; they are left out")]
    BadCa {
        /// How many.
        count: usize,
    },
}

impl Tls {
    /// Whether there is to be TLS at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.cert.is_some()
            || self.key.is_some()
            || self.client_ca.is_some()
            || !self.client_auth_type.is_empty()
    }

    /// Reads what is named.
    pub(super) fn read(
        &self,
        read: impl Fn(&Path) -> Result<Vec<u8>, FileError>,
    ) -> Result<Texts, WebFileError> {
        let text = |key: &'static str, pem: &Pem| match pem {
            Pem::Inline(text) => Ok(text.clone().into_bytes()),
            Pem::File(path) if has(path.as_os_str().as_encoded_bytes(), b"-----BEGIN") => {
                Err(WebFileError::TextForFile { key })
            }
            Pem::File(path) => read(path).map_err(|source| WebFileError::TlsFile { key, source }),
        };
        let cert = self.cert.as_ref().ok_or(WebFileError::MissingCert)?;
        let key = self.key.as_ref().ok_or(WebFileError::MissingKey)?;
        let cert = text("cert_file", cert)?;
        let key = text("key_file", key)?;
        let client_ca = self.client_ca.as_ref();
        let client_ca = client_ca.map(|pem| text("client_ca_file", pem)).transpose();
        if client_ca.is_err() {
            // Go tells first what is wrong with these.
            key_pair(&cert, &key, &ring::default_provider())?;
        }
        let client_ca = client_ca?;
        Ok(Texts {
            cert,
            key,
            client_ca,
        })
    }

    /// Makes of it what a handshake needs.
    pub(super) fn load(&self, texts: &Texts) -> Result<Loaded, WebFileError> {
        let mut warnings = Vec::new();
        let mut provider = ring::default_provider();
        let key = key_pair(&texts.cert, &texts.key, &provider)?;
        let policy = ClientAuth::named(&self.client_auth_type)?;
        let cas = cas(texts, policy, &mut warnings)?;
        let versions = self.choose(&mut provider, &key, &mut warnings)?;
        self.warn_of_policy(policy, &mut warnings);

        let provider = Arc::new(provider);
        let rustls = |source| WebFileError::Rustls { source };
        let client_certs =
            ClientCerts::new(policy, cas, self.client_allowed_sans.clone(), &provider)
                .map_err(rustls)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(rustls)?;
        let builder = match client_certs {
            Some(client_certs) => builder.with_client_cert_verifier(client_certs),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.ignore_client_order = self.prefers_own_order;
        // Each handshake is to see the certificates and CAs of its time.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(Loaded {
            config: Arc::new(config),
            warnings,
        })
    }

    fn warn_of_policy(&self, policy: ClientAuth, warnings: &mut Vec<Warning>) {
        let name = || self.client_auth_type.clone();
        if policy.verifies() && self.client_ca.is_none() {
            warnings.push(Warning::NoCa { policy: name() });
        }
        if matches!(policy, ClientAuth::Request | ClientAuth::RequireAny) {
            warnings.push(Warning::NotVerified { policy: name() });
        }
        if policy == ClientAuth::None && self.client_allowed_sans.is_some() {
            warnings.push(Warning::SansWithoutPolicy);
        }
    }

    /// Leaves in the provider what the file wants, and says which versions that leaves.
    fn choose(
        &self,
        provider: &mut CryptoProvider,
        key: &CertifiedKey,
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<&'static SupportedProtocolVersion>, WebFileError> {
        let has_13 = self.max_version >= Version::Tls13;
        let mut has_12 = self.min_version <= Version::Tls12 && self.max_version >= Version::Tls12;
        // First, for then it is so whatever min_version is.
        if self.max_version < Version::Tls12 {
            return Err(WebFileError::OldMaxVersion {
                version: self.max_version.name(),
            });
        }
        if self.min_version > self.max_version {
            return Err(WebFileError::NoVersion);
        }
        if self.min_version < Version::Tls12 {
            warnings.push(Warning::OldVersion {
                version: self.min_version.name(),
            });
        }
        self.choose_curves(provider, warnings)?;
        if has_12 && !self.ciphers.is_empty() {
            has_12 = self.choose_ciphers(provider, warnings);
            if !has_12 && !has_13 {
                return Err(WebFileError::NoCipher);
            }
        }
        let fits = |suite: &SupportedCipherSuite| match suite {
            SupportedCipherSuite::Tls12(suite) => key.key.choose_scheme(suite.sign).is_some(),
            SupportedCipherSuite::Tls13(_) => false,
        };
        if has_12 && !provider.cipher_suites.iter().any(fits) {
            if !has_13 {
                return Err(WebFileError::NoCipherForKey);
            }
            warnings.push(Warning::OnlyTls13ForKey);
        }
        let mut versions = Vec::new();
        if has_13 {
            versions.push(&version::TLS13);
        }
        if has_12 {
            versions.push(&version::TLS12);
        }
        Ok(versions)
    }

    /// Whether any suite is left for TLS 1.2.
    fn choose_ciphers(&self, provider: &mut CryptoProvider, warnings: &mut Vec<Warning>) -> bool {
        let cbc: Vec<&str> = self
            .ciphers
            .iter()
            .filter(|cipher| matches!(cipher.kind, CipherKind::Cbc))
            .map(|cipher| cipher.name)
            .collect();
        if !cbc.is_empty() {
            let names = cbc.join(", ");
            warnings.push(Warning::Cbc { names });
        }
        let suites = self.ciphers.iter().filter_map(|cipher| match cipher.kind {
            CipherKind::Tls12(suite) => Some(suite),
            CipherKind::Tls13 | CipherKind::Cbc => None,
        });
        let suites: Vec<_> = suites.collect();
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some());
        if suites.is_empty() {
            warnings.push(Warning::OnlyTls13);
            return false;
        }
        provider.cipher_suites.extend(suites);
        true
    }

    fn choose_curves(
        &self,
        provider: &mut CryptoProvider,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), WebFileError> {
        if self.curves.is_empty() {
            return Ok(());
        }
        let groups: Vec<_> = self
            .curves
            .iter()
            .filter_map(|curve| curve.group())
            .collect();
        if groups.is_empty() {
            return Err(WebFileError::NoCurve);
        }
        if self.curves.contains(&Curve::P521) {
            warnings.push(Warning::P521);
        }
        provider.kx_groups = groups;
        Ok(())
    }
}

/// The CAs that clients' certificates are verified against.
fn cas(
    texts: &Texts,
    policy: ClientAuth,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<CertificateDer<'static>>, WebFileError> {
    let Some(text) = &texts.client_ca else {
        return Ok(Vec::new());
    };
    if policy == ClientAuth::None {
        return Err(WebFileError::ClientCaWithoutPolicy);
    }
    // As in Go, one that cannot be read spoils none of the others.
    let cas: Vec<_> = CertificateDer::pem_slice_iter(text).flatten().collect();
    let (usable, count) = RootCertStore::empty().add_parsable_certificates(cas.iter().cloned());
    if usable == 0 {
        return Err(WebFileError::NoClientCa);
    }
    if count > 0 {
        warnings.push(Warning::BadCa { count });
    }
    Ok(cas)
}

fn key_pair(
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, WebFileError> {
    load_key_pair(cert, key, provider).map_err(|source| WebFileError::KeyPair { source })
}

fn load_key_pair(
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, KeyPairError> {
    let chain = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| KeyPairError::Pem {
            what: "certificate",
            source: source.into(),
        })?;
    if chain.is_empty() {
        return Err(KeyPairError::NoCertificate);
    }
    check_kind_of_first(key)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| match source {
        // In the first line, or in one of OpenSSL's headers after it.
        _ if has(key, b"ENCRYPTED") => KeyPairError::Encrypted,
        pem::Error::NoItemsFound => KeyPairError::NoKey,
        source => KeyPairError::Pem {
            what: "key",
            source: source.into(),
        },
    })?;
    let is_version_1 = chain.first().is_some_and(is_version_1);
    CertifiedKey::from_der(chain, key, provider).map_err(|source| match source {
        rustls::Error::InconsistentKeys(_) => KeyPairError::Mismatch,
        _ if is_version_1 => KeyPairError::Version1,
        source => KeyPairError::Unusable { source },
    })
}

/// The first private key is the one that counts, as in Go: the reader would pass over one that it cannot
/// read, and take the next.
fn check_kind_of_first(key: &[u8]) -> Result<(), KeyPairError> {
    let kinds = key.split(|byte| *byte == b'\n').filter_map(|line| {
        let label = line.trim_ascii_end().strip_prefix(b"-----BEGIN ")?;
        let kind = label.strip_suffix(b"PRIVATE KEY-----")?;
        // All of it in one line, which the reader tells.
        (!has(kind, b"-----")).then_some(kind)
    });
    match { kinds }.find(|kind| kind.is_empty() || kind.ends_with(b" ")) {
        None | Some(b"" | b"RSA " | b"EC ") => Ok(()),
        Some(b"ENCRYPTED ") => Err(KeyPairError::Encrypted),
        Some(_) => Err(KeyPairError::KeyKind),
    }
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn is_version_1(certificate: &CertificateDer<'_>) -> bool {
    Certificate::from_der(certificate)
        .is_ok_and(|certificate| certificate.tbs_certificate().version() == x509_cert::Version::V1)
}

//! What the TLS part of the file comes to in rustls.
//!
//! **Invariant:** what this program cannot do (TLS 1.0 and 1.1, CBC suites, the curve P-521) makes
//! the choice narrower, never wider, and is a warning; where it would leave nothing, the file is refused.
//!
//! Files are read by what the caller passes in, in the order in which Go reads them, so that the same
//! mistake is reported first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::{ALL_CIPHER_SUITES, ALL_KX_GROUPS, default_provider};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite};
use serde::Deserialize;

use super::client_certs::{ClientAuth, ClientCerts};
use super::error::{ConfigError, FileError};

/// The TLS part of the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    cert: Option<String>,
    cert_file: Option<PathBuf>,
    key: Option<String>,
    key_file: Option<PathBuf>,
    client_ca: Option<String>,
    client_ca_file: Option<PathBuf>,
    /// Not yet known to be one: exporter-toolkit looks at it last.
    client_auth_type: Option<String>,
    /// An empty list allows nobody.
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<Version>,
    max_version: Option<Version>,
    cipher_suites: Option<Vec<Cipher>>,
    prefer_server_cipher_suites: Bool,
    curve_preferences: Option<Vec<Curve>>,
}

/// True or false, or YAML 1.1's yes, no, on and off; but not in quotes, which Go takes for a text. As in
/// Go, a key that is not there is true (for both that there are), and one without a value is false.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected true or false, without quotes")]
pub(super) enum Bool {
    Value(bool),
    Nothing(()),
}

impl Bool {
    fn is_true(self) -> bool {
        matches!(self, Self::Value(true))
    }
}

impl Default for Bool {
    fn default() -> Self {
        Self::Value(true)
    }
}

/// A PEM text, or where it is.
enum Pem<'a> {
    File(&'a Path),
    Text(&'a str),
}

/// Where both are given, the file counts, as in Go.
fn pem<'a>(file: Option<&'a PathBuf>, text: Option<&'a String>) -> Option<Pem<'a>> {
    let file = file.filter(|path| !path.as_os_str().is_empty());
    let text = text.filter(|text| !text.is_empty());
    file.map(|path| Pem::File(path))
        .or(text.map(|text| Pem::Text(text)))
}

/// The texts that the TLS part names.
#[derive(PartialEq, Eq)]
pub(super) struct Texts {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// Everything that a handshake needs, and what the operator should know: what is narrower here than the
/// file says, or wider than its author may think.
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    pub(super) warnings: Vec<String>,
}

/// A version of TLS, in order: its place in [`VERSIONS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Version(usize);

const VERSIONS: [&str; 4] = ["TLS10", "TLS11", "TLS12", "TLS13"];

impl Version {
    const TLS12: Self = Self(2);
    const TLS13: Self = Self(3);

    fn name(self) -> &'static str {
        VERSIONS.get(self.0).copied().unwrap_or_default()
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let found = VERSIONS.iter().position(|known| *known == name);
        found
            .map(Self)
            .ok_or_else(|| format!("unknown TLS version: {name}"))
    }
}

/// What Go's `tls.CipherSuites()` has. Suites with RSA key exchange are not among them since Go 1.22.
#[derive(Deserialize)]
#[serde(try_from = "String")]
enum Cipher {
    /// Those of TLS 1.3 are all there whatever is listed, as in Go.
    Known(SupportedCipherSuite),
    /// With CBC, which rustls does not have.
    Cbc(String),
}

const CBC: [&str; 4] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
];

impl TryFrom<String> for Cipher {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        // rustls' names, but for those of TLS 1.3.
        let is_named = |suite: &&SupportedCipherSuite| {
            let known = suite.suite().as_str().unwrap_or_default();
            known.replacen("TLS13_", "TLS_", 1) == name
        };
        let known = ALL_CIPHER_SUITES.iter().find(is_named).copied();
        match known {
            Some(suite) => Ok(Self::Known(suite)),
            None if CBC.contains(&name.as_str()) => Ok(Self::Cbc(name)),
            None => Err(format!("unknown cipher: {name}")),
        }
    }
}

/// What exporter-toolkit has, which is less than Go. `None` is P-521, which ring does not have.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Curve(Option<&'static dyn SupportedKxGroup>);

impl TryFrom<String> for Curve {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let of_rustls = match name.as_str() {
            "X25519" => "X25519",
            "CurveP256" => "secp256r1",
            "CurveP384" => "secp384r1",
            "CurveP521" => return Ok(Self(None)),
            _ => return Err(format!("unknown curve: {name}")),
        };
        let mut groups = ALL_KX_GROUPS.iter();
        Ok(Self(
            groups
                .find(|group| group.name().as_str() == Some(of_rustls))
                .copied(),
        ))
    }
}

fn unusable(reason: impl Into<String>) -> ConfigError {
    ConfigError::Tls(reason.into())
}

/// What rustls says of what should be sound by now.
fn refused(error: &rustls::Error) -> ConfigError {
    ConfigError::Tls(format!("tls: {error}"))
}

impl Tls {
    /// Whether there is to be TLS at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        let has_policy = self
            .client_auth_type
            .as_ref()
            .is_some_and(|name| !name.is_empty());
        has_policy || self.cert().is_some() || self.key().is_some() || self.client_ca().is_some()
    }

    fn cert(&self) -> Option<Pem<'_>> {
        pem(self.cert_file.as_ref(), self.cert.as_ref())
    }

    fn key(&self) -> Option<Pem<'_>> {
        pem(self.key_file.as_ref(), self.key.as_ref())
    }

    fn client_ca(&self) -> Option<Pem<'_>> {
        pem(self.client_ca_file.as_ref(), self.client_ca.as_ref())
    }

    fn client_auth(&self) -> Result<ClientAuth, ConfigError> {
        let name = self.client_auth_type.as_deref().unwrap_or_default();
        ClientAuth::named(name).ok_or_else(|| unusable(format!("invalid ClientAuth: {name}")))
    }

    /// Which key is gone that keeps clients out, and what would say that this is meant.
    pub(super) fn lost_since(&self, before: &Self) -> Option<(&'static str, &'static str)> {
        const EXPLICIT: &str = "`client_auth_type: NoClientCert`";
        let asked = before
            .client_auth()
            .is_ok_and(|policy| policy != ClientAuth::None);
        if asked && self.client_auth_type.is_none() {
            return Some(("client_auth_type", EXPLICIT));
        }
        let asks = self
            .client_auth()
            .is_ok_and(|policy| policy != ClientAuth::None);
        let had_names = before.client_allowed_sans.is_some();
        let has_lost_names = asked && asks && had_names && self.client_allowed_sans.is_none();
        has_lost_names.then_some(("client_allowed_sans", EXPLICIT))
    }

    /// Reads what is named, relative to the file's directory.
    pub(super) fn read(
        &self,
        directory: &Path,
        read: impl Fn(&Path) -> Result<Vec<u8>, FileError>,
    ) -> Result<Texts, ConfigError> {
        if !self.is_enabled() {
            return Err(unusable(
                "TLS config is not present: it was when the program started, which only a restart \
                 changes",
            ));
        }
        let text = |key: &'static str, pem: Pem<'_>| match pem {
            Pem::Text(text) => Ok(text.as_bytes().to_vec()),
            // Not repeated, for it may be a key.
            Pem::File(path) if has(path.as_os_str().as_encoded_bytes(), b"-----BEGIN") => {
                Err(unusable(format!(
                    "{key}: the text itself stands where the name of a file belongs: call it {}",
                    key.trim_end_matches("_file")
                )))
            }
            Pem::File(path) => {
                let read = read(&directory.join(path));
                read.map_err(|source| ConfigError::TlsFile { key, source })
            }
        };
        let missing = |key: &str| unusable(format!("missing one of {key} or {key}_file"));
        let cert = self.cert().ok_or_else(|| missing("cert"))?;
        let key = self.key().ok_or_else(|| missing("key"))?;
        let (cert, key) = (text("cert_file", cert)?, text("key_file", key)?);
        let client_ca = self
            .client_ca()
            .map(|pem| text("client_ca_file", pem))
            .transpose();
        if client_ca.is_err() {
            // Go says first what is wrong with these.
            key_pair(&cert, &key, &default_provider())?;
        }
        Ok(Texts {
            cert,
            key,
            client_ca: client_ca?,
        })
    }

    /// Makes of it what a handshake needs.
    pub(super) fn load(&self, texts: &Texts) -> Result<Loaded, ConfigError> {
        let mut warnings = Vec::new();
        let mut provider = default_provider();
        let key = key_pair(&texts.cert, &texts.key, &provider)?;
        let policy = self.client_auth()?;
        let cas = cas(texts, policy, &mut warnings)?;
        let versions = self.choose(&mut provider, &key, &mut warnings)?;
        self.warn_of_policy(policy, texts, &mut warnings);

        let provider = Arc::new(provider);
        let sans = self.client_allowed_sans.clone();
        let client_certs =
            ClientCerts::new(policy, cas, sans, &provider).map_err(|error| refused(&error))?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| refused(&error))?;
        let builder = match client_certs {
            Some(client_certs) => builder.with_client_cert_verifier(client_certs),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.ignore_client_order = self.prefer_server_cipher_suites.is_true();
        // Each handshake is to see the certificates and CAs of its time.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(Loaded {
            config: Arc::new(config),
            warnings,
        })
    }

    fn warn_of_policy(&self, policy: ClientAuth, texts: &Texts, warnings: &mut Vec<String>) {
        let name = self.client_auth_type.as_deref().unwrap_or_default();
        if policy.verifies() && texts.client_ca.is_none() {
            warnings.push(format!(
                "client_auth_type: {name} without client_ca: no client certificate can be verified, \
                 so every one is refused (Go would take the system's CAs)"
            ));
        }
        if matches!(policy, ClientAuth::Request | ClientAuth::RequireAny) {
            warnings.push(format!(
                "client_auth_type: {name} does not verify client certificates: anyone can make one. \
                 RequireAndVerifyClientCert does"
            ));
        }
        if policy == ClientAuth::None && self.client_allowed_sans.is_some() {
            warnings.push(
                "client_allowed_sans without a client_auth_type: clients are not asked for a \
                 certificate, so the list is of no effect"
                    .to_owned(),
            );
        }
    }

    /// Leaves in the provider what the file wants, and says which versions that leaves.
    fn choose(
        &self,
        provider: &mut CryptoProvider,
        key: &CertifiedKey,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<&'static rustls::SupportedProtocolVersion>, ConfigError> {
        let (min, max) = (
            self.min_version.unwrap_or(Version::TLS12),
            self.max_version.unwrap_or(Version::TLS13),
        );
        // First, for then it is so whatever min_version is.
        if max < Version::TLS12 {
            return Err(unusable(format!(
                "max_version: {} leaves no TLS version: TLS 1.0 and 1.1 cannot be used here, TLS12 \
                 and TLS13 can",
                max.name()
            )));
        }
        if min > max {
            return Err(unusable(
                "min_version and max_version leave no TLS version: the first is above the second; \
                 TLS12 and TLS13 can be used here",
            ));
        }
        if min < Version::TLS12 {
            warnings.push(format!(
                "min_version: {}: TLS 1.0 and 1.1 cannot be used here; it is as if it were TLS12",
                min.name()
            ));
        }
        self.choose_curves(provider, warnings)?;
        self.choose_ciphers(provider, warnings);
        let suites_of_12 = || {
            provider
                .cipher_suites
                .iter()
                .filter(|suite| suite.tls13().is_none())
        };
        let fits = |suite: &SupportedCipherSuite| match suite {
            SupportedCipherSuite::Tls12(suite) => key.key.choose_scheme(suite.sign).is_some(),
            SupportedCipherSuite::Tls13(_) => false,
        };
        let has_13 = max >= Version::TLS13;
        let wants_12 = min <= Version::TLS12;
        let has_12 = wants_12 && suites_of_12().any(fits);
        if wants_12 && !has_12 {
            let (refused, warning) = if suites_of_12().next().is_none() {
                (
                    "that can be used with max_version TLS12: CBC suites cannot be used here, and \
                     those of TLS 1.3 are not for TLS 1.2",
                    "none of them can be used with TLS 1.2 here; only TLS 1.3 is left",
                )
            } else {
                (
                    "that fits the certificate's key: an RSA key needs one with ECDHE_RSA, any other \
                     ECDHE_ECDSA",
                    "none of them fits the certificate's key with TLS 1.2; only TLS 1.3 works",
                )
            };
            if !has_13 {
                return Err(unusable(format!("cipher_suites leave none {refused}")));
            }
            warnings.push(format!("cipher_suites: {warning}"));
        }
        let versions = [(has_13, &TLS13), (has_12, &TLS12)];
        Ok(versions
            .into_iter()
            .filter_map(|(has, version)| has.then_some(version))
            .collect())
    }

    /// Their order counts. Those of TLS 1.3 stay.
    fn choose_ciphers(&self, provider: &mut CryptoProvider, warnings: &mut Vec<String>) {
        let Some(listed) = self.cipher_suites.as_ref().filter(|list| !list.is_empty()) else {
            return;
        };
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some());
        let mut cbc = Vec::new();
        for cipher in listed {
            match cipher {
                Cipher::Known(suite) if suite.tls13().is_none() => {
                    provider.cipher_suites.push(*suite);
                }
                Cipher::Known(_) => {}
                Cipher::Cbc(name) => cbc.push(name.as_str()),
            }
        }
        if !cbc.is_empty() {
            let names = cbc.join(", ");
            warnings.push(format!(
                "cipher_suites: {names}: CBC suites cannot be used here; they are skipped"
            ));
        }
    }

    fn choose_curves(
        &self,
        provider: &mut CryptoProvider,
        warnings: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        let Some(listed) = self
            .curve_preferences
            .as_ref()
            .filter(|list| !list.is_empty())
        else {
            return Ok(());
        };
        provider.kx_groups = listed.iter().filter_map(|curve| curve.0).collect();
        if provider.kx_groups.is_empty() {
            return Err(unusable(
                "curve_preferences leave none that can be used: CurveP521 cannot be used here",
            ));
        }
        if provider.kx_groups.len() < listed.len() {
            warnings
                .push("curve_preferences: CurveP521 cannot be used here; it is skipped".to_owned());
        }
        Ok(())
    }
}

/// The CAs that clients' certificates are verified against.
fn cas(
    texts: &Texts,
    policy: ClientAuth,
    warnings: &mut Vec<String>,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let Some(text) = &texts.client_ca else {
        return Ok(Vec::new());
    };
    if policy == ClientAuth::None {
        return Err(unusable(
            "client CA's have been configured without a Client Auth Policy",
        ));
    }
    // As in Go, one that cannot be read spoils none of the others.
    let cas: Vec<_> = CertificateDer::pem_slice_iter(text).flatten().collect();
    let (usable, bad) = RootCertStore::empty().add_parsable_certificates(cas.iter().cloned());
    if usable == 0 {
        return Err(unusable(
            "client_ca: no certificate found that can be used: expected PEM, \"-----BEGIN \
             CERTIFICATE-----\"",
        ));
    }
    if bad > 0 {
        warnings.push(format!(
            "client_ca: {bad} of its certificates cannot be used; they are skipped"
        ));
    }
    Ok(cas)
}

fn key_pair(
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, ConfigError> {
    load_key_pair(cert, key, provider).map_err(ConfigError::KeyPair)
}

const ENCRYPTED: &str = "the key is encrypted: decrypt it first (openssl pkey -in KEY -out NEW)";

fn load_key_pair(
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
    let chain = chain.map_err(|error| bad_pem("certificate", &error))?;
    if chain.is_empty() {
        return Err("failed to find any PEM data in certificate input".to_owned());
    }
    check_kind_of_first(key)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        // In the first line, or in one of OpenSSL's headers after it.
        _ if has(key, b"ENCRYPTED") => ENCRYPTED.to_owned(),
        pem::Error::NoItemsFound => {
            "failed to find any PEM private key that is not encrypted in key input".to_owned()
        }
        error => bad_pem("key", &error),
    })?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "private key does not match public key".to_owned(),
        // As `openssl x509 -req` makes it unless it has extensions to add.
        error if format!("{error:?}").contains("UnsupportedCertVersion") => {
            "the certificate is one of X.509 version 1, which cannot be used here: make one with \
             subjectAltName, which is of version 3 (openssl x509 -req -extfile)"
                .to_owned()
        }
        error => format!(
            "{error} (keys may be RSA with 2048 to 8192 bits, ECDSA P-256 or P-384, Ed25519)"
        ),
    })
}

/// What is wrong with a PEM text, in words that have nothing of it: it may be a key.
fn bad_pem(what: &str, error: &pem::Error) -> String {
    let fault = match error {
        // Most likely all of it is one line.
        pem::Error::MissingSectionEnd { .. } => {
            "a section has no line \"-----END ...-----\" (in YAML a text of several lines stands \
             after |, not after >)"
        }
        pem::Error::IllegalSectionStart { .. } => {
            "a line that begins with \"-----BEGIN\" has more than that in it, or less"
        }
        _ => "what stands between \"-----BEGIN\" and \"-----END\" is not base64",
    };
    format!("bad PEM in {what} input: {fault}")
}

/// The first private key is the one that counts, as in Go: the reader would skip one that it cannot
/// read, and take the next.
fn check_kind_of_first(key: &[u8]) -> Result<(), String> {
    let kinds = key.split(|byte| *byte == b'\n').filter_map(|line| {
        let label = line.trim_ascii_end().strip_prefix(b"-----BEGIN ")?;
        let kind = label.strip_suffix(b"PRIVATE KEY-----")?;
        // All of it in one line, which the reader reports.
        (!has(kind, b"-----")).then_some(kind)
    });
    match { kinds }.find(|kind| kind.is_empty() || kind.ends_with(b" ")) {
        None | Some(b"" | b"RSA " | b"EC ") => Ok(()),
        Some(b"ENCRYPTED ") => Err(ENCRYPTED.to_owned()),
        Some(_) => Err(
            "failed to parse private key: the first one is of another kind than PRIVATE KEY, RSA \
             PRIVATE KEY and EC PRIVATE KEY, and the first one counts"
                .to_owned(),
        ),
    }
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

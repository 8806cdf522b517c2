//! What the TLS part of the file comes to in rustls.
//!
//! **Invariant:** what this program cannot do (TLS 1.0 and 1.1, CBC suites, the curve P-521) makes
//! the choice narrower, never wider, and is a warning; where it would leave nothing, the file is refused.
//!
//! Files are read by what the caller passes in, in the order in which Go reads them, so that the same
//! mistake is reported first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::{ALL_CIPHER_SUITES, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, Tls12CipherSuite,
};
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
    /// Not yet known to be one: exporter-toolkit checks it last.
    client_auth_type: Option<String>,
    /// An empty list allows nobody.
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    prefer_server_cipher_suites: Bool,
    curve_preferences: Option<Vec<String>>,
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

/// In order.
const VERSIONS: [&str; 4] = ["TLS10", "TLS11", "TLS12", "TLS13"];

/// Those of Go's suites that rustls does not have. Suites with RSA key exchange are not among Go's since 1.22.
const CBC: [&str; 4] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
];

/// What exporter-toolkit has, which is less than Go. ring has no P-521.
const CURVES: [(&str, Option<&'static dyn SupportedKxGroup>); 4] = [
    ("X25519", Some(kx_group::X25519)),
    ("CurveP256", Some(kx_group::SECP256R1)),
    ("CurveP384", Some(kx_group::SECP384R1)),
    ("CurveP521", None),
];

/// The place in [`VERSIONS`].
fn version(name: Option<&String>, default: usize) -> Result<usize, ConfigError> {
    name.map_or(Ok(default), |name| {
        let found = VERSIONS.iter().position(|known| known == name);
        found.ok_or_else(|| unusable(format!("unknown TLS version: {name}")))
    })
}

/// `None` for one with CBC.
fn cipher(name: &String) -> Result<Option<SupportedCipherSuite>, ConfigError> {
    // rustls' names, but for those of TLS 1.3.
    let is_named = |suite: &&SupportedCipherSuite| {
        let known = suite.suite().as_str().unwrap_or_default();
        known.replacen("TLS13_", "TLS_", 1) == *name
    };
    match ALL_CIPHER_SUITES.iter().find(is_named) {
        None if !CBC.contains(&name.as_str()) => Err(unusable(format!("unknown cipher: {name}"))),
        known => Ok(known.copied()),
    }
}

fn curve(name: &String) -> Result<Option<&'static dyn SupportedKxGroup>, ConfigError> {
    let found = CURVES.into_iter().find(|(known, _)| known == name);
    let found = found.ok_or_else(|| unusable(format!("unknown curve: {name}")))?;
    Ok(found.1)
}

/// As listed; a list of none is the same as no list.
fn all<T>(
    names: Option<&Vec<String>>,
    named: fn(&String) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    names.into_iter().flatten().map(named).collect()
}

fn unusable(reason: impl Into<String>) -> ConfigError {
    ConfigError::Tls(reason.into())
}

impl Tls {
    /// Whether there is to be TLS at all.
    #[must_use]
    pub(crate) fn is_enabled(&self) -> bool {
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

    /// Every name in it is one.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        version(self.min_version.as_ref(), 0)?;
        version(self.max_version.as_ref(), 0)?;
        all(self.cipher_suites.as_ref(), cipher)?;
        all(self.curve_preferences.as_ref(), curve).map(|_| ())
    }

    /// Makes of it what a handshake needs. The texts are warnings: what is narrower here than the file
    /// says, or wider than its author may think.
    pub(super) fn load(
        &self,
        texts: &Texts,
    ) -> Result<(Arc<ServerConfig>, Vec<String>), ConfigError> {
        let mut warnings = Vec::new();
        let mut provider = default_provider();
        let key = key_pair(&texts.cert, &texts.key, &provider)?;
        let policy = self.client_auth()?;
        let cas = cas(texts, policy, &mut warnings)?;
        let versions = self.choose(&mut provider, &key, &mut warnings)?;
        self.warn_of_policy(policy, texts, &mut warnings);

        let provider = Arc::new(provider);
        let sans = self.client_allowed_sans.clone();
        let client_certs = ClientCerts::new(policy, cas, sans, &provider);
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| unusable(format!("tls: {error}")))?;
        let builder = match policy {
            ClientAuth::None => builder.with_no_client_auth(),
            _ => builder.with_client_cert_verifier(Arc::new(client_certs)),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.ignore_client_order = self.prefer_server_cipher_suites.is_true();
        // Each handshake is to see the certificates and CAs of its time.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok((Arc::new(config), warnings))
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
    ) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
        let (min, max) = (
            version(self.min_version.as_ref(), 2)?,
            version(self.max_version.as_ref(), 3)?,
        );
        if max < 2 || min > max {
            return Err(unusable(format!(
                "max_version: {} leaves no TLS version: TLS 1.0 and 1.1 cannot be used here, TLS12 \
                 and TLS13 can, and min_version must not be above it",
                VERSIONS.get(max).unwrap_or(&"")
            )));
        }
        if min < 2 {
            let name = VERSIONS.get(min).unwrap_or(&"");
            warnings.push(format!(
                "min_version: {name}: TLS 1.0 and 1.1 cannot be used here; it is as if it were TLS12"
            ));
        }
        self.choose_curves(provider, warnings)?;
        self.choose_ciphers(provider, warnings)?;
        let has_13 = max >= 3;
        if min > 2 {
            return Ok(vec![&TLS13]);
        }
        let of_12 = || provider.cipher_suites.iter().filter_map(suite_of_12);
        if of_12().any(|suite| key.key.choose_scheme(suite.sign).is_some()) {
            return Ok(if has_13 {
                vec![&TLS13, &TLS12]
            } else {
                vec![&TLS12]
            });
        }
        let reason = if of_12().next().is_none() {
            "can be used with TLS 1.2: CBC suites cannot be used here, and those of TLS 1.3 are not for it"
        } else {
            "fits the certificate's key with TLS 1.2: an RSA key needs one with ECDHE_RSA, any other \
             ECDHE_ECDSA"
        };
        let message = format!("cipher_suites leave none that {reason}");
        if !has_13 {
            return Err(unusable(message));
        }
        warnings.push(format!("{message}; only TLS 1.3 is left"));
        Ok(vec![&TLS13])
    }

    /// Their order counts. Those of TLS 1.3 are all there whatever is listed, as in Go.
    fn choose_ciphers(
        &self,
        provider: &mut CryptoProvider,
        warnings: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        let listed = all(self.cipher_suites.as_ref(), cipher)?;
        if listed.is_empty() {
            return Ok(());
        }
        if listed.iter().any(Option::is_none) {
            let names = self.cipher_suites.iter().flatten();
            let cbc: Vec<_> = names
                .filter(|name| CBC.contains(&name.as_str()))
                .cloned()
                .collect();
            warnings.push(format!(
                "cipher_suites: {}: CBC suites cannot be used here; they are skipped",
                cbc.join(", ")
            ));
        }
        let listed = listed.into_iter().flatten();
        let is_of_13 = |suite: &SupportedCipherSuite| suite_of_12(suite).is_none();
        provider.cipher_suites.retain(is_of_13);
        let of_12 = listed.filter(|suite| !is_of_13(suite));
        provider.cipher_suites.extend(of_12);
        Ok(())
    }

    fn choose_curves(
        &self,
        provider: &mut CryptoProvider,
        warnings: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        let listed = all(self.curve_preferences.as_ref(), curve)?;
        if listed.iter().any(Option::is_none) {
            if listed.iter().all(Option::is_none) {
                return Err(unusable(
                    "curve_preferences leave none that can be used: CurveP521 cannot be used here",
                ));
            }
            warnings
                .push("curve_preferences: CurveP521 cannot be used here; it is skipped".to_owned());
        }
        if !listed.is_empty() {
            provider.kx_groups = listed.into_iter().flatten().collect();
        }
        Ok(())
    }
}

fn suite_of_12(suite: &SupportedCipherSuite) -> Option<&'static Tls12CipherSuite> {
    match suite {
        SupportedCipherSuite::Tls12(suite) => Some(*suite),
        SupportedCipherSuite::Tls13(_) => None,
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
    let chain = chain.map_err(|_| bad_pem("certificate"))?;
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
        _ => bad_pem("key"),
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

/// Says nothing of the text itself: it may be a key.
fn bad_pem(what: &str) -> String {
    format!(
        "bad PEM in {what} input: base64 stands between a line \"-----BEGIN ...-----\" and a line \
         \"-----END ...-----\" (in YAML a text of several lines stands after |, not after >)"
    )
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

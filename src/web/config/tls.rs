//! What the TLS part of the file comes to in rustls.
//!
//! **Invariant:** what this program cannot do (TLS 1.0 and 1.1, CBC suites, the curve P-521) makes
//! the choice narrower, never wider, and is a warning; where it would leave nothing, the file is refused.
//!
//! Files are read by what the caller passes in, and mistakes are found in Go's order, so that the same
//! one is reported first.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::{ALL_CIPHER_SUITES, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use serde::Deserialize;

use super::client_certs::{ClientAuth, ClientCerts};
use super::scalar::unquoted;

/// The TLS part of the file. An empty text is the same as none, but for `client_auth_type`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    cert: Option<String>,
    cert_file: Option<String>,
    key: Option<String>,
    key_file: Option<String>,
    client_ca: Option<String>,
    client_ca_file: Option<String>,
    /// Not yet known to be one: exporter-toolkit checks it last.
    client_auth_type: Option<String>,
    /// An empty list allows nobody.
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    #[serde(deserialize_with = "unquoted")]
    prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Option<Vec<String>>,
}

/// In their order, which is that of the alphabet.
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

fn version<'a>(name: Option<&'a String>, default: &'a str) -> Result<&'a str, String> {
    let name = name.map_or(default, String::as_str);
    let found = VERSIONS.contains(&name).then_some(name);
    found.ok_or_else(|| format!("unknown TLS version: {name}"))
}

/// `None` for one that is known and cannot be used.
fn cipher(name: &str) -> Result<Option<SupportedCipherSuite>, String> {
    // rustls' names, but for those of TLS 1.3.
    let found = ALL_CIPHER_SUITES.iter().find(|suite| {
        let known = suite.suite().as_str().unwrap_or_default();
        known.replacen("TLS13_", "TLS_", 1) == name
    });
    match found {
        None if !CBC.contains(&name) => Err(format!("unknown cipher: {name}")),
        found => Ok(found.copied()),
    }
}

/// `None` for one that is known and cannot be used.
fn curve(name: &str) -> Result<Option<&'static dyn SupportedKxGroup>, String> {
    let found = CURVES.into_iter().find(|(known, _)| *known == name);
    let group = found.map(|(_, group)| group);
    group.ok_or_else(|| format!("unknown curve: {name}"))
}

/// What can be used of a list, in its order. That there is more in it is a warning.
fn usable<T>(
    names: &[String],
    find: fn(&str) -> Result<Option<T>, String>,
    others: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<T>, String> {
    let (mut usable, mut skipped) = (Vec::new(), Vec::new());
    for name in names {
        match find(name)? {
            Some(value) => usable.push(value),
            None => skipped.push(name.as_str()),
        }
    }
    if !skipped.is_empty() {
        let skipped = skipped.join(", ");
        warnings.push(format!("{skipped}: {others} cannot be used here; skipped"));
    }
    Ok(usable)
}

/// A PEM text or the name of the file that has it. Where both are given, the file counts, as in Go.
type Pem<'a> = (&'static str, &'a Option<String>, &'a Option<String>);

fn is_set((_, text, file): Pem<'_>) -> bool {
    let mut parts = [text, file].into_iter().flatten();
    parts.any(|part| !part.is_empty())
}

fn read_pem(
    (key, text, file): Pem<'_>,
    directory: &Path,
    read: impl Fn(&Path) -> Result<Vec<u8>, String>,
) -> Result<Vec<u8>, String> {
    let Some(file) = file.as_ref().filter(|file| !file.is_empty()) else {
        return Ok(text.clone().unwrap_or_default().into_bytes());
    };
    // Not repeated, for it may be a key.
    if file.contains("-----BEGIN") {
        return Err(format!(
            "{key}_file: the text itself stands where the name of a file belongs: call it {key}"
        ));
    }
    let path = directory.join(file);
    read(&path)
        .map_err(|reason| format!("failed to read {key}_file ({}): {reason}", path.display()))
}

impl Tls {
    fn pems(&self) -> [Pem<'_>; 3] {
        [
            ("cert", &self.cert, &self.cert_file),
            ("key", &self.key, &self.key_file),
            ("client_ca", &self.client_ca, &self.client_ca_file),
        ]
    }

    /// Whether there is to be TLS at all.
    pub(crate) fn is_enabled(&self) -> bool {
        let policy = self.client_auth_type.as_deref();
        policy.is_some_and(|name| !name.is_empty()) || self.pems().into_iter().any(is_set)
    }

    /// Which key is gone that keeps clients out, and what would say that this is meant.
    pub(super) fn lost_since(&self, before: &Self) -> Option<(&'static str, &'static str)> {
        let policy = |tls: &Self| ClientAuth::named(tls.client_auth_type.as_deref());
        // A truncated name is no policy; with it no client is accepted.
        let asks = |tls: &Self| !matches!(policy(tls), Ok(None));
        let has_lost_names =
            before.client_allowed_sans.is_some() && self.client_allowed_sans.is_none();
        let key = match &self.client_auth_type {
            _ if !asks(before) => return None,
            None => "client_auth_type",
            Some(_) if asks(self) && has_lost_names => "client_allowed_sans",
            Some(_) => return None,
        };
        Some((key, "`client_auth_type: NoClientCert`"))
    }

    /// Every name in it is one.
    pub(super) fn check(&self) -> Result<(), String> {
        version(self.min_version.as_ref(), "TLS12")?;
        version(self.max_version.as_ref(), "TLS13")?;
        let mut ciphers = self.cipher_suites.iter().flatten();
        ciphers.try_for_each(|name| cipher(name).map(drop))?;
        let mut curves = self.curve_preferences.iter().flatten();
        curves.try_for_each(|name| curve(name).map(drop))
    }

    /// Reads what is named, relative to the file's directory, and makes of it what a handshake needs. The
    /// texts are warnings: what is narrower here than the file says, or wider than its author may think.
    pub(super) fn load(
        &self,
        directory: &Path,
        read: impl Fn(&Path) -> Result<Vec<u8>, String>,
    ) -> Result<(Arc<ServerConfig>, Vec<String>), String> {
        if !self.is_enabled() {
            let reason = "TLS config is not present: it was when the program started, which only a \
                          restart changes";
            return Err(reason.to_owned());
        }
        let [cert, key, client_ca] = self.pems();
        if let Some((name, ..)) = [cert, key].into_iter().find(|pem| !is_set(*pem)) {
            return Err(format!("missing one of {name} or {name}_file"));
        }
        let cert = read_pem(cert, directory, &read)?;
        let key = read_pem(key, directory, &read)?;
        let mut warnings = Vec::new();
        let mut provider = default_provider();
        let key = key_pair(&cert, &key, &provider)
            .map_err(|reason| format!("failed to load X509KeyPair: tls: {reason}"))?;
        let has_ca = is_set(client_ca);
        let client_ca = read_pem(client_ca, directory, &read)?;
        let policy = ClientAuth::named(self.client_auth_type.as_deref())?;
        if has_ca && policy.is_none() {
            let reason = "client CA's have been configured without a Client Auth Policy";
            return Err(reason.to_owned());
        }
        let versions = self.choose(&mut provider, &key, &mut warnings)?;
        warnings.extend(self.warning_of_policy(policy, has_ca));

        let provider = Arc::new(provider);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| format!("tls: {error}"))?;
        let builder = match policy {
            None => builder.with_no_client_auth(),
            Some(policy) => {
                let cas = has_ca.then(|| cas(&client_ca, &mut warnings)).transpose()?;
                let allowed = self.client_allowed_sans.clone();
                let verifier = ClientCerts::new(policy, cas.unwrap_or_default(), allowed, provider);
                builder.with_client_cert_verifier(Arc::new(verifier))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.ignore_client_order = self.prefer_server_cipher_suites.unwrap_or(true);
        // Each handshake is to see the certificates and CAs of its time.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok((Arc::new(config), warnings))
    }

    fn warning_of_policy(&self, policy: Option<ClientAuth>, has_ca: bool) -> Option<String> {
        let name = self.client_auth_type.as_deref().unwrap_or_default();
        Some(match policy {
            None if self.client_allowed_sans.is_some() => {
                "client_allowed_sans without a client_auth_type: clients are not asked for a \
                 certificate, so the list is of no effect"
                    .to_owned()
            }
            Some(policy) if !policy.verifies => format!(
                "client_auth_type: {name} does not verify client certificates: anyone can make one. \
                 RequireAndVerifyClientCert does"
            ),
            Some(_) if !has_ca => format!(
                "client_auth_type: {name} without client_ca: no client certificate can be verified, \
                 so every one is refused (Go would take the system's CAs)"
            ),
            _ => return None,
        })
    }

    /// Leaves in the provider what the file wants, and says which versions that leaves.
    fn choose(
        &self,
        provider: &mut CryptoProvider,
        key: &CertifiedKey,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
        let min = version(self.min_version.as_ref(), "TLS12")?;
        let max = version(self.max_version.as_ref(), "TLS13")?;
        if max < "TLS12" || min > max {
            return Err(format!(
                "max_version: {max} leaves no TLS version: TLS 1.0 and 1.1 cannot be used here, TLS12 \
                 and TLS13 can, and min_version must not be above it"
            ));
        }
        if min < "TLS12" {
            warnings.push(format!(
                "min_version: {min}: TLS 1.0 and 1.1 cannot be used here; it is as if it were TLS12"
            ));
        }
        if let Some(names @ [_, ..]) = self.curve_preferences.as_deref() {
            provider.kx_groups = usable(names, curve, "CurveP521", warnings)?;
            if provider.kx_groups.is_empty() {
                let reason =
                    "curve_preferences leave none that can be used: CurveP521 cannot be used here";
                return Err(reason.to_owned());
            }
        }
        let suites = &mut provider.cipher_suites;
        if let Some(names @ [_, ..]) = self.cipher_suites.as_deref() {
            // Their order counts. Those of TLS 1.3 are all there whatever is listed, as in Go.
            let listed = usable(names, cipher, "CBC suites", warnings)?;
            suites.retain(|suite| suite.tls13().is_some());
            suites.extend(listed.into_iter().filter(|suite| suite.tls13().is_none()));
        }
        let versions = match (min, max) {
            ("TLS13", _) => return Ok(vec![&TLS13]),
            (_, "TLS12") => vec![&TLS12],
            _ => vec![&TLS13, &TLS12],
        };
        let of_12 = || suites.iter().filter(|suite| suite.tls13().is_none());
        let algorithm = key.key.algorithm();
        let fits = |suite: &SupportedCipherSuite| suite.usable_for_signature_algorithm(algorithm);
        if of_12().any(fits) {
            return Ok(versions);
        }
        let reason = if of_12().next().is_none() {
            "can be used with TLS 1.2: CBC suites cannot be used here, and those of TLS 1.3 are not for it"
        } else {
            "fits the certificate's key with TLS 1.2: an RSA key needs one with ECDHE_RSA, any other \
             ECDHE_ECDSA"
        };
        let message = format!("cipher_suites leave none that {reason}");
        if max == "TLS12" {
            return Err(message);
        }
        warnings.push(format!("{message}; only TLS 1.3 is left"));
        Ok(vec![&TLS13])
    }
}

/// The CAs that clients' certificates are verified against.
fn cas(text: &[u8], warnings: &mut Vec<String>) -> Result<Vec<CertificateDer<'static>>, String> {
    // As in Go, one that cannot be read spoils none of the others.
    let cas: Vec<_> = CertificateDer::pem_slice_iter(text).flatten().collect();
    let (usable, bad) = RootCertStore::empty().add_parsable_certificates(cas.iter().cloned());
    if usable == 0 {
        let reason = "client_ca: no certificate found that can be used: expected PEM, \"-----BEGIN \
                      CERTIFICATE-----\"";
        return Err(reason.to_owned());
    }
    if bad > 0 {
        warnings.push(format!(
            "client_ca: {bad} of its certificates cannot be used; they are skipped"
        ));
    }
    Ok(cas)
}

/// The error has nothing of the key's text.
fn key_pair(cert: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let bad_pem = |what: &str| {
        format!(
            "bad PEM in {what} input: base64 stands between a line \"-----BEGIN ...-----\" and a line \
             \"-----END ...-----\" (in YAML a text of several lines stands after |, not after >)"
        )
    };
    let chain = CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| bad_pem("certificate"))?;
    if chain.is_empty() {
        return Err("failed to find any PEM data in certificate input".to_owned());
    }
    // The first private key is the one that counts, as in Go: the reader would skip one that it cannot
    // read, and take the next.
    let text = String::from_utf8_lossy(key);
    let first = text.lines().find_map(|line| {
        let label = line.trim_ascii_end().strip_prefix("-----BEGIN ")?;
        label.strip_suffix("PRIVATE KEY-----")
    });
    // Where all of it is in one line, the reader reports that.
    let is_readable = |kind: &str| ["", "RSA ", "EC "].contains(&kind) || kind.contains("-----");
    let key = match first {
        Some(kind) if !is_readable(kind) => Err(None),
        _ => PrivateKeyDer::from_pem_slice(key).map_err(Some),
    };
    let key = key.map_err(|error| match error {
        // In the first line, or in one of OpenSSL's headers after it.
        _ if text.contains("ENCRYPTED") => {
            "the key is encrypted: decrypt it first (openssl pkey -in KEY -out NEW)".to_owned()
        }
        Some(pem::Error::NoItemsFound) => {
            "failed to find any PEM private key that is not encrypted in key input".to_owned()
        }
        Some(_) => bad_pem("key"),
        None => {
            "failed to parse private key: the first one is of another kind than PRIVATE KEY, RSA \
                 PRIVATE KEY and EC PRIVATE KEY, and the first one counts"
                .to_owned()
        }
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

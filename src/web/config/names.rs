//! Go's names for versions, suites, curves and policies, and what this program has for each.

use rustls::SupportedCipherSuite;
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::ring::{cipher_suite, kx_group};

use super::error::WebFileError;

/// A version of TLS, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

impl Version {
    pub(super) fn named(name: &str) -> Result<Self, WebFileError> {
        Ok(match name {
            "TLS10" => Self::Tls10,
            "TLS11" => Self::Tls11,
            "TLS12" => Self::Tls12,
            "TLS13" => Self::Tls13,
            _ => {
                return Err(WebFileError::UnknownVersion {
                    name: name.to_owned(),
                });
            }
        })
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tls10 => "TLS10",
            Self::Tls11 => "TLS11",
            Self::Tls12 => "TLS12",
            Self::Tls13 => "TLS13",
        }
    }
}

/// What Go's `tls.CipherSuites()` has. Suites with RSA key exchange are not among them since Go 1.22.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cipher {
    pub(super) name: &'static str,
    pub(super) kind: CipherKind,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum CipherKind {
    /// For TLS 1.3, where Go takes all of them whatever is listed.
    Tls13,
    /// For TLS 1.2.
    Tls12(SupportedCipherSuite),
    /// For TLS 1.2, with CBC, which rustls does not have.
    Cbc,
}

const CIPHERS: [(&str, CipherKind); 13] = {
    use CipherKind::{Cbc, Tls12, Tls13};
    [
        ("TLS_AES_128_GCM_SHA256", Tls13),
        ("TLS_AES_256_GCM_SHA384", Tls13),
        ("TLS_CHACHA20_POLY1305_SHA256", Tls13),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", Cbc),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", Cbc),
        ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", Cbc),
        ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", Cbc),
        (
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            Tls12(cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        ),
        (
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            Tls12(cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        ),
        (
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            Tls12(cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        ),
        (
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            Tls12(cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        ),
        (
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            Tls12(cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
        ),
        (
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            Tls12(cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
        ),
    ]
};

impl Cipher {
    pub(super) fn named(name: &str) -> Result<Self, WebFileError> {
        let known = CIPHERS.into_iter().find(|(known, _)| *known == name);
        known
            .map(|(name, kind)| Self { name, kind })
            .ok_or_else(|| WebFileError::UnknownCipher {
                name: name.to_owned(),
            })
    }
}

/// What exporter-toolkit has, which is less than Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    X25519,
    P256,
    P384,
    /// Which ring does not have.
    P521,
}

impl Curve {
    pub(super) fn named(name: &str) -> Result<Self, WebFileError> {
        Ok(match name {
            "X25519" => Self::X25519,
            "CurveP256" => Self::P256,
            "CurveP384" => Self::P384,
            "CurveP521" => Self::P521,
            _ => {
                return Err(WebFileError::UnknownCurve {
                    name: name.to_owned(),
                });
            }
        })
    }

    pub(super) fn group(self) -> Option<&'static dyn SupportedKxGroup> {
        match self {
            Self::X25519 => Some(kx_group::X25519),
            Self::P256 => Some(kx_group::SECP256R1),
            Self::P384 => Some(kx_group::SECP384R1),
            Self::P521 => None,
        }
    }
}

/// What is asked of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// Nothing.
    None,
    /// A certificate, any or none.
    Request,
    /// A certificate, any.
    RequireAny,
    /// A certificate that verifies, or none.
    VerifyIfGiven,
    /// A certificate that verifies.
    RequireAndVerify,
}

impl ClientAuth {
    pub(super) fn named(name: &str) -> Result<Self, WebFileError> {
        Ok(match name {
            "" | "NoClientCert" => Self::None,
            "RequestClientCert" => Self::Request,
            // The second as exporter-toolkit once called it, and still does.
            "RequireAnyClientCert" | "RequireClientCert" => Self::RequireAny,
            "VerifyClientCertIfGiven" => Self::VerifyIfGiven,
            "RequireAndVerifyClientCert" => Self::RequireAndVerify,
            _ => {
                return Err(WebFileError::ClientAuth {
                    name: name.to_owned(),
                });
            }
        })
    }

    pub(super) const fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }

    pub(super) const fn requires(self) -> bool {
        matches!(self, Self::RequireAny | Self::RequireAndVerify)
    }
}

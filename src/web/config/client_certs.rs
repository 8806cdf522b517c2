//! Which clients' certificates will do: Go's five policies and the list of allowed names.
//!
//! rustls' own verifier does the work where a chain is to be verified. Three things it has no notion
//! of are added: certificates that nobody verifies (only that the client has the key), names, and a
//! certificate that is itself in the list of CAs, as self-signed ones are: Go lets it in, rustls
//! refuses one that is marked as a CA.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use tracing::debug;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP_CLIENT_AUTH};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};

/// What is asked of clients, which are asked for a certificate.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientAuth {
    /// They must have one.
    requires: bool,
    /// One that they have must be signed by a CA.
    pub(super) verifies: bool,
}

impl ClientAuth {
    /// `None` is asked nothing.
    pub(super) fn named(name: Option<&str>) -> Result<Option<Self>, String> {
        let (requires, verifies) = match name.unwrap_or_default() {
            "" | "NoClientCert" => return Ok(None),
            "RequestClientCert" => (false, false),
            // The second as exporter-toolkit once called it, and still does.
            "RequireAnyClientCert" | "RequireClientCert" => (true, false),
            "VerifyClientCertIfGiven" => (false, true),
            "RequireAndVerifyClientCert" => (true, true),
            name => return Err(format!("invalid ClientAuth: {name}")),
        };
        Ok(Some(Self { requires, verifies }))
    }
}

/// Decides on the certificate of one client.
#[derive(Debug)]
pub(super) struct ClientCerts {
    policy: ClientAuth,
    cas: Vec<CertificateDer<'static>>,
    /// `None` where there is no CA that could have signed.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    /// Names of which a certificate must have one.
    allowed_sans: Option<Vec<String>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCerts {
    pub(super) fn new(
        policy: ClientAuth,
        cas: Vec<CertificateDer<'static>>,
        allowed_sans: Option<Vec<String>>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(cas.iter().cloned());
        let chains = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        Self {
            policy,
            cas,
            // Fails only without a CA.
            chains: chains.build().ok(),
            allowed_sans,
            algorithms,
        }
    }
}

impl ClientCertVerifier for ClientCerts {
    fn client_auth_mandatory(&self) -> bool {
        // Go's exporters refuse where a name is wanted and there is no certificate at all.
        self.policy.requires || self.allowed_sans.is_some()
    }

    /// Say to the client which CAs are wanted.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        let chains = self.chains.as_ref();
        chains.map_or(&[], |chains| chains.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match &self.chains {
            _ if !self.policy.verifies => {}
            _ if self.cas.contains(end_entity) => is_valid_for_clients(end_entity, now)?,
            None => return Err(CertificateError::UnknownIssuer.into()),
            Some(chains) => {
                chains.verify_client_cert(end_entity, intermediates, now)?;
            }
        }
        if let Some(allowed) = &self.allowed_sans {
            let found = sans(end_entity)?;
            if !found.iter().any(|san| allowed.contains(san)) {
                debug!(?found, ?allowed, "No allowed SAN in the client certificate");
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn bad_encoding(_: x509_cert::der::Error) -> Error {
    CertificateError::BadEncoding.into()
}

/// What rustls' verifier would have checked, but for the signature: the operator has vouched for these
/// very bytes.
fn is_valid_for_clients(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let certificate = Certificate::from_der(certificate).map_err(bad_encoding)?;
    let certificate = certificate.tbs_certificate();
    let validity = certificate.validity();
    let [from, to] = [validity.not_before, validity.not_after];
    let [from, to] = [from, to].map(|time| time.to_unix_duration().as_secs());
    if !(from..=to).contains(&now.as_secs()) {
        return Err(CertificateError::Expired.into());
    }
    let usage = certificate.get_extension::<ExtendedKeyUsage>();
    let usage = usage.map_err(bad_encoding)?;
    let is_for_clients =
        |purpose: &_| [ID_KP_CLIENT_AUTH, ANY_EXTENDED_KEY_USAGE].contains(purpose);
    if usage.is_none_or(|(_, usage)| usage.0.iter().any(is_for_clients)) {
        return Ok(());
    }
    Err(CertificateError::InvalidPurpose.into())
}

/// The names that exporter-toolkit compares: DNS names, e-mail and IP addresses, and URIs.
fn sans(certificate: &CertificateDer<'_>) -> Result<Vec<String>, Error> {
    let certificate = Certificate::from_der(certificate).map_err(bad_encoding)?;
    let certificate = certificate.tbs_certificate();
    let extension = certificate.get_extension::<SubjectAltName>();
    let names = extension.map_err(bad_encoding)?.map(|(_, names)| names.0);
    Ok(names.iter().flatten().filter_map(text_of).collect())
}

fn text_of(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name)
        | GeneralName::Rfc822Name(name)
        | GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
            Some(address.ok()?.to_canonical().to_string())
        }
        _ => None,
    }
}

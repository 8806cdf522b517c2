//! HTTPS clients: curl and rustls.

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::Pair;
use crate::support::client::Answer;
use crate::support::patiently;

/// The options of a client.
#[derive(Clone)]
pub struct Client {
    pub roots: String,
    pub certificate: Option<Pair>,
    pub alpn: &'static [&'static str],
    pub versions: Vec<&'static SupportedProtocolVersion>,
    pub provider: CryptoProvider,
    pub server_name: &'static str,
}

impl Client {
    /// Trusts this CA, offers HTTP/2, has no certificate.
    pub fn new(roots: &str) -> Self {
        Self {
            roots: roots.to_owned(),
            certificate: None,
            alpn: &["h2", "http/1.1"],
            versions: rustls::ALL_VERSIONS.to_vec(),
            provider: ring::default_provider(),
            server_name: "localhost",
        }
    }

    pub fn with(mut self, certificate: &Pair) -> Self {
        self.certificate = Some(certificate.clone());
        self
    }

    pub fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::pem_slice_iter(self.roots.as_bytes());
        roots.add_parsable_certificates(trusted.map(Result::unwrap));
        let builder = ClientConfig::builder_with_provider(Arc::new(self.provider.clone()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        config
    }

    pub async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let connector = TlsConnector::from(Arc::new(self.config()));
        let name = ServerName::try_from(self.server_name).unwrap();
        connector.connect(name, stream).await
    }

    /// One request on a connection of its own.
    pub async fn get(
        &self,
        address: SocketAddr,
        path: &str,
        login: Option<(&str, &str)>,
    ) -> io::Result<Answer> {
        let login = login.map_or_else(String::new, |(user, password)| {
            format!("Authorization: {}\r\n", basic(user, password))
        });
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{login}\r\n");
        patiently(async {
            let mut stream = self.connect(address).await?;
            stream.write_all(request.as_bytes()).await?;
            stream.flush().await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok(Answer::parse(&text))
        })
        .await
    }
}

/// The value of an Authorization header.
pub fn basic(user: &str, password: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {encoded}")
}

/// The exit status and the output of curl.
pub async fn curl(arguments: &[&str]) -> Option<(i32, String)> {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let output = tokio::task::spawn_blocking(move || {
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "30"])
            .args(arguments)
            .output()
    })
    .await
    .unwrap();
    let Ok(output) = output else {
        assert!(std::env::var_os("CI").is_none(), "there is no curl");
        println!("skipped: there is no curl");
        return None;
    };
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Some((output.status.code().unwrap_or(-1), text))
}

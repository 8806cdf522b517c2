//! HTTPS clients: curl, and rustls with hyper.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use hyper::body::{Body as _, Bytes, Frame, Incoming};
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::Pair;
use crate::support::patiently;

/// What a client is like.
#[derive(Clone)]
pub struct Client {
    pub roots: String,
    pub certificate: Option<Pair>,
    pub alpn: &'static [&'static str],
    pub versions: Vec<&'static SupportedProtocolVersion>,
    pub provider: CryptoProvider,
    pub server_name: &'static str,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub version: Version,
    pub body: Vec<u8>,
}

/// A request has no body.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl hyper::body::Body for Nothing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        std::task::Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

impl Client {
    /// Trusts this CA, speaks HTTP/2, has no certificate.
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

    /// One request on a connection of its own, with the protocol that was agreed on.
    pub async fn get(
        &self,
        address: SocketAddr,
        path: &str,
        login: Option<(&str, &str)>,
    ) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        patiently(async {
            let stream = self.connect(address).await?;
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let stream = TokioIo::new(stream);
            let uri = if is_http2 {
                format!("https://localhost{path}")
            } else {
                path.to_owned()
            };
            let mut request = Request::get(uri).header("host", "localhost");
            if let Some((user, password)) = login {
                request = request.header("authorization", basic(user, password));
            }
            let request = request.body(Nothing).unwrap();
            let response = if is_http2 {
                let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
                let (mut sender, connection) = handshake.await?;
                tokio::spawn(connection);
                sender.send_request(request).await?
            } else {
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(stream).await?;
                tokio::spawn(connection);
                sender.send_request(request).await?
            };
            let (head, body) = response.into_parts();
            Ok(Answer {
                status: head.status.as_u16(),
                version: head.version,
                body: all_of(body).await?,
            })
        })
        .await
    }
}

/// The whole of a body.
pub async fn all_of(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// The value of an Authorization header.
pub fn basic(user: &str, password: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {encoded}")
}

/// What curl says: its exit status, and what it wrote.
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

//! The handshake of a connection that is to be encrypted.

use std::io;

use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::config::Source;
use super::protection::Protection;
use super::stream::Watched;

/// What Go's exporters answer.
const NOT_FOR_HTTP: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// A fatal alert, `internal_error`, in a record of its own.
const INTERNAL_ERROR: &[u8] = &[21, 3, 3, 0, 2, 2, 80];

/// Agrees with a client on everything. What that needs is read for each handshake.
pub(super) async fn handshake(
    mut stream: Watched,
    protection: &Protection,
) -> io::Result<TlsStream<Watched>> {
    // A method, where TLS has the type of a record.
    let (answer, reason) = if stream.first_byte().await?.is_ascii_uppercase() {
        (NOT_FOR_HTTP, "the client speaks HTTP, not TLS")
    } else if let Some(configuration) = protection.read(Source::tls_now).await {
        return TlsAcceptor::from(configuration).accept(stream).await;
    } else {
        (INTERNAL_ERROR, "the web configuration is broken")
    };
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    Err(io::Error::other(reason))
}

//! The handshake of a connection that is to be encrypted.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::stream::Watched;

/// What Go's exporters answer.
const NOT_FOR_HTTP: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// A fatal alert, `internal_error`, in a record of its own.
const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// Agrees with a client on everything. What that needs is read for each handshake; `None` is a broken
/// configuration.
pub(super) async fn handshake(
    mut stream: Watched,
    configuration: impl AsyncFnOnce() -> Option<Arc<ServerConfig>>,
) -> io::Result<TlsStream<Watched>> {
    // A method, where TLS has the type of a record.
    if stream.first_byte().await?.is_ascii_uppercase() {
        stream.write_all(NOT_FOR_HTTP).await?;
        stream.shutdown().await?;
        return Err(io::Error::other("the client speaks HTTP, not TLS"));
    }
    let Some(configuration) = configuration().await else {
        stream.write_all(&INTERNAL_ERROR).await?;
        stream.shutdown().await?;
        return Err(io::Error::other("the web configuration is broken"));
    };
    TlsAcceptor::from(configuration).accept(stream).await
}

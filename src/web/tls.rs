//! The handshake of a connection that is to be encrypted.
//!
//! The certificate and all else is read for each of them, off the async threads. Knows no time
//! limits: [`super::connection`] drops the handshake of a client that dawdles.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::protection::Protection;

/// What Go's exporters answer.
const NOT_FOR_HTTP: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// A fatal alert, `internal_error`, in a record of its own.
const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// As long as a TLS record's header, and the beginning of any request.
const BEGINNING: usize = 5;

/// Why there is no encrypted connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the client speaks HTTP, not TLS")]
    PlainHttp,
    #[error("the web configuration is broken")]
    Configuration,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Agrees with a client on everything.
pub(super) async fn handshake<S>(
    mut stream: S,
    protection: &Protection,
) -> Result<TlsStream<Resumed<S>>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut beginning = [0; BEGINNING];
    stream.read_exact(&mut beginning).await?;
    if looks_like_http(beginning) {
        stream.write_all(NOT_FOR_HTTP).await?;
        stream.shutdown().await?;
        return Err(HandshakeError::PlainHttp);
    }
    let stream = Resumed {
        beginning,
        given: 0,
        stream,
    };
    let mut hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let Some(config) = protection.tls_now().await else {
        hello.io.write_all(&INTERNAL_ERROR).await?;
        hello.io.shutdown().await?;
        return Err(HandshakeError::Configuration);
    };
    Ok(hello.into_stream(config).await?)
}

fn looks_like_http(beginning: [u8; BEGINNING]) -> bool {
    [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"].contains(&&beginning)
}

/// A stream of which the beginning was read already.
#[derive(Debug)]
pub(super) struct Resumed<S> {
    beginning: [u8; BEGINNING],
    given: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Resumed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.beginning.get(self.given..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..length).unwrap_or_default());
        self.given += length;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Resumed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

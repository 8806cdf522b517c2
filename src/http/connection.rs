//! Drives one connection, and ends it when its client dawdles.
//!
//! hyper has a limit on the time a request's head may take, but it also runs between two requests,
//! where a scraper's silence is no fault; and it has none on the time a client takes to read. So the
//! stream and the body tell what the connection is doing, and one timer watches each phase:
//!
//! | phase | ends by | at most |
//! |---|---|---|
//! | receiving | the head is there | [`Limits::receive`] |
//! | answering | the handler is done | the handler's own deadline |
//! | sending | the client has taken the answer | [`Limits::send`] |
//! | idle | the next request's first byte | [`Limits::idle`] |
//!
//! Does not know what is asked or answered.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tracing::debug;

use super::open::{Activity, OpenConnection, Phase};
use super::routes::Site;
use super::server::Limits;

/// A request's head may be this long, as the longest that proxies let through. hyper answers a longer
/// one with 431 itself, once it has read as much again at the most.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Serves a client until it goes, dawdles, must make way, or the program ends.
pub(super) async fn serve<S>(
    stream: S,
    connection: OpenConnection,
    site: Arc<Site>,
    limits: Limits,
    mut closing: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let activity = &connection.activity;
    let service = service_fn(|request| answer(Arc::clone(&site), Arc::clone(activity), request));
    let stream = TokioIo::new(Watched {
        stream,
        activity: Arc::clone(activity),
    });
    let mut http = pin!(
        http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .header_read_timeout(None)
            .serve_connection(stream, service)
    );
    let mut dawdled = pin!(dawdled(activity, limits));
    let mut is_closing = false;
    loop {
        // In this order: a request that has come is served, even at the last moment.
        tokio::select! {
            biased;
            result = http.as_mut() => {
                if let Err(error) = result {
                    debug!(%error, "Connection ended");
                }
                return;
            }
            phase = &mut dawdled => {
                debug!(?phase, "Connection closed: the client took too long");
                return;
            }
            () = activity.make_way() => {
                // A request may have come at the same moment; then another one will be asked.
                if activity.may_make_way() {
                    debug!("Connection closed: it waited for its client, and there are too many");
                    return;
                }
            }
            // An error means that the server is gone, which closes too.
            _ = closing.wait_for(|closing| *closing), if !is_closing => {
                if activity.state().0.is_between_requests() {
                    return;
                }
                is_closing = true;
                http.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Ends when a phase has lasted too long.
async fn dawdled(activity: &Activity, limits: Limits) -> Phase {
    loop {
        let (phase, since) = activity.state();
        let limit = match phase {
            Phase::Receiving => limits.receive,
            Phase::Sending => limits.send,
            Phase::Idle => limits.idle,
            Phase::Answering => {
                activity.changed().await;
                continue;
            }
        };
        tokio::select! {
            biased;
            () = activity.changed() => {}
            () = tokio::time::sleep_until(since + limit) => return phase,
        }
    }
}

fn answer(
    site: Arc<Site>,
    activity: Arc<Activity>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<hyper::Response<Answered>, Infallible>> {
    activity.enter(Phase::Answering);
    async move {
        let (head, _unread) = request.into_parts();
        let answer = site
            .answer(&head.method, head.uri.path(), &head.headers)
            .await;
        Ok(answer.map(|bytes| Answered { bytes, activity }))
    }
}

/// An answer's bytes. When it is dropped, hyper has them all (or needs none, for a HEAD request) and
/// is left with sending them.
#[derive(Debug)]
struct Answered {
    bytes: Bytes,
    activity: Arc<Activity>,
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.activity.advance(Phase::Answering, Phase::Sending);
    }
}

/// A stream that notes when a request begins to arrive and when an answer has left.
#[derive(Debug)]
struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.advance(Phase::Idle, Phase::Receiving);
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes the stream once nothing is left in its own buffer.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        if poll.is_ready() {
            self.activity.advance(Phase::Sending, Phase::Idle);
        }
        poll
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

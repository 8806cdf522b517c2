//! Drives one connection, and ends it when its client dawdles.
//!
//! hyper has a limit on the time a request's head may take, but it also runs between two requests,
//! where a scraper's silence is no fault; and it has none on the time a client takes to read. So the
//! stream and the body tell what the connection is doing, and one timer watches each phase:
//!
//! | phase | ends by | at most |
//! |---|---|---|
//! | receiving | the head is there, after the TLS handshake if there is one | [`Limits::receive`] |
//! | answering | the handler is done | the handler's own deadline |
//! | sending | the client has taken the answer | [`Limits::send`] |
//! | idle | the next request's first byte | [`Limits::idle`] |
//!
//! A client that has ended its side of the connection may wait for its answer (`nc -N` does) or be gone;
//! only a reset would tell. It is taken for gone when an answer is not made within [`PARTING`].
//!
//! With HTTP/2, where several requests are under way at once, [`super::streams`] says what the
//! connection as a whole is doing. Does not know what is asked or answered.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};
use tracing::debug;

use super::answer::leave_out_body;
use super::host;
use super::open::{Activity, OpenConnection, Phase};
use super::server::{Handler, Limits, Service};
use super::streams::{Stream, Streams};
use super::tls;

/// A request's head may be this long, as the longest that proxies let through. hyper answers a longer
/// one with 431 itself, once it has read as much again at the most.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The same for HTTP/2.
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Requests under way on one HTTP/2 connection, most of which wait for their turn (see
/// [`super::streams`]). Prometheus asks one at a time, a browser three.
const MAX_STREAMS: u32 = 16;

/// What an HTTP/2 answer hands over at a time: the rest, be it the last byte, is held until the client
/// wants it, so that it shows when it does not.
const PIECE: usize = 16 * 1024;

/// How long an answer may take for a client that has ended its side.
const PARTING: Duration = Duration::from_secs(2);

/// What is received of request bodies, which nobody reads; the least that HTTP/2 allows for.
const RECEIVE_WINDOW: u32 = 65_535;

/// Serves a client until it goes, dawdles, must make way, or the program ends.
pub(super) async fn serve<S, H: Handler>(
    stream: S,
    connection: OpenConnection,
    service: Arc<Service<H>>,
    mut closing: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    if service.is_encrypted() {
        // In a place of its own, for it takes more than a plain connection, of which there may be many.
        Box::pin(serve_encrypted(stream, &connection, &service, &mut closing)).await;
    } else {
        serve_http1(stream, &connection, &service, &mut closing).await;
    }
}

async fn serve_encrypted<S, H: Handler>(
    stream: S,
    connection: &OpenConnection,
    service: &Arc<Service<H>>,
    closing: &mut watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let Some(protection) = &service.protection else {
        return;
    };
    let activity = &connection.activity;
    let shaking = attend(
        tls::handshake(stream, protection),
        |_| {},
        activity,
        dawdled(activity, service.limits),
        closing,
    );
    match shaking.await {
        None => {}
        Some(Err(error)) => debug!(%error, "TLS handshake failed"),
        Some(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            Box::pin(serve_http2(stream, connection, service, closing)).await;
        }
        Some(Ok(stream)) => serve_http1(stream, connection, service, closing).await,
    }
}

async fn serve_http1<S, H: Handler>(
    stream: S,
    connection: &OpenConnection,
    service: &Arc<Service<H>>,
    closing: &mut watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let activity = &connection.activity;
    let stream = TokioIo::new(Watched {
        stream,
        watch: Arc::clone(activity),
        end: None,
    });
    let requests = service_fn(|request| {
        activity.enter(Phase::Answering);
        answer(Arc::clone(service), Only(Arc::clone(activity)), request)
    });
    let http = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .header_read_timeout(None)
        .serve_connection(stream, requests);
    let dawdled = dawdled(activity, service.limits);
    let finish = http1::Connection::graceful_shutdown;
    log_end(attend(http, finish, activity, dawdled, closing).await);
}

async fn serve_http2<S, H: Handler>(
    stream: S,
    connection: &OpenConnection,
    service: &Arc<Service<H>>,
    closing: &mut watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let activity = &connection.activity;
    let streams = Streams::new(activity);
    let stream = TokioIo::new(Watched {
        stream,
        watch: Arc::clone(&streams),
        end: None,
    });
    let requests =
        service_fn(|request| answer(Arc::clone(service), Streams::begin(&streams), request));
    let http = http2::Builder::new(Tasks::default())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_send_buf_size(PIECE)
        .initial_stream_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .serve_connection(stream, requests);
    let dawdled = streams.dawdled(service.limits);
    let finish = http2::Connection::graceful_shutdown;
    log_end(attend(http, finish, activity, dawdled, closing).await);
}

fn log_end(end: Option<Result<(), hyper::Error>>) {
    if let Some(Err(error)) = end {
        debug!(%error, "Connection ended");
    }
}

/// Drives some work on a connection until it is done, or until the connection is to end before:
/// `None`. Work that is in the middle of a request when the program ends is told to finish.
async fn attend<W: Future>(
    work: W,
    finish: impl Fn(Pin<&mut W>),
    activity: &Activity,
    dawdled: impl Future<Output = Phase>,
    closing: &mut watch::Receiver<bool>,
) -> Option<W::Output> {
    let mut work = pin!(work);
    let mut dawdled = pin!(dawdled);
    let mut is_closing = false;
    loop {
        // In this order: a request that has come is served, even at the last moment.
        tokio::select! {
            biased;
            output = work.as_mut() => return Some(output),
            phase = &mut dawdled => {
                debug!(?phase, "Connection closed: the client took too long");
                return None;
            }
            () = activity.make_way() => {
                // A request may have come at the same moment; then another one will be asked.
                if activity.may_make_way() {
                    debug!("Connection closed: it waited for its client, and there are too many");
                    return None;
                }
            }
            // An error means that the server is gone, which closes too.
            _ = closing.wait_for(|closing| *closing), if !is_closing => {
                if activity.state().0.is_between_requests() {
                    return None;
                }
                is_closing = true;
                finish(work.as_mut());
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

/// One request and its answer on a connection. Dropped when hyper has all of the answer (or needs
/// none, for a HEAD request) and is left with sending it.
trait Exchange: Unpin {
    /// How many bytes of so many to hand over at once.
    fn piece(length: usize) -> usize;

    /// Waits until its answer may be made.
    fn wait_for_turn(&mut self) -> impl Future<Output = ()> + Send;

    /// The handler is done.
    fn answered(&mut self);
}

/// The only one there is at a time.
#[derive(Debug)]
struct Only(Arc<Activity>);

impl Exchange for Only {
    fn piece(length: usize) -> usize {
        length
    }

    async fn wait_for_turn(&mut self) {}

    fn answered(&mut self) {}
}

impl Drop for Only {
    fn drop(&mut self) {
        self.0.advance(Phase::Answering, Phase::Sending);
    }
}

impl Exchange for Stream {
    fn piece(length: usize) -> usize {
        length.saturating_sub(1).clamp(length.min(1), PIECE)
    }

    async fn wait_for_turn(&mut self) {
        self.wait_until_answers_are_few().await;
    }

    fn answered(&mut self) {
        self.begin_to_send();
    }
}

async fn answer<E: Exchange, H: Handler>(
    service: Arc<Service<H>>,
    mut exchange: E,
    request: Request<Incoming>,
) -> Result<hyper::Response<Answered<E>>, Infallible> {
    let (head, _unread) = request.into_parts();
    exchange.wait_for_turn().await;
    let mut answer = match host::refusal(head.version, &head.headers) {
        Some(refusal) => refusal,
        None => {
            service
                .answer(&head.method, head.uri.path(), &head.headers)
                .await
        }
    };
    if head.method == Method::HEAD {
        // hyper does it for HTTP/1 alone.
        leave_out_body(&mut answer);
    }
    exchange.answered();
    Ok(answer.map(|bytes| Answered {
        bytes,
        _exchange: exchange,
    }))
}

/// An answer's bytes.
#[derive(Debug)]
struct Answered<E> {
    bytes: Bytes,
    _exchange: E,
}

impl<E: Exchange> Body for Answered<E> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = E::piece(self.bytes.len());
        let piece = self.bytes.split_to(length);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }
}

/// Runs the handlers of one HTTP/2 connection, and ends them with it.
#[derive(Clone, Debug, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// Learns what happens on a stream.
pub(super) trait Watch: Unpin {
    /// Bytes have come.
    fn received(&self);

    /// Nothing is left to be sent.
    fn sent(&self);

    /// What the connection is doing, which tells what the end of the client's side means.
    fn phase(&self) -> Phase;
}

impl Watch for Arc<Activity> {
    fn received(&self) {
        self.advance(Phase::Idle, Phase::Receiving);
    }

    fn sent(&self) {
        self.advance(Phase::Sending, Phase::Idle);
    }

    fn phase(&self) -> Phase {
        self.state().0
    }
}

/// A stream that notes when a request begins to arrive and when an answer has left.
#[derive(Debug)]
struct Watched<S, W> {
    stream: S,
    watch: W,
    end: Option<End>,
}

/// The client has ended its side, which is not passed on while there is an answer for it: hyper would
/// drop it.
#[derive(Debug)]
struct End {
    patience: Pin<Box<Sleep>>,
    /// Whoever was told nothing.
    reader: Option<Waker>,
}

impl End {
    fn poll(&mut self, phase: Phase, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.reader = Some(cx.waker().clone());
        match phase {
            Phase::Answering => self.patience.as_mut().poll(cx).map(Ok),
            // Has a limit of its own.
            Phase::Sending => Poll::Pending,
            Phase::Receiving | Phase::Idle => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncRead + Unpin, W: Watch> AsyncRead for Watched<S, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let phase = self.watch.phase();
        if let Some(end) = &mut self.end {
            return end.poll(phase, cx);
        }
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.watch.received();
        } else if matches!(poll, Poll::Ready(Ok(()))) && buffer.remaining() > 0 {
            let end = self.end.insert(End {
                patience: Box::pin(sleep(PARTING)),
                reader: None,
            });
            return end.poll(phase, cx);
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin, W: Watch> AsyncWrite for Watched<S, W> {
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
            self.watch.sent();
            let is_over = self.watch.phase() == Phase::Idle;
            let reader = self
                .end
                .as_mut()
                .and_then(|end| end.reader.take_if(|_| is_over));
            if let Some(reader) = reader {
                reader.wake();
            }
        }
        poll
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

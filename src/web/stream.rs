//! A connection's bytes, and the end of a client that takes too long.
//!
//! What the connection is doing shows in its bytes: they come (a request's head), or the last one has
//! left (an answer). While nothing comes or goes, the limit of the phase counts:
//!
//! | phase | ends by | at most |
//! |---|---|---|
//! | head | the handler is called; the TLS handshake is part of the first one | [`Limits::receive`] |
//! | handler | it returns | its own deadline; after the client has ended its side, [`HALF_CLOSE_GRACE`] |
//! | sending | the answer is handed to the kernel | [`Limits::send`] |
//! | idle | the next head's first byte | [`Limits::idle`] |
//!
//! For what the kernel has been handed and the client does not take, there is TCP_USER_TIMEOUT.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tracing::debug;

use super::connections::{Activity, Limits, Phase};

/// How long a handler may still take for a client that has ended its side. It may wait for its answer
/// (`nc -N` does) or be gone; only a reset would say.
const HALF_CLOSE_GRACE: Duration = Duration::from_secs(2);

/// A stream that keeps its [`Activity`] up to date.
pub(super) struct Watched {
    stream: TcpStream,
    pub(super) activity: Arc<Activity>,
    limits: Limits,
    timer: Pin<Box<Sleep>>,
    /// When the client has ended its side while a handler was at work.
    half_closed: Option<Instant>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, limits: Limits) -> Self {
        Self {
            stream,
            activity: Arc::new(Activity::new()),
            limits,
            timer: Box::pin(sleep(limits.receive)),
            half_closed: None,
        }
    }

    /// The first byte, which stays to be read.
    pub(super) async fn first_byte(&self) -> io::Result<u8> {
        let mut byte = [0];
        let peeked = timeout(self.limits.receive, self.stream.peek(&mut byte));
        let Ok(peeked) = peeked.await else {
            debug!(phase = ?Phase::Head, "Connection closed: the client took too long");
            return Err(io::ErrorKind::TimedOut.into());
        };
        match peeked? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(byte[0]),
        }
    }

    /// What was tried, or an error once it has been tried for too long.
    fn within_limit<T>(
        &mut self,
        tried: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if tried.is_ready() {
            return tried;
        }
        let (phase, since) = self.activity.state();
        let limit = match phase {
            Phase::Handler => return Poll::Pending,
            Phase::Head => self.limits.receive,
            Phase::Sending => self.limits.send,
            Phase::Idle => self.limits.idle,
        };
        ready!(self.poll_timer(since + limit, cx));
        debug!(?phase, "Connection closed: the client took too long");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_timer(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx)
    }

    /// Ready once nobody waits for the handler. Nothing is read meanwhile, so it is peeked.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = loop {
            if let Some(since) = self.half_closed {
                break since;
            }
            let is_readable = ready!(self.stream.poll_read_ready(cx));
            let peek = || Ok(recv(&self.stream, &mut [0; 1], RecvFlags::PEEK)?.0);
            match is_readable.and_then(|()| self.stream.try_io(Interest::READABLE, peek)) {
                Ok(0) => self.half_closed = Some(Instant::now()),
                // The next request.
                Ok(_) => return Poll::Pending,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
        };
        self.poll_timer(since + HALF_CLOSE_GRACE, cx)
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.advance(Phase::Idle, Phase::Head);
        }
        self.within_limit(read, cx)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within_limit(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.within_limit(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called whenever nothing is left to be written, also while the handler is at work.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.state().0 == Phase::Handler && self.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.activity.advance(Phase::Sending, Phase::Idle);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

//! One connection: the TLS handshake if there is one, then HTTP/1, request after request.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::answer::{self, Handler};
use super::connections::{Activity, Phase};
use super::protection::Protection;
use super::stream::Watched;
use super::tls;

/// A request's head may be this long, as the longest that proxies let through. hyper answers a longer
/// one with 431 itself, once it has read as much again at the most.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What every connection is served with.
pub(super) struct Service<H> {
    pub(super) handler: Arc<H>,
    pub(super) protection: Option<Protection>,
}

/// Serves a client until it goes, takes too long, or the program ends.
pub(super) async fn serve<H: Handler>(
    stream: Watched,
    service: Arc<Service<H>>,
    shutdown: Watcher,
) {
    let activity = Arc::clone(&stream.activity);
    match &service.protection {
        Some(protection) if protection.has_tls => {
            // In a place of its own, for it takes more than a plain connection, of which there may be many.
            let encrypted = Box::pin(tls::handshake(stream, protection));
            match encrypted.await {
                Ok(stream) => Box::pin(serve_http(stream, activity, service, shutdown)).await,
                Err(error) => debug!(%error, "TLS handshake failed"),
            }
        }
        _ => serve_http(stream, activity, service, shutdown).await,
    }
}

async fn serve_http<H: Handler>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    activity: Arc<Activity>,
    service: Arc<Service<H>>,
    shutdown: Watcher,
) {
    let requests = service_fn(move |request| {
        let (activity, service) = (Arc::clone(&activity), Arc::clone(&service));
        async move {
            activity.enter(Phase::Handler);
            let answer = service.answer(request).await;
            activity.enter(Phase::Sending);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .half_close(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), requests);
    if let Err(error) = shutdown.watch(connection).await {
        debug!(%error, "Connection ended");
    }
}

impl<H: Handler> Service<H> {
    /// Bodies of requests are not read.
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, _unread) = request.into_parts();
        let (method, path, headers) = (&head.method, head.uri.path(), &head.headers);
        let answer = self.handler.answer(method, path, headers);
        let answer = match (host_fault(head.version, headers), &self.protection) {
            (Some(fault), _) => {
                let line = format!("400 Bad Request: {fault}");
                let mut refusal = answer::text(StatusCode::BAD_REQUEST, line);
                answer::set(&mut refusal, CONNECTION, "close");
                refusal
            }
            (None, None) => answer.await,
            (None, Some(protection)) => protection.guard(headers, answer).await,
        };
        let status = answer.status().as_u16();
        debug!(%method, path, status, "Answered a request");
        answer.map(Full::new)
    }
}

/// What is wrong with the Host header, which a proxy in front may have understood otherwise than we do:
/// there must be one sound one (RFC 9112, section 3.2). In Go's words.
fn host_fault(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    // `uri-host [ ":" port ]` (RFC 3986, section 3.2.2).
    let is_of_a_host =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    let mut hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Some("too many Host headers"),
        (Some(host), None) if !host.iter().all(is_of_a_host) => Some("malformed Host header"),
        (None, _) if version == Version::HTTP_11 => Some("missing required Host header"),
        _ => None,
    }
}

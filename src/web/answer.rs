//! What is asked of a handler, and the answers that it makes.

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{HeaderMap, Method, Response, StatusCode};

/// A head and all of its bytes.
pub type Answer = Response<Bytes>;

/// What is served.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Dropped when its client has gone.
    fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> impl Future<Output = Answer> + Send;
}

/// An answer with a body of this type.
pub(crate) fn with_body(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    set(&mut answer, CONTENT_TYPE, content_type);
    set(&mut answer, X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

/// A line of plain text.
pub(crate) fn text(status: StatusCode, line: impl Into<String>) -> Answer {
    let mut line = line.into();
    line.push('\n');
    let mut answer = with_body(status, "text/plain; charset=utf-8", line);
    // A proxy that keeps "not ready" would keep it for too long.
    set(&mut answer, CACHE_CONTROL, "no-store");
    answer
}

/// Sets one header.
pub(crate) fn set(answer: &mut Answer, name: HeaderName, value: &'static str) {
    let value = HeaderValue::from_static(value);
    answer.headers_mut().insert(name, value);
}

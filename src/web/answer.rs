//! What is asked of a handler, and the answers that it makes.

use bytes::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
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

/// The type of all plain texts.
const TEXT: &str = "text/plain; charset=utf-8";

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
    let mut answer = with_body(status, TEXT, line);
    // A proxy that keeps "not ready" would keep it for too long.
    set(&mut answer, CACHE_CONTROL, "no-store");
    answer
}

/// A page, with what a browser may do with it.
pub(crate) fn html(page: Bytes, content_policy: &'static str) -> Answer {
    let mut answer = with_body(StatusCode::OK, "text/html; charset=utf-8", page);
    set(&mut answer, CONTENT_SECURITY_POLICY, content_policy);
    set(&mut answer, REFERRER_POLICY, "no-referrer");
    set(&mut answer, CACHE_CONTROL, "no-store");
    answer
}

/// A JSON document.
pub(crate) fn json(document: Bytes) -> Answer {
    let mut answer = with_body(StatusCode::OK, "application/json", document);
    set(&mut answer, CACHE_CONTROL, "no-store");
    answer
}

/// There is nothing under this path.
pub(crate) fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found")
}

/// There is something, but not for this method.
pub(crate) fn method_not_allowed() -> Answer {
    let mut answer = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "Only GET and HEAD are allowed here.",
    );
    set(&mut answer, ALLOW, "GET, HEAD");
    answer
}

/// Sets one header.
pub(crate) fn set(answer: &mut Answer, name: HeaderName, value: &'static str) {
    answer
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}

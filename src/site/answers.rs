//! Answers that several handlers make.

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY};

use crate::web::answer::{self, Answer};

/// A page, with what a browser may do with it.
pub(super) fn html(page: Bytes, content_policy: &'static str) -> Answer {
    let mut made = answer::with_body(StatusCode::OK, "text/html; charset=utf-8", page);
    answer::set(&mut made, CONTENT_SECURITY_POLICY, content_policy);
    answer::set(&mut made, REFERRER_POLICY, "no-referrer");
    answer::set(&mut made, CACHE_CONTROL, "no-store");
    made
}

/// A JSON document.
pub(super) fn json(document: Bytes) -> Answer {
    let mut made = answer::with_body(StatusCode::OK, "application/json", document);
    answer::set(&mut made, CACHE_CONTROL, "no-store");
    made
}

/// There is nothing under this path.
pub(super) fn not_found() -> Answer {
    answer::text(StatusCode::NOT_FOUND, "404 page not found")
}

/// There is something, but not for this method.
pub(super) fn method_not_allowed() -> Answer {
    let mut made = answer::text(
        StatusCode::METHOD_NOT_ALLOWED,
        "Only GET and HEAD are allowed here.",
    );
    answer::set(&mut made, ALLOW, "GET, HEAD");
    made
}

//! The Host header, which a proxy in front may have understood otherwise than we do.

use hyper::header::{CONNECTION, HOST};
use hyper::{HeaderMap, StatusCode, Version};

use super::answer::{self, Answer};

/// The answer to a request without one sound Host header, as RFC 9112, section 3.2, wants it, in Go's words.
/// HTTP/2 has something else in its place.
pub(super) fn refusal(version: Version, headers: &HeaderMap) -> Option<Answer> {
    let fault = fault(version, headers)?;
    let line = format!("400 Bad Request: {fault}");
    let mut answer = answer::text(StatusCode::BAD_REQUEST, line);
    answer::set(&mut answer, CONNECTION, "close");
    Some(answer)
}

fn fault(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    if !matches!(version, Version::HTTP_10 | Version::HTTP_11) {
        return None;
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Some("too many Host headers"),
        (Some(host), None) if !host.as_bytes().iter().copied().all(is_of_a_host) => {
            Some("malformed Host header")
        }
        (None, _) if version == Version::HTTP_11 => Some("missing required Host header"),
        _ => None,
    }
}

/// The letters of `uri-host [ ":" port ]` (RFC 3986, section 3.2.2).
fn is_of_a_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

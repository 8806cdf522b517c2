//! The answer to a scrape. Names and formats are [`crate::exposition`]'s matter.

use std::sync::atomic::{AtomicBool, Ordering};

use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderName, HeaderValue, VARY};
use hyper::{HeaderMap, StatusCode};
use tracing::warn;

use crate::build_info::BUILD;
use crate::domain::namespace::HostSnapshot;
use crate::domain::process::ProcessUsage;
use crate::exposition::{
    EncodeError, ExporterMetrics, Format, HandlerMetrics, accepts_gzip, compress, encode, families,
};
use crate::kernel::process::read_process_usage;
use crate::web::answer::{self, Answer};

/// What writes a snapshot in the form that a scraper asked for, and may block; with the exporter's metrics
/// of itself where those of its HTTP handler are given.
pub(super) fn writer(
    snapshot: HostSnapshot,
    http: Option<HandlerMetrics>,
    headers: &HeaderMap,
) -> impl FnOnce() -> Result<Answer, EncodeError> + Send + use<> {
    let format = Format::negotiate(lines(headers, ACCEPT));
    let gzip = accepts_gzip(lines(headers, ACCEPT_ENCODING));
    move || {
        let exporter = ExporterMetrics {
            build: BUILD,
            process: http.and_then(|_| process_usage()),
            handler: http,
        };
        let body = encode(families(&snapshot, &exporter), format)?;
        let compressed = if gzip { compress(&body)? } else { None };
        let is_compressed = compressed.is_some();
        let body = compressed.unwrap_or(body);
        let mut answer = answer::with_body(StatusCode::OK, format.content_type(), body);
        answer::set(&mut answer, VARY, "Accept, Accept-Encoding");
        if is_compressed {
            answer::set(&mut answer, CONTENT_ENCODING, "gzip");
        }
        Ok(answer)
    }
}

fn lines(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).into_iter().map(HeaderValue::as_bytes)
}

/// A failure is logged once.
fn process_usage() -> Option<ProcessUsage> {
    static HAS_FAILED: AtomicBool = AtomicBool::new(false);
    let usage = read_process_usage();
    let has_failed = HAS_FAILED.swap(usage.is_err(), Ordering::Relaxed);
    usage
        .inspect_err(|error| {
            if !has_failed {
                warn!(%error, "Cannot read process_*");
            }
        })
        .ok()
}

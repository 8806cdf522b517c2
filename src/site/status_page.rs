//! The page under `/`: the state of this host for people.
//!
//! Made on the server from a report, without scripts. Its links are relative, so that it works under
//! the prefix of a reverse proxy. Everything is escaped by the template; the style is the only thing
//! that may be loaded, by its hash.

mod view;

use askama::Template as _;
use bytes::Bytes;

use crate::config::TelemetryPath;
use crate::report::Report;

use view::StatusPage;

/// The style, as it stands in the page.
const STYLE: &str = include_str!("templates/status.css");

/// What a browser may do with the page: show it, with this one style and the empty icon.
pub(super) const CONTENT_POLICY: &str = "default-src 'none'; \
    style-src 'sha256-C1q7w3JfJhd/H6J5alPhtJS28AzrMih97FUeS3nUX7k='; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub(super) fn page(report: &Report, telemetry_path: &TelemetryPath) -> askama::Result<Bytes> {
    StatusPage::of(report, telemetry_path, STYLE)
        .render()
        .map(Bytes::from)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

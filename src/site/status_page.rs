//! The page under `/`: the state of this host for people.
//!
//! Made on the server from a report, without scripts. Its links are relative, so that it works under
//! the prefix of a reverse proxy. Everything is escaped by the template; the style is the only thing
//! that may be loaded, by its hash.

use std::error::Error;

use askama::Template;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY};

use crate::domain::advice::wording::count;
use crate::domain::age::BANDS;
use crate::domain::text::printable;
use crate::report::{Kind, NamespaceReport, Report, Table, tables};
use crate::web::answer::{self, Answer};

/// The style, as it stands in the page.
const STYLE: &str = include_str!("templates/status.css");

/// What a browser may do with the page: show it, with this one style and the empty icon.
const CONTENT_POLICY: &str = "default-src 'none'; \
    style-src 'sha256-C1q7w3JfJhd/H6J5alPhtJS28AzrMih97FUeS3nUX7k='; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage<'a> {
    report: &'a Report,
    telemetry_path: &'a str,
}

/// The page, with a link to the metrics under this path.
pub(super) fn answer(
    report: &Report,
    telemetry_path: &str,
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let template = StatusPage {
        report,
        telemetry_path,
    };
    let page = template.render()?;
    let mut answer = answer::with_body(StatusCode::OK, "text/html; charset=utf-8", page);
    answer::set(&mut answer, CONTENT_SECURITY_POLICY, CONTENT_POLICY);
    answer::set(&mut answer, REFERRER_POLICY, "no-referrer");
    answer::set(&mut answer, CACHE_CONTROL, "no-store");
    Ok(answer)
}

fn destinations(namespace: &NamespaceReport) -> Option<Table> {
    tables::destinations(namespace, None, usize::MAX).filter(|table| !table.rows.is_empty())
}

/// An age band of the chart, as wide as it lasts and as high as its sockets per second of age, so that areas
/// compare.
struct Bar {
    x: f64,
    width: f64,
    height: f64,
    /// The band and its sockets.
    text: String,
}

/// Left edge, pixels per second, and the height of the tallest bar.
const LEFT: f64 = 20.0;
const SECOND: f64 = 10.0;
const TALLEST: f64 = 140.0;

fn bars(namespace: &NamespaceReport) -> Option<Vec<Bar>> {
    let ages = namespace.snapshot.sockets()?.by_age?;
    let mut start = 0.0;
    let bars = BANDS.iter().zip(ages).map(|((band, end_ms), sockets)| {
        let end = f64::from((*end_ms).min(60_000)) / 1_000.0;
        let bar = Bar {
            x: LEFT + SECOND * start,
            // One pixel between bars.
            width: SECOND * (end - start) - 1.0,
            height: f64::from(u32::try_from(sockets).unwrap_or(u32::MAX)) / (end - start),
            text: format!("{band} s: {}", count(sockets)),
        };
        start = end;
        bar
    });
    let mut bars: Vec<Bar> = bars.collect();
    let heights = bars.iter().map(|bar| bar.height);
    let highest = heights.fold(f64::MIN_POSITIVE, f64::max);
    for bar in &mut bars {
        bar.height = (10.0 * TALLEST * bar.height / highest).round() / 10.0;
    }
    Some(bars)
}

fn sentence(bars: &[Bar]) -> String {
    let texts: Vec<&str> = bars.iter().map(|bar| &*bar.text).collect();
    texts.join(", ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

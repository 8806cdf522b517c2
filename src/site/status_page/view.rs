//! What the template shows of a report. Decides nothing.

use askama::Template;

use crate::config::TelemetryPath;
use crate::domain::advice::Finding;
use crate::domain::advice::wording::count;
use crate::domain::age::BANDS;
use crate::domain::namespace::NamespaceIdentity;
use crate::domain::snapshot::AGE_BANDS;
use crate::domain::text::printable;
use crate::report::{Kind, NamespaceReport, Report, Table, tables};

#[derive(Template)]
#[template(path = "status.html")]
pub(super) struct StatusPage<'a> {
    style: &'a str,
    version: &'a str,
    host: String,
    kernel: &'a str,
    made: String,
    state: &'static str,
    headline: String,
    links: [Link; 4],
    overview: Option<Table>,
    namespaces: Vec<NamespaceView<'a>>,
}

struct Link {
    href: String,
    text: &'static str,
}

struct NamespaceView<'a> {
    /// `None` for the exporter's own.
    name: Option<String>,
    owner: String,
    state: &'static str,
    headline: &'a str,
    findings: Vec<&'a Finding>,
    range: Option<String>,
    time_wait: Option<String>,
    chart: Option<Chart>,
    destinations: Option<Table>,
    tables: Vec<Table>,
}

/// Bars of an image that is `RIGHT` wide and `BASE` high.
struct Chart {
    sentence: String,
    bars: Vec<Bar>,
    /// Places and texts below the axis.
    ticks: Vec<(f64, String)>,
}

struct Bar {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl<'a> StatusPage<'a> {
    pub(super) fn of(report: &'a Report, telemetry_path: &TelemetryPath, style: &'a str) -> Self {
        let link = |href: &str, text| Link {
            // Relative to `/`. Without the dot, a colon in the first segment would end a scheme.
            href: format!(".{href}"),
            text,
        };
        Self {
            style,
            version: report.version,
            host: printable(&report.host),
            kernel: &report.kernel,
            made: report.made_text(),
            state: report.state().as_str(),
            headline: report.headline(),
            links: [
                link(telemetry_path.as_str(), "Metrics"),
                link("/api/v1/report", "Report as JSON"),
                link("/-/healthy", "Healthy"),
                link("/-/ready", "Ready"),
            ],
            overview: report.missing.is_some().then(|| tables::namespaces(report)),
            namespaces: report.detailed().into_iter().map(namespace).collect(),
        }
    }
}

fn namespace(namespace: &NamespaceReport) -> NamespaceView<'_> {
    let identity = namespace.identity.as_ref();
    let owner = identity.map_or_else(String::new, NamespaceIdentity::resident);
    let time_wait = tables::time_wait(namespace);
    let ages = namespace
        .snapshot
        .sockets()
        .and_then(|sockets| sockets.by_age);
    NamespaceView {
        name: namespace.name().map(printable),
        owner: printable(&owner),
        state: namespace.state().as_str(),
        headline: &namespace.advice.headline,
        findings: namespace.problems(),
        range: tables::range(namespace),
        chart: ages.filter(|_| time_wait.is_some()).map(chart),
        time_wait,
        destinations: tables::destinations(namespace, None, usize::MAX)
            .filter(|table| !table.rows.is_empty()),
        tables: tables::rest(namespace),
    }
}

/// Left edge, base line, pixels per second, and the height of the tallest bar.
const LEFT: f64 = 20.0;
const BASE: f64 = 150.0;
const SECOND: f64 = 10.0;
const TALLEST: f64 = 140.0;

/// Bars as wide as their band and as high as its sockets per second of age, so that areas compare.
fn chart(ages: [u64; AGE_BANDS]) -> Chart {
    let edges: Vec<f64> = BANDS
        .iter()
        .map(|band| f64::from(band.end_ms.min(60_000)) / 1_000.0)
        .collect();
    let starts: Vec<f64> = std::iter::once(0.0).chain(edges.iter().copied()).collect();
    let spans = starts.iter().zip(&edges).zip(ages);
    let spans: Vec<(f64, f64, f64)> = spans
        .map(|((start, end), sockets)| {
            let sockets = f64::from(u32::try_from(sockets).unwrap_or(u32::MAX));
            (*start, end - start, sockets / (end - start))
        })
        .collect();
    let densities = spans.iter().map(|(_, _, density)| *density);
    let densest = densities.fold(f64::MIN_POSITIVE, f64::max);
    let bars = spans.iter().map(|(start, length, density)| {
        let height = (10.0 * TALLEST * density / densest).round() / 10.0;
        Bar {
            x: LEFT + SECOND * start,
            y: BASE - height,
            // One pixel between bars.
            width: SECOND * length - 1.0,
            height,
        }
    });
    let counts = BANDS.iter().zip(ages);
    let counts: Vec<String> = counts
        .map(|(band, sockets)| format!("{} s: {}", band.name, count(sockets)))
        .collect();
    // 1 is too close to 0 and 5 to be readable.
    let ticks = starts.iter().filter(|edge| !(0.5..1.5).contains(*edge));
    Chart {
        sentence: counts.join(", "),
        bars: bars.collect(),
        ticks: ticks
            .map(|edge| (LEFT + SECOND * edge, format!("{edge:.0}")))
            .collect(),
    }
}

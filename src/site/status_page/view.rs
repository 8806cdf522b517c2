//! What the template shows: texts and numbers, ready to be escaped. Decides nothing.

use askama::Template;

use crate::config::TelemetryPath;
use crate::domain::advice::explain::{Explained, explain};
use crate::domain::advice::thresholds::{POOL_WARNING, RATIO_CRITICAL, RATIO_WARNING};
use crate::domain::advice::{FigureValue, Finding, Remedy, Severity, wording};
use crate::domain::age::BANDS;
use crate::domain::namespace::NamespaceIdentity;
use crate::domain::snapshot::{AGE_BANDS, DestinationUsage, PortUsage, SocketSummary, Source};
use crate::report::{NamespaceReport, Report, collectors, printable, source};

#[derive(Template)]
#[template(path = "status.html")]
pub(super) struct StatusPage<'a> {
    style: &'a str,
    version: &'a str,
    kernel: &'a str,
    severity: &'static str,
    severity_word: String,
    headline: String,
    overview: Vec<OverviewView>,
    missing: Option<String>,
    links: Vec<Link>,
    low: f64,
    high: f64,
    pool_low: f64,
    namespaces: Vec<NamespaceView<'a>>,
}

struct Link {
    href: String,
    text: &'static str,
}

/// One namespace as a line of the table of all.
struct OverviewView {
    name: String,
    /// Where on the page it is told in whole.
    anchor: Option<usize>,
    severity: &'static str,
    severity_word: String,
    ratio: Option<f64>,
    percent: String,
    time_wait: String,
    destinations: String,
    resident: String,
}

struct NamespaceView<'a> {
    name: Option<String>,
    resident: String,
    findings: Vec<FindingView<'a>>,
    range: Option<String>,
    destinations: Vec<DestinationView>,
    more_destinations: Option<String>,
    sources: Vec<SourceView>,
    time_wait: Option<TimeWaitView>,
    settings: Vec<Explained>,
    source: Option<&'static str>,
    collectors: Vec<CollectorView>,
}

struct FindingView<'a> {
    id: String,
    severity: &'static str,
    severity_word: String,
    sentence: &'a str,
    figures: Vec<FigureView>,
    remedies: Vec<RemedyView<'a>>,
    is_open: bool,
}

struct FigureView {
    name: String,
    value: String,
}

struct RemedyView<'a> {
    action: &'a str,
    commands: Vec<String>,
    persistent: Vec<String>,
    caution: Option<String>,
    effect: Option<EffectView>,
}

struct EffectView {
    headroom_before: String,
    headroom_after: String,
    ratio_before: String,
    ratio_after: String,
}

struct DestinationView {
    to: String,
    from: String,
    ratio: f64,
    percent: String,
    headroom: String,
    time_wait: String,
    established: String,
    other: String,
    reusable: String,
    close_rate: String,
}

struct SourceView {
    address: String,
    ratio: f64,
    percent: String,
    ports: String,
}

struct TimeWaitView {
    sentence: String,
    chart: Option<Chart>,
}

struct Chart {
    sentence: String,
    bars: Vec<Bar>,
    ticks: Vec<Tick>,
}

struct Bar {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

struct Tick {
    x: f64,
    text: String,
}

struct CollectorView {
    name: &'static str,
    success: bool,
    seconds: String,
}

impl<'a> StatusPage<'a> {
    pub(super) fn of(report: &'a Report, telemetry_path: &TelemetryPath, style: &'a str) -> Self {
        let link = |href: &str, text| Link {
            // Seen from `/`. The dot keeps a colon in the first segment from being read as a scheme.
            href: format!(".{href}"),
            text,
        };
        Self {
            style,
            version: report.version,
            kernel: &report.kernel,
            severity: report.severity().state().as_str(),
            severity_word: word(report.severity().state()),
            headline: report.headline(),
            links: vec![
                link(telemetry_path.as_str(), "Metrics"),
                link("/api/v1/report", "Report as JSON"),
                link("/-/healthy", "Healthy"),
                link("/-/ready", "Ready"),
            ],
            low: RATIO_WARNING,
            high: RATIO_CRITICAL,
            pool_low: POOL_WARNING,
            overview: overview(report),
            missing: report.missing(),
            namespaces: report.in_whole().into_iter().map(namespace).collect(),
        }
    }
}

/// All namespaces; nothing where only the own one was looked at.
fn overview(report: &Report) -> Vec<OverviewView> {
    if report.untold.is_none() {
        return Vec::new();
    }
    let in_whole = report.in_whole();
    let anchor = |namespace: &NamespaceReport| {
        let mut told = in_whole.iter();
        told.position(|told| std::ptr::eq(*told, namespace))
            .map(|index| index + 1)
    };
    let all = report.worst_first().into_iter();
    all.map(|namespace| {
        let sockets = namespace.snapshot.sockets();
        let ports = namespace.snapshot.ports();
        let unknown = || "unknown".to_owned();
        let severity = namespace.advice.severity.state();
        let ratio = namespace.snapshot.worst_ratio();
        let time_wait = sockets.map(|sockets| sockets.time_wait.ipv4 + sockets.time_wait.ipv6);
        let identity = namespace.identity.as_ref();
        OverviewView {
            name: printable(namespace.name().unwrap_or("the exporter's own")),
            anchor: anchor(namespace),
            severity: severity.as_str(),
            severity_word: word(severity),
            ratio,
            percent: ratio.map_or_else(unknown, wording::percent),
            time_wait: time_wait.map_or_else(unknown, wording::count),
            destinations: ports.map_or_else(unknown, |ports| wording::count(ports.destinations)),
            resident: identity.map_or_else(String::new, resident),
        }
    })
    .collect()
}

/// HTML has no characters that steer a terminal, escaped or not.
fn resident(identity: &NamespaceIdentity) -> String {
    printable(&identity.resident())
}

fn word(severity: Severity) -> String {
    severity.as_str().to_uppercase()
}

fn namespace(namespace: &NamespaceReport) -> NamespaceView<'_> {
    let snapshot = &namespace.snapshot;
    let sockets = snapshot.sockets();
    let ports = snapshot.ports();
    let settings = snapshot.settings();
    let told = snapshot
        .destinations()
        .map_or(&[][..], |breakdown| &breakdown.exported);
    let sources = ports.and_then(|ports| ports.by_source.as_ref());
    NamespaceView {
        name: namespace.name().map(printable),
        resident: namespace
            .identity
            .as_ref()
            .map_or_else(String::new, resident),
        findings: namespace.advice.findings.iter().map(finding).collect(),
        range: ports.map(range),
        destinations: told.iter().map(destination).collect(),
        more_destinations: ports.and_then(|ports| more(ports, told.len())),
        sources: sources
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .map(|source| SourceView {
                address: source.src_addr.to_string(),
                ratio: source.exhaustion_ratio,
                percent: wording::percent(source.exhaustion_ratio),
                ports: wording::count(source.ports.into()),
            })
            .collect(),
        time_wait: sockets.map(time_wait),
        settings: settings.map(explain).unwrap_or_default(),
        source: source(snapshot).map(Source::as_str),
        collectors: collectors(snapshot)
            .into_iter()
            .map(|(name, success, seconds)| CollectorView {
                name,
                success,
                seconds: format!("{seconds:.3}"),
            })
            .collect(),
    }
}

fn finding(finding: &Finding) -> FindingView<'_> {
    FindingView {
        id: spaced(finding.id.as_str()),
        severity: finding.severity.as_str(),
        severity_word: word(finding.severity),
        sentence: &finding.sentence,
        figures: finding
            .figures
            .iter()
            .map(|(name, value)| FigureView {
                name: spaced(name),
                value: figure(value),
            })
            .collect(),
        remedies: finding.remedies.iter().map(remedy).collect(),
        is_open: finding.severity == Severity::Critical,
    }
}

/// `ports_held` as people write it.
fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

fn figure(value: &FigureValue) -> String {
    match value {
        FigureValue::Count(count) => wording::count(*count),
        FigureValue::Ratio(ratio) => wording::percent(*ratio),
        FigureValue::Rate(rate) => format!("{rate:.1}"),
        FigureValue::Bytes(bytes) => wording::bytes(*bytes),
        FigureValue::Port(port) => port.to_string(),
        FigureValue::Text(text) => text.clone(),
    }
}

fn remedy(remedy: &Remedy) -> RemedyView<'_> {
    let persistent = remedy.persistent().into_iter();
    RemedyView {
        action: &remedy.action,
        commands: remedy.commands(),
        persistent: persistent.map(|persistent| persistent.command()).collect(),
        caution: remedy.caution(),
        effect: remedy.effect.map(|effect| EffectView {
            headroom_before: wording::count(effect.before.headroom),
            headroom_after: wording::count(effect.after.headroom),
            ratio_before: wording::percent(effect.before.ratio),
            ratio_after: wording::percent(effect.after.ratio),
        }),
    }
}

fn range(ports: &PortUsage) -> String {
    format!(
        "The range is {} to {}: {} ports, of which {} are reserved, {} blocked by listening or bound \
         sockets, and {} usable for each destination.",
        ports.range.min(),
        ports.range.max(),
        wording::count(ports.range.ports().into()),
        wording::count(ports.reserved.into()),
        wording::count(ports.blocked.into()),
        wording::count(ports.usable.into()),
    )
}

fn destination(figures: &DestinationUsage) -> DestinationView {
    let held = figures.in_use;
    DestinationView {
        to: format!(
            "{} port {}",
            figures.destination.dst_addr, figures.destination.dst_port
        ),
        from: figures.destination.src_addr.to_string(),
        ratio: figures.exhaustion_ratio,
        percent: wording::percent(figures.exhaustion_ratio),
        headroom: wording::count(figures.headroom.into()),
        time_wait: wording::count(held.time_wait),
        established: wording::count(held.established),
        other: wording::count(held.other),
        reusable: wording::count(figures.reusable),
        close_rate: format!("{:.1}", figures.close_rate),
    }
}

fn more(ports: &PortUsage, told: usize) -> Option<String> {
    let told = u64::try_from(told).unwrap_or(u64::MAX);
    let more = ports.destinations.saturating_sub(told);
    (more > 0).then(|| {
        let more = wording::counted(more, "destination is", "destinations are");
        format!("{more} no fuller and not told one by one.")
    })
}

fn time_wait(sockets: &SocketSummary) -> TimeWaitView {
    let (v4, v6) = (sockets.time_wait.ipv4, sockets.time_wait.ipv6);
    TimeWaitView {
        sentence: format!(
            "{} in TIME-WAIT over IPv4, {} over IPv6. Each lasts 60 seconds, unless connect() takes it over first.",
            wording::counted(v4, "socket is", "sockets are"),
            wording::count(v6)
        ),
        chart: sockets.by_age.filter(|_| v4 + v6 > 0).map(chart),
    }
}

/// Left edge, base line, pixels a second, and the height of the tallest bar.
const LEFT: f64 = 20.0;
const BASE: f64 = 150.0;
const SECOND: f64 = 10.0;
const TALLEST: f64 = 140.0;

/// Bars as wide as their band and as high as its sockets a second of age, so that areas compare.
fn chart(ages: [u64; AGE_BANDS]) -> Chart {
    let edges: Vec<f64> = BANDS
        .iter()
        .map(|band| f64::from(band.end_ms.min(60_000)) / 1_000.0)
        .collect();
    let starts = std::iter::once(0.0).chain(edges.iter().copied());
    let spans: Vec<(f64, f64, f64)> = starts
        .zip(&edges)
        .zip(ages)
        .map(|((start, end), count)| {
            let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            (start, end - start, count / (end - start))
        })
        .collect();
    let tallest = spans
        .iter()
        .map(|(_, _, density)| *density)
        .fold(f64::MIN_POSITIVE, f64::max);
    let bars = spans.iter().map(|(start, length, density)| {
        let height = rounded(TALLEST * density / tallest);
        Bar {
            x: LEFT + SECOND * start,
            y: BASE - height,
            // A pixel is left between bars.
            width: SECOND * length - 1.0,
            height,
        }
    });
    let counts = BANDS.iter().zip(ages);
    let counts: Vec<String> = counts
        .map(|(band, count)| format!("{} s: {}", band.name, wording::count(count)))
        .collect();
    Chart {
        sentence: counts.join(", "),
        bars: bars.collect(),
        ticks: std::iter::once(0.0)
            .chain(edges.iter().copied())
            // 1 would stand too near to 0 and 5 to be read.
            .filter(|edge| !(0.5..1.5).contains(edge))
            .map(|edge| Tick {
                x: LEFT + SECOND * edge,
                text: format!("{edge:.0}"),
            })
            .collect(),
    }
}

fn rounded(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

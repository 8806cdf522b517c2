//! The report for programs: JSON, as src/report/report.schema.json describes it.
//!
//! Within one `schema_version` members are added, never removed or changed in meaning. Unknown values
//! are `null`, never 0. The schema is generated from these types and from those of [`crate::domain`]
//! that are part of the document.

use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::{NamespaceReport, Report, State};
use crate::domain::advice::explain::{Explained, explain};
use crate::domain::advice::{Finding, Severity};
use crate::domain::age::BANDS;
use crate::domain::holders::Holders;
use crate::domain::snapshot::{
    DestinationUsage, PortUsage, PortsInUse, SocketSummary, Source, SourceUsage,
};

/// The schema of the report.
pub(crate) const SCHEMA: &str = include_str!("report.schema.json");

/// The report, to be written on one line or on many.
pub(crate) fn document(report: &Report) -> impl Serialize {
    let made = report.made.duration_since(UNIX_EPOCH);
    let severities = report.namespaces.iter().map(|one| one.advice.severity);
    Document {
        schema_version: 1,
        exporter_version: report.version,
        host: &report.host,
        kernel: &report.kernel,
        generated_at_seconds: made.unwrap_or_default().as_secs_f64(),
        severity: severities.max().unwrap_or(Severity::Ok),
        state: report.state(),
        headline: report.headline(),
        namespaces: report.namespaces.iter().map(namespace).collect(),
        namespaces_unreadable: report.missing.and_then(|missing| missing.unreadable),
        namespaces_left_out: report.missing.map(|missing| missing.left_out),
        namespace_names_listed: report.missing.map(|missing| !missing.has_unlisted_names),
    }
}

/// What `timewait_exporter report --format=json` and /api/v1/report return. Within one schema_version
/// members are added, never removed or changed in meaning: readers must ignore members that they do
/// not know. Unknown values are null, never 0.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(title = "timewait_exporter report"))]
struct Document<'a> {
    /// The version of this schema.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    schema_version: u32,
    /// The exporter's version.
    exporter_version: &'a str,
    /// The host's name.
    host: &'a str,
    /// The kernel's release.
    kernel: &'a str,
    /// When the report was made, in seconds since 1970.
    generated_at_seconds: f64,
    /// The highest severity of all findings.
    severity: Severity,
    /// The worst state of all namespaces.
    state: State,
    /// The state of the worst namespace in one sentence.
    headline: String,
    /// The exporter's network namespace first.
    namespaces: Vec<Namespace<'a>>,
    /// Network namespaces that could not be entered; null where others were not requested
    /// (--collector.netns=self) or could not be listed.
    namespaces_unreadable: Option<u64>,
    /// Network namespaces not exported because of --collector.netns-max; those with the highest ratio
    /// are kept. null where others were not requested.
    namespaces_left_out: Option<u64>,
    /// Whether the names of network namespaces could be listed: if not, there may be others. null where
    /// others were not requested.
    namespace_names_listed: Option<bool>,
}

/// One network namespace.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Namespace<'a> {
    /// The network namespace; null for the exporter's own.
    netns: Option<&'a str>,
    /// The number of the namespace's inode; null for the exporter's own.
    inode: Option<u64>,
    /// A process in the namespace; null where none was found.
    pid: Option<u32>,
    /// The name of that process.
    comm: Option<&'a str>,
    /// The container of that process, from the name of its control group.
    container_id: Option<&'a str>,
    /// The Kubernetes pod of that process, from the name of its control group.
    pod_uid: Option<&'a str>,
    severity: Severity,
    state: State,
    /// The state in a sentence or two.
    headline: &'a str,
    /// The most severe first.
    findings: &'a [Finding],
    /// null while the range or the sockets are unknown.
    port_range: Option<PortRangeOut>,
    /// The highest ratio first; as many as --collector.top allows, and pinned ones.
    destinations: Option<&'a [DestinationUsage]>,
    /// Sum of all destinations that are not exported individually.
    other_destinations: Option<PortsInUse>,
    /// The local addresses with the highest ratio first.
    sources: Option<&'a [SourceUsage]>,
    /// UDP: the local addresses with the highest ratio first.
    udp_sources: Option<&'a [SourceUsage]>,
    time_wait: Option<TimeWaitOut>,
    buckets: Option<BucketsOut>,
    /// The sysctls in reading order, without those that this kernel lacks.
    settings: Vec<Explained>,
    /// Where the sockets were read from.
    source: Option<Source>,
    collectors: Vec<CollectorOut>,
    /// Processes with live sockets to the destinations with the highest ratio; null where they were not
    /// looked up, as by the server.
    holders: Option<&'a [Holders]>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PortRangeOut {
    min: u16,
    max: u16,
    /// Size of the range.
    ports: u32,
    /// Reserved ports in the range.
    reserved: u32,
    /// Unreserved ports in the range that a listening or bound, unconnected socket owns.
    blocked: u32,
    /// Unreserved ports in the range that a socket listens on.
    listeners: u32,
    /// Ports that each destination can use.
    usable: u32,
    /// Usable ports without any socket.
    free: u32,
    /// The highest ratio of an IPv4 destination.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    exhaustion_ratio_ipv4: f64,
    /// The highest ratio of an IPv6 destination.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    exhaustion_ratio_ipv6: f64,
    /// Number of destinations.
    destinations: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct TimeWaitOut {
    /// IPv4 sockets in TIME-WAIT.
    ipv4: u64,
    /// IPv6 sockets in TIME-WAIT.
    ipv6: u64,
    by_age: Option<Vec<AgeOut>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AgeOut {
    /// From-to in seconds, the lower bound inclusive.
    age_seconds: &'static str,
    sockets: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct BucketsOut {
    /// Time-wait buckets in use.
    in_use: u64,
    /// tcp_max_tw_buckets.
    limit: Option<i64>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct CollectorOut {
    name: &'static str,
    /// Whether everything was read.
    success: bool,
    duration_seconds: f64,
}

fn namespace(namespace: &NamespaceReport) -> Namespace<'_> {
    let (advice, snapshot) = (&namespace.advice, &namespace.snapshot);
    let identity = namespace.identity.as_ref();
    let container = identity.map(|identity| &identity.container);
    let sockets = snapshot.sockets();
    let ports = snapshot.ports();
    let destinations = snapshot.destinations();
    let settings = snapshot.settings();
    let collectors = snapshot.outcomes().map(|(id, outcome)| CollectorOut {
        name: id.name(),
        success: outcome.success,
        duration_seconds: outcome.duration.as_secs_f64(),
    });
    Namespace {
        netns: namespace.name(),
        inode: identity.map(|identity| identity.inode),
        pid: identity.and_then(|identity| identity.pid),
        comm: identity.and_then(|identity| identity.comm.as_deref()),
        container_id: container.and_then(|container| container.container_id.as_deref()),
        pod_uid: container.and_then(|container| container.pod_uid.as_deref()),
        severity: advice.severity,
        state: namespace.state(),
        headline: &advice.headline,
        findings: &advice.findings,
        port_range: ports.map(port_range),
        destinations: destinations.map(|breakdown| &*breakdown.exported),
        other_destinations: destinations.map(|breakdown| breakdown.other),
        sources: ports.and_then(|ports| ports.by_source.as_deref()),
        udp_sources: snapshot.udp().map(|udp| &*udp.by_source),
        time_wait: sockets.map(time_wait),
        buckets: snapshot.time_wait_buckets().map(|in_use| BucketsOut {
            in_use,
            limit: settings.and_then(|settings| settings.tcp_max_tw_buckets),
        }),
        settings: settings.map(explain).unwrap_or_default(),
        source: sockets.and_then(|sockets| sockets.source),
        collectors: collectors.collect(),
        holders: namespace.holders.as_deref(),
    }
}

fn port_range(ports: &PortUsage) -> PortRangeOut {
    PortRangeOut {
        min: ports.range.min(),
        max: ports.range.max(),
        ports: ports.range.ports(),
        reserved: ports.reserved,
        blocked: ports.blocked,
        listeners: ports.listeners,
        usable: ports.usable,
        free: ports.free,
        exhaustion_ratio_ipv4: ports.worst_ratio.ipv4,
        exhaustion_ratio_ipv6: ports.worst_ratio.ipv6,
        destinations: ports.destinations,
    }
}

fn time_wait(sockets: &SocketSummary) -> TimeWaitOut {
    let band = |((name, _), sockets): (&(&'static str, u32), u64)| AgeOut {
        age_seconds: name,
        sockets,
    };
    let ages = sockets.by_age;
    TimeWaitOut {
        ipv4: sockets.time_wait.ipv4,
        ipv6: sockets.time_wait.ipv6,
        by_age: ages.map(|ages| BANDS.iter().zip(ages).map(band).collect()),
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
mod tests;

//! The report for programs: JSON, as src/report/report.schema.json describes it.
//!
//! Within one `schema_version` members are added, never taken away or changed in meaning. What is
//! unknown is `null`, never 0.

mod convert;

use std::collections::BTreeMap;

use serde::Serialize;

use super::Report;

/// The version of what is written here.
pub const SCHEMA_VERSION: u32 = 1;

/// The report on one line.
///
/// # Errors
/// A defect: everything that is told can be written.
pub fn render(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Document::from(report))
}

/// The report on many lines.
///
/// # Errors
/// A defect: everything that is told can be written.
pub fn render_pretty(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&Document::from(report))
}

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    exporter_version: &'a str,
    kernel: &'a str,
    generated_at_seconds: f64,
    severity: &'static str,
    headline: String,
    namespaces: Vec<Namespace<'a>>,
    namespaces_unreadable: Option<u64>,
    namespaces_left_out: Option<u64>,
}

#[derive(Serialize)]
struct Namespace<'a> {
    netns: Option<&'a str>,
    inode: Option<u64>,
    pid: Option<u32>,
    comm: Option<&'a str>,
    container_id: Option<&'a str>,
    pod_uid: Option<&'a str>,
    severity: &'static str,
    headline: &'a str,
    findings: Vec<FindingOut<'a>>,
    port_range: Option<PortRangeOut>,
    destinations: Option<Vec<DestinationOut>>,
    other_destinations: Option<HeldOut>,
    sources: Option<Vec<SourceOut>>,
    time_wait: Option<TimeWaitOut>,
    buckets: Option<BucketsOut>,
    settings: Vec<SettingOut>,
    source: Option<&'static str>,
    collectors: Vec<CollectorOut>,
    holders: Option<Vec<HoldersOut<'a>>>,
}

#[derive(Serialize)]
struct FindingOut<'a> {
    id: &'static str,
    severity: &'static str,
    sentence: &'a str,
    destination: Option<DestinationKey>,
    figures: BTreeMap<&'static str, ValueOut<'a>>,
    remedies: Vec<RemedyOut<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ValueOut<'a> {
    Count(u64),
    Fraction(f64),
    Text(&'a str),
}

#[derive(Serialize)]
struct RemedyOut<'a> {
    id: &'static str,
    action: &'a str,
    commands: Vec<String>,
    persistent: Vec<PersistentOut>,
    caution: Option<String>,
    effect: Option<EffectOut>,
}

#[derive(Serialize)]
struct PersistentOut {
    path: String,
    line: String,
}

#[derive(Serialize)]
struct EffectOut {
    before: RoomOut,
    after: RoomOut,
}

#[derive(Serialize)]
struct RoomOut {
    headroom: u64,
    ratio: f64,
}

#[derive(Serialize)]
struct DestinationKey {
    src_addr: String,
    dst_addr: String,
    dst_port: u16,
}

#[derive(Serialize)]
struct PortRangeOut {
    min: u16,
    max: u16,
    ports: u32,
    reserved: u32,
    blocked: u32,
    listeners: u32,
    usable: u32,
    free: u32,
    exhaustion_ratio_ipv4: f64,
    exhaustion_ratio_ipv6: f64,
    destinations: u64,
}

#[derive(Serialize)]
struct HeldOut {
    time_wait: u64,
    established: u64,
    other: u64,
}

#[derive(Serialize)]
struct DestinationOut {
    #[serde(flatten)]
    destination: DestinationKey,
    #[serde(flatten)]
    held: HeldOut,
    reusable: u64,
    headroom: u32,
    exhaustion_ratio: f64,
    closes_per_second: f64,
    search_ports: u32,
}

#[derive(Serialize)]
struct SourceOut {
    src_addr: String,
    ports: u32,
    exhaustion_ratio: f64,
}

#[derive(Serialize)]
struct TimeWaitOut {
    ipv4: u64,
    ipv6: u64,
    by_age: Option<Vec<AgeOut>>,
}

#[derive(Serialize)]
struct AgeOut {
    age_seconds: &'static str,
    sockets: u64,
}

#[derive(Serialize)]
struct BucketsOut {
    in_use: u64,
    limit: Option<i64>,
}

#[derive(Serialize)]
struct SettingOut {
    name: String,
    value: String,
    meaning: String,
}

#[derive(Serialize)]
struct CollectorOut {
    name: &'static str,
    success: bool,
    duration_seconds: f64,
}

#[derive(Serialize)]
struct HoldersOut<'a> {
    #[serde(flatten)]
    destination: DestinationKey,
    live_sockets: u64,
    unnamed_sockets: u64,
    processes: Vec<ProcessOut<'a>>,
}

#[derive(Serialize)]
struct ProcessOut<'a> {
    pid: i32,
    name: &'a str,
    sockets: u64,
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
mod tests;

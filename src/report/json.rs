//! The report for programs: JSON, as docs/report.schema.json describes it.
//!
//! Within one `schema_version` members are added, never taken away or changed in meaning. What is
//! unknown is `null`, never 0.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::{NamespaceReport, Report, collectors, source};
use crate::domain::advice::explain::explain;
use crate::domain::advice::{Effect, FigureValue, Finding, Remedy, Room};
use crate::domain::age::BANDS;
use crate::domain::holders::Holders;
use crate::domain::snapshot::{
    Destination, DestinationFigures, HeldPorts, PortFigures, SocketFigures,
};

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
    headline: &'a str,
    namespaces: Vec<Namespace<'a>>,
}

#[derive(Serialize)]
struct Namespace<'a> {
    netns: Option<&'a str>,
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
    caution: Option<&'a str>,
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

impl<'a> From<&'a Report> for Document<'a> {
    fn from(report: &'a Report) -> Self {
        let made = report.made.duration_since(UNIX_EPOCH);
        Self {
            schema_version: SCHEMA_VERSION,
            exporter_version: report.version,
            kernel: &report.kernel,
            generated_at_seconds: made.map_or(0.0, |made| made.as_secs_f64()),
            severity: report.severity().as_str(),
            headline: report.headline(),
            namespaces: report.namespaces.iter().map(Namespace::from).collect(),
        }
    }
}

impl<'a> From<&'a NamespaceReport> for Namespace<'a> {
    fn from(namespace: &'a NamespaceReport) -> Self {
        let NamespaceReport {
            name,
            snapshot,
            advice,
            holders,
        } = namespace;
        let sockets = snapshot.sockets.as_ref().and_then(|o| o.value.as_ref());
        let ports = sockets.and_then(|sockets| sockets.ports.as_ref());
        let by_destination = ports.and_then(|ports| ports.by_destination.as_ref());
        let settings = snapshot.sysctl.as_ref().and_then(|o| o.value.as_ref());
        let sockstat = snapshot.sockstat.as_ref().and_then(|o| o.value.as_ref());
        let in_use = sockstat.and_then(|sockstat| sockstat.time_wait_buckets);
        Self {
            netns: name.as_deref(),
            severity: advice.severity.as_str(),
            headline: &advice.headline,
            findings: advice.findings.iter().map(FindingOut::from).collect(),
            port_range: ports.map(PortRangeOut::from),
            destinations: by_destination
                .map(|breakdown| breakdown.told.iter().map(DestinationOut::from).collect()),
            other_destinations: by_destination.map(|breakdown| breakdown.other.into()),
            sources: ports.and_then(sources),
            time_wait: sockets.map(TimeWaitOut::from),
            buckets: in_use.map(|in_use| BucketsOut {
                in_use,
                limit: settings.and_then(|settings| settings.tcp_max_tw_buckets),
            }),
            settings: settings
                .map(explain)
                .unwrap_or_default()
                .into_iter()
                .map(|one| SettingOut {
                    name: format!("net.ipv4.{}", one.name),
                    value: one.value,
                    meaning: one.meaning,
                })
                .collect(),
            source: source(snapshot).map(|source| source.as_str()),
            collectors: collectors(snapshot)
                .into_iter()
                .map(|(name, success, duration_seconds)| CollectorOut {
                    name,
                    success,
                    duration_seconds,
                })
                .collect(),
            holders: holders
                .as_ref()
                .map(|holders| holders.iter().map(HoldersOut::from).collect()),
        }
    }
}

fn sources(ports: &PortFigures) -> Option<Vec<SourceOut>> {
    let sources = ports.by_source.as_ref()?;
    let sources = sources.iter().map(|source| SourceOut {
        src_addr: source.src_addr.to_string(),
        ports: source.ports,
        exhaustion_ratio: source.exhaustion_ratio,
    });
    Some(sources.collect())
}

impl<'a> From<&'a Finding> for FindingOut<'a> {
    fn from(finding: &'a Finding) -> Self {
        let figures = finding.figures.iter().map(|(name, value)| {
            let value = match value {
                FigureValue::Count(count) | FigureValue::Bytes(count) => ValueOut::Count(*count),
                FigureValue::Ratio(fraction) | FigureValue::Rate(fraction) => {
                    ValueOut::Fraction(*fraction)
                }
                FigureValue::Text(text) => ValueOut::Text(text),
            };
            (*name, value)
        });
        Self {
            id: finding.id.as_str(),
            severity: finding.severity.as_str(),
            sentence: &finding.sentence,
            destination: finding.destination.map(DestinationKey::from),
            figures: figures.collect(),
            remedies: finding.remedies.iter().map(RemedyOut::from).collect(),
        }
    }
}

impl<'a> From<&'a Remedy> for RemedyOut<'a> {
    fn from(remedy: &'a Remedy) -> Self {
        let persistent = remedy.settings.iter().map(|setting| {
            let persistent = setting.persistent();
            PersistentOut {
                path: persistent.path,
                line: persistent.line,
            }
        });
        Self {
            id: remedy.id.as_str(),
            action: &remedy.action,
            commands: remedy.commands(),
            persistent: persistent.collect(),
            caution: remedy.caution.as_deref(),
            effect: remedy.effect.map(|Effect { before, after }| EffectOut {
                before: before.into(),
                after: after.into(),
            }),
        }
    }
}

impl From<Room> for RoomOut {
    fn from(room: Room) -> Self {
        Self {
            headroom: room.headroom,
            ratio: room.ratio,
        }
    }
}

impl From<Destination> for DestinationKey {
    fn from(destination: Destination) -> Self {
        Self {
            src_addr: destination.src_addr.to_string(),
            dst_addr: destination.dst_addr.to_string(),
            dst_port: destination.dst_port,
        }
    }
}

impl From<HeldPorts> for HeldOut {
    fn from(held: HeldPorts) -> Self {
        Self {
            time_wait: held.time_wait,
            established: held.established,
            other: held.other,
        }
    }
}

impl From<&DestinationFigures> for DestinationOut {
    fn from(figures: &DestinationFigures) -> Self {
        Self {
            destination: figures.destination.into(),
            held: figures.held.into(),
            reusable: figures.reusable,
            headroom: figures.headroom,
            exhaustion_ratio: figures.exhaustion_ratio,
            closes_per_second: figures.close_rate,
            search_ports: figures.search_ports,
        }
    }
}

impl From<&PortFigures> for PortRangeOut {
    fn from(ports: &PortFigures) -> Self {
        Self {
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
}

impl From<&SocketFigures> for TimeWaitOut {
    fn from(sockets: &SocketFigures) -> Self {
        let by_age = sockets.by_age.map(|ages| {
            let bands = BANDS.iter().zip(ages);
            let bands = bands.map(|(band, sockets)| AgeOut {
                age_seconds: band.name,
                sockets,
            });
            bands.collect()
        });
        Self {
            ipv4: sockets.time_wait.ipv4,
            ipv6: sockets.time_wait.ipv6,
            by_age,
        }
    }
}

impl<'a> From<&'a Holders> for HoldersOut<'a> {
    fn from(holders: &'a Holders) -> Self {
        let processes = holders.processes.iter().map(|process| ProcessOut {
            pid: process.pid,
            name: &process.name,
            sockets: process.sockets,
        });
        Self {
            destination: holders.destination.into(),
            live_sockets: holders.live_sockets,
            unnamed_sockets: holders.unnamed_sockets,
            processes: processes.collect(),
        }
    }
}

//! What is wrong, where, why, and what helps.
//!
//! [`advise`] turns one [`Snapshot`] into findings. The effect of a remedy is computed by the arithmetic
//! that computes the metrics (see [`whatif`]), and proven: by property tests that count the same sockets
//! again with the changed sysctls, and by tests against a real kernel.
//!
//! To add a finding: an [`Id`] with its title, a function in a file of its own, and a line in [`RULES`].
//!
//! **Invariant:** a remedy with an effect makes nothing worse: more headroom, and no higher ratio.
//! Nothing is advised on unknown values.

mod bind;
mod buckets;
mod destinations;
pub(crate) mod explain;
mod failures;
mod finding;
mod help;
mod range;
mod remedy;
mod settings;
pub mod thresholds;
mod udp;
mod whatif;
pub mod wording;

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod laws;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

pub use finding::{Finding, Id, Severity, Value};
pub use remedy::{Effect, Remedy, RemedyId, Room, Setting};
pub(crate) use remedy::{OF_FILES, Persistent};

use super::collectors::CollectorId;
use super::settings::Settings;
use super::snapshot::{DestinationUsage, PortUsage, Snapshot};

/// All findings about one snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// That of the most severe finding.
    pub severity: Severity,
    /// The state in a sentence or two.
    pub headline: String,
    /// Most severe first.
    pub findings: Vec<Finding>,
}

type Rule = fn(&View<'_>) -> Option<Finding>;

/// Of findings that are equally severe, those of earlier rules come first; before all of them those about
/// one destination.
const RULES: [Rule; 17] = [
    range::no_usable_ports,
    range::narrow,
    range::parity,
    range::listeners,
    range::bound,
    failures::recent,
    bind::owned,
    bind::low_pools,
    udp::low_pools,
    buckets::limit,
    buckets::server_side,
    settings::recycle,
    settings::recycle_and_reuse,
    settings::reuse_without_timestamps,
    settings::reuse_loopback_only,
    settings::fin_timeout,
    unread,
];

/// Applies every rule to the snapshot of the exporter's network namespace.
pub fn advise(snapshot: &Snapshot) -> Advice {
    advise_inside(snapshot, None)
}

/// The same for another network namespace, in which `prefix` runs a command.
pub(crate) fn advise_inside(snapshot: &Snapshot, prefix: Option<&str>) -> Advice {
    let unknown = Settings::default();
    let view = View::of(snapshot, &unknown);
    let mut findings = destinations::find(&view);
    findings.extend(RULES.iter().filter_map(|rule| rule(&view)));
    let severity = findings.iter().map(|finding| finding.severity).max();
    let severity = severity.unwrap_or(Severity::Ok);
    if severity < Severity::Warning {
        findings.extend(destinations::plentiful(&view));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in &mut findings {
        let remedies = std::mem::take(&mut finding.remedies).into_iter();
        finding.remedies = remedies.map(|remedy| remedy.inside(prefix)).collect();
    }
    Advice {
        severity,
        headline: headline(&findings),
        findings,
    }
}

/// The most severe finding, or that there is none.
fn headline(findings: &[Finding]) -> String {
    let severe = findings.iter();
    let severe = severe.filter(|one| one.severity >= Severity::Warning);
    let with = |id: Id| findings.iter().find(|finding| finding.id == id);
    let first = severe.clone().next();
    let first = first.or(with(Id::Plentiful)).or(with(Id::Unread));
    let summary = first.map_or_else(String::new, Finding::summary);
    match severe.count() {
        0 | 1 => summary,
        2 => format!("{summary} 1 more issue."),
        issues => format!("{summary} {} more issues.", issues - 1),
    }
}

/// What rules read.
struct View<'a> {
    snapshot: &'a Snapshot,
    ports: Option<&'a PortUsage>,
    /// The exported destinations, fullest first.
    destinations: &'a [DestinationUsage],
    /// The highest ratio of either family.
    worst_ratio: f64,
    /// Each sysctl is `None` where it is unknown.
    settings: &'a Settings,
    has_timestamps: Option<bool>,
}

impl<'a> View<'a> {
    fn of(snapshot: &'a Snapshot, unknown: &'a Settings) -> Self {
        let breakdown = snapshot.destinations();
        let settings = snapshot.settings().unwrap_or(unknown);
        Self {
            snapshot,
            ports: snapshot.ports(),
            destinations: breakdown.map_or(&[], |breakdown| &breakdown.exported),
            worst_ratio: snapshot.worst_ratio().unwrap_or(0.0),
            settings,
            has_timestamps: settings.tcp_timestamps.map(|value| value != 0),
        }
    }
}

/// What should have been read and was not. Without this finding, silence would look like health.
fn unread(view: &View<'_>) -> Option<Finding> {
    let outcomes = view.snapshot.outcomes();
    let failed = outcomes.filter(|(_, outcome)| !outcome.success);
    let failed: Vec<&str> = failed.map(|(id, _)| id.name()).collect();
    let is_off = view.snapshot.outcome(CollectorId::Sockets).is_none();
    let severity = match view.ports {
        None if !is_off => Severity::Warning,
        _ => Severity::Info,
    };
    let unknown = "the use of the port range is unknown.";
    let sentence = if is_off {
        format!("Sockets are not read (--no-collector.sockets): {unknown}")
    } else if !failed.is_empty() {
        let failed = failed.join(", ");
        format!(
            "Not everything could be read. These collectors failed: {failed}. The log names the reasons."
        )
    } else if view.ports.is_none() {
        format!("ip_local_port_range could not be read: {unknown}")
    } else {
        return None;
    };
    Some(Finding::new(Id::Unread, severity, sentence))
}

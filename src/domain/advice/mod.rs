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
use super::snapshot::{DestinationUsage, PortUsage, Snapshot, SocketSummary};

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

impl Advice {
    /// The same for another network namespace, in which `prefix` runs a command.
    #[must_use]
    pub fn inside(mut self, prefix: &str) -> Self {
        let findings = self.findings.iter_mut();
        for remedy in findings.flat_map(|finding| &mut finding.remedies) {
            remedy.inside = Some(prefix.to_owned());
        }
        self
    }
}

type Rule = fn(&View<'_>, &mut Vec<Finding>);

/// Of findings that are equally severe, those of earlier rules come first.
const RULES: [Rule; 8] = [
    destinations::find,
    range::find,
    failures::find,
    bind::find,
    udp::find,
    buckets::find,
    settings::find,
    unread,
];

/// Applies every rule to a snapshot.
#[must_use]
pub fn advise(snapshot: &Snapshot) -> Advice {
    let view = View::of(snapshot);
    let mut findings = Vec::new();
    for rule in RULES {
        rule(&view, &mut findings);
    }
    let worst = findings.iter().map(|finding| finding.severity).max();
    if worst.is_none_or(|worst| worst < Severity::Warning) && view.ports.is_some() {
        findings.push(destinations::plentiful(&view));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Advice {
        severity: worst.unwrap_or(Severity::Ok),
        headline: headline(&findings),
        findings,
    }
}

/// The most severe finding, or that there is none.
fn headline(findings: &[Finding]) -> String {
    let is_severe = |finding: &&Finding| finding.severity >= Severity::Warning;
    let with = |id: Id| findings.iter().find(|finding| finding.id == id);
    let first = findings.first().filter(is_severe);
    let Some(first) = first.or(with(Id::Plentiful)).or(with(Id::Unread)) else {
        return "Nothing is known yet.".to_owned();
    };
    match findings.iter().filter(is_severe).count() {
        0 | 1 => first.summary(),
        2 => format!("{} 1 more issue.", first.summary()),
        issues => format!("{} {} more issues.", first.summary(), issues - 1),
    }
}

/// The parts of a snapshot that are known.
struct View<'a> {
    snapshot: &'a Snapshot,
    sockets: Option<&'a SocketSummary>,
    ports: Option<&'a PortUsage>,
    settings: Option<&'a Settings>,
}

impl<'a> View<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        Self {
            snapshot,
            sockets: snapshot.sockets(),
            ports: snapshot.ports(),
            settings: snapshot.settings(),
        }
    }

    /// The exported destinations, fullest first.
    fn destinations(&self) -> &'a [DestinationUsage] {
        let breakdown = self.snapshot.destinations();
        breakdown.map_or(&[], |breakdown| &breakdown.exported)
    }

    fn sysctl(&self, of: impl Fn(&Settings) -> Option<i64>) -> Option<i64> {
        self.settings.and_then(of)
    }

    fn reuse(&self) -> Option<i64> {
        self.sysctl(|settings| settings.tcp_tw_reuse)
    }

    fn has_timestamps(&self) -> Option<bool> {
        let timestamps = self.sysctl(|settings| settings.tcp_timestamps);
        timestamps.map(|value| value != 0)
    }

    /// The highest ratio of either family.
    fn worst_ratio(&self) -> f64 {
        self.snapshot.worst_ratio().unwrap_or(0.0)
    }

    /// TIME-WAIT sockets, and those among them that are not outgoing.
    fn time_wait(&self) -> Option<(u64, u64)> {
        let sockets = self.sockets?;
        let all = sockets.time_wait.ipv4 + sockets.time_wait.ipv6;
        let outgoing = match (self.snapshot.destinations(), &sockets.by_src_port) {
            (Some(breakdown), _) => {
                let exported = breakdown.exported.iter();
                let exported = exported.map(|usage| usage.in_use.time_wait);
                exported.sum::<u64>() + breakdown.other.time_wait
            }
            (None, Some(by_port)) => by_port.ephemeral,
            (None, None) => return None,
        };
        Some((all, all.saturating_sub(outgoing)))
    }
}

/// What should have been read and was not. Without this finding, silence would look like health.
fn unread(view: &View<'_>, findings: &mut Vec<Finding>) {
    let is_off = view.snapshot.outcome(CollectorId::Sockets).is_none();
    let failed = view
        .snapshot
        .outcomes()
        .filter(|(_, outcome)| !outcome.success);
    let failed: Vec<&str> = failed.map(|(id, _)| id.name()).collect();
    let range_is_missing = view.sockets.is_some() && view.ports.is_none();
    let (severity, sentence) = if is_off {
        let off =
            "Sockets are not read (--no-collector.sockets): the use of the port range is unknown.";
        (Severity::Info, off.to_owned())
    } else if !failed.is_empty() {
        let severity = if view.ports.is_none() {
            Severity::Warning
        } else {
            Severity::Info
        };
        let failed = failed.join(", ");
        (
            severity,
            format!(
                "Not everything could be read. These collectors failed: {failed}. The log names the reasons."
            ),
        )
    } else if range_is_missing {
        let unknown =
            "ip_local_port_range could not be read: the use of the port range is unknown.";
        (Severity::Warning, unknown.to_owned())
    } else {
        return;
    };
    findings.push(Finding::new(Id::Unread, severity, sentence));
}

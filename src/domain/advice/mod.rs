//! From figures to advice: what is wrong, where, why, what to type, and what that will give.
//!
//! [`advise`] turns one [`Snapshot`] into findings. Each remedy's effect is computed by the
//! same arithmetic as the figures (see [`whatif`]), so that it can be proven: in property tests against
//! a new pass over the same sockets with the changed settings, and in tests against a real kernel.
//!
//! **Invariant:** a remedy that is told with an effect makes nothing worse: more headroom, and no
//! higher ratio. What is unknown is not advised on.

mod buckets;
mod destinations;
pub mod explain;
mod finding;
mod help;
mod pools;
mod remedy;
mod settings;
pub mod thresholds;
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

pub use finding::{FigureValue, Finding, Id, Severity};
pub use remedy::{Effect, OF_FILES, Persistent, Remedy, RemedyId, Room, Setting};

use super::settings::Settings;
use super::snapshot::{DestinationUsage, PortUsage, Snapshot, SocketSummary};
use crate::domain::collectors::CollectorId;

/// What a snapshot comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// The gravest finding's.
    pub severity: Severity,
    /// The state in one sentence.
    pub headline: String,
    /// Gravest first.
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

/// Looks at everything that a snapshot tells.
#[must_use]
pub fn advise(snapshot: &Snapshot) -> Advice {
    let view = View::of(snapshot);
    let mut findings = Vec::new();
    destinations::find(&view, &mut findings);
    pools::find(&view, &mut findings);
    buckets::find(&view, &mut findings);
    settings::find(&view, &mut findings);
    if let Some(unread) = unread(snapshot) {
        findings.push(unread);
    }
    let worst = findings.iter().map(|finding| finding.severity).max();
    if worst.is_none_or(|worst| worst < Severity::Warning) && view.ports.is_some() {
        findings.push(destinations::plentiful(&view));
    }
    // Stable: of equal ones the order above holds.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Advice {
        severity: worst.unwrap_or(Severity::Ok),
        headline: headline(&findings),
        findings,
    }
}

/// The gravest finding speaks for all; where nothing is grave, how full the fullest destination is.
fn headline(findings: &[Finding]) -> String {
    let grave = findings
        .iter()
        .filter(|finding| finding.severity >= Severity::Warning)
        .count();
    let first = findings
        .first()
        .filter(|_| grave > 0)
        .or_else(|| findings.iter().find(|finding| finding.id == Id::Plentiful))
        .or_else(|| findings.iter().find(|finding| finding.id == Id::Unread));
    match first {
        None => "Nothing is known yet.".to_owned(),
        Some(finding) if grave > 1 => format!(
            "{} There {} more to see to.",
            finding.sentence,
            if grave == 2 {
                "is one matter".to_owned()
            } else {
                format!("are {} matters", grave - 1)
            }
        ),
        Some(finding) => finding.sentence.clone(),
    }
}

/// A snapshot without its wrapping: what is known.
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

    /// The destinations that are told, worst first.
    fn destinations(&self) -> &'a [DestinationUsage] {
        self.ports
            .and_then(|ports| ports.by_destination.as_ref())
            .map_or(&[], |breakdown| &breakdown.exported)
    }

    fn reuse(&self) -> Option<i64> {
        self.settings.and_then(|settings| settings.tcp_tw_reuse)
    }

    fn has_timestamps(&self) -> Option<bool> {
        self.settings
            .and_then(|settings| settings.tcp_timestamps)
            .map(|value| value != 0)
    }

    /// The worst ratio of either family.
    fn worst_ratio(&self) -> f64 {
        self.ports.map_or(0.0, |ports| {
            ports.worst_ratio.ipv4.max(ports.worst_ratio.ipv6)
        })
    }

    /// TIME-WAIT sockets, and those among them that are not outgoing.
    fn time_wait(&self) -> Option<(u64, u64)> {
        let sockets = self.sockets?;
        let all = sockets.time_wait.ipv4 + sockets.time_wait.ipv6;
        let by_destination = self.ports.and_then(|ports| ports.by_destination.as_ref());
        let outgoing = match (by_destination, &sockets.by_src_port) {
            (Some(breakdown), _) => {
                let told = breakdown.exported.iter().map(|told| told.in_use.time_wait);
                told.sum::<u64>() + breakdown.other.time_wait
            }
            (None, Some(by_port)) => by_port.ephemeral,
            (None, None) => return None,
        };
        Some((all, all.saturating_sub(outgoing)))
    }
}

/// What was to be read and was not. Without it, silence would look like health.
fn unread(snapshot: &Snapshot) -> Option<Finding> {
    let sockets = snapshot.outcome(CollectorId::Sockets);
    let failed = snapshot.outcomes().filter(|(_, outcome)| !outcome.success);
    let parts: Vec<&str> = failed.map(|(id, _)| id.name()).collect();
    let has_range = snapshot
        .sockets()
        .is_none_or(|sockets| sockets.ports.is_some());
    if parts.is_empty() && has_range && sockets.is_some() {
        return None;
    }
    let (severity, sentence) = if sockets.is_none() {
        (
            Severity::Info,
            "Sockets are not read (--no-collector.sockets): how full the port range is, is not known."
                .to_owned(),
        )
    } else if parts.is_empty() {
        (
            Severity::Warning,
            "The port range (ip_local_port_range) could not be read: how full it is, is not known."
                .to_owned(),
        )
    } else {
        let told = parts.join(", ");
        let severity = if parts.contains(&CollectorId::Sockets.name()) || !has_range {
            Severity::Warning
        } else {
            Severity::Info
        };
        (
            severity,
            format!("Not everything could be read: {told}. The log says why."),
        )
    };
    Some(Finding::new(Id::Unread, severity, sentence))
}

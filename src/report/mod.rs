//! One look at a host, told to people and to programs.
//!
//! [`Report`] joins what was read with what that comes to; [`text`] and [`json`] write it, [`screen`]
//! fits it into a terminal, [`check`] says it in the one line that monitoring plugins say. Pure: reads nothing, prints nothing.

pub mod check;
pub mod json;
pub mod screen;
mod table;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod testing;
pub mod text;
mod wrap;

use std::time::SystemTime;

use crate::domain::advice::wording::counted;
use crate::domain::advice::{Advice, Severity, advise};
use crate::domain::collectors::CollectorId;
use crate::domain::holders::Holders;
use crate::domain::namespace::{HostSnapshot, NamespaceIdentity};
use crate::domain::snapshot::{Snapshot, Source};
pub use crate::domain::text::printable;

/// One look at a host.
#[derive(Clone, Debug)]
pub struct Report {
    /// The exporter's version.
    pub version: &'static str,
    /// The running kernel's release.
    pub kernel: String,
    /// When it was made.
    pub made: SystemTime,
    /// Each network namespace that was looked at, the own one first.
    pub namespaces: Vec<NamespaceReport>,
    /// Those that are not among them; `None` where others were not looked at.
    pub untold: Option<Untold>,
}

/// So many namespaces with nothing to see to are told in whole besides those with something.
const WELL_IN_WHOLE: usize = 3;

/// The namespaces of which nothing is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untold {
    /// Those that could not be entered; `None` where it could not even be found out which there are.
    pub unreadable: Option<u64>,
    /// Those beyond the number that is told, none of them worse off.
    pub left_out: u64,
    /// Those asked for by name that are not there.
    pub absent: u64,
    /// Whether there may be more, since their names could not be listed.
    pub has_unlisted_names: bool,
}

impl Untold {
    /// Whether it is not known how they are, though that was asked for.
    const fn is_unknown(self) -> bool {
        self.absent > 0 || self.has_unlisted_names || !matches!(self.unreadable, Some(0))
    }
}

/// What was seen in one network namespace.
#[derive(Clone, Debug)]
pub struct NamespaceReport {
    /// Which one; `None` for the exporter's own.
    pub identity: Option<NamespaceIdentity>,
    /// What was read.
    pub snapshot: Snapshot,
    /// What it comes to.
    pub advice: Advice,
    /// Who holds live sockets to the worst destinations; `None` where that was not looked for.
    pub holders: Option<Vec<Holders>>,
}

impl NamespaceReport {
    /// With the advice that the snapshot gives.
    #[must_use]
    pub fn new(identity: Option<NamespaceIdentity>, snapshot: Snapshot) -> Self {
        let mut advice = advise(&snapshot);
        if let Some(identity) = &identity {
            advice = advice.inside(&identity.command_prefix());
        }
        Self {
            identity,
            snapshot,
            advice,
            holders: None,
        }
    }

    /// What it is called; `None` for the exporter's own.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| &*identity.label)
    }

    /// How it is compared: the graver, and then the fuller one, is greater.
    fn rank(&self) -> (Severity, f64) {
        (
            self.advice.severity.state(),
            self.snapshot.worst_ratio().unwrap_or(0.0),
        )
    }

    /// Whether the connection table was read, if it was to be.
    #[must_use]
    pub fn has_sockets(&self) -> bool {
        let sockets = self.snapshot.outcome(CollectorId::Sockets);
        sockets.is_none_or(|outcome| outcome.value.is_some())
    }
}

impl Report {
    /// Of everything that was read.
    #[must_use]
    pub fn new(version: &'static str, kernel: String, host: HostSnapshot) -> Self {
        let others = host.others().map(|other| {
            NamespaceReport::new(Some(other.identity.clone()), other.snapshot.clone())
        });
        let others: Vec<_> = others.collect();
        let untold = host.namespaces.as_ref().map(|outcome| {
            let found = outcome.value.as_ref();
            Untold {
                unreadable: found.map(|found| found.unreadable),
                left_out: found.map_or(0, |found| found.left_out),
                absent: found.map_or(0, |found| found.absent),
                has_unlisted_names: found.is_some_and(|found| found.has_unlisted_names),
            }
        });
        #[expect(clippy::disallowed_methods, reason = "people want to know when")]
        let made = SystemTime::now();
        let mut namespaces = vec![NamespaceReport::new(None, host.own)];
        namespaces.extend(others);
        Self {
            version,
            kernel,
            made,
            namespaces,
            untold,
        }
    }

    /// All namespaces, the worst off first; of equals the own one, and then by name.
    #[must_use]
    pub fn worst_first(&self) -> Vec<&NamespaceReport> {
        let mut ranked: Vec<&NamespaceReport> = self.namespaces.iter().collect();
        // Stable: they come in the order of their names.
        ranked.sort_by(|a, b| {
            let ((a_severity, a_ratio), (b_severity, b_ratio)) = (a.rank(), b.rank());
            b_severity
                .cmp(&a_severity)
                .then(b_ratio.total_cmp(&a_ratio))
        });
        ranked
    }

    /// The namespaces to tell in whole, the worst off first: the own one, all with something to see to,
    /// and a few others. On a host of many pods the rest is a line each.
    #[must_use]
    pub fn in_whole(&self) -> Vec<&NamespaceReport> {
        let mut room = WELL_IN_WHOLE;
        let mut told = self.worst_first();
        told.retain(|namespace| {
            let is_due =
                namespace.identity.is_none() || namespace.advice.severity.state() > Severity::Ok;
            if !is_due {
                let had_room = room > 0;
                room = room.saturating_sub(1);
                return had_room;
            }
            true
        });
        told
    }

    /// The namespace that is worst off.
    #[must_use]
    pub fn worst(&self) -> Option<&NamespaceReport> {
        self.worst_first().first().copied()
    }

    /// The gravest severity.
    #[must_use]
    pub fn severity(&self) -> Severity {
        let severities = self.namespaces.iter().map(|one| one.advice.severity);
        severities.max().unwrap_or(Severity::Ok)
    }

    /// The state of the namespace that is worst off in one sentence.
    #[must_use]
    pub fn headline(&self) -> String {
        let Some(worst) = self.worst() else {
            return String::new();
        };
        let headline = &worst.advice.headline;
        match worst.name() {
            None => headline.clone(),
            Some(name) => format!("Network namespace {}: {headline}", printable(name)),
        }
    }

    /// What is missing from the report, in a sentence; `None` where nothing is.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let Untold {
            unreadable,
            left_out,
            absent,
            has_unlisted_names,
        } = self.untold?;
        let Some(unreadable) = unreadable else {
            return Some(
                "Which other network namespaces there are could not be found out: see the log."
                    .to_owned(),
            );
        };
        let mut sentences = Vec::new();
        if unreadable > 0 {
            let subject = counted(unreadable, "network namespace", "network namespaces");
            sentences.push(format!(
                "{subject} could not be entered: see the log for the right that is missing."
            ));
        }
        if has_unlisted_names {
            sentences.push(
                "The names of network namespaces could not be listed, and there may be more than these: see the log."
                    .to_owned(),
            );
        }
        if absent > 0 {
            let subject = counted(
                absent,
                "network namespace that was asked for is",
                "network namespaces that were asked for are",
            );
            sentences.push(format!("{subject} not there."));
        }
        if left_out > 0 {
            let subject = counted(left_out, "network namespace is", "network namespaces are");
            sentences.push(format!(
                "{subject} no worse off than these and not told (--collector.netns-max)."
            ));
        }
        (!sentences.is_empty()).then(|| sentences.join(" "))
    }
}

/// How one collector fared: its name, whether all was read, and the seconds that took.
#[must_use]
pub fn collectors(snapshot: &Snapshot) -> Vec<(&'static str, bool, f64)> {
    let outcomes = snapshot.outcomes();
    outcomes
        .map(|(id, outcome)| (id.name(), outcome.success, outcome.duration.as_secs_f64()))
        .collect()
}

/// Where the sockets were read from.
#[must_use]
pub fn source(snapshot: &Snapshot) -> Option<Source> {
    snapshot.sockets()?.source
}

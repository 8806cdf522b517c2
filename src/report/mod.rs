//! One look at a host, told to people and to programs.
//!
//! [`Report`] joins what was read with what that comes to; [`text`] and [`json`] write it, [`check`]
//! says it in the one line that monitoring plugins say. Pure: reads nothing, prints nothing.

pub mod check;
pub mod json;
mod table;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod testing;
pub mod text;
mod wrap;

use std::time::SystemTime;

use crate::domain::advice::{Advice, Severity, advise};
use crate::domain::holders::Holders;
use crate::domain::snapshot::{Snapshot, Source};

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
}

/// What was seen in one network namespace.
#[derive(Clone, Debug)]
pub struct NamespaceReport {
    /// Its name; `None` for the exporter's own.
    pub name: Option<String>,
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
    pub fn new(name: Option<String>, snapshot: Snapshot) -> Self {
        let advice = advise(&snapshot);
        Self {
            name,
            snapshot,
            advice,
            holders: None,
        }
    }

    /// Whether the connection table was read, if it was to be.
    #[must_use]
    pub fn has_sockets(&self) -> bool {
        let sockets = self.snapshot.sockets.as_ref();
        sockets.is_none_or(|outcome| outcome.value.is_some())
    }
}

impl Report {
    /// Of the own namespace alone.
    #[must_use]
    pub fn of_own(version: &'static str, kernel: String, snapshot: Snapshot) -> Self {
        Self {
            version,
            kernel,
            made: SystemTime::now(),
            namespaces: vec![NamespaceReport::new(None, snapshot)],
        }
    }

    /// The namespace that is worst off, the first of equals.
    #[must_use]
    pub fn worst(&self) -> Option<&NamespaceReport> {
        let mut worst: Option<&NamespaceReport> = None;
        for namespace in &self.namespaces {
            if worst.is_none_or(|worst| namespace.advice.severity > worst.advice.severity) {
                worst = Some(namespace);
            }
        }
        worst
    }

    /// The gravest severity.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.worst()
            .map_or(Severity::Ok, |worst| worst.advice.severity)
    }

    /// The state in one sentence.
    #[must_use]
    pub fn headline(&self) -> &str {
        self.worst().map_or("", |worst| &worst.advice.headline)
    }
}

/// How one collector fared: its name, whether all was read, and the seconds that took.
#[must_use]
pub fn collectors(snapshot: &Snapshot) -> Vec<(&'static str, bool, f64)> {
    let told = [
        (
            "sockets",
            snapshot.sockets.as_ref().map(|o| (o.success, o.duration)),
        ),
        (
            "sysctl",
            snapshot.sysctl.as_ref().map(|o| (o.success, o.duration)),
        ),
        (
            "netstat",
            snapshot.netstat.as_ref().map(|o| (o.success, o.duration)),
        ),
        (
            "sockstat",
            snapshot.sockstat.as_ref().map(|o| (o.success, o.duration)),
        ),
        (
            "slabinfo",
            snapshot.slabinfo.as_ref().map(|o| (o.success, o.duration)),
        ),
    ];
    told.into_iter()
        .filter_map(|(name, outcome)| {
            outcome.map(|(success, duration)| (name, success, duration.as_secs_f64()))
        })
        .collect()
}

/// Where the sockets were read from.
#[must_use]
pub fn source(snapshot: &Snapshot) -> Option<Source> {
    let sockets = snapshot.sockets.as_ref()?;
    sockets.value.as_ref().map(|figures| figures.source)
}

//! The state of a host, for people and for programs.
//!
//! [`Report`] joins what was read with the advice on it; [`tables`] says what its tables contain. [`text`]
//! and [`json`] write it, [`screen`] fits it into a terminal, [`check`] is the one line for monitoring
//! plugins. Reads nothing but the time, prints nothing.

pub mod check;
pub mod json;
pub mod screen;
mod table;
pub(crate) mod tables;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod testing;
pub mod text;
mod wrap;

pub(crate) use table::{Kind, Table};

use std::time::SystemTime;

use crate::domain::advice::wording::counted;
use crate::domain::advice::{Advice, Finding, Id, Severity, advise_inside};
use crate::domain::collectors::CollectorId;
use crate::domain::holders::Holders;
use crate::domain::namespace::{HostSnapshot, NamespaceIdentity};
use crate::domain::snapshot::Snapshot;
use crate::domain::text::printable;

/// The state of a host or of a namespace, as monitoring plugins have it, the least severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing fails, and nothing is about to.
    Ok,
    /// The use of the port range could not be read where that was requested.
    Unknown,
    /// Will fail if it continues.
    Warning,
    /// Fails, or is about to.
    Critical,
}

impl State {
    /// In capitals.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Unknown => "UNKNOWN",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }

    /// The exit status of a monitoring plugin.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

/// The state of a host.
#[derive(Clone, Debug)]
pub struct Report {
    /// The exporter's version.
    pub version: &'static str,
    /// The host's name.
    pub host: String,
    /// The running kernel's release.
    pub kernel: String,
    /// When the report was made.
    pub made: SystemTime,
    /// The network namespaces, the exporter's own first.
    pub namespaces: Vec<NamespaceReport>,
    /// Those that are missing; `None` where no others were requested.
    pub missing: Option<Missing>,
}

/// This many namespaces without problems have a report of their own.
const MAX_HEALTHY_SHOWN: usize = 3;

/// Network namespaces of which there is no report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Those that could not be entered; `None` where they could not even be listed.
    pub unreadable: Option<u64>,
    /// Those beyond the maximum; none has a higher ratio.
    pub left_out: u64,
    /// Those requested by a name that does not exist.
    pub absent: u64,
    /// Whether there may be more, because their names could not be listed.
    pub has_unlisted_names: bool,
}

/// The state of one network namespace.
#[derive(Clone, Debug)]
pub struct NamespaceReport {
    /// Which one; `None` for the exporter's own.
    pub identity: Option<NamespaceIdentity>,
    /// What was read.
    pub snapshot: Snapshot,
    /// What is wrong and what helps.
    pub advice: Advice,
    /// Owners of live sockets to the fullest destinations; `None` where they were not looked up.
    pub holders: Option<Vec<Holders>>,
}

impl NamespaceReport {
    /// With the advice on the snapshot.
    pub fn new(identity: Option<NamespaceIdentity>, snapshot: Snapshot) -> Self {
        let prefix = identity.as_ref().map(NamespaceIdentity::command_prefix);
        let advice = advise_inside(&snapshot, prefix.as_deref());
        Self {
            identity,
            snapshot,
            advice,
            holders: None,
        }
    }

    /// Its name; `None` for the exporter's own.
    pub fn name(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| &*identity.label)
    }

    /// Its name for people.
    pub(crate) fn title(&self) -> String {
        printable(self.name().unwrap_or("(the exporter's)"))
    }

    /// Its owner, process, container and pod, as far as they are known.
    fn owner(&self) -> String {
        let identity = self.identity.as_ref();
        printable(&identity.map_or_else(String::new, NamespaceIdentity::resident))
    }

    /// Its name with its owner.
    fn full_name(&self) -> String {
        match self.owner() {
            owner if owner.is_empty() => self.title(),
            owner => format!("{}, {owner}", self.title()),
        }
    }

    /// The findings but for the one that there is no problem, which the headline says.
    pub(crate) fn problems(&self) -> Vec<&Finding> {
        let is_problem = |finding: &&Finding| finding.id != Id::Plentiful;
        self.advice.findings.iter().filter(is_problem).collect()
    }

    /// The state that the findings leave it in.
    pub fn state(&self) -> State {
        match self.advice.severity {
            _ if self.snapshot.ports().is_none() => State::Unknown,
            Severity::Ok | Severity::Info => State::Ok,
            Severity::Warning => State::Warning,
            Severity::Critical => State::Critical,
        }
    }
}

impl Report {
    /// Of everything that was read on this host.
    pub fn new(version: &'static str, host: String, kernel: String, read: HostSnapshot) -> Self {
        let missing = read.namespaces.as_deref().map(|outcome| {
            let found = outcome.value.as_ref();
            found.map_or_else(Missing::default, |found| Missing {
                unreadable: Some(found.unreadable),
                left_out: found.left_out,
                absent: found.absent,
                has_unlisted_names: found.has_unlisted_names,
            })
        });
        let others = read.others().map(|other| {
            NamespaceReport::new(Some(other.identity.clone()), other.snapshot.clone())
        });
        let mut namespaces: Vec<_> = others.collect();
        namespaces.insert(0, NamespaceReport::new(None, read.own));
        #[expect(clippy::disallowed_methods, reason = "people want to know when")]
        let made = SystemTime::now();
        Self {
            version,
            host,
            kernel,
            made,
            namespaces,
            missing,
        }
    }

    /// When it was made, for people.
    pub(crate) fn made_text(&self) -> String {
        let made = humantime::format_rfc3339_seconds(self.made).to_string();
        made.replace('T', " ").replace('Z', " UTC")
    }

    /// All namespaces, the worst first; of equal ones the exporter's own, then by name.
    pub(crate) fn worst_first(&self) -> Vec<&NamespaceReport> {
        let ratio = |one: &NamespaceReport| one.snapshot.worst_ratio().unwrap_or(0.0);
        let mut ranked: Vec<&NamespaceReport> = self.namespaces.iter().collect();
        // Stable: they are in the order of their names.
        ranked.sort_by(|a, b| {
            let by_state = b.state().cmp(&a.state());
            by_state.then(ratio(b).total_cmp(&ratio(a)))
        });
        ranked
    }

    /// The namespaces that are shown in detail, the worst first: the exporter's own, all with problems, and a
    /// few others. On a host with many pods the rest is a row each.
    pub(crate) fn detailed(&self) -> Vec<&NamespaceReport> {
        let mut healthy = 0;
        let mut detailed = self.worst_first();
        detailed.retain(|namespace| {
            let is_due = namespace.identity.is_none() || namespace.state() > State::Ok;
            healthy += usize::from(!is_due);
            is_due || healthy <= MAX_HEALTHY_SHOWN
        });
        detailed
    }

    /// The worst state of all namespaces; missing ones are unknown.
    pub fn state(&self) -> State {
        let states = self.namespaces.iter().map(NamespaceReport::state);
        let missing = self.is_incomplete().then_some(State::Unknown);
        states.chain(missing).max().unwrap_or(State::Unknown)
    }

    /// Whether the state of a requested namespace is not known.
    fn is_incomplete(&self) -> bool {
        self.missing.is_some_and(|missing| {
            missing.absent > 0 || missing.has_unlisted_names || missing.unreadable != Some(0)
        })
    }

    /// Whether everything that was requested is known: the exit status of `report`.
    pub(crate) fn is_complete(&self) -> bool {
        let was_read = |namespace: &NamespaceReport| {
            namespace.snapshot.ports().is_some()
                || namespace.snapshot.outcome(CollectorId::Sockets).is_none()
        };
        !self.is_incomplete() && self.namespaces.iter().all(was_read)
    }

    /// The state of the worst namespace in a sentence or two, or what is missing.
    pub fn headline(&self) -> String {
        let missing = self.missing_sentence().filter(|_| self.is_incomplete());
        let Some(worst) = self.worst_first().first().copied() else {
            return missing.unwrap_or_default();
        };
        let headline = &worst.advice.headline;
        match missing {
            Some(missing) if worst.state() == State::Ok => missing,
            _ if worst.identity.is_none() => headline.clone(),
            _ => format!("Network namespace {}: {headline}", worst.full_name()),
        }
    }

    /// What is missing from the report.
    pub(crate) fn missing_sentence(&self) -> Option<String> {
        let missing = self.missing?;
        let Some(unreadable) = missing.unreadable else {
            let unlisted = "The other network namespaces could not be listed: see the log.";
            return Some(unlisted.to_owned());
        };
        let entered = "could not be entered: the log names the missing capability.";
        let found = "requested by name but not found.";
        let max = "not exported because of --collector.netns-max; none has a higher ratio.";
        let namespaces = [
            (unreadable, entered),
            (missing.absent, found),
            (missing.left_out, max),
        ];
        let namespaces = namespaces.into_iter().filter(|(number, _)| *number > 0);
        let namespaces = namespaces.map(|(number, what)| {
            let subject = counted(number, "network namespace", "network namespaces");
            format!("{subject} {what}")
        });
        let unlisted = "The names of network namespaces could not be listed, so there may be more: see the log.";
        let unlisted = missing.has_unlisted_names.then(|| unlisted.to_owned());
        namespaces.chain(unlisted).reduce(|a, b| format!("{a} {b}"))
    }
}

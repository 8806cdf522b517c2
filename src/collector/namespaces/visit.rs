//! How far a run came with each namespace, and what is told of those that it did not come to the end of.

use std::time::Duration;

use super::known::Known;
use crate::domain::collectors::{CollectorId, Enabled};
use crate::domain::namespace::{NamespaceSnapshot, Namespaces};
use crate::domain::snapshot::{Outcome, Snapshot};
use crate::kernel::namespaces::FoundNamespace;

/// How far a run came with one namespace.
pub(super) enum Progress {
    /// It had not been looked at when time was up.
    NotSeen,
    /// It has gone since it was listed.
    Gone,
    /// It cannot be entered.
    Refused,
    /// It has no TCP socket.
    Quiet(Outcome),
    /// It has some, or does not say.
    Busy(Outcome),
    /// Its walk was cut off by the deadline; the rest of it is read.
    Late(Box<Snapshot>),
    /// It is read.
    Done(Box<Snapshot>),
}

/// One namespace in the course of a run.
pub(super) struct Visit<'a> {
    pub(super) found: &'a FoundNamespace,
    pub(super) known: Known,
    pub(super) progress: Progress,
}

impl Visit<'_> {
    /// What is exported of it, wherever its visit ended.
    pub(super) fn snapshot(&mut self, enabled: &Enabled) -> Snapshot {
        let mut snapshot = unread(enabled);
        match std::mem::replace(&mut self.progress, Progress::NotSeen) {
            Progress::Done(snapshot) | Progress::Late(snapshot) => return *snapshot,
            Progress::Quiet(statistics) | Progress::Busy(statistics) => {
                let statistics = enabled.has(CollectorId::Sockstat).then_some(statistics);
                snapshot.set(CollectorId::Sockstat, statistics);
            }
            Progress::NotSeen | Progress::Gone | Progress::Refused => {}
        }
        snapshot
    }
}

/// Of a namespace in which nothing was read.
fn unread(enabled: &Enabled) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for id in enabled.iter().filter(|id| id.is_of_namespace()) {
        snapshot.set(id, Some(Outcome::missing(Duration::ZERO)));
    }
    snapshot
}

/// The same namespaces, each as late: for those who cannot wait for the next run to end.
pub(in crate::collector) fn all_late(found: &Namespaces, enabled: &Enabled) -> Namespaces {
    let Namespaces {
        told,
        unreadable,
        left_out,
        absent,
        has_unlisted_names,
    } = found;
    let told = told.iter().map(|one| NamespaceSnapshot {
        identity: one.identity.clone(),
        snapshot: unread(enabled),
    });
    Namespaces {
        told: told.collect(),
        unreadable: *unreadable,
        left_out: *left_out,
        absent: *absent,
        has_unlisted_names: *has_unlisted_names,
    }
}

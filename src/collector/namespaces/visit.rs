//! How far a run came with each namespace, and what is exported of those that it did not come to the end of.

use std::time::Duration;

use super::due::Check;
use super::known::Known;
use crate::domain::collectors::{CollectorId, Enabled};
use crate::domain::namespace::{NamespaceSnapshot, Namespaces};
use crate::domain::snapshot::{Outcome, Snapshot};
use crate::kernel::namespaces::FoundNamespace;

/// How far a run came with one namespace.
#[derive(Debug)]
pub(super) enum Progress {
    /// It had not been entered when time was up.
    NotSeen,
    /// It has gone since it was listed.
    Gone,
    /// It cannot be entered.
    Refused,
    /// It has no TCP socket.
    Empty,
    /// It has some, or does not say. Its dump is to come, or an older one serves.
    Checked(Check),
    /// It was not dumped by the deadline, and no older dump serves.
    Late,
    /// It is read, its sockets so long ago.
    Done(Box<Snapshot>, Duration),
}

/// One namespace in the course of a run.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    pub(super) found: &'a FoundNamespace,
    pub(super) known: Known,
    pub(super) progress: Progress,
}

impl Visit<'_> {
    /// What is exported of it, wherever its visit ended, and how old its socket metrics are.
    pub(super) fn result(&mut self, enabled: &Enabled) -> (Snapshot, Option<Duration>) {
        match std::mem::replace(&mut self.progress, Progress::NotSeen) {
            Progress::Done(snapshot, age) => (*snapshot, Some(age)),
            Progress::Empty | Progress::Checked(_) | Progress::Late => {
                let mut snapshot = self.known.files.clone();
                let late = Some(Outcome::missing(Duration::ZERO));
                snapshot.set(CollectorId::Sockets, late);
                (only(snapshot, enabled), None)
            }
            Progress::NotSeen | Progress::Gone | Progress::Refused => (unread(enabled), None),
        }
    }
}

/// Without what is not to be exported.
pub(super) fn only(mut snapshot: Snapshot, enabled: &Enabled) -> Snapshot {
    for id in CollectorId::ALL {
        if !enabled.has(*id) {
            snapshot.set(*id, None);
        }
    }
    snapshot
}

/// Of a namespace in which nothing was read.
fn unread(enabled: &Enabled) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for id in enabled.iter().filter(|id| id.is_of_namespace()) {
        snapshot.set(id, Some(Outcome::missing(Duration::ZERO)));
    }
    snapshot
}

/// The same namespaces, each as late: for scrapes that cannot wait for the next run to end.
pub(in crate::collector) fn all_late(found: &Namespaces, enabled: &Enabled) -> Namespaces {
    let exported = found.exported.iter().map(|one| NamespaceSnapshot {
        identity: one.identity.clone(),
        snapshot: unread(enabled),
        age: None,
    });
    Namespaces {
        exported: exported.collect(),
        ..*found
    }
}

//! How far a run came with each namespace, and what is told of those that it did not come to the end of.

use std::time::Duration;

use super::known::Known;
use crate::collector::{Enabled, missing};
use crate::domain::namespace::{NamespaceSnapshot, Namespaces};
use crate::domain::snapshot::{Outcome, Snapshot, SocketStatistics};
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
    Quiet(Outcome<SocketStatistics>),
    /// It has some, or does not say.
    Busy(Outcome<SocketStatistics>),
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
    /// What is told of it, wherever its visit ended.
    pub(super) fn snapshot(&mut self, enabled: Enabled) -> Snapshot {
        let statistics = match std::mem::replace(&mut self.progress, Progress::NotSeen) {
            Progress::Done(snapshot) | Progress::Late(snapshot) => return *snapshot,
            Progress::Quiet(statistics) | Progress::Busy(statistics) => statistics,
            Progress::NotSeen | Progress::Gone | Progress::Refused => missing(Duration::ZERO),
        };
        Snapshot {
            sockstat: enabled.sockstat.then_some(statistics),
            ..unread(enabled)
        }
    }
}

/// Of a namespace in which nothing was read.
fn unread(enabled: Enabled) -> Snapshot {
    Snapshot {
        sockets: enabled.sockets.then(|| missing(Duration::ZERO)),
        sysctl: enabled.sysctl.then(|| missing(Duration::ZERO)),
        netstat: enabled.netstat.then(|| missing(Duration::ZERO)),
        sockstat: enabled.sockstat.then(|| missing(Duration::ZERO)),
        slabinfo: None,
    }
}

/// The same namespaces, each as late: for those who cannot wait for the next run to end.
pub(in crate::collector) fn all_late(found: &Namespaces, enabled: Enabled) -> Namespaces {
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

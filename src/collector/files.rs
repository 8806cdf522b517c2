//! The collectors of small files under /proc and /sys: what each reads.

use std::time::Instant;

use super::complaint::{Complaint, join};
use crate::domain::collectors::{CollectorId, Enabled};
use crate::domain::snapshot::{Counts, Outcome, Reading};
use crate::kernel::process::page_size_bytes;
use crate::kernel::procfs::{ProcRoot, ReadError};

/// What a collector read, and what it could not read. Neither: this kernel has no such thing, and the collector is
/// off.
type Read = (Option<Reading>, Vec<ReadError>);

type Reader = fn(&ProcRoot) -> Read;

/// When the file of another network namespace is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// In each run.
    Always,
    /// In each run where there are TCP sockets, elsewhere in turn.
    WithSockets,
}

/// How each collector of small files reads.
const READERS: &[(CollectorId, When, Reader)] = &[
    (CollectorId::Sysctl, When::WithSockets, |procfs| {
        let (settings, errors) = procfs.read_settings();
        (Some(settings.into()), errors)
    }),
    (CollectorId::Netstat, When::WithSockets, |procfs| {
        counts(procfs.read_kernel_counters().map(Some))
    }),
    (CollectorId::Snmp, When::WithSockets, |procfs| {
        counts(procfs.read_opens())
    }),
    (CollectorId::Sockstat, When::Always, |procfs| {
        counts(procfs.read_socket_statistics().map(Some))
    }),
    (CollectorId::Conntrack, When::WithSockets, |procfs| {
        counts(procfs.read_conntrack())
    }),
    (CollectorId::Slabinfo, When::WithSockets, |procfs| {
        counts(procfs.read_slab_memory(page_size_bytes()).map(Some))
    }),
];

/// What is read whole or not at all.
fn counts(read: Result<Option<Counts>, ReadError>) -> Read {
    match read {
        Ok(counts) => (counts.map(Reading::from), Vec::new()),
        Err(error) => (None, vec![error]),
    }
}

/// One collector of small files in one network namespace.
pub(super) struct FilesJob {
    pub(super) id: CollectorId,
    pub(super) when: When,
    read: Reader,
    complaint: Complaint,
}

impl FilesJob {
    /// The enabled ones. `netns` is the namespace's label; `None` is the exporter's own. In others the dump goes by
    /// some that may not be enabled.
    pub(super) fn all(enabled: &Enabled, netns: Option<&str>) -> Vec<Self> {
        let is_wanted = |id: CollectorId, when| {
            let is_needed =
                when == When::Always || matches!(id, CollectorId::Sysctl | CollectorId::Snmp);
            match netns {
                None => enabled.has(id),
                Some(_) => id.is_of_namespace() && (enabled.has(id) || is_needed),
            }
        };
        let readers = READERS.iter().filter(|(id, when, _)| is_wanted(*id, *when));
        let jobs = readers.map(|(id, when, read)| Self {
            id: *id,
            when: *when,
            read: *read,
            complaint: Complaint::new(id.name(), netns.map(str::to_owned)),
        });
        jobs.collect()
    }

    /// Nothing where the collector is off.
    pub(super) fn run(&mut self, procfs: &ProcRoot) -> Option<Outcome> {
        let begin = Instant::now();
        let (value, errors) = (self.read)(procfs);
        let duration = begin.elapsed();
        self.complaint.note(join(&errors));
        let success = errors.is_empty();
        (value.is_some() || !success).then_some(Outcome {
            value,
            success,
            duration,
        })
    }
}

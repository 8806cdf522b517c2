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

/// How each collector of small files reads.
const READERS: &[(CollectorId, Reader)] = &[
    (CollectorId::Sysctl, |procfs| {
        let (settings, errors) = procfs.read_settings();
        (Some(settings.into()), errors)
    }),
    (CollectorId::Netstat, |procfs| {
        counts(procfs.read_kernel_counters().map(Some))
    }),
    (CollectorId::Snmp, |procfs| counts(procfs.read_opens())),
    (CollectorId::Sockstat, |procfs| {
        counts(procfs.read_socket_statistics().map(Some))
    }),
    (CollectorId::Conntrack, |procfs| {
        counts(procfs.read_conntrack())
    }),
    (CollectorId::Slabinfo, |procfs| {
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
#[derive(Debug)]
pub(super) struct FilesJob {
    pub(super) id: CollectorId,
    read: Reader,
    complaint: Complaint,
}

impl FilesJob {
    /// The enabled ones. `netns` is the namespace's label; `None` is the exporter's own.
    pub(super) fn all(enabled: &Enabled, netns: Option<&str>) -> Vec<Self> {
        let readers = READERS.iter().filter(|(id, _)| enabled.has(*id));
        let readers = readers.filter(|(id, _)| netns.is_none() || id.is_of_namespace());
        let jobs = readers.map(|(id, read)| Self {
            id: *id,
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

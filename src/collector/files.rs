//! The collectors of small files under /proc and /sys: what each reads.

use std::time::Instant;

use super::complaint::{Complaint, join};
use crate::domain::collectors::CollectorId::{
    self, Conntrack, Netstat, Slabinfo, Snmp, Sockstat, Sysctl,
};
use crate::domain::collectors::Enabled;
use crate::domain::snapshot::{Counts, Outcome, Reading};
use crate::kernel::process::page_size_bytes;
use crate::kernel::procfs::{ProcRoot, ReadError};

/// What a collector read, and what it could not read. Neither: this kernel has no such thing, and the collector is
/// off.
type Read = (Option<Reading>, Vec<ReadError>);

type Reader = fn(&ProcRoot) -> Read;

/// How each collector of small files reads.
const READERS: &[(CollectorId, Reader)] = &[
    (Sysctl, |procfs| {
        let (settings, errors) = procfs.read_settings();
        (Some(settings.into()), errors)
    }),
    (Netstat, |procfs| whole(procfs.read_kernel_counters())),
    (Snmp, |procfs| whole(procfs.read_opens())),
    (Sockstat, |procfs| whole(procfs.read_socket_statistics())),
    (Conntrack, |procfs| whole(procfs.read_conntrack())),
    (Slabinfo, |procfs| {
        whole(procfs.read_slab_memory(page_size_bytes()))
    }),
];

/// Counts the sockets of a namespace: read before the others, which depend on it.
pub(super) const SOCKET_COUNTS: CollectorId = Sockstat;

/// By what another namespace is checked: read there even if the collector is off.
const CHECKED: [CollectorId; 3] = [Sysctl, Snmp, SOCKET_COUNTS];

/// What is read whole or not at all.
fn whole(read: Result<impl Into<Option<Counts>>, ReadError>) -> Read {
    match read {
        Ok(counts) => (counts.into().map(Reading::from), Vec::new()),
        Err(error) => (None, vec![error]),
    }
}

/// One collector of small files in one network namespace.
pub(super) struct FilesJob {
    pub(super) id: CollectorId,
    read: Reader,
    complaint: Complaint,
}

impl FilesJob {
    /// Those that read something. `netns` is the namespace's label; `None` is the exporter's own.
    pub(super) fn all(enabled: &Enabled, netns: Option<&str>) -> Vec<Self> {
        let is_wanted = |id: CollectorId| match netns {
            None => enabled.has(id),
            Some(_) => id.is_of_namespace() && (enabled.has(id) || CHECKED.contains(&id)),
        };
        let readers = READERS.iter().filter(|(id, _)| is_wanted(*id));
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

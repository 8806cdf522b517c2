//! What is remembered of a namespace from run to run.

use std::path::Path;

use crate::collector::CollectorConfig;
use crate::collector::complaint::Complaint;
use crate::collector::files::FilesJob;
use crate::collector::sockets::SocketMemory;
use crate::domain::collectors::CollectorId;
use crate::domain::namespace::{NamespaceIdentity, rank, usable_ports};
use crate::domain::snapshot::{Outcome, Snapshot};
use crate::kernel::namespaces::{FoundNamespace, NamespaceLister, Resident, read_resident};

use super::turn::Turn;

/// What is remembered of a namespace as long as it is there.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) label: String,
    /// When its file was made, where that does not change.
    made: Option<(i64, i64)>,
    pub(super) pid: Option<u32>,
    pub(super) resident: Option<Resident>,
    pub(super) entry: Complaint,
    pub(super) sockstat: Option<FilesJob>,
    pub(super) files: Vec<FilesJob>,
    pub(super) readings: Option<Vec<(CollectorId, Option<Outcome>)>>,
    /// The run in which the files were read last.
    pub(super) files_read: u64,
    pub(super) udp: Complaint,
    pub(super) sockets: SocketMemory,
    /// When it is to be walked.
    pub(super) turn: Turn,
    /// By what it is ranked, as far as that is known.
    pub(super) rank: Option<f64>,
    /// Whether its range had no usable port when that was read last.
    is_without_ports: bool,
}

impl Known {
    pub(super) fn new(label: String, found: &FoundNamespace, config: &CollectorConfig) -> Self {
        let netns = Some(label.clone());
        // Also where they are not exported: the dump goes by them.
        let mut needed = config.enabled.clone();
        needed.set(CollectorId::Sysctl, true);
        needed.set(CollectorId::Sockstat, true);
        let mut files = FilesJob::all(&needed, Some(&label));
        let sockstat = files
            .extract_if(.., |job| job.id == CollectorId::Sockstat)
            .next();
        Self {
            made: found.made,
            pid: None,
            resident: None,
            entry: Complaint::new("netns", netns.clone()),
            sockstat,
            files,
            readings: None,
            files_read: 0,
            udp: Complaint::new(CollectorId::Udp.name(), netns.clone()),
            sockets: SocketMemory::new(netns),
            turn: Turn::default(),
            rank: None,
            is_without_ports: false,
            label,
        }
    }

    /// Whether this is (still) what is known. The kernel gives the inode of a namespace that has gone to the
    /// next one, which may be given its name, too.
    pub(super) fn is_of(&self, label: &str, found: &FoundNamespace) -> bool {
        self.label == label && self.made == found.made
    }

    /// The same process as before as long as it lives there, so that series do not change.
    pub(super) fn choose_resident(&mut self, lister: &NamespaceLister, found: &FoundNamespace) {
        if let Some(pid) = self.pid
            && (found.pids.contains(&pid) || lister.lives_in(pid, found.key))
        {
            return;
        }
        let read = |pid| read_resident(lister.procfs(), pid);
        let (pid, resident) = choose(&found.pids, read).unzip();
        if pid != self.pid {
            if self.pid.is_some() && found.made.is_none() {
                // Nothing is left that says whether it is the same namespace.
                self.readings = None;
                self.sockets = SocketMemory::new(Some(self.label.clone()));
            }
            self.pid = pid;
            self.resident = resident;
        }
    }

    /// What it would be ranked by without sockets.
    pub(super) const fn rank_if_quiet(&self) -> f64 {
        if self.is_without_ports { 1.0 } else { 0.0 }
    }

    /// What was read in it but for the sockets.
    pub(super) fn snapshot(&self, statistics: Outcome) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (id, outcome) in self.readings.iter().flatten() {
            snapshot.set(*id, outcome.clone());
        }
        snapshot.set(CollectorId::Sockstat, Some(statistics));
        snapshot
    }

    /// Ranks it by what was read; what was not is as before.
    pub(super) fn note_rank(&mut self, snapshot: &Snapshot) {
        self.rank = rank(snapshot).or(self.rank);
        if let Some(usable) = usable_ports(snapshot) {
            self.is_without_ports = usable == 0;
        }
    }

    /// As told with the host's procfs mounted here.
    pub(super) fn identity(&self, found: &FoundNamespace, procfs: &Path) -> NamespaceIdentity {
        let resident = self.resident.as_ref();
        NamespaceIdentity {
            label: self.label.clone(),
            entrance: found.entrance(self.pid),
            entrance_on_host: found.entrance_on_host(procfs, self.pid),
            inode: found.key.inode,
            pid: self.pid,
            comm: resident.and_then(|resident| resident.comm.clone()),
            container: resident
                .map_or_else(Default::default, |resident| resident.container.clone()),
        }
    }
}

/// The first that lives in a container, or else the first: what the host itself runs in a container's namespace
/// (nsenter(1), a sidecar of the host's) is not who it belongs to.
fn choose(pids: &[u32], read: impl Fn(u32) -> Resident) -> Option<(u32, Resident)> {
    let mut first = None;
    for pid in pids {
        let resident = read(*pid);
        let is_contained = resident.container.container_id.is_some();
        if is_contained {
            return Some((*pid, resident));
        }
        first = first.or(Some((*pid, resident)));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::container::ContainerIdentity;

    fn chosen(pids: &[u32], contained: &[u32]) -> Option<u32> {
        let read = |pid: u32| Resident {
            comm: None,
            container: ContainerIdentity {
                container_id: contained.contains(&pid).then(|| pid.to_string()),
                pod_uid: None,
            },
        };
        choose(pids, read).map(|(pid, _)| pid)
    }

    #[test]
    fn a_process_of_a_container_is_chosen_before_one_of_the_host() {
        assert_eq!(chosen(&[7, 8, 9], &[8, 9]), Some(8));
        assert_eq!(chosen(&[7, 8, 9], &[]), Some(7));
        assert_eq!(chosen(&[7, 8, 9], &[7]), Some(7));
        assert_eq!(chosen(&[], &[]), None);
    }
}

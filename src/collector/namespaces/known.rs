//! What is remembered of a namespace from run to run.

use std::path::Path;

use super::due::{Check, LastDump};
use crate::collector::CollectorConfig;
use crate::collector::complaint::Complaint;
use crate::collector::files::FilesJob;
use crate::collector::sockets::SocketMemory;
use crate::domain::collectors::CollectorId;
use crate::domain::namespace::{NamespaceIdentity, rank, usable_ports};
use crate::domain::settings::Settings;
use crate::domain::snapshot::Snapshot;
use crate::kernel::namespaces::{FoundNamespace, NamespaceLister, Resident, read_resident};
use crate::kernel::procfs::ProcRoot;

/// Read in each run; the other files only where these differ, and in turn.
const READ_EACH_TIME: [CollectorId; 2] = [CollectorId::Sockstat, CollectorId::Snmp];

/// What is remembered of a namespace as long as it is there.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) label: String,
    /// When its file was made, where that does not change.
    made: Option<(i64, i64)>,
    pub(super) pid: Option<u32>,
    resident: Option<Resident>,
    pub(super) entry: Complaint,
    jobs: Vec<FilesJob>,
    /// What its files said last.
    pub(super) files: Snapshot,
    /// The run in which all of them were read last; 0 is none.
    pub(super) files_read: u64,
    /// What [`Check`] said then; `None` where there was no TCP socket.
    checked: Option<Check>,
    pub(super) udp: Complaint,
    pub(super) sockets: SocketMemory,
    /// The last dump, unless it is known not to serve.
    pub(super) last: Option<LastDump>,
    /// The number of its last dump among all dumps: the lowest is the next. One that was cut off by the deadline
    /// keeps its number, but not if it had the time of a whole run, or it would have all others' turns.
    pub(super) turn: u64,
    /// By what it is ranked, as far as that is known.
    pub(super) rank: Option<f64>,
    /// Whether its range had no usable port when that was read last.
    is_without_ports: bool,
}

impl Known {
    pub(super) fn new(label: String, found: &FoundNamespace, config: &CollectorConfig) -> Self {
        let netns = Some(label.clone());
        // Also where they are not exported: dumps go by them.
        let mut needed = config.enabled.clone();
        for id in [CollectorId::Sysctl].iter().chain(&READ_EACH_TIME) {
            needed.set(*id, true);
        }
        Self {
            made: found.made,
            pid: None,
            resident: None,
            entry: Complaint::new("netns", netns.clone()),
            jobs: FilesJob::all(&needed, Some(&label)),
            files: Snapshot::default(),
            files_read: 0,
            checked: None,
            udp: Complaint::new(CollectorId::Udp.name(), netns.clone()),
            sockets: SocketMemory::new(netns),
            last: None,
            turn: 0,
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

    /// The same process as before as long as it is in there, so that series do not change.
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
                self.files_read = 0;
                self.last = None;
                self.sockets = SocketMemory::new(Some(self.label.clone()));
            }
            self.pid = pid;
            self.resident = resident;
        }
    }

    /// Checks whether a dump is needed, in the namespace that the thread is in; `None` where there is no
    /// TCP socket but, perhaps, bound ones. Reads the other files too where something happened, or in turn.
    pub(super) fn check(&mut self, procfs: &ProcRoot, run: u64, in_turn: bool) -> Option<Check> {
        self.read(procfs, |id| id == CollectorId::Sockstat);
        let sockets = self.files.counts(CollectorId::Sockstat);
        let sockets = sockets.cloned().unwrap_or_default();
        let is_empty = sockets.get("tw") == Some(0) && sockets.get("inuse") == Some(0);
        let check = (!is_empty).then(|| {
            self.read(procfs, |id| id == CollectorId::Snmp);
            let opens = self.files.counts(CollectorId::Snmp);
            Check {
                opens: opens.cloned().unwrap_or_default(),
                port_settings: procfs.read_port_settings(),
                sockets,
            }
        });
        if in_turn || self.files_read == 0 || check != self.checked {
            self.read(procfs, |id| {
                is_empty && id == CollectorId::Snmp || !READ_EACH_TIME.contains(&id)
            });
            self.files_read = run;
            self.checked.clone_from(&check);
        }
        check
    }

    fn read(&mut self, procfs: &ProcRoot, is_wanted: impl Fn(CollectorId) -> bool) {
        for job in self.jobs.iter_mut().filter(|job| is_wanted(job.id)) {
            let outcome = job.run(procfs);
            self.files.set(job.id, outcome);
        }
    }

    pub(super) fn settings(&self) -> Settings {
        self.files.settings().cloned().unwrap_or_default()
    }

    /// Reads anew who the owner is.
    pub(super) fn read_resident(&mut self, procfs: &Path) {
        self.resident = self.pid.map(|pid| read_resident(procfs, pid));
    }

    /// What it is ranked by without sockets.
    pub(super) const fn rank_if_empty(&self) -> f64 {
        if self.is_without_ports { 1.0 } else { 0.0 }
    }

    /// Ranks it by what was read; what was not is as before.
    pub(super) fn note_rank(&mut self, snapshot: &Snapshot) {
        self.rank = rank(snapshot).or(self.rank);
        if let Some(usable) = usable_ports(snapshot) {
            self.is_without_ports = usable == 0;
        }
    }

    /// As exported with the host's procfs mounted here.
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

//! What is remembered of a namespace from run to run, and what the present run found.

use std::path::Path;
use std::time::{Duration, Instant};

use super::due::{Check, LastDump};
use crate::collector::CollectorConfig;
use crate::collector::complaint::Complaint;
use crate::collector::files::FilesJob;
use crate::collector::sockets::SocketMemory;
use crate::domain::collectors::{CollectorId, Enabled};
use crate::domain::namespace::{NamespaceIdentity, NamespaceSnapshot};
use crate::domain::settings::Settings;
use crate::domain::snapshot::{Outcome, Snapshot};
use crate::kernel::namespaces::{FoundNamespace, NamespaceLister, Resident, read_resident};
use crate::kernel::procfs::ProcRoot;

/// How far a run came with a namespace.
pub(super) enum Progress {
    /// It had not been entered when time was up.
    NotSeen,
    /// It has gone since it was listed.
    Gone,
    /// It cannot be entered.
    Refused,
    /// Its files are read. It was not dumped, or not to the end.
    Checked,
    /// Its sockets are read too.
    Dumped(Outcome),
}

/// A namespace, as long as it is there.
pub(super) struct Known {
    pub(super) label: String,
    pub(super) found: FoundNamespace,
    /// A process that runs in it.
    pub(super) resident: Option<Resident>,
    pub(super) entry: Complaint,
    jobs: Vec<FilesJob>,
    /// What its files said last.
    pub(super) files: Snapshot,
    /// In which run all of them were read last.
    pub(super) files_read: Option<Instant>,
    /// What it reported in the last run; `None` where there was no TCP socket but, perhaps, bound ones.
    pub(super) checked: Option<Check>,
    pub(super) udp: Complaint,
    pub(super) sockets: SocketMemory,
    /// The last dump. One that failed stays until the next run.
    pub(super) last: Option<LastDump>,
    /// When it was dumped last: the longest ago is the next. For one that was cut off by the deadline this is as
    /// before, but not if it had the time of a whole run, or it would have all others' turns.
    pub(super) turn: Option<Instant>,
    /// By what it is ranked, as far as that is known.
    pub(super) rank: Option<f64>,
    pub(super) progress: Progress,
}

impl Known {
    pub(super) fn new(label: String, found: FoundNamespace, enabled: &Enabled) -> Self {
        let netns = Some(label.clone());
        Self {
            found,
            resident: None,
            entry: Complaint::new("netns", netns.clone()),
            jobs: FilesJob::all(enabled, Some(&label)),
            files: Snapshot::default(),
            files_read: None,
            checked: None,
            udp: Complaint::new(CollectorId::Udp.name(), netns.clone()),
            sockets: SocketMemory::new(netns),
            last: None,
            turn: None,
            rank: None,
            progress: Progress::NotSeen,
            label,
        }
    }

    /// The same process as before as long as it is in there, so that series do not change.
    pub(super) fn choose_resident(&mut self, lister: &NamespaceLister) {
        let found = &self.found;
        let before = self.resident.as_ref().map(|resident| resident.pid);
        let is_there = |pid| found.pids.contains(&pid) || lister.lives_in(pid, found.key);
        if before.is_some_and(is_there) {
            return;
        }
        let residents = found.pids.iter();
        self.resident = choose(residents.map(|pid| read_resident(&lister.procfs, *pid)));
        if before.is_some() && found.made.is_none() {
            // Nothing is left that says whether it is the same namespace.
            self.files_read = None;
            self.last = None;
            self.sockets = SocketMemory::new(Some(self.label.clone()));
        }
    }

    /// Runs some of the collectors of small files, in the namespace that the thread is in.
    pub(super) fn read(&mut self, procfs: &ProcRoot, is_wanted: fn(CollectorId) -> bool) {
        for job in self.jobs.iter_mut().filter(|job| is_wanted(job.id)) {
            let outcome = job.run(procfs);
            self.files.set(job.id, outcome);
        }
    }

    pub(super) fn settings(&self) -> Settings {
        self.files.settings().cloned().unwrap_or_default()
    }

    /// Reads the owner's name and container again.
    pub(super) fn read_resident(&mut self, procfs: &Path) {
        if let Some(resident) = &mut self.resident {
            *resident = read_resident(procfs, resident.pid);
        }
    }

    /// What is exported of it, wherever the run that began then came to; with the last dump, if older ones are wanted
    /// and it serves.
    pub(super) fn exported(
        &self,
        begin: Instant,
        wants_older: bool,
        config: &CollectorConfig,
    ) -> NamespaceSnapshot {
        let (sockets, age) = match (&self.progress, &self.last) {
            (Progress::Dumped(outcome), _) => (outcome.clone(), Some(Duration::ZERO)),
            (Progress::Checked, Some(last)) if wants_older => {
                (last.outcome.clone(), Some(last.age(begin)))
            }
            _ => (Outcome::missing(Duration::ZERO), None),
        };
        let snapshot = if matches!(self.progress, Progress::NotSeen) {
            unread(&config.enabled)
        } else {
            let mut snapshot = self.files.clone();
            snapshot.set(CollectorId::Sockets, Some(sockets));
            for id in CollectorId::ALL {
                if !config.enabled.has(*id) {
                    snapshot.set(*id, None);
                }
            }
            snapshot
        };
        NamespaceSnapshot {
            identity: self.identity(&config.procfs),
            snapshot,
            age,
        }
    }

    /// With the host's procfs mounted here.
    fn identity(&self, procfs: &Path) -> NamespaceIdentity {
        let resident = self.resident.as_ref();
        let pid = resident.map(|resident| resident.pid);
        let container = resident.map(|resident| resident.container.clone());
        NamespaceIdentity {
            label: self.label.clone(),
            entrance: self.found.entrance(pid),
            entrance_on_host: self.found.entrance_on_host(procfs, pid),
            inode: self.found.key.inode,
            pid,
            comm: resident.and_then(|resident| resident.comm.clone()),
            container: container.unwrap_or_default(),
        }
    }
}

/// The snapshot of a namespace in which nothing was read.
pub(super) fn unread(enabled: &Enabled) -> Snapshot {
    let mut snapshot = Snapshot::default();
    // The probe's outcome is a part of that of the sockets.
    let is_missing = |id: &CollectorId| id.is_of_namespace() && *id != CollectorId::Probe;
    for id in enabled.iter().filter(is_missing) {
        snapshot.set(id, Some(Outcome::missing(Duration::ZERO)));
    }
    snapshot
}

/// The first that runs in a container, or else the first: a process that the host runs in a container's namespace
/// (nsenter(1), a sidecar of the host) is not its owner.
fn choose(mut residents: impl Iterator<Item = Resident>) -> Option<Resident> {
    let is_contained = |resident: &Resident| resident.container.container_id.is_some();
    let first = residents.next()?;
    // Mostly it is the first, and each is read from two files.
    if is_contained(&first) {
        return Some(first);
    }
    Some(residents.find(is_contained).unwrap_or(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::container::ContainerIdentity;

    fn chosen(pids: &[u32], contained: &[u32]) -> Option<u32> {
        let residents = pids.iter().map(|pid| Resident {
            pid: *pid,
            comm: None,
            container: ContainerIdentity {
                container_id: contained.contains(pid).then(|| pid.to_string()),
                pod_uid: None,
            },
        });
        choose(residents).map(|resident| resident.pid)
    }

    #[test]
    fn a_process_of_a_container_is_chosen_before_one_of_the_host() {
        assert_eq!(chosen(&[7, 8, 9], &[8, 9]), Some(8));
        assert_eq!(chosen(&[7, 8, 9], &[]), Some(7));
        assert_eq!(chosen(&[7, 8, 9], &[7]), Some(7));
        assert_eq!(chosen(&[], &[]), None);
    }
}

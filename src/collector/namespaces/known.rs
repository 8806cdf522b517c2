//! What is remembered of a namespace from run to run.

use std::path::Path;

use crate::collector::complaint::Complaint;
use crate::collector::files::FilesJob;
use crate::collector::sockets::WalkMemory;
use crate::collector::{CollectorConfig, Enabled, FileReadings};
use crate::domain::namespace::NamespaceIdentity;
use crate::kernel::namespaces::{FoundNamespace, NamespaceLister, Resident, read_resident};
use crate::kernel::procfs::ProcRoot;

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
    pub(super) sockstat: Complaint,
    pub(super) files: FilesJob,
    pub(super) readings: Option<FileReadings>,
    /// The run in which the files were read last.
    pub(super) files_read: u64,
    pub(super) walk: WalkMemory,
    /// When it is to be walked.
    pub(super) turn: Turn,
    pub(super) ratio: Option<f64>,
}

impl Known {
    /// To be read through the procfs of the thread that enters it.
    pub(super) fn new(
        label: String,
        found: &FoundNamespace,
        config: &CollectorConfig,
        procfs: ProcRoot,
    ) -> Self {
        let netns = Some(label.clone());
        let enabled = Enabled {
            // Also where they are not told: the walk goes by them.
            sysctl: true,
            netstat: config.enabled.netstat,
            ..Enabled::NONE
        };
        Self {
            made: found.made,
            pid: None,
            resident: None,
            entry: Complaint::new("netns", netns.clone()),
            sockstat: Complaint::new("sockstat", netns.clone()),
            files: FilesJob::new(procfs, enabled, 0, netns.clone()),
            readings: None,
            files_read: 0,
            walk: WalkMemory::new(netns),
            turn: Turn::default(),
            ratio: None,
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
        let pid = found.pids.first().copied();
        if pid != self.pid {
            if self.pid.is_some() && found.made.is_none() {
                // Nothing is left that says whether it is the same namespace.
                self.readings = None;
                self.walk = WalkMemory::new(Some(self.label.clone()));
            }
            self.pid = pid;
            self.resident = pid.map(|pid| read_resident(lister.procfs(), pid));
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

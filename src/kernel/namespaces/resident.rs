//! The owner of a namespace: one process, and the control group it is in.

use std::path::Path;

use crate::domain::container::ContainerIdentity;
use crate::kernel::procfs::file::{lossy, process_name};

/// A process that runs in a namespace.
pub(crate) struct Resident {
    pub(crate) pid: u32,
    /// Its name; `None` where it has ended.
    pub(crate) comm: Option<String>,
    /// The container it runs in.
    pub(crate) container: ContainerIdentity,
}

/// Reads `/proc/PID/comm` and `/proc/PID/cgroup`, which any user may read. What cannot be read is
/// unknown: the process may have ended.
pub(crate) fn read_resident(procfs: &Path, pid: u32) -> Resident {
    let process = procfs.join(pid.to_string());
    let groups = lossy(&process.join("cgroup"));
    Resident {
        pid,
        comm: process_name(&process),
        container: groups.map_or_else(Default::default, |text| ContainerIdentity::parse(&text)),
    }
}

//! Who lives in a namespace: one process, and the control group it is in.

use std::path::Path;

use crate::domain::container::ContainerIdentity;
use crate::kernel::procfs::file::{lossy, process_name};

/// A process that lives in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Its name; `None` where it has ended.
    pub comm: Option<String>,
    /// The container it lives in.
    pub container: ContainerIdentity,
}

/// Reads `/proc/PID/comm` and `/proc/PID/cgroup`, which anybody may read. What cannot be read is
/// unknown: the process may have ended.
pub(crate) fn read_resident(procfs: &Path, pid: u32) -> Resident {
    let process = procfs.join(pid.to_string());
    let groups = lossy(&process.join("cgroup"));
    Resident {
        comm: process_name(&process),
        container: groups.map_or_else(Default::default, |text| ContainerIdentity::parse(&text)),
    }
}

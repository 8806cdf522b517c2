//! Who lives in a namespace: one process, and the control group it is in.

use std::path::Path;

use crate::domain::container::ContainerIdentity;
use crate::kernel::procfs::file::read_lossy;

/// A process that lives in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Its name; `None` where it has ended.
    pub comm: Option<String>,
    /// The container it lives in.
    pub container: ContainerIdentity,
}

/// Reads `/proc/PID/comm` and `/proc/PID/cgroup`, which anybody may read. What cannot be read is
/// unknown: the process may have ended.
#[must_use]
pub(crate) fn read_resident(procfs: &Path, pid: u32) -> Resident {
    let directory = procfs.join(pid.to_string());
    let text = |file: &str| read_lossy(&directory.join(file));
    Resident {
        comm: text("comm").map(|comm| comm.trim_end_matches('\n').to_owned()),
        container: text("cgroup").map_or_else(ContainerIdentity::default, |text| {
            ContainerIdentity::parse(&text)
        }),
    }
}

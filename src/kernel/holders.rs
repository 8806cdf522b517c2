//! Which processes have live sockets to a few destinations: a second, targeted dump, for `report`.
//!
//! Netlink reports the inode of each socket but not its process; that is found among the descriptors in
//! `/proc/PID/fd`. Only the destinations asked for are looked up, processes of the sockets' users are
//! read first, and reading ends when every inode has been found. A process whose descriptors may not be
//! read is skipped. Sockets in TIME-WAIT have no inode and no process.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tracing::debug;

use super::procfs::ProcRoot;
use super::procfs::file::process_name;
use super::sock_diag::{Dumper, NetlinkConnect};
use crate::domain::holders::{Holder, Holders};
use crate::domain::snapshot::Destination;
use crate::domain::socket::LiveSocket;

/// How many processes are named for each destination.
const MOST_PROCESSES: usize = 10;

/// Finds the processes that have sockets open.
pub(crate) struct HolderFinder {
    procfs: PathBuf,
    netlink: bool,
}

impl HolderFinder {
    /// For the procfs at this path, where `tcp` of the thread is read if netlink is not to be used or cannot be.
    /// Nothing is read yet.
    pub(crate) const fn new(procfs: PathBuf, netlink: bool) -> Self {
        Self { procfs, netlink }
    }

    /// Which processes have live sockets to these destinations. `None` where the sockets could not be read.
    pub(crate) fn find(
        &self,
        destinations: &[Destination],
        deadline: Instant,
    ) -> Option<Vec<Holders>> {
        let none = |destination: &Destination| Holders {
            destination: *destination,
            live_sockets: 0,
            processes: Vec::new(),
            unnamed_sockets: 0,
        };
        let mut holders: Vec<Holders> = destinations.iter().map(none).collect();
        if holders.is_empty() {
            return Some(holders);
        }
        let (mut sought, mut users) = (HashMap::new(), HashSet::new());
        let add = |live: LiveSocket| {
            let mut of_these = holders.iter_mut();
            let Some(one) = of_these.find(|one| one.destination == live.destination) else {
                return;
            };
            one.live_sockets += 1;
            one.unnamed_sockets += 1;
            // 0 is that of a socket that no process has: closed, and on its way out.
            if live.inode != 0 {
                sought.insert(live.inode, live.destination);
                users.insert(live.user);
            }
        };
        if let Err(error) = self.read_live(destinations, deadline, add) {
            debug!(%error, "live sockets cannot be read");
            return None;
        }
        self.name_processes(&mut holders, &sought, &users, deadline);
        Some(holders)
    }

    fn read_live(
        &self,
        destinations: &[Destination],
        deadline: Instant,
        mut on_live: impl FnMut(LiveSocket),
    ) -> Result<(), Box<dyn Error>> {
        if self.netlink {
            let mut dumper = Dumper::new(Box::new(NetlinkConnect));
            let dumped = dumper.open(deadline);
            match dumped.and_then(|mut dump| dump.live_sockets(destinations, &mut on_live)) {
                Err(error) if error.is_unusable() => {}
                dumped => return Ok(dumped.map(|_count| ())?),
            }
        }
        // Of the thread, which may be inside another network namespace.
        let root = ProcRoot::new(&self.procfs).of_thread();
        Ok(root.read_live(deadline, &mut on_live)?)
    }

    /// Reads descriptors, processes of the sockets' users first, until every inode was found.
    fn name_processes(
        &self,
        holders: &mut [Holders],
        sought: &HashMap<u64, Destination>,
        users: &HashSet<u32>,
        deadline: Instant,
    ) {
        let entries = fs::read_dir(&self.procfs).into_iter().flatten().flatten();
        let processes = entries.filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let user = entry.metadata().ok()?.uid();
            Some((!users.contains(&user), pid, entry.path()))
        });
        let mut processes: Vec<_> = processes.collect();
        processes.sort_unstable();
        let mut named = HashSet::new();
        for (_, pid, process) in processes {
            if named.len() == sought.len() || Instant::now() >= deadline {
                break;
            }
            let mut open = socket_inodes(&process);
            open.retain(|inode| sought.contains_key(inode));
            for one in &mut *holders {
                let mut sockets = 0;
                for inode in &open {
                    if sought.get(inode) == Some(&one.destination) {
                        sockets += 1;
                        one.unnamed_sockets -= u64::from(named.insert(*inode));
                    }
                }
                if sockets > 0 {
                    let name = process_name(&process).unwrap_or_default();
                    one.processes.push(Holder { pid, name, sockets });
                }
            }
        }
        for one in holders {
            let most_first = |process: &Holder| (Reverse(process.sockets), process.pid);
            one.processes.sort_by_key(most_first);
            one.processes.truncate(MOST_PROCESSES);
        }
    }
}

/// The inodes of the sockets that a process has open; none where it may not be read.
fn socket_inodes(process: &Path) -> HashSet<u64> {
    let entries = fs::read_dir(process.join("fd")).into_iter().flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inodes = targets.filter_map(|target| {
        let name = target.to_str()?.strip_prefix("socket:[")?;
        name.strip_suffix(']')?.parse().ok()
    });
    inodes.collect()
}

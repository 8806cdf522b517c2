//! Which processes have live sockets to a few destinations: a second, targeted dump, for `report`.
//!
//! Netlink reports the inode of each socket but not its process; that is found among the descriptors in
//! `/proc/PID/fd`. Only the destinations asked for are looked up, processes of the sockets' users are
//! read first, and reading ends when every inode has been found. A process whose descriptors may not be
//! read is skipped. Sockets in TIME-WAIT have no inode and no process.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tracing::debug;

use super::procfs::ProcRoot;
use super::sock_diag::{Dumper, NetlinkConnect};
use crate::domain::holders::{Holder, Holders};
use crate::domain::snapshot::Destination;
use crate::domain::socket::LiveSocket;

/// How many processes are named for each destination.
const MOST_PROCESSES: usize = 10;

/// Finds the processes that have sockets open.
#[derive(Clone, Debug)]
pub(crate) struct HolderFinder {
    procfs: PathBuf,
    netlink: bool,
}

/// The live sockets to the destinations asked for: by inode the destination's index.
#[derive(Debug, Default)]
struct Sought {
    by_inode: HashMap<u64, usize>,
    users: HashSet<u32>,
    /// Live sockets of each destination, those without an inode included.
    counts: Vec<u64>,
}

/// Inodes that a process has open, by destination.
type Found = HashMap<(usize, i32), HashSet<u64>>;

impl HolderFinder {
    /// For the procfs at this path, where `tcp` of the thread is read if netlink is not to be used or cannot be.
    /// Nothing is read yet.
    #[must_use]
    pub(crate) const fn new(procfs: PathBuf, netlink: bool) -> Self {
        Self { procfs, netlink }
    }

    /// Which processes have live sockets to these destinations. `None` where the sockets could not be read.
    #[must_use]
    pub(crate) fn find(
        &self,
        destinations: &[Destination],
        deadline: Instant,
    ) -> Option<Vec<Holders>> {
        if destinations.is_empty() {
            return Some(Vec::new());
        }
        let sought = self.sockets(destinations, deadline)?;
        let found = self.processes(&sought, deadline);
        Some(holders(destinations, &sought, &found, &self.procfs))
    }

    fn sockets(&self, destinations: &[Destination], deadline: Instant) -> Option<Sought> {
        let mut sought = Sought {
            counts: vec![0; destinations.len()],
            ..Sought::default()
        };
        let mut add = |live: LiveSocket| sought.add(destinations, &live);
        if self.netlink {
            let ends: Vec<_> = destinations
                .iter()
                .map(|destination| (destination.dst_addr, destination.dst_port))
                .collect();
            let mut dumper = Dumper::new(Box::new(NetlinkConnect));
            let dumped = dumper.open(deadline);
            match dumped.and_then(|mut dump| dump.live_sockets(&ends, &mut add)) {
                Ok(_) => return Some(sought),
                Err(error) if error.is_unusable() => {}
                Err(error) => {
                    debug!(%error, "live sockets cannot be read");
                    return None;
                }
            }
        }
        // Of the thread, which may be inside another network namespace.
        let root = ProcRoot::new(&self.procfs).of_thread();
        match root.tcp_table().read_live(&mut add) {
            Ok(()) => Some(sought),
            Err(error) => {
                debug!(%error, "live sockets cannot be read");
                None
            }
        }
    }

    /// Reads descriptors, processes of the sockets' users first, until every inode was found.
    fn processes(&self, sought: &Sought, deadline: Instant) -> Found {
        let mut missing: HashSet<u64> = sought.by_inode.keys().copied().collect();
        let mut found = Found::new();
        let Ok(entries) = fs::read_dir(&self.procfs) else {
            return found;
        };
        let entries = entries.filter_map(Result::ok);
        let mut pids: Vec<(bool, i32)> = entries
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let user = entry.metadata().ok()?.uid();
                Some((!sought.users.contains(&user), pid))
            })
            .collect();
        pids.sort_unstable();
        for (_, pid) in pids {
            if missing.is_empty() || Instant::now() >= deadline {
                break;
            }
            for inode in socket_inodes(&self.procfs.join(pid.to_string())) {
                if let Some(destination) = sought.by_inode.get(&inode) {
                    missing.remove(&inode);
                    found.entry((*destination, pid)).or_default().insert(inode);
                }
            }
        }
        found
    }
}

impl Sought {
    fn add(&mut self, destinations: &[Destination], live: &LiveSocket) {
        let index = destinations
            .iter()
            .position(|destination| *destination == live.destination);
        let Some(index) = index else { return };
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        // 0 is that of a socket that no process has: closed, and on its way out.
        if live.inode != 0 {
            self.by_inode.insert(live.inode, index);
            self.users.insert(live.user);
        }
    }
}

/// The inodes of the sockets that a process has open; none where it may not be read.
fn socket_inodes(process: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(process.join("fd")) else {
        return Vec::new();
    };
    let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter_map(|target| {
            let name = target.to_str()?.strip_prefix("socket:[")?;
            name.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

fn holders(
    destinations: &[Destination],
    sought: &Sought,
    found: &Found,
    procfs: &Path,
) -> Vec<Holders> {
    let one = |(index, destination): (usize, &Destination)| {
        let of_this = found.iter().filter(|((of, _), _)| *of == index);
        let named: HashSet<u64> = of_this
            .clone()
            .flat_map(|(_, inodes)| inodes)
            .copied()
            .collect();
        let mut processes: Vec<Holder> = of_this
            .map(|((_, pid), inodes)| Holder {
                pid: *pid,
                name: name(&procfs.join(pid.to_string())),
                sockets: length(inodes),
            })
            .collect();
        processes.sort_by_key(|process| (std::cmp::Reverse(process.sockets), process.pid));
        processes.truncate(MOST_PROCESSES);
        let live_sockets = sought.counts.get(index).copied().unwrap_or(0);
        Holders {
            destination: *destination,
            live_sockets,
            processes,
            unnamed_sockets: live_sockets.saturating_sub(length(&named)),
        }
    };
    destinations.iter().enumerate().map(one).collect()
}

fn length(inodes: &HashSet<u64>) -> u64 {
    u64::try_from(inodes.len()).unwrap_or(u64::MAX)
}

/// The process' short name; it may have ended meanwhile.
fn name(process: &Path) -> String {
    // Any bytes but NUL: prctl(2), PR_SET_NAME.
    let name = fs::read(process.join("comm")).unwrap_or_default();
    String::from_utf8_lossy(&name)
        .trim_end_matches('\n')
        .to_owned()
}

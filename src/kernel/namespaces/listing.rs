//! Which network namespaces there are.
//!
//! Those with a name are files in a directory, on which the kernel's own file is mounted (ip-netns(8), and
//! container runtimes do the same). The others are found through the processes that live in them. A
//! namespace in which neither is, but only a socket or a mount elsewhere, cannot be found.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What distinguishes two namespaces as long as both exist. The kernel gives the number of one
/// that has gone to the next that is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NamespaceKey {
    /// The device of nsfs, the same for all.
    pub device: u64,
    /// The inode on it.
    pub inode: u64,
}

impl NamespaceKey {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// A namespace other than the exporter's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FoundNamespace {
    /// Which one.
    pub key: NamespaceKey,
    /// Its names, in order.
    pub names: Vec<String>,
    /// Processes that run in it, the lowest numbers first; not all of them.
    pub pids: Vec<u32>,
    /// When the file that is mounted under a name was made, in seconds and nanoseconds: another time is another
    /// namespace, though it has the inode and the name of one that has gone. `None` where none is mounted, as
    /// the files under /proc are created on each access.
    pub made: Option<(i64, i64)>,
    /// The files under `names`, through which it can be entered.
    pub(super) files: Vec<PathBuf>,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// All that were found, by inode, without the exporter's.
    pub namespaces: Vec<FoundNamespace>,
    /// One of the processes whose namespace cannot be determined (ptrace(2), `PTRACE_MODE_READ`), if there are any.
    pub(crate) hidden_process: Option<u32>,
    /// The names that cannot be resolved, with the kernel's error: they are in a directory without search permission,
    /// or links without read permission.
    pub(crate) barred: Vec<(String, String)>,
    /// The requested names that do not exist.
    pub(crate) absent: Vec<String>,
    /// Why the names could not be listed, where the namespaces of processes are still exported.
    pub(crate) unlisted_names: Option<String>,
}

/// How many processes are kept for a namespace: some may end before they are read.
const MOST_PIDS: usize = 4;

/// Finds namespaces.
pub(crate) struct NamespaceLister {
    /// Where the processes are.
    pub procfs: PathBuf,
    /// Where the names are (`/run/netns`).
    pub names: PathBuf,
    /// The exporter's namespace, which is skipped.
    pub own: NamespaceKey,
}

type Found = BTreeMap<NamespaceKey, FoundNamespace>;
type Residents = BTreeMap<NamespaceKey, Vec<u32>>;

impl NamespaceLister {
    /// The namespaces with a name, those of processes only `with_processes`. If there is a list of
    /// names, those on it alone; what it names and is not there is in [`Listing::absent`].
    ///
    /// # Errors
    /// The directory of names is there but cannot be listed and processes are not asked for, or there is
    /// no procfs.
    pub(crate) fn list(
        &self,
        only: Option<&[String]>,
        with_processes: bool,
    ) -> Result<Listing, String> {
        let mut listing = Listing::default();
        let mut found = Found::new();
        let given = only.map(|names| names.iter().map(OsString::from).collect());
        let mut names: Vec<OsString> = match given.map_or_else(|| self.all_names(), Ok) {
            Err(error) if with_processes => {
                listing.unlisted_names = Some(error);
                Vec::new()
            }
            names => names?,
        };
        names.sort_unstable();
        for name in names {
            let file = self.names.join(&name);
            let name = name.to_string_lossy().into_owned();
            match self.add_name(&name, &file, &mut found) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    listing.barred.push((name, error.to_string()));
                }
                Err(_) | Ok(false) if only.is_some() => listing.absent.push(name),
                _ => {}
            }
        }
        if with_processes {
            let (residents, hidden) = self.residents()?;
            listing.hidden_process = hidden;
            for (key, pids) in residents {
                entry(&mut found, key).pids = pids;
            }
        }
        listing.namespaces = found.into_values().collect();
        Ok(listing)
    }

    /// Finds processes of namespaces that are already listed.
    ///
    /// # Errors
    /// There is no procfs.
    pub(crate) fn add_residents(&self, listing: &mut Listing) -> Result<(), String> {
        let (mut residents, _hidden) = self.residents()?;
        for found in &mut listing.namespaces {
            found.pids = residents.remove(&found.key).unwrap_or_default();
        }
        Ok(())
    }

    fn all_names(&self) -> Result<Vec<OsString>, String> {
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name());
        match fs::read_dir(&self.names).and_then(|entries| entries.map(name).collect()) {
            // No name was ever given.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names.map_err(|error| cannot_list(&self.names, &error)),
        }
    }

    /// Whether it is one of a network namespace: a file on which none is mounted (any more) is not.
    ///
    /// # Errors
    /// It has just gone, or cannot be determined.
    fn add_name(&self, name: &str, file: &Path, found: &mut Found) -> io::Result<bool> {
        // A link may lead into /proc.
        let direct = fs::symlink_metadata(file)?;
        let is_link = direct.is_symlink();
        let metadata = if is_link { fs::metadata(file)? } else { direct };
        // On 5.10.262 a link of /proc without permission leads to its own directory.
        if is_link && metadata.is_dir() && fs::metadata(&self.procfs)?.dev() == metadata.dev() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let key = NamespaceKey::of(&metadata);
        let is_namespace = key.device == self.own.device;
        if is_namespace && key != self.own {
            let namespace = entry(found, key);
            if !is_link {
                namespace.made = Some((metadata.ctime(), metadata.ctime_nsec()));
            }
            namespace.names.push(name.to_owned());
            namespace.files.push(file.to_owned());
        }
        Ok(is_namespace)
    }

    /// Whether a process (still) runs in a namespace.
    pub(crate) fn lives_in(&self, pid: u32, key: NamespaceKey) -> bool {
        let metadata = fs::metadata(process_file(&self.procfs, pid));
        metadata.is_ok_and(|metadata| NamespaceKey::of(&metadata) == key)
    }

    /// Some of the processes of each namespace, and one of those whose namespace cannot be determined.
    fn residents(&self) -> Result<(Residents, Option<u32>), String> {
        let (mut residents, mut hidden) = (Residents::new(), None);
        let failed = |error: io::Error| cannot_list(&self.procfs, &error);
        for entry in fs::read_dir(&self.procfs).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // Half the cost of following the link.
            match fs::read_link(process_file(&self.procfs, pid)) {
                // On 5.10.262 a link without permission has an empty target.
                Ok(target) if !target.as_os_str().is_empty() => {
                    let key = self.key_named(&target);
                    if let Some(key) = key.filter(|key| *key != self.own) {
                        residents.entry(key).or_default().push(pid);
                    }
                }
                // It has ended.
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {}
                _ => hidden = hidden.or(Some(pid)),
            }
        }
        for pids in residents.values_mut() {
            pids.sort_unstable();
            pids.truncate(MOST_PIDS);
        }
        Ok((residents, hidden))
    }

    /// What `net:[4026531840]` names.
    fn key_named(&self, target: &Path) -> Option<NamespaceKey> {
        let number = target.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?;
        Some(NamespaceKey {
            device: self.own.device,
            inode: number.parse().ok()?,
        })
    }
}

impl FoundNamespace {
    /// The file through which to enter it: its first name's, or that of a process on this host.
    pub(crate) fn entrance(&self, pid: Option<u32>) -> Option<PathBuf> {
        let file = self.files.first().cloned();
        file.or_else(|| pid.map(of_host))
    }

    /// The same on the host. Where its procfs is mounted elsewhere than at /proc, so may be its names, but a process
    /// has its number.
    pub(crate) fn entrance_on_host(&self, procfs: &Path, pid: Option<u32>) -> Option<PathBuf> {
        let is_elsewhere = procfs != Path::new("/proc");
        let of_process = pid.filter(|_| is_elsewhere).map(of_host);
        of_process.or_else(|| self.entrance(pid))
    }
}

fn entry(found: &mut Found, key: NamespaceKey) -> &mut FoundNamespace {
    found.entry(key).or_insert_with(|| FoundNamespace {
        key,
        ..FoundNamespace::default()
    })
}

fn of_host(pid: u32) -> PathBuf {
    process_file(Path::new("/proc"), pid)
}

pub(super) fn process_file(procfs: &Path, pid: u32) -> PathBuf {
    procfs.join(format!("{pid}/ns/net"))
}

fn cannot_list(directory: &Path, error: &io::Error) -> String {
    format!("cannot list {}: {error}", directory.display())
}

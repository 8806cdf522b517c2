//! Which network namespaces there are.
//!
//! Those with a name are files in a directory, on which the kernel's own file is mounted (ip-netns(8), and
//! container runtimes do the same). The others are found through the processes that live in them. A
//! namespace in which neither is, but only a socket or a mount elsewhere, cannot be found.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// What distinguishes two namespaces as long as both exist. The kernel gives the number of one
/// that has gone to the next that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// A namespace that is not the own one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundNamespace {
    /// Which one.
    pub key: NamespaceKey,
    /// Its names, in no order.
    pub names: Vec<String>,
    /// Processes that live in it, the lowest numbers first; not all of them.
    pub pids: Vec<u32>,
    /// When the file that is mounted under a name was made, in seconds and nanoseconds: another time is another
    /// namespace, though it has the inode and the name of one that has gone. `None` where none is mounted, as
    /// the files under /proc are made anew whenever they are looked at.
    pub made: Option<(i64, i64)>,
    /// The files under `names`, through which it can be entered.
    pub(super) files: Vec<PathBuf>,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// All that were found, by inode, without the own one.
    pub namespaces: Vec<FoundNamespace>,
    /// One of the processes whose namespace may not be looked up (ptrace(2), `PTRACE_MODE_READ`), if there are any.
    pub(crate) hidden_process: Option<u32>,
    /// The names that may not be looked at: in a directory that may not be searched, or links to what may
    /// not be looked up.
    pub(crate) barred: Vec<BarredName>,
    /// Why the names could not be listed, where the namespaces of processes are exported all the same.
    pub(crate) unlisted_names: Option<String>,
}

/// A name that may not be looked at. What is behind it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BarredName {
    /// The name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// Why not, in the words of the kernel.
    pub reason: String,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
#[error("cannot list {}: {source}", directory.display())]
pub(crate) struct ListingError {
    /// Which directory.
    pub directory: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// So many processes are noted for a namespace: some may end before they are asked for.
const NOTED_PIDS: usize = 4;

/// Finds namespaces.
#[derive(Clone, Debug)]
pub(crate) struct NamespaceLister {
    procfs: PathBuf,
    names: PathBuf,
    own: NamespaceKey,
}

impl NamespaceLister {
    /// With the names in one directory (`/run/netns`), the processes of one procfs, and the namespace
    /// that is left out. Nothing is read yet.
    #[must_use]
    pub(crate) const fn new(procfs: PathBuf, names: PathBuf, own: NamespaceKey) -> Self {
        Self { procfs, names, own }
    }

    /// The namespaces with a name, those of processes only `with_processes`. If there is a list of
    /// names, those on it alone; what it names and is not there is left out.
    ///
    /// # Errors
    /// The directory of names is there but cannot be listed and processes are not asked for, or there is
    /// no procfs.
    pub(crate) fn list(
        &self,
        only: Option<&[String]>,
        with_processes: bool,
    ) -> Result<Listing, ListingError> {
        let mut found = HashMap::new();
        let (mut barred, mut unlisted_names) = (Vec::new(), None);
        let named = match only {
            Some(names) => {
                let named = names.iter();
                named
                    .map(|name| (name.clone(), self.names.join(name)))
                    .collect()
            }
            None => match self.named() {
                Err(error) if with_processes => {
                    unlisted_names = Some(error.to_string());
                    Vec::new()
                }
                named => named?,
            },
        };
        for (name, file) in named {
            if let Err(error) = self.add_name(name.clone(), &file, &mut found)
                && error.kind() == io::ErrorKind::PermissionDenied
            {
                barred.push(BarredName {
                    name,
                    file,
                    reason: error.to_string(),
                });
            }
        }
        let hidden_process = if with_processes {
            self.add_processes(&mut found, true)?
        } else {
            None
        };
        Ok(Listing {
            namespaces: in_order(found),
            hidden_process,
            barred,
            unlisted_names,
        })
    }

    /// Looks for processes of namespaces that are listed already.
    ///
    /// # Errors
    /// There is no procfs.
    pub(crate) fn add_residents(&self, listing: &mut Listing) -> Result<(), ListingError> {
        let namespaces = std::mem::take(&mut listing.namespaces);
        let mut found: HashMap<_, _> = namespaces.into_iter().map(|one| (one.key, one)).collect();
        let result = self.add_processes(&mut found, false);
        listing.namespaces = in_order(found);
        result.map(|_hidden| ())
    }

    /// All names there are, with their files.
    fn named(&self) -> Result<Vec<(String, PathBuf)>, ListingError> {
        let entries = match fs::read_dir(&self.names) {
            Ok(entries) => entries,
            // Nobody has ever given a name.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(&self.names, source)),
        };
        let named = entries.map(|entry| {
            let entry = entry.map_err(|source| failed(&self.names, source))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, entry.path()))
        });
        named.collect()
    }

    /// A file on which no namespace is mounted (any more) is none.
    ///
    /// # Errors
    /// It has just gone, or may not be looked at.
    fn add_name(
        &self,
        name: String,
        file: &Path,
        found: &mut HashMap<NamespaceKey, FoundNamespace>,
    ) -> io::Result<()> {
        // A link may lead into /proc.
        let direct = fs::symlink_metadata(file)?;
        let is_link = direct.is_symlink();
        let metadata = if is_link { fs::metadata(file)? } else { direct };
        // On 5.10.262 a link of /proc that may not be followed leads to its own directory.
        if is_link && metadata.is_dir() && fs::metadata(&self.procfs)?.dev() == metadata.dev() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let key = NamespaceKey::of(&metadata);
        if self.is_another(key) {
            let namespace = found
                .entry(key)
                .or_insert_with(|| FoundNamespace::empty(key));
            if !is_link {
                namespace.made = Some((metadata.ctime(), metadata.ctime_nsec()));
            }
            namespace.names.push(name);
            namespace.files.push(file.to_owned());
        }
        Ok(())
    }

    /// Whether there is a directory of names.
    #[must_use]
    pub(crate) fn has_names(&self) -> bool {
        self.names.exists()
    }

    /// Whether this is a name of the namespace that is left out.
    #[must_use]
    pub(crate) fn is_own(&self, name: &str) -> bool {
        fs::metadata(self.names.join(name))
            .is_ok_and(|metadata| NamespaceKey::of(&metadata) == self.own)
    }

    fn is_another(&self, key: NamespaceKey) -> bool {
        key.device == self.own.device && key != self.own
    }

    /// What `net:[4026531840]` names.
    fn key_named(&self, target: &Path) -> Option<NamespaceKey> {
        let number = target.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?;
        Some(NamespaceKey {
            device: self.own.device,
            inode: number.parse().ok()?,
        })
    }

    /// Gives one of the processes that may not be looked at.
    fn add_processes(
        &self,
        found: &mut HashMap<NamespaceKey, FoundNamespace>,
        with_new: bool,
    ) -> Result<Option<u32>, ListingError> {
        let entries = fs::read_dir(&self.procfs).map_err(|source| failed(&self.procfs, source))?;
        let mut hidden = None;
        for entry in entries {
            let entry = entry.map_err(|source| failed(&self.procfs, source))?;
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // Half the cost of following the link.
            match fs::read_link(process_file(&self.procfs, pid)) {
                // On 5.10.262 what may not be looked at has an empty target.
                Ok(target) if target.as_os_str().is_empty() => hidden = hidden.or(Some(pid)),
                Ok(target) => {
                    let Some(key) = self.key_named(&target).filter(|key| self.is_another(*key))
                    else {
                        continue;
                    };
                    if with_new {
                        let make = || FoundNamespace::empty(key);
                        found.entry(key).or_insert_with(make).pids.push(pid);
                    } else if let Some(namespace) = found.get_mut(&key) {
                        namespace.pids.push(pid);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    hidden = hidden.or(Some(pid));
                }
                // It has ended.
                Err(_) => {}
            }
        }
        for namespace in found.values_mut() {
            namespace.pids.sort_unstable();
            namespace.pids.dedup();
            namespace.pids.truncate(NOTED_PIDS);
        }
        Ok(hidden)
    }

    /// Where the processes are.
    #[must_use]
    pub(crate) fn procfs(&self) -> &Path {
        &self.procfs
    }

    /// Whether a process lives in a namespace (still).
    #[must_use]
    pub(crate) fn lives_in(&self, pid: u32, key: NamespaceKey) -> bool {
        fs::metadata(process_file(&self.procfs, pid))
            .is_ok_and(|metadata| NamespaceKey::of(&metadata) == key)
    }

    /// The files through which a namespace can be entered.
    pub(super) fn doors<'a>(
        &'a self,
        found: &'a FoundNamespace,
    ) -> impl Iterator<Item = PathBuf> + 'a {
        let processes = found.pids.iter();
        let processes = processes.map(|pid| process_file(&self.procfs, *pid));
        found.files.iter().cloned().chain(processes)
    }
}

fn in_order(found: HashMap<NamespaceKey, FoundNamespace>) -> Vec<FoundNamespace> {
    let mut namespaces: Vec<_> = found.into_values().collect();
    namespaces.sort_unstable_by_key(|namespace| namespace.key);
    for namespace in &mut namespaces {
        namespace.names.sort_unstable();
    }
    namespaces
}

impl FoundNamespace {
    /// The file through which to enter it: its first name's, or that of a process on this host.
    #[must_use]
    pub(crate) fn entrance(&self, pid: Option<u32>) -> Option<PathBuf> {
        let file = self.files.iter().min().cloned();
        file.or_else(|| pid.map(of_host))
    }

    /// The same on the host. Where its procfs is mounted elsewhere than at /proc, so may be its names, but a process
    /// has its number.
    #[must_use]
    pub(crate) fn entrance_on_host(&self, procfs: &Path, pid: Option<u32>) -> Option<PathBuf> {
        let is_elsewhere = procfs != Path::new("/proc");
        let of_process = pid.filter(|_| is_elsewhere).map(of_host);
        of_process.or_else(|| self.entrance(pid))
    }

    const fn empty(key: NamespaceKey) -> Self {
        Self {
            key,
            names: Vec::new(),
            pids: Vec::new(),
            made: None,
            files: Vec::new(),
        }
    }
}

fn of_host(pid: u32) -> PathBuf {
    process_file(Path::new("/proc"), pid)
}

fn process_file(procfs: &Path, pid: u32) -> PathBuf {
    procfs.join(format!("{pid}/ns/net"))
}

fn failed(directory: &Path, source: io::Error) -> ListingError {
    ListingError {
        directory: directory.to_owned(),
        source,
    }
}

/// Whether an error says that what was to be opened has gone.
pub(super) fn has_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

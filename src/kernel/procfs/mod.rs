//! The small files under /proc with sysctls and counters, and the connection table in the form it has there, for hosts
//! where netlink cannot be used; and the memory of slab caches in the sysfs beside it.
//!
//! One module a file format; those parse text and do no I/O. The network files are those of the
//! process (`<root>/net`), which is the namespace of its main thread, whatever thread reads them, or
//! those of the thread that reads them ([`ProcRoot::of_thread`]).
//! Nothing is cached, nothing is retried, and absent is never 0.
//!
//! The traits of the procfs crate for such parsers (`FromRead`, `FromBufRead`) are not implemented:
//! their error has no place for the line and the text.

mod counters;
mod error;
pub(super) mod file;
mod slab;
mod socket_counts;
mod sysctl;
mod tcp_line;
mod tcp_table;
mod text;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::settings::{SYSCTLS, Settings};
use crate::domain::snapshot::Counts;

use file::Directory;

pub use error::ReadError;

/// Where procfs is mounted: /proc, unless the exporter runs in a container that sees the host's
/// elsewhere. A value, so that tests read trees of other kernels.
#[derive(Clone, Debug)]
pub struct ProcRoot {
    path: PathBuf,
    /// Where the network files are: `net`, or the same of the thread that reads, which shows the namespace in which
    /// the thread is when a file in it is opened, and holds none. The way there takes the kernel a third of the time
    /// that such a file takes.
    network: Directory,
}

impl ProcRoot {
    /// The procfs at this path. Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            network: Directory::new(path.join("net")),
            path,
        }
    }

    /// The same, with the network files of the thread that reads them: it may have entered another
    /// namespace, and `net` goes on showing that of the main thread. `sys/net` shows the thread's own
    /// in any case.
    ///
    /// Linux < 3.17 has no `thread-self`: there the calling thread is named, and only it may read. A
    /// procfs that knows nothing of us (of another machine, or of a host that we do not see the processes
    /// of) gives way to /proc.
    pub(crate) fn of_thread(&self) -> Self {
        let numbered = format!("self/task/{}/net", rustix::thread::gettid());
        for root in [&self.path, Path::new("/proc")] {
            for network in ["thread-self/net", &numbered].map(|network| root.join(network)) {
                if network.join("netstat").exists() {
                    return Self {
                        path: root.to_owned(),
                        network: Directory::opened(network),
                    };
                }
            }
        }
        Self::new("/proc")
    }

    /// Where procfs is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings under `sys/net`. Each is read by itself: one that this kernel does not have is `None`; one that
    /// cannot be read or understood is `None` too and adds an error, as does a port range that is not there.
    ///
    /// Those of IPv4 from their directory, which is looked up once: the kernel keeps one such directory for each
    /// network namespace under the same name, and iterates over all of them on each lookup (Linux 6.18, 200
    /// namespaces: 140 us for nine settings, 55 from the directory).
    pub fn read_settings(&self) -> (Settings, Vec<ReadError>) {
        let mut errors = Vec::new();
        let ipv4 = self.ipv4_settings();
        let range = ipv4.parse_setting("ip_local_port_range", sysctl::parse_port_range);
        let reserved = ipv4.parse_setting("ip_local_reserved_ports", sysctl::parse_reserved_ports);
        let mut settings = Settings {
            port_range: noted(range.map(Some), &mut errors),
            reserved_ports: noted(if_there(reserved), &mut errors),
            ..Settings::default()
        };
        let ipv6 = Directory::new(self.path.join("sys/net/ipv6"));
        for sysctl in SYSCTLS {
            let (directory, name) = match sysctl.name.strip_prefix("net.ipv4.") {
                Some(name) => (&ipv4, name),
                None => (&ipv6, sysctl.name.trim_start_matches("net.ipv6.")),
            };
            let value = directory.parse_setting(name, sysctl::parse_integer);
            (sysctl.set)(&mut settings, noted(if_there(value), &mut errors));
        }
        (settings, errors)
    }

    fn ipv4_settings(&self) -> Directory {
        Directory::opened(self.path.join("sys/net/ipv4"))
    }

    /// `tcp_fastopen_blackhole_timeout_sec`; `None` where it cannot be read.
    pub(in crate::kernel) fn fast_open_blackhole_timeout(&self) -> Option<i64> {
        let ipv4 = self.ipv4_settings();
        let name = "tcp_fastopen_blackhole_timeout_sec";
        ipv4.parse_setting(name, sysctl::parse_integer).ok()
    }

    /// The `TcpExt` counters of `net/netstat`.
    ///
    /// # Errors
    /// The file cannot be read, or a line of values does not match its names.
    pub fn read_kernel_counters(&self) -> Result<Counts, ReadError> {
        self.network.parse("netstat", counters::netstat)
    }

    /// `ActiveOpens` and `PassiveOpens` of `net/snmp`; `None` where there is no such file.
    ///
    /// # Errors
    /// The file is there but cannot be read, or its values do not match their names.
    pub(crate) fn read_opens(&self) -> Result<Option<Counts>, ReadError> {
        if_there(self.network.parse("snmp", counters::snmp))
    }

    /// The connection tracking table: `count` and `max`, its entries and how many there may be, and the counters of
    /// `net/stat/nf_conntrack`, where the kernel has that file. `None` without connection tracking.
    ///
    /// # Errors
    /// One of the files is there but cannot be read or understood.
    pub(crate) fn read_conntrack(&self) -> Result<Option<Counts>, ReadError> {
        let directory = Directory::new(self.path.join("sys/net/netfilter"));
        let mut counts = Counts::default();
        for (name, file) in [("count", "nf_conntrack_count"), ("max", "nf_conntrack_max")] {
            let number = |text: &str| text::count(1, text.trim_ascii(), 10);
            let Some(number) = if_there(directory.parse_setting(file, number))? else {
                return Ok(None);
            };
            counts.add(name, number);
        }
        let add = |text: &str| counters::add_conntrack(&mut counts, text);
        if_there(self.network.parse("stat/nf_conntrack", add))?;
        Ok(Some(counts))
    }

    /// The memory of the slab caches of TIME-WAIT sockets, by `kernel/slab` in the sysfs that stands beside
    /// this procfs (`/sys`, `/host/sys`), or where that is not readable by `slabinfo`. Only root may read
    /// either: a refusal is no failure, but makes the value absent, as does a kernel without both.
    ///
    /// The kernel holds a lock of the whole host (`slab_mutex`) while it prints slabinfo.
    ///
    /// # Errors
    /// Slabinfo may be read but cannot be, or a cache's line is not that of slabinfo 2.1.
    pub fn read_slab_memory(&self, page_size_bytes: u64) -> Result<Counts, ReadError> {
        use io::ErrorKind::{NotFound, PermissionDenied};
        let beside = self.path.parent().map(|host| host.join("sys/kernel/slab"));
        let mut bytes = beside.and_then(|slab| slab::from_directory(&slab, page_size_bytes));
        if bytes.is_none() {
            let parse = |text: &str| slab::from_slabinfo(text, page_size_bytes);
            bytes = match Directory::new(self.path.clone()).parse("slabinfo", parse) {
                Err(error) if matches!(error.io_kind(), Some(NotFound | PermissionDenied)) => None,
                read => read?,
            };
        }
        Ok(bytes.map(|bytes| ("bytes", bytes)).into_iter().collect())
    }
}

/// Nothing where a file that not every kernel has does not exist.
fn if_there<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => Ok(None),
        read => read.map(Some),
    }
}

/// Nothing where it could not be read; the error is added.
fn noted<T>(read: Result<Option<T>, ReadError>, errors: &mut Vec<ReadError>) -> Option<T> {
    read.unwrap_or_else(|error| {
        errors.push(error);
        None
    })
}

//! The small files under /proc with settings and counters, and the connection table in the form
//! it has there, for hosts where netlink is shut; and of the sysfs beside it what slab caches hold.
//!
//! One module a file format; those parse text and do no I/O. The network files are those of the
//! process (`<root>/net`), which is the namespace of its main thread, whatever thread reads them, or
//! those of the thread that reads them ([`ProcRoot::of_thread`]).
//! Nothing is cached, nothing is retried, and absent is never 0.
//!
//! The traits of the procfs crate for such parsers (`FromRead`, `FromBufRead`) are not implemented:
//! their error has no place for the line and the text.

mod conntrack;
mod error;
pub(super) mod file;
mod line_reader;
mod netstat;
mod slab_directory;
mod slabinfo;
mod sockstat;
mod sysctl;
mod tcp_line;
mod tcp_table;
mod text;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::CWD;

use crate::domain::settings::{SYSCTLS, Settings};
use crate::domain::snapshot::Counts;

pub use error::{Excerpt, Malformed, ReadError};
pub use tcp_table::{TableCount, TableError, TcpTable};

/// Where procfs is mounted: /proc, unless the exporter runs in a container that sees the host's
/// elsewhere. A value, so that tests read trees of other kernels.
#[derive(Clone, Debug)]
pub struct ProcRoot {
    path: PathBuf,
    /// Where the network files are: `net`, or the same of the thread that reads.
    network: PathBuf,
    /// That directory of the thread, opened once: it shows the namespace in which the thread is when a
    /// file in it is opened, and holds none. The way there takes the kernel a third of the time that such a
    /// file takes.
    opened: Option<Arc<File>>,
}

impl ProcRoot {
    /// The procfs at this path. Nothing is looked at yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let network = path.join("net");
        Self {
            path,
            network,
            opened: None,
        }
    }

    /// The same, with the network files of the thread that reads them: it may have entered another
    /// namespace, and `net` goes on showing that of the main thread. `sys/net` shows the thread's own
    /// in any case.
    ///
    /// Linux < 3.17 has no `thread-self`: there the calling thread is named, and only it may read. A
    /// procfs that knows nothing of us (of another machine, or of a host that we do not see the processes
    /// of) gives way to /proc.
    #[must_use]
    pub(crate) fn of_thread(&self) -> Self {
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let own = [self.path.as_path(), Path::new("/proc")];
        let roots = own.into_iter().flat_map(|root| {
            let numbered = format!("self/task/{thread}/net");
            [root.join("thread-self/net"), root.join(numbered)].map(|network| (root, network))
        });
        let found = roots
            .into_iter()
            .find(|(_, network)| network.join("sockstat").exists());
        found.map_or_else(
            || Self::new("/proc"),
            |(root, network)| Self {
                path: root.to_owned(),
                opened: file::open_directory(&network).ok().map(Arc::new),
                network,
            },
        )
    }

    /// Where procfs is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the network files are.
    pub(in crate::kernel) fn network(&self) -> &Path {
        &self.network
    }

    /// The connection table, `net/tcp` and `net/tcp6`.
    pub fn tcp_table(&self) -> TcpTable<'_> {
        TcpTable::new(self)
    }

    /// The settings under `sys/net`. Each is read by itself: one that this kernel does not have is `None`; one that
    /// cannot be read or understood is `None` too and adds an error, as does a port range that is not there.
    pub fn read_settings(&self) -> (Settings, Vec<ReadError>) {
        let mut reader = SettingsReader::new(self.path.join("sys/net"));
        let mut settings = Settings {
            port_range: reader.read("net.ipv4.ip_local_port_range", sysctl::parse_port_range),
            reserved_ports: reader.read(
                "net.ipv4.ip_local_reserved_ports",
                sysctl::parse_reserved_ports,
            ),
            ..Settings::default()
        };
        for sysctl in SYSCTLS {
            (sysctl.set)(
                &mut settings,
                reader.read(sysctl.name, sysctl::parse_integer),
            );
        }
        (settings, reader.errors)
    }

    /// `tcp_fastopen_blackhole_timeout_sec`; `None` where it cannot be read.
    pub(in crate::kernel) fn fast_open_blackhole_timeout(&self) -> Option<i64> {
        let name = "net.ipv4.tcp_fastopen_blackhole_timeout_sec";
        SettingsReader::new(self.path.join("sys/net")).read(name, sysctl::parse_integer)
    }

    /// The port range and the reserved ports as they are written, to be compared; empty where they cannot be read.
    pub(crate) fn read_port_settings(&self) -> String {
        let path = self.path.join("sys/net/ipv4");
        let Ok(directory) = file::open_directory(&path) else {
            return String::new();
        };
        let read =
            |name| file::read_setting(directory.as_fd(), Path::new(name), || path.join(name));
        let files = ["ip_local_port_range", "ip_local_reserved_ports"].map(read);
        files.map(Result::unwrap_or_default).concat()
    }

    /// The `TcpExt` counters of `net/netstat`.
    ///
    /// # Errors
    /// The file cannot be read, or a line of values does not match its names.
    pub fn read_kernel_counters(&self) -> Result<Counts, ReadError> {
        self.parse_network("netstat", netstat::parse)
    }

    /// `ActiveOpens` and `PassiveOpens` of `net/snmp`; `None` where there is no such file.
    ///
    /// # Errors
    /// The file is there but cannot be read, or its values do not match their names.
    pub(crate) fn read_opens(&self) -> Result<Option<Counts>, ReadError> {
        if_there(self.parse_network("snmp", netstat::parse_opens))
    }

    /// The connection tracking table: `count` and `max`, its entries and how many there may be, and the counters of
    /// `net/stat/nf_conntrack`, where the kernel has that file. `None` without connection tracking.
    ///
    /// # Errors
    /// One of the files is there but cannot be read or understood.
    pub(crate) fn read_conntrack(&self) -> Result<Option<Counts>, ReadError> {
        let directory = self.path.join("sys/net/netfilter");
        let number = |file| {
            let path = directory.join(file);
            let text = file::read_setting(CWD, &path, || path.clone());
            if_there(parsed(text, || path.clone(), sysctl::parse_count))
        };
        let (Some(entries), Some(limit)) =
            (number("nf_conntrack_count")?, number("nf_conntrack_max")?)
        else {
            return Ok(None);
        };
        let table = [("count", entries), ("max", limit)];
        let counters = if_there(self.parse_network("stat/nf_conntrack", conntrack::parse))?;
        let counters = counters.iter().flat_map(Counts::iter);
        Ok(Some(table.into_iter().chain(counters).collect()))
    }

    /// The TCP line of `net/sockstat`, with the sockets of `net/sockstat6` (absent where IPv6 is
    /// off) added to `inuse`, and `used` of all sockets.
    ///
    /// # Errors
    /// `net/sockstat` cannot be read, or one of the files not understood.
    pub fn read_socket_statistics(&self) -> Result<Counts, ReadError> {
        let mut statistics = self.parse_network("sockstat", sockstat::parse)?;
        // Without a socket of any kind there is none of IPv6 either. (Linux < 4.17 counts those of all
        // namespaces.)
        if statistics.get("used") != Some(0) {
            let v6 = if_there(self.parse_network("sockstat6", sockstat::parse_v6))?;
            for (name, count) in v6.iter().flat_map(Counts::iter) {
                statistics.add(name, count);
            }
        }
        Ok(statistics)
    }

    /// What the slab caches of TIME-WAIT sockets hold, by `kernel/slab` in the sysfs that stands beside
    /// this procfs (`/sys`, `/host/sys`), or where that is not readable by `slabinfo`. Only root may read
    /// either: being refused is no failure, it makes the figure absent, as does a kernel without both.
    ///
    /// The kernel holds a lock of the whole host (`slab_mutex`) while it prints slabinfo.
    ///
    /// # Errors
    /// Slabinfo may be read but cannot be, or a cache's line is not that of slabinfo 2.1.
    pub fn read_slab_memory(&self, page_size_bytes: u64) -> Result<Counts, ReadError> {
        let beside = self.path.parent().map(|host| host.join("sys/kernel/slab"));
        let found = beside.and_then(|slabs| slab_directory::read(&slabs, page_size_bytes));
        if let Some(bytes) = found {
            return Ok(slab_memory(bytes));
        }
        let path = self.path.join("slabinfo");
        let bytes = parsed(
            file::read_text(&path),
            || path.clone(),
            |text| slabinfo::parse(text, page_size_bytes),
        );
        match if_there(bytes) {
            Ok(bytes) => Ok(bytes.flatten().map_or_else(Counts::default, slab_memory)),
            Err(ReadError::Io { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Ok(Counts::default())
            }
            Err(error) => Err(error),
        }
    }

    /// What one of the network files says.
    fn parse_network<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Malformed>,
    ) -> Result<T, ReadError> {
        let path = || self.network.join(name);
        let text = match &self.opened {
            Some(directory) => file::read_text_in(directory.as_fd(), Path::new(name), path),
            None => file::read_text(&path()),
        };
        parsed(text, path, parse)
    }
}

fn slab_memory(bytes: u64) -> Counts {
    [("bytes", bytes)].into_iter().collect()
}

/// Nothing where a file that not every kernel has does not exist.
fn if_there<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// What a text says.
fn parsed<T>(
    text: Result<String, ReadError>,
    path: impl FnOnce() -> PathBuf,
    parse: impl FnOnce(&str) -> Result<T, Malformed>,
) -> Result<T, ReadError> {
    parse(&text?).map_err(|fault| ReadError::Malformed {
        path: path(),
        fault,
    })
}

/// Reads one setting after the other and keeps what went wrong.
///
/// Those of IPv4 from their directory, which is looked up once: the kernel keeps one such directory for each
/// network namespace under the same name, and passes over all of them on each way through (Linux 6.18, 200
/// namespaces: 140 us for nine settings, 55 from the directory).
struct SettingsReader {
    ipv4: io::Result<File>,
    path: PathBuf,
    errors: Vec<ReadError>,
}

impl SettingsReader {
    fn new(path: PathBuf) -> Self {
        Self {
            ipv4: file::open_directory(&path.join("ipv4")),
            path,
            errors: Vec::new(),
        }
    }

    /// `None` where there is no such setting, which is an error only of the port range: every Linux has that.
    fn read<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Malformed>,
    ) -> Option<T> {
        let inside = name.trim_start_matches("net.").replace('.', "/");
        let path = || self.path.join(&inside);
        let text = match (&self.ipv4, inside.strip_prefix("ipv4/")) {
            (Ok(directory), Some(file)) => {
                file::read_setting(directory.as_fd(), Path::new(file), path)
            }
            _ => file::read_setting(CWD, &path(), path),
        };
        let read = parsed(text, path, parse);
        let read = if inside == "ipv4/ip_local_port_range" {
            read.map(Some)
        } else {
            if_there(read)
        };
        read.unwrap_or_else(|error| {
            self.errors.push(error);
            None
        })
    }
}

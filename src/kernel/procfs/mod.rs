//! The small files under /proc that tell settings and counters, and the connection table in the form
//! it has there, for hosts where netlink is shut; and of the sysfs beside it what slab caches hold.
//!
//! One module a file format; those parse text and do no I/O. The network files are those of the
//! process (`<root>/net`), which is the namespace of its main thread, whatever thread reads them, or
//! those of the thread that reads them ([`ProcRoot::of_thread`]).
//! Nothing is cached, nothing is retried, and absent is never 0.
//!
//! The traits of the procfs crate for such parsers (`FromRead`, `FromBufRead`) are not implemented:
//! their error has no place for the line and the text.

mod error;
mod file;
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
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::settings::Settings;
use crate::domain::snapshot::{KernelCounters, SlabMemory, SocketStatistics};

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
    pub fn of_thread(&self) -> Self {
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

    /// The settings in `sys/net/ipv4`. Each is read by itself: one that this kernel does not have is
    /// `None`; one that cannot be read or understood is `None` too and adds an error.
    pub fn read_settings(&self) -> (Settings, Vec<ReadError>) {
        let path = self.path.join("sys/net/ipv4");
        let mut reader = SettingsReader {
            directory: file::open_directory(&path),
            path,
            errors: Vec::new(),
        };
        let settings = Settings {
            port_range: reader.read("ip_local_port_range", sysctl::parse_port_range),
            reserved_ports: reader.read("ip_local_reserved_ports", sysctl::parse_reserved_ports),
            tcp_tw_reuse: reader.read("tcp_tw_reuse", sysctl::parse_integer),
            tcp_tw_reuse_delay_ms: reader.read("tcp_tw_reuse_delay", sysctl::parse_integer),
            tcp_tw_recycle: reader.read("tcp_tw_recycle", sysctl::parse_integer),
            tcp_timestamps: reader.read("tcp_timestamps", sysctl::parse_integer),
            tcp_fin_timeout_seconds: reader.read("tcp_fin_timeout", sysctl::parse_integer),
            tcp_max_tw_buckets: reader.read("tcp_max_tw_buckets", sysctl::parse_integer),
            tcp_rfc1337: reader.read("tcp_rfc1337", sysctl::parse_integer),
            ip_unprivileged_port_start: reader
                .read("ip_unprivileged_port_start", sysctl::parse_integer),
        };
        (settings, reader.errors)
    }

    /// The `TcpExt` counters of `net/netstat`; all absent where there is no such file.
    ///
    /// # Errors
    /// The file is there but cannot be read, or a line of values does not match its names.
    pub fn read_kernel_counters(&self) -> Result<KernelCounters, ReadError> {
        let counters = self.parse_network("netstat", netstat::parse)?;
        Ok(counters.unwrap_or_default())
    }

    /// The TCP line of `net/sockstat`, with the sockets of `net/sockstat6` (absent where IPv6 is
    /// off) added to `in_use`. All absent where there is no `net/sockstat`.
    ///
    /// # Errors
    /// One of the files is there but cannot be read or understood.
    pub fn read_socket_statistics(&self) -> Result<SocketStatistics, ReadError> {
        let parsed = self.parse_network("sockstat", sockstat::parse)?;
        let mut statistics = parsed.unwrap_or_default();
        // Without a socket of any kind there is none of IPv6 either. (Linux < 4.17 counts those of all
        // namespaces.)
        if statistics.sockets_used == Some(0) {
            return Ok(statistics);
        }
        let v6 = self.parse_network("sockstat6", sockstat::parse_v6)?;
        if let (Some(in_use), Some(v6)) = (&mut statistics.in_use, v6.flatten()) {
            *in_use = in_use.saturating_add(v6);
        }
        Ok(statistics)
    }

    /// What the slab caches of TIME-WAIT sockets hold, by `kernel/slab` in the sysfs that stands beside
    /// this procfs (`/sys`, `/host/sys`), or where that does not tell by `slabinfo`. Only root may read
    /// either: being refused is no failure, it makes the figure absent, as does a kernel without both.
    ///
    /// The kernel holds a lock of the whole host (`slab_mutex`) while it prints slabinfo.
    ///
    /// # Errors
    /// Slabinfo may be read but cannot be, or a cache's line is not that of slabinfo 2.1.
    pub fn read_slab_memory(&self, page_size_bytes: u64) -> Result<SlabMemory, ReadError> {
        let beside = self.path.parent().map(|host| host.join("sys/kernel/slab"));
        let told = beside.and_then(|slabs| slab_directory::read(&slabs, page_size_bytes));
        if let Some(memory) = told {
            return Ok(memory);
        }
        let parse = |text: &str| slabinfo::parse(text, page_size_bytes);
        match parse_file(&self.path.join("slabinfo"), parse) {
            Ok(memory) => Ok(memory.unwrap_or_default()),
            Err(ReadError::Io { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Ok(SlabMemory::default())
            }
            Err(error) => Err(error),
        }
    }
}

impl ProcRoot {
    /// What one of the network files says.
    fn parse_network<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Malformed>,
    ) -> Result<Option<T>, ReadError> {
        let path = || self.network.join(name);
        match &self.opened {
            Some(directory) => parsed(file::read_text_in(directory, name, path), path, parse),
            None => parse_file(&path(), parse),
        }
    }
}

/// What a file says; `None` where it does not exist.
fn parse_file<T>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, Malformed>,
) -> Result<Option<T>, ReadError> {
    parsed(file::read_text(path), || path.to_owned(), parse)
}

/// What a text says; `None` where there is no such file.
fn parsed<T>(
    text: Result<String, ReadError>,
    path: impl FnOnce() -> PathBuf,
    parse: impl FnOnce(&str) -> Result<T, Malformed>,
) -> Result<Option<T>, ReadError> {
    let text = match text {
        Ok(text) => text,
        Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match parse(&text) {
        Ok(value) => Ok(Some(value)),
        Err(fault) => Err(ReadError::Malformed {
            path: path(),
            fault,
        }),
    }
}

/// Reads one setting after the other and keeps what went wrong.
///
/// From their directory, which is looked up once: the kernel keeps one such directory for each network
/// namespace under the same name, and passes over all of them on each way through (Linux 6.18, 200
/// namespaces: 140 us for nine settings, 55 from the directory).
struct SettingsReader {
    directory: io::Result<File>,
    path: PathBuf,
    errors: Vec<ReadError>,
}

impl SettingsReader {
    fn read<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Malformed>,
    ) -> Option<T> {
        let path = || self.path.join(name);
        let text = match &self.directory {
            Ok(directory) => file::read_setting(directory, name, path),
            Err(error) => Err(ReadError::Io {
                path: path(),
                // There is no other way to tell the same error of every file.
                source: error
                    .raw_os_error()
                    .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error),
            }),
        };
        let result = parsed(text, path, parse);
        match result {
            Ok(value) => value,
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }
}

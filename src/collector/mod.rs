//! Turns requests for figures into readings of the kernel, and these into a [`Snapshot`].
//!
//! [Lanes](lane) read at the same time: one walks the connection table, which may take a second on a
//! busy host, and one for each other collector reads its small files, for which a lock of the kernel's
//! may have to be waited for. A scrape waits for all until its deadline and tells what it has by then:
//! a late lane never takes the others' figures along. Knows no metric names and
//! no HTTP.

mod bound;
mod complaint;
mod files;
mod lane;
mod namespaces;
mod sockets;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use files::FilesJob;
use lane::Lane;
use namespaces::NamespacesJob;
use sockets::{SocketsJob, Walker};

use crate::domain::namespace::{HostSnapshot, Namespaces};
use crate::domain::options::CensusOptions;
use crate::domain::settings::Settings;
use crate::domain::snapshot::{
    KernelCounters, Outcome, SlabMemory, Snapshot, SocketStatistics, SocketSummary,
};
use crate::kernel::procfs::ProcRoot;
use crate::kernel::sock_diag::Connect;

/// Which collectors run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one switch each, as the flags have them"
)]
pub struct Enabled {
    /// The pass over the connection table.
    pub sockets: bool,
    /// `/proc/sys/net/ipv4`.
    pub sysctl: bool,
    /// `/proc/net/netstat`.
    pub netstat: bool,
    /// `/proc/net/sockstat`.
    pub sockstat: bool,
    /// `/proc/slabinfo`.
    pub slabinfo: bool,
}

impl Default for Enabled {
    fn default() -> Self {
        Self {
            sockets: true,
            sysctl: true,
            netstat: true,
            sockstat: true,
            slabinfo: true,
        }
    }
}

impl Enabled {
    const NONE: Self = Self {
        sockets: false,
        sysctl: false,
        netstat: false,
        sockstat: false,
        slabinfo: false,
    };

    /// Each collector of small files that runs, by itself, with its name.
    fn each_of_files(self) -> impl Iterator<Item = (&'static str, Self)> {
        let Self {
            sockets: _,
            sysctl,
            netstat,
            sockstat,
            slabinfo,
        } = self;
        let none = Self::NONE;
        [
            ("sysctl", Self { sysctl, ..none }),
            ("netstat", Self { netstat, ..none }),
            ("sockstat", Self { sockstat, ..none }),
            ("slabinfo", Self { slabinfo, ..none }),
        ]
        .into_iter()
        .filter(move |(_, one)| *one != none)
    }
}

/// Where the sockets are to be read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SourceChoice {
    /// Netlink, and /proc where netlink cannot be used.
    #[default]
    Auto,
    /// Netlink or nothing.
    Netlink,
    /// /proc/net/tcp and tcp6.
    Procfs,
}

/// Which network namespaces are looked at, beside the exporter's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NamespaceChoice {
    /// None.
    #[default]
    OwnOnly,
    /// Those with a name.
    Named,
    /// Those with a name and those in which processes live.
    All,
    /// Those with one of these names.
    Listed(Vec<String>),
}

/// How many namespaces beside the own one are told unless it is said otherwise.
pub const MOST_NAMESPACES: usize = 256;

/// What the collector needs to know.
#[derive(Clone, Debug)]
pub struct CollectorConfig {
    /// Where the sockets are read from.
    pub source: SourceChoice,
    /// Where procfs is mounted.
    pub procfs: PathBuf,
    /// Which collectors run.
    pub enabled: Enabled,
    /// What the pass over the connection table tells.
    pub census: CensusOptions,
    /// Which other namespaces are looked at.
    pub namespaces: NamespaceChoice,
    /// How many of them are told at most, those with the worst ratio.
    pub most_namespaces: usize,
    /// Where those with a name are, as ip-netns(8) has them: `/run/netns`.
    pub namespace_names: PathBuf,
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self {
            source: SourceChoice::default(),
            procfs: "/proc".into(),
            enabled: Enabled::default(),
            census: CensusOptions::default(),
            namespaces: NamespaceChoice::default(),
            most_namespaces: MOST_NAMESPACES,
            namespace_names: "/run/netns".into(),
        }
    }
}

/// What the small files said.
#[derive(Clone, Debug, Default)]
pub struct FileReadings {
    /// `/proc/sys/net/ipv4`.
    pub sysctl: Option<Outcome<Settings>>,
    /// `/proc/net/netstat`.
    pub netstat: Option<Outcome<KernelCounters>>,
    /// `/proc/net/sockstat`.
    pub sockstat: Option<Outcome<SocketStatistics>>,
    /// `/proc/slabinfo`.
    pub slabinfo: Option<Outcome<SlabMemory>>,
}

impl FileReadings {
    /// What either said.
    fn or(self, other: Self) -> Self {
        Self {
            sysctl: self.sysctl.or(other.sysctl),
            netstat: self.netstat.or(other.netstat),
            sockstat: self.sockstat.or(other.sockstat),
            slabinfo: self.slabinfo.or(other.slabinfo),
        }
    }
}

/// The look into the other namespaces.
#[derive(Debug)]
struct NamespacesLane {
    lane: Lane<Arc<Outcome<Namespaces>>>,
    /// What the last run found, each namespace as late.
    last: Arc<Mutex<Option<Namespaces>>>,
}

impl NamespacesLane {
    fn start(config: CollectorConfig) -> io::Result<Self> {
        let last = Arc::new(Mutex::new(None));
        let (enabled, to_note) = (config.enabled, Arc::clone(&last));
        let mut job = NamespacesJob::new(config);
        let lane = Lane::start_for_first("netns", move |deadline| {
            let outcome = job.run(deadline);
            let found = outcome.value.as_ref();
            let found = found.map(|found| namespaces::all_late(found, enabled));
            *to_note.lock().unwrap_or_else(PoisonError::into_inner) = found;
            outcome
        })?;
        Ok(Self { lane, last })
    }

    /// Where a run that had begun before is not done by the deadline: which there were at the last look.
    fn late(&self, waited: Duration) -> Arc<Outcome<Namespaces>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(Outcome {
            value: last.clone(),
            ..missing(waited)
        })
    }
}

/// Reads the kernel for those who ask.
#[derive(Debug)]
pub struct Collector {
    enabled: Enabled,
    sockets: Lane<Outcome<SocketSummary>>,
    /// With the collectors that each of them runs.
    files: Vec<(Enabled, Lane<FileReadings>)>,
    /// The other namespaces, if they are looked at.
    namespaces: Option<NamespacesLane>,
}

impl Collector {
    /// Starts the collectors. `connect` opens conversations with sock_diag; the kernel is not asked
    /// for anything yet.
    ///
    /// Fails if the system gives no thread.
    pub fn open(config: CollectorConfig, connect: Box<dyn Connect>) -> io::Result<Self> {
        let procfs = ProcRoot::new(config.procfs.clone());
        let enabled = config.enabled;
        let walker = Walker::new(
            config.source,
            procfs.clone(),
            connect,
            config.census.clone(),
        );
        let mut sockets = SocketsJob::new(walker, !enabled.sysctl);
        let page_size_bytes = u64::try_from(rustix::param::page_size()).unwrap_or(u64::MAX);
        let files = enabled.each_of_files().map(|(name, one)| {
            let mut job = FilesJob::new(procfs.clone(), one, page_size_bytes, None);
            Ok((one, Lane::start(name, move |_| job.run())?))
        });
        let files = files.collect::<io::Result<_>>()?;
        let has_others = config.namespaces != NamespaceChoice::OwnOnly;
        let namespaces = has_others.then(|| NamespacesLane::start(config));
        Ok(Self {
            enabled,
            sockets: Lane::start("sockets", move |deadline| sockets.run(deadline))?,
            files,
            namespaces: namespaces.transpose()?,
        })
    }

    /// Starts one thread for each of two jobs. A job is given the time by which it must be done
    /// and is only called when someone waits for it; `sockets` is never called when it is off.
    ///
    /// Fails if the system gives no thread.
    pub fn start(
        enabled: Enabled,
        sockets: impl FnMut(Instant) -> Outcome<SocketSummary> + Send + 'static,
        files: impl FnMut(Instant) -> FileReadings + Send + 'static,
    ) -> io::Result<Self> {
        Ok(Self {
            enabled,
            sockets: Lane::start("sockets", sockets)?,
            files: vec![(enabled, Lane::start("files", files)?)],
            namespaces: None,
        })
    }

    /// One scrape: readings that begin after this call, as far as they are there by the deadline.
    pub async fn scrape(&self, deadline: Instant) -> HostSnapshot {
        let begin = Instant::now();
        let namespaces = self.namespaces.as_ref();
        let namespaces = namespaces.map(|others| (others, others.lane.request(deadline)));
        let requested = self.files.iter();
        let requested = requested.map(|(enabled, lane)| (*enabled, lane.request(deadline)));
        let requested: Vec<_> = requested.collect();
        let sockets = self.enabled.sockets.then(|| self.sockets.request(deadline));
        let until = tokio::time::Instant::from_std(deadline);
        let mut files = FileReadings::default();
        for (enabled, receiver) in requested {
            let readings = match tokio::time::timeout_at(until, receiver).await {
                Ok(Ok(readings)) => readings,
                _ => late_files(enabled, begin.elapsed()),
            };
            files = files.or(readings);
        }
        let sockets = match sockets {
            None => None,
            Some(receiver) => Some(match tokio::time::timeout_at(until, receiver).await {
                Ok(Ok(outcome)) => outcome,
                _ => missing(begin.elapsed()),
            }),
        };
        let namespaces = match namespaces {
            None => None,
            Some((others, receiver)) => {
                Some(match tokio::time::timeout_at(until, receiver).await {
                    Ok(Ok(outcome)) => outcome,
                    _ => others.late(begin.elapsed()),
                })
            }
        };
        let FileReadings {
            sysctl,
            netstat,
            sockstat,
            slabinfo,
        } = files;
        HostSnapshot {
            own: Snapshot {
                sockets,
                sysctl,
                netstat,
                sockstat,
                slabinfo,
            },
            namespaces,
        }
    }
}

fn late_files(enabled: Enabled, waited: Duration) -> FileReadings {
    FileReadings {
        sysctl: enabled.sysctl.then(|| missing(waited)),
        netstat: enabled.netstat.then(|| missing(waited)),
        sockstat: enabled.sockstat.then(|| missing(waited)),
        slabinfo: enabled.slabinfo.then(|| missing(waited)),
    }
}

/// The outcome of a collector that had nothing to tell by the deadline.
const fn missing<T>(waited: Duration) -> Outcome<T> {
    Outcome {
        value: None,
        success: false,
        duration: waited,
    }
}

//! Turns requests for metrics into readings of the kernel, and these into a [`Snapshot`](crate::domain::snapshot::Snapshot).
//!
//! [Lanes](lane) read at the same time: one dumps the connection table, which may take a second on a
//! busy host, and one for each other collector reads its small files, for which a lock of the kernel's
//! may have to be waited for. A scrape waits for all until its deadline and returns what it has by then:
//! a late lane never takes the others' metrics along. Knows no metric names and
//! no HTTP.

mod bound;
mod complaint;
mod failures;
mod files;
mod lane;
mod namespaces;
mod probe;
mod sockets;
mod udp;

use std::io;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use failures::FailuresJob;
use files::FilesJob;
use lane::Lane;
use namespaces::NamespacesJob;
use sockets::SocketReader;
use tokio::time::timeout_at;

use crate::domain::collectors::CollectorId;
use crate::domain::namespace::{HostSnapshot, Namespaces};
use crate::domain::snapshot::Outcome;
use crate::kernel::procfs::ProcRoot;
use crate::kernel::sock_diag::{Connect, Dumper, NetlinkConnect};

pub use crate::config::CollectorConfig;
pub use crate::domain::collectors::Enabled;

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

/// Which network namespaces are read in addition to the exporter's.
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

impl FromStr for NamespaceChoice {
    type Err = String;

    /// The exporter's namespace is always read, so `self` in a list adds nothing.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "named" => return Ok(Self::Named),
            "all" => return Ok(Self::All),
            _ => {}
        }
        let mut names: Vec<String> = Vec::new();
        for name in text.split(',').map(str::trim) {
            match name {
                "" => return Err("write self, named, all, or names separated by commas".to_owned()),
                "named" | "all" => {
                    return Err(format!("{name} cannot stand in a list: write it alone"));
                }
                _ if name.contains(['/', '\0']) || matches!(name, "." | "..") => {
                    return Err(format!(
                        "{name:?} cannot be the name of a network namespace: a name is that of a file, without a \"/\""
                    ));
                }
                _ if name == "self" || names.iter().any(|known| known == name) => {}
                _ => names.push(name.to_owned()),
            }
        }
        Ok(if names.is_empty() {
            Self::OwnOnly
        } else {
            Self::Listed(names)
        })
    }
}

/// The reading of the other namespaces.
#[derive(Debug)]
struct NamespacesLane {
    lane: Lane<Arc<Outcome<Namespaces>>>,
    /// What was found last.
    last: Mutex<Option<Arc<Outcome<Namespaces>>>>,
    /// Whether the next run must dump the namespaces that are asked for by name.
    fresh: Arc<AtomicBool>,
    enabled: Enabled,
}

impl NamespacesLane {
    fn start(config: CollectorConfig) -> io::Result<Self> {
        let fresh = Arc::new(AtomicBool::new(false));
        let enabled = config.enabled.clone();
        let mut job = NamespacesJob::new(config, Arc::clone(&fresh));
        let run = move |deadline| Arc::new(job.run(deadline));
        Ok(Self {
            // It returns a part of its result if time is short: before the first of those that share the run stops
            // waiting.
            lane: Lane::start("netns", Instant::min, run)?,
            last: Mutex::new(None),
            fresh,
            enabled,
        })
    }

    /// What a run answered. Where one that had begun before was not done by the deadline: which namespaces there were
    /// the last time, each as late.
    fn answered(
        &self,
        answer: Option<Arc<Outcome<Namespaces>>>,
        waited: Duration,
    ) -> Arc<Outcome<Namespaces>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answer {
            return Arc::clone(last.insert(answer));
        }
        let found = last.as_ref().and_then(|last| last.value.as_ref());
        Arc::new(Outcome {
            value: found.map(|found| namespaces::all_late(found, &self.enabled)),
            ..Outcome::missing(waited)
        })
    }
}

/// What one collector's thread does: reads, given the time by which it must be done. Nothing where the collector
/// is off.
pub type Job = Box<dyn FnMut(Instant) -> Option<Outcome> + Send>;

/// Reads the kernel for those who ask.
#[derive(Debug)]
pub struct Collector {
    lanes: Vec<(CollectorId, Lane<Option<Outcome>>)>,
    /// The other namespaces, if they are read.
    namespaces: Option<NamespacesLane>,
}

impl Collector {
    /// Starts the collectors. `connect` opens conversations with sock_diag; the kernel is not asked
    /// for anything yet, but what counts by itself begins to.
    ///
    /// Fails if the system gives no thread.
    pub fn open(mut config: CollectorConfig, connect: Box<dyn Connect>) -> io::Result<Self> {
        config.census.probe &= config.enabled.has(CollectorId::Probe);
        let procfs = ProcRoot::new(config.procfs.clone());
        let enabled = &config.enabled;
        let mut jobs: Vec<(CollectorId, Job)> = Vec::new();
        let reader = |connect| SocketReader {
            choice: config.source,
            procfs: procfs.clone(),
            dumper: Dumper::new(connect),
            options: config.census.clone(),
        };
        if enabled.has(CollectorId::Sockets) {
            let job = reader(connect).job(!enabled.has(CollectorId::Sysctl));
            jobs.push((CollectorId::Sockets, job));
        }
        if enabled.has(CollectorId::Udp) {
            let job = reader(Box::new(NetlinkConnect)).udp_job();
            jobs.push((CollectorId::Udp, job));
        }
        for mut job in FilesJob::all(enabled, None) {
            let procfs = procfs.clone();
            jobs.push((job.id, Box::new(move |_| job.run(&procfs))));
        }
        if enabled.has(CollectorId::Failures)
            && let Some(mut job) = FailuresJob::open()
        {
            jobs.push((CollectorId::Failures, Box::new(move |_| Some(job.run()))));
        }
        let mut collector = Self::start(jobs)?;
        if config.namespaces != NamespaceChoice::OwnOnly {
            collector.namespaces = Some(NamespacesLane::start(config)?);
        }
        Ok(collector)
    }

    /// Starts one thread for each job, which is only called when someone waits for it.
    ///
    /// Fails if the system gives no thread.
    pub fn start(jobs: impl IntoIterator<Item = (CollectorId, Job)>) -> io::Result<Self> {
        let lanes = jobs
            .into_iter()
            .map(|(id, job)| Ok((id, Lane::start(id.name(), Instant::max, job)?)));
        Ok(Self {
            lanes: lanes.collect::<io::Result<_>>()?,
            namespaces: None,
        })
    }

    /// The same for a person: of namespaces that were asked for by name no older dump is used.
    pub(crate) async fn scrape_fresh(&self, deadline: Instant) -> HostSnapshot {
        if let Some(namespaces) = &self.namespaces {
            namespaces.fresh.store(true, Ordering::Relaxed);
        }
        self.scrape(deadline).await
    }

    /// One scrape: readings that begin after this call, as far as they are there by the deadline.
    pub async fn scrape(&self, deadline: Instant) -> HostSnapshot {
        let begin = Instant::now();
        let until = tokio::time::Instant::from_std(deadline);
        let namespaces = self.namespaces.as_ref();
        let namespaces = namespaces.map(|others| (others, others.lane.request(deadline)));
        let lanes = self.lanes.iter();
        let requested = lanes.map(|(id, lane)| (*id, lane.request(deadline)));
        let mut host = HostSnapshot::default();
        for (id, receiver) in requested.collect::<Vec<_>>() {
            let answer = timeout_at(until, receiver).await.ok().and_then(Result::ok);
            let late = || Some(Outcome::missing(begin.elapsed()));
            host.own.set(id, answer.unwrap_or_else(late));
        }
        if let Some((others, receiver)) = namespaces {
            let answer = timeout_at(until, receiver).await.ok().and_then(Result::ok);
            host.namespaces = Some(others.answered(answer, begin.elapsed()));
        }
        host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_a_choice_or_a_list_whatever_spaces_are_around() {
        let parsed = |text: &str| text.parse::<NamespaceChoice>();
        let listed = |names: &[&str]| {
            let names = names.iter().map(ToString::to_string).collect();
            Ok(NamespaceChoice::Listed(names))
        };
        assert_eq!(parsed(" named\n"), Ok(NamespaceChoice::Named));
        assert_eq!(parsed("all "), Ok(NamespaceChoice::All));
        assert_eq!(parsed("self, self"), Ok(NamespaceChoice::OwnOnly));
        assert_eq!(parsed(" b ,self,a b,-c,b"), listed(&["b", "a b", "-c"]));
        for wrong in ["", "a,", "named,a", "a/b", ".."] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}

//! The job that dumps the connection table and adds it up.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use thiserror::Error;
use tracing::{debug, info, warn};

use super::bound::BoundSockets;
use super::complaint::{Complaint, join};
use super::probe::ProbeMemory;
use super::{Job, SourceChoice};
use crate::domain::census::{Census, Moment};
use crate::domain::options::CensusOptions;
use crate::domain::settings::Settings;
use crate::domain::snapshot::{
    Counts, Destination, Outcome, PeerTimestamps, Probe, SocketSummary, Source,
};
use crate::kernel::clock::milliseconds_of_second;
use crate::kernel::procfs::{self, ProcRoot};
use crate::kernel::release::{lists_bound_sockets, orphans_keep_ports};
use crate::kernel::sock_diag::{Dump, DumpCount, DumpError, Dumper};

/// How often a dump is tried after a transient error.
const TRIES: usize = 3;

/// What is logged where the kernel calls each try inconsistent.
const INCOMPLETE: &str =
    "the dump is incomplete: the kernel marks it as inconsistent (NLM_F_DUMP_INTR)";

/// Reads the sockets of the network namespace that the calling thread is in, from the source that works.
pub(super) struct SocketReader {
    pub(super) choice: SourceChoice,
    pub(super) procfs: ProcRoot,
    pub(super) dumper: Dumper,
    pub(super) options: CensusOptions,
}

/// What is remembered of one namespace from dump to dump.
pub(super) struct SocketMemory {
    bound: BoundSockets,
    probe: ProbeMemory,
    timestamps: TimestampsSeen,
    /// Where the sockets were read from last, so that a change is logged once.
    source: Option<Source>,
    sockets: Complaint,
    last_unknown: Option<(u8, u8)>,
}

/// What a dump goes by.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) settings: &'a Settings,
    /// The kernel's socket counts of the same namespace.
    pub(super) statistics: Option<&'a Counts>,
    /// How many sockets the kernel iterates over to find the bound ones: those of all namespaces, or of the same one where
    /// only these are known.
    pub(super) bind_table: Option<u64>,
    pub(super) deadline: Instant,
}

/// A sum, and whether the kernel calls what was added up complete.
type Summed<T> = (T, bool);

/// Why there is no sum.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    #[error("net.ipv4.ip_local_port_range is unknown")]
    NoRange,
    #[error(transparent)]
    Dump(#[from] DumpError),
    #[error(transparent)]
    Table(#[from] procfs::ReadError),
}

impl ReadError {
    const fn is_late(&self) -> bool {
        match self {
            Self::NoRange => false,
            Self::Dump(error) => matches!(error, DumpError::Deadline(_)),
            Self::Table(error) => error.is_late(),
        }
    }
}

/// How many sockets that are not in TIME-WAIT there must be, as a share of those that are, for a
/// filter program to pay: 1 to this.
const WORTH_FILTERING: u64 = 8;

/// Whether the kernel should skip the sockets that use no ephemeral port.
///
/// A filter costs the kernel 15 to 30 ns for each socket in TIME-WAIT, of some 300, and saves it some
/// 700 for each other one that it skips. Those in TIME-WAIT are all sent, so that it can only pay on the
/// others, of which the counts do not say how many are a server's. From one to eight on it pays if a
/// third of them is, and costs 7 % at most if none is.
fn is_worth_filtering(statistics: &Counts) -> bool {
    match (statistics.get("inuse"), statistics.get("tw")) {
        (Some(in_use), Some(time_wait)) => in_use.saturating_mul(WORTH_FILTERING) > time_wait,
        _ => false,
    }
}

/// How many TCP sockets of a namespace have a local port.
pub(super) fn connections(statistics: &Counts) -> Option<u64> {
    let (in_use, time_wait) = (statistics.get("inuse")?, statistics.get("tw")?);
    Some(in_use.saturating_add(time_wait))
}

/// Tries a dump again after a transient error, or if the kernel marks it as inconsistent: in the end such a dump is
/// better than none.
pub(super) fn tried<T>(
    mut dump: impl FnMut() -> Result<Summed<T>, DumpError>,
) -> Result<Summed<T>, DumpError> {
    let mut incomplete = None;
    for _ in 1..TRIES {
        match dump() {
            Ok((sum, true)) => return Ok((sum, true)),
            Ok(summed) => incomplete = Some(summed),
            Err(error) if error.is_passing() => {}
            Err(error) => return incomplete.ok_or(error),
        }
    }
    dump().or_else(|error| incomplete.ok_or(error))
}

impl SocketReader {
    /// The collector of the exporter's namespace. It logs errors of the sysctls only where the sysctl collector is off.
    pub(super) fn job(mut self, logs_settings: bool) -> Job {
        let mut memory = SocketMemory::new(None);
        let mut complaint = Complaint::new("sysctl", None);
        Box::new(move |deadline| {
            let (settings, errors) = self.procfs.read_settings();
            if logs_settings {
                complaint.note(join(&errors));
            }
            // Without these numbers nothing is filtered.
            let statistics = self.procfs.read_socket_statistics().ok();
            let given = Given {
                settings: &settings,
                statistics: statistics.as_ref(),
                bind_table: statistics.as_ref().and_then(connections),
                deadline,
            };
            Some(self.read(&mut memory, given))
        })
    }

    /// Reads the sockets. A failure is logged.
    pub(super) fn read(&mut self, memory: &mut SocketMemory, given: Given<'_>) -> Outcome {
        let begin = Instant::now();
        let result = self.read_any(memory, given);
        match &result {
            // The namespaces that a run did not reach are logged together.
            Err(error) if error.is_late() && memory.sockets.netns().is_some() => {}
            Err(error) => memory.sockets.note(Some(error.to_string())),
            Ok((_, true)) => memory.sockets.note(None),
            Ok((_, false)) => memory.sockets.note(Some(INCOMPLETE.to_owned())),
        }
        Outcome {
            success: matches!(result, Ok((_, true))),
            value: result.ok().map(|(summary, _)| summary.into()),
            duration: begin.elapsed(),
        }
    }

    /// The sum of a namespace without sockets. It has no breakdowns, which would be a third of all
    /// series of a namespace, unless something is pinned.
    pub(super) fn empty(&self, settings: &Settings) -> SocketSummary {
        let mut options = self.options.clone();
        if options.pinned_ports.is_empty() && options.pinned_destinations.is_empty() {
            options.without_breakdowns();
        }
        SocketSummary {
            // Neither was asked, and perhaps the one that would have been cannot be used.
            source: None,
            ..Census::new(options, settings, Moment::default(), &[]).finish(Source::Netlink, 0)
        }
    }

    fn read_any(
        &mut self,
        memory: &mut SocketMemory,
        given: Given<'_>,
    ) -> Result<Summed<SocketSummary>, ReadError> {
        let mut reason = None;
        if self.choice != SourceChoice::Procfs {
            match tried(|| self.dump(memory, given)) {
                Err(error) if error.is_unusable() && self.choice == SourceChoice::Auto => {
                    reason = Some(error);
                }
                result => {
                    memory.note_source(Source::Netlink, None);
                    return Ok(result?);
                }
            }
        }
        memory.note_source(Source::Procfs, reason.as_ref());
        Ok((self.read_procfs(memory, given)?, true))
    }

    fn dump(
        &mut self,
        memory: &mut SocketMemory,
        given: Given<'_>,
    ) -> Result<Summed<SocketSummary>, DumpError> {
        let now = Instant::now();
        let dumped = self.dump_once(memory, given, now)?;
        if memory.bound.suffice_for(&dumped.0, now) {
            return Ok(dumped);
        }
        // A destination has come near its limit since the last scrape. Where time is up, a sum with
        // an older reading is better than none.
        let again = self.dump_once(memory, given, Instant::now());
        Ok(again.unwrap_or(dumped))
    }

    fn dump_once(
        &mut self,
        memory: &mut SocketMemory,
        given: Given<'_>,
        now: Instant,
    ) -> Result<Summed<SocketSummary>, DumpError> {
        let statistics = given.statistics;
        let filters = !self.options.whole_table && statistics.is_some_and(is_worth_filtering);
        let mut dump = self.dumper.open(given.deadline)?;
        // Owners first: they define which of the other sockets are outgoing.
        let mut owners = Vec::new();
        let owner_count = if memory.bound.are_due(now, given.bind_table) {
            let count = dump.owners(|owner| owners.push(owner))?;
            memory.bound.note(now, &owners);
            count
        } else {
            owners.extend_from_slice(memory.bound.noted());
            dump.listeners(|owner| owners.push(owner))?
        };
        let is_this_kernel = dump.is_of_this_kernel();
        let settings = given.settings;
        let moment = memory.timestamps.moment(now, settings, is_this_kernel);
        let mut census = Census::new(self.options.clone(), settings, moment, &owners);
        let socket_count = match settings.port_range {
            Some(range) if filters => {
                census.without_others();
                dump.sockets_of_range(range, |socket| census.add(&socket))
            }
            _ => dump.sockets(|socket| census.add(&socket)),
        }?;
        memory.note_unknown(&socket_count);
        note_peers(&mut census, &mut dump);
        let records = owner_count.records + socket_count.records;
        let is_complete = !owner_count.interrupted && !socket_count.interrupted;
        let source = Source::Netlink;
        let summary = self.finish(census, memory, given, source, records, is_this_kernel);
        Ok((summary, is_complete))
    }

    fn read_procfs(
        &self,
        memory: &mut SocketMemory,
        given: Given<'_>,
    ) -> Result<SocketSummary, procfs::ReadError> {
        let (procfs, deadline) = (&self.procfs, given.deadline);
        let mut owners = Vec::new();
        let owner_count = procfs.read_owners(deadline, &mut |owner| owners.push(owner))?;
        let is_this_kernel = self.procfs.path() == Path::new("/proc");
        let (now, settings) = (Instant::now(), given.settings);
        let moment = memory.timestamps.moment(now, settings, is_this_kernel);
        let mut census = Census::new(self.options.clone(), settings, moment, &owners);
        let count = procfs.read_sockets(deadline, &mut |socket| census.add(&socket))?;
        for destination in census.depending_on_reuse() {
            census.note_peer(&destination, PeerTimestamps::Unknown);
        }
        let (source, records) = (Source::Procfs, owner_count + count);
        Ok(self.finish(census, memory, given, source, records, is_this_kernel))
    }

    /// Closes those ports of the census to which connect() is closed, and sums it up.
    fn finish(
        &self,
        mut census: Census,
        memory: &mut SocketMemory,
        given: Given<'_>,
        source: Source,
        records: u64,
        is_this_kernel: bool,
    ) -> SocketSummary {
        let probe = if is_this_kernel && self.options.probe {
            let lists_bound = source == Source::Netlink && lists_bound_sockets();
            let memory = &mut memory.probe;
            memory.probe(&mut census, &self.procfs, given, lists_bound)
        } else {
            Probe::Off
        };
        let mut summary = census.finish(source, records);
        if let Some(ports) = &mut summary.ports {
            ports.probe = probe;
        }
        summary
    }
}

impl SocketMemory {
    /// Of the namespace with this label; `None` is the exporter's.
    pub(super) fn new(netns: Option<String>) -> Self {
        Self {
            bound: BoundSockets::new(netns.is_some()),
            probe: ProbeMemory::default(),
            timestamps: TimestampsSeen::default(),
            source: None,
            sockets: Complaint::new("sockets", netns),
            last_unknown: None,
        }
    }

    fn note_source(&mut self, source: Source, reason: Option<&DumpError>) {
        let before = self.source.replace(source);
        // What is true of the exporter's namespace is true of the others, and not logged for each.
        if before == Some(source) || self.sockets.netns().is_some() {
            return;
        }
        let collector_source = source.as_str();
        if let Some(error) = reason {
            warn!(
                collector_source,
                err = error.to_string(),
                "netlink is unavailable, sockets are read from /proc/net/tcp and tcp6: slower, and \
                 ports of bound, unconnected sockets are known only if they are probed"
            );
        } else if before.is_some() {
            info!(collector_source, "the source of sockets has changed");
        }
    }

    fn note_unknown(&mut self, count: &DumpCount) {
        if let Some((family, state)) = count.last_unknown
            && self.last_unknown.replace((family, state)) != count.last_unknown
        {
            warn!(
                count = count.unknown,
                family,
                state,
                netns = self.sockets.netns(),
                "sockets of a family or state unknown to this program are skipped"
            );
        }
    }
}

/// Asks live sockets whether the peers use TCP timestamps for which it matters.
fn note_peers(census: &mut Census, dump: &mut Dump<'_>) {
    let destinations = census.depending_on_reuse();
    if destinations.is_empty() {
        return;
    }
    let end = |destination: &Destination| (destination.dst_addr, destination.dst_port);
    let mut seen: HashMap<_, bool> = HashMap::new();
    let dumped = dump.live_sockets(&destinations, |live| {
        if let Some(has_them) = live.has_timestamps {
            *seen.entry(end(&live.destination)).or_default() |= has_them;
        }
    });
    if let Err(error) = dumped {
        debug!(%error, "live sockets cannot be read");
    }
    for destination in &destinations {
        let timestamps = match seen.get(&end(destination)) {
            Some(true) => PeerTimestamps::Present,
            Some(false) => PeerTimestamps::Absent,
            None => PeerTimestamps::Unknown,
        };
        census.note_peer(destination, timestamps);
    }
}

/// By how much the age of a socket may be wrong: it is counted in jiffies, and in /proc also in clock ticks, each of
/// 10 ms at most.
const AGE_ERROR: Duration = Duration::from_millis(20);

/// When `tcp_timestamps` was seen on and off last: a TIME-WAIT socket has what was then.
#[derive(Debug, Default)]
struct TimestampsSeen {
    on: Option<Instant>,
    off: Option<Instant>,
}

impl TimestampsSeen {
    fn moment(&mut self, now: Instant, settings: &Settings, is_this_kernel: bool) -> Moment {
        let since = |seen: Option<Instant>| Some(now.saturating_duration_since(seen?));
        // In doubt a socket has none: headroom is not promised on a guess.
        let changed = match settings.tcp_timestamps {
            None => None,
            Some(0) => {
                self.off = Some(now);
                since(self.on).map(|since| since + AGE_ERROR)
            }
            Some(_) => {
                self.on = Some(now);
                since(self.off).map(|since| since.saturating_sub(AGE_ERROR))
            }
        };
        let milliseconds = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Moment {
            milliseconds_of_second: is_this_kernel.then(milliseconds_of_second),
            timestamps_changed_ms: changed.map(milliseconds),
            orphans_keep_ports: is_this_kernel && orphans_keep_ports(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(in_use: Option<u64>, time_wait_buckets: Option<u64>) -> bool {
        let in_use = in_use.map(|count| ("inuse", count));
        let time_wait = time_wait_buckets.map(|count| ("tw", count));
        is_worth_filtering(&in_use.into_iter().chain(time_wait).collect())
    }

    #[test]
    fn a_filter_is_used_where_many_sockets_are_not_in_time_wait() {
        assert!(with(Some(100_000), Some(10_000)));
        assert!(with(Some(126), Some(1_000)));
        assert!(!with(Some(125), Some(1_000)));
        assert!(!with(Some(20), Some(1_000_000)));
        assert!(!with(Some(0), Some(0)));
        assert!(with(Some(u64::MAX), Some(1)));
    }

    #[test]
    fn a_socket_as_old_as_a_change_of_timestamps_counts_as_one_without() {
        let (mut seen, begin) = (TimestampsSeen::default(), Instant::now());
        let mut changed = |value, seconds| {
            let settings = Settings {
                tcp_timestamps: Some(value),
                ..Settings::default()
            };
            let now = begin + Duration::from_secs(seconds);
            seen.moment(now, &settings, false).timestamps_changed_ms
        };
        assert_eq!(changed(1, 0), None);
        assert_eq!(changed(0, 5), Some(5_020));
        assert_eq!(changed(0, 10), Some(10_020));
        assert_eq!(changed(1, 11), Some(980));
        assert_eq!(changed(2, 12), Some(1_980));
    }

    #[test]
    fn without_counts_nothing_is_filtered() {
        assert!(!with(None, Some(1)) && !with(Some(1), None));
    }
}

//! The thread that goes from namespace to namespace, and what it reads there.
//!
//! Decides nothing about which namespaces are read, and when.

use std::io;
use std::time::{Duration, Instant};

use super::due::{Check, LastDump};
use super::known::Known;
use super::visit::{Progress, Visit, only};
use crate::collector::CollectorConfig;
use crate::collector::sockets::{Given, SocketReader};
use crate::collector::udp::UdpReader;
use crate::domain::collectors::{CollectorId, Enabled};
use crate::domain::settings::Settings;
use crate::domain::snapshot::{Counts, Outcome, Reading};
use crate::domain::udp::UdpUsage;
use crate::kernel::namespaces::{EnterError, Home, NamespaceLister};
use crate::kernel::procfs::ProcRoot;
use crate::kernel::sock_diag::NetlinkConnect;

/// What is only known on the job's own thread.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) home: Home,
    pub(super) lister: NamespaceLister,
    procfs: ProcRoot,
    reader: SocketReader,
    udp: UdpReader,
    /// What was exported last of a namespace without sockets, and for which settings.
    empty: Option<(Settings, Reading)>,
    /// Whether missing capabilities were logged at the start.
    lacks_rights: bool,
}

impl Place {
    /// # Errors
    /// There is no /proc, or no descriptor to be had.
    pub(super) fn new(config: &CollectorConfig, lacks_rights: bool) -> io::Result<Self> {
        let home = Home::open()?;
        let procfs = ProcRoot::new(config.procfs.clone()).of_thread();
        let (names, key) = (config.namespace_names.clone(), home.key());
        Ok(Self {
            lister: NamespaceLister::new(config.procfs.clone(), names, key),
            home,
            reader: SocketReader::new(
                config.source,
                procfs.clone(),
                Box::new(NetlinkConnect),
                config.census.clone(),
            ),
            udp: UdpReader::new(config.source, procfs.clone(), config.census.top),
            procfs,
            empty: None,
            lacks_rights,
        })
    }

    /// The TCP sockets of the namespace that the thread is in.
    pub(super) fn sockets(&self) -> u64 {
        self.procfs
            .read_socket_statistics()
            .map_or(0, |counts| tcp_sockets(&counts))
    }

    /// Enters a namespace; whether that went well.
    fn enter(&self, visit: &mut Visit<'_>) -> bool {
        let entry = &mut visit.known.entry;
        match self.home.leave_for(&self.lister, visit.found) {
            Ok(()) => {
                entry.note(None);
                return true;
            }
            Err(EnterError::Gone) => visit.progress = Progress::Gone,
            Err(error) => {
                if !self.lacks_rights {
                    entry.note_in_words(error.reason(), &error.to_string());
                }
                visit.progress = Progress::Refused;
            }
        }
        false
    }

    /// Enters a namespace and checks whether there is something to dump, and its UDP sockets.
    pub(super) fn check(
        &mut self,
        visit: &mut Visit<'_>,
        run: u64,
        in_turn: bool,
        enabled: &Enabled,
        deadline: Instant,
    ) {
        if !self.enter(visit) {
            return;
        }
        let known = &mut visit.known;
        let check = known.check(&self.procfs, run, in_turn);
        if known.files_read == run {
            known.read_resident(self.lister.procfs());
        }
        if enabled.has(CollectorId::Udp) {
            let outcome = self.read_udp(known, deadline);
            known.files.set(CollectorId::Udp, outcome);
        }
        visit.progress = check.map_or(Progress::Empty, Progress::Checked);
    }

    /// Reads the UDP sockets, unless the counts say that there are none.
    fn read_udp(&mut self, known: &mut Known, deadline: Instant) -> Option<Outcome> {
        if known.files.udp_in_use() == Some(0) {
            return Some(Outcome::whole(Some(UdpUsage::default()), Duration::ZERO));
        }
        self.udp.run(&known.settings(), &mut known.udp, deadline)
    }

    /// Finishes a namespace without sockets.
    pub(super) fn finish_empty(&mut self, visit: &mut Visit<'_>, enabled: &Enabled) {
        let known = &mut visit.known;
        let outcome = Outcome::whole(Some(self.empty(known.settings())), Duration::ZERO);
        let mut snapshot = known.files.clone();
        snapshot.set(CollectorId::Sockets, Some(outcome));
        known.note_rank(&snapshot);
        known.rank = Some(known.rank_if_empty());
        known.last = None;
        let snapshot = only(snapshot, enabled);
        visit.progress = Progress::Done(Box::new(snapshot), Duration::ZERO);
    }

    fn empty(&mut self, settings: Settings) -> Reading {
        match &self.empty {
            Some((same, reading)) if *same == settings => reading.clone(),
            _ => {
                let reading = Reading::from(self.reader.empty(&settings));
                self.empty = Some((settings, reading.clone()));
                reading
            }
        }
    }

    /// Enters a namespace again and dumps its sockets. It is late if the deadline came first.
    pub(super) fn dump(
        &mut self,
        visit: &mut Visit<'_>,
        check: Check,
        host_sockets: u64,
        enabled: &Enabled,
        deadline: Instant,
    ) {
        if !self.enter(visit) {
            return;
        }
        let known = &mut visit.known;
        let settings = known.settings();
        let mut snapshot = known.files.clone();
        let begin = Instant::now();
        if enabled.has(CollectorId::Sockets) {
            let given = Given {
                settings: &settings,
                statistics: Some(&check.sockets),
                bind_table: Some(host_sockets),
                deadline,
            };
            let outcome = self.reader.read(&mut known.sockets, given);
            if outcome.value.is_none() && Instant::now() >= deadline {
                visit.progress = Progress::Late;
                return;
            }
            known.last = LastDump::new(begin, &outcome, check, settings);
            snapshot.set(CollectorId::Sockets, Some(outcome));
        }
        known.note_rank(&snapshot);
        visit.progress = Progress::Done(Box::new(only(snapshot, enabled)), Duration::ZERO);
    }
}

/// Sockets in the connection table, as the kernel counts them.
pub(super) fn tcp_sockets(counts: &Counts) -> u64 {
    let count = |name| counts.get(name).unwrap_or(0);
    count("tw").saturating_add(count("inuse"))
}

//! The thread that goes from namespace to namespace, and what it reads there.
//!
//! Decides nothing about which namespaces are read, and when.

use std::io;
use std::time::{Duration, Instant};

use super::known::Known;
use super::visit::Progress;
use crate::collector::CollectorConfig;
use crate::collector::sockets::{Given, SocketReader};
use crate::collector::udp::UdpReader;
use crate::domain::collectors::{CollectorId, Enabled};
use crate::domain::settings::Settings;
use crate::domain::snapshot::{Counts, Outcome, Reading, Snapshot};
use crate::domain::udp::UdpUsage;
use crate::kernel::namespaces::{EnterError, FoundNamespace, Home, NamespaceLister, read_resident};
use crate::kernel::procfs::{ProcRoot, UDP_IN_USE};
use crate::kernel::sock_diag::NetlinkConnect;

/// What is only known on the job's own thread.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) home: Home,
    pub(super) lister: NamespaceLister,
    pub(super) procfs: ProcRoot,
    reader: SocketReader,
    udp: UdpReader,
    /// What was told last of a namespace without sockets, and for which settings.
    nothing: Option<(Settings, Reading)>,
}

impl Place {
    /// # Errors
    /// There is no /proc, or no descriptor to be had.
    pub(super) fn new(config: &CollectorConfig) -> io::Result<Self> {
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
            nothing: None,
        })
    }

    /// Enters a namespace and looks whether there are sockets.
    pub(super) fn glance(
        &self,
        known: &mut Known,
        found: &FoundNamespace,
    ) -> Result<Progress, EnterError> {
        self.home.leave_for(&self.lister, found)?;
        known.entry.note(None);
        let sockstat = known
            .sockstat
            .as_mut()
            .and_then(|job| job.run(&self.procfs));
        let statistics = sockstat.unwrap_or(Outcome::missing(Duration::ZERO));
        Ok(
            if matches!(&statistics.value, Some(Reading::Counts(counts)) if is_quiet(counts)) {
                Progress::Quiet(statistics)
            } else {
                Progress::Busy(statistics)
            },
        )
    }

    /// Enters a namespace again and reads its settings and counters, and who lives there.
    pub(super) fn enter_and_read(
        &self,
        known: &mut Known,
        found: &FoundNamespace,
        run: u64,
    ) -> Result<(), EnterError> {
        self.home.leave_for(&self.lister, found)?;
        let files = known.files.iter_mut();
        known.readings = Some(files.map(|job| (job.id, job.run(&self.procfs))).collect());
        known.files_read = run;
        let pid = known.pid;
        known.resident = pid.map(|pid| read_resident(self.lister.procfs(), pid));
        Ok(())
    }

    pub(super) fn quiet_snapshot(
        &mut self,
        known: &mut Known,
        statistics: Outcome,
        enabled: &Enabled,
        deadline: Instant,
    ) -> Snapshot {
        let duration = statistics.duration;
        let mut snapshot = known.snapshot(statistics);
        let settings = snapshot.settings().cloned().unwrap_or_default();
        let nothing = self.nothing(settings);
        snapshot.set(
            CollectorId::Sockets,
            Some(Outcome::whole(Some(nothing), duration)),
        );
        self.add_udp(known, &mut snapshot, enabled, deadline);
        only(snapshot, enabled)
    }

    /// Reads the UDP sockets, unless sockstat says that there are none.
    fn add_udp(
        &mut self,
        known: &mut Known,
        snapshot: &mut Snapshot,
        enabled: &Enabled,
        deadline: Instant,
    ) {
        if !enabled.has(CollectorId::Udp) {
            return;
        }
        let is_empty = snapshot.count(CollectorId::Sockstat, UDP_IN_USE) == Some(0);
        let outcome = if is_empty {
            Some(Outcome::whole(Some(UdpUsage::default()), Duration::ZERO))
        } else {
            let settings = snapshot.settings().cloned().unwrap_or_default();
            self.udp.run(&settings, &mut known.udp, deadline)
        };
        snapshot.set(CollectorId::Udp, outcome);
    }

    fn nothing(&mut self, settings: Settings) -> Reading {
        match &self.nothing {
            Some((same, reading)) if *same == settings => reading.clone(),
            _ => {
                let reading = Reading::from(self.reader.empty(&settings));
                self.nothing = Some((settings, reading.clone()));
                reading
            }
        }
    }

    /// Walks the namespace that the thread is in.
    pub(super) fn busy_snapshot(
        &mut self,
        known: &mut Known,
        statistics: Outcome,
        enabled: &Enabled,
        deadline: Instant,
    ) -> Snapshot {
        let mut snapshot = known.snapshot(statistics);
        if enabled.has(CollectorId::Sockets) {
            let settings = snapshot.settings().cloned().unwrap_or_default();
            let given = Given {
                settings: &settings,
                statistics: snapshot.counts(CollectorId::Sockstat),
                deadline,
            };
            let outcome = self.reader.read(&mut known.sockets, given);
            snapshot.set(CollectorId::Sockets, Some(outcome));
        }
        self.add_udp(known, &mut snapshot, enabled, deadline);
        only(snapshot, enabled)
    }
}

/// How far a run came with a namespace that was not entered. `lacks_rights` is whether the reason has been
/// said already.
pub(super) fn barred(known: &mut Known, error: &EnterError, lacks_rights: bool) -> Progress {
    if matches!(error, EnterError::Gone) {
        return Progress::Gone;
    }
    if !lacks_rights {
        let entry = &mut known.entry;
        entry.note_in_words(error.reason(), &error.to_string());
    }
    Progress::Refused
}

/// Without what is not to be exported.
fn only(mut snapshot: Snapshot, enabled: &Enabled) -> Snapshot {
    for id in CollectorId::ALL {
        if !enabled.has(*id) {
            snapshot.set(*id, None);
        }
    }
    snapshot
}

/// Whether there is no TCP socket but, at most, some that are merely bound, which the kernel does not
/// count.
fn is_quiet(statistics: &Counts) -> bool {
    statistics.get("tw") == Some(0) && statistics.get("inuse") == Some(0)
}

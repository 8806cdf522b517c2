//! The thread that goes from namespace to namespace, and what it reads there.
//!
//! Decides nothing about which namespaces are read, and when.

use std::io;
use std::time::Instant;

use super::known::Known;
use super::visit::Progress;
use crate::collector::files::whole;
use crate::collector::sockets::Walker;
use crate::collector::{CollectorConfig, Enabled, FileReadings};
use crate::domain::settings::Settings;
use crate::domain::snapshot::{Outcome, Snapshot, SocketStatistics, SocketSummary};
use crate::kernel::namespaces::{EnterError, FoundNamespace, Home, NamespaceLister, read_resident};
use crate::kernel::procfs::ProcRoot;
use crate::kernel::sock_diag::NetlinkConnect;

/// What is only known on the job's own thread.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) home: Home,
    pub(super) lister: NamespaceLister,
    pub(super) procfs: ProcRoot,
    walker: Walker,
    /// What was told last of a namespace without sockets, and for which settings.
    nothing: Option<(Settings, SocketSummary)>,
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
            walker: Walker::new(
                config.source,
                procfs.clone(),
                Box::new(NetlinkConnect),
                config.census.clone(),
            ),
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
        let read = || self.procfs.read_socket_statistics();
        let statistics = whole(&mut known.sockstat, read);
        Ok(if statistics.value.is_some_and(is_quiet) {
            Progress::Quiet(statistics)
        } else {
            Progress::Busy(statistics)
        })
    }

    /// Enters a namespace again and reads its settings and counters, and who lives there.
    pub(super) fn enter_and_read(
        &self,
        known: &mut Known,
        found: &FoundNamespace,
        run: u64,
    ) -> Result<(), EnterError> {
        self.home.leave_for(&self.lister, found)?;
        known.readings = Some(known.files.run());
        known.files_read = run;
        let pid = known.pid;
        known.resident = pid.map(|pid| read_resident(self.lister.procfs(), pid));
        Ok(())
    }

    pub(super) fn quiet_snapshot(
        &mut self,
        known: &Known,
        statistics: Outcome<SocketStatistics>,
        enabled: Enabled,
    ) -> Snapshot {
        let readings = known.readings.clone().unwrap_or_default();
        let duration = statistics.duration;
        let sockets = enabled.sockets.then(|| {
            let settings = readings.sysctl.as_ref();
            let settings = settings.and_then(|outcome| outcome.value.clone());
            Outcome {
                value: Some(self.nothing(settings.unwrap_or_default())),
                success: true,
                duration,
            }
        });
        joined(sockets, readings, statistics, enabled)
    }

    fn nothing(&mut self, settings: Settings) -> SocketSummary {
        match &self.nothing {
            Some((same, figures)) if *same == settings => figures.clone(),
            _ => {
                let figures = self.walker.nothing(&settings);
                self.nothing = Some((settings, figures.clone()));
                figures
            }
        }
    }

    /// Walks the namespace that the thread is in.
    pub(super) fn busy_snapshot(
        &mut self,
        known: &mut Known,
        statistics: Outcome<SocketStatistics>,
        enabled: Enabled,
        deadline: Instant,
    ) -> Snapshot {
        let readings = known.readings.clone().unwrap_or_default();
        let begin = Instant::now();
        let sockets = enabled.sockets.then(|| {
            let settings = readings.sysctl.as_ref();
            let settings = settings.and_then(|outcome| outcome.value.clone());
            let found = self.walker.walk(
                &mut known.walk,
                &settings.unwrap_or_default(),
                statistics.value,
                deadline,
            );
            Outcome {
                success: found.is_some(),
                value: found,
                duration: begin.elapsed(),
            }
        });
        joined(sockets, readings, statistics, enabled)
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

fn joined(
    sockets: Option<Outcome<SocketSummary>>,
    readings: FileReadings,
    statistics: Outcome<SocketStatistics>,
    enabled: Enabled,
) -> Snapshot {
    Snapshot {
        sockets,
        sysctl: readings.sysctl.filter(|_| enabled.sysctl),
        netstat: readings.netstat,
        sockstat: enabled.sockstat.then_some(statistics),
        slabinfo: None,
    }
}

/// Whether there is no TCP socket but, at most, some that are merely bound, which the kernel does not
/// count.
fn is_quiet(statistics: SocketStatistics) -> bool {
    let SocketStatistics {
        time_wait_buckets,
        in_use,
        orphans: _,
        sockets_used: _,
    } = statistics;
    time_wait_buckets == Some(0) && in_use == Some(0)
}

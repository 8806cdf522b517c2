//! The thread that enters one namespace after the other, and what it reads there.
//!
//! Does not decide which namespaces are read, or when.

use std::io;
use std::time::{Duration, Instant};

use super::due::{Check, LastDump};
use super::known::{Known, Progress};
use crate::collector::files::SOCKET_COUNTS;
use crate::collector::sockets::{Given, SocketReader, connections};
use crate::collector::{CollectorConfig, NamespaceChoice};
use crate::domain::collectors::{CollectorId, Enabled};
use crate::domain::namespace::rank;
use crate::domain::settings::Settings;
use crate::domain::snapshot::{Outcome, Reading, Snapshot};
use crate::domain::udp::UdpUsage;
use crate::kernel::namespaces::{Home, NamespaceLister, missing_capabilities};
use crate::kernel::procfs::ProcRoot;
use crate::kernel::sock_diag::{Dumper, NetlinkConnect};

/// What exists only on the job's own thread.
pub(super) struct Visitor {
    pub(super) home: Home,
    pub(super) lister: NamespaceLister,
    reader: SocketReader,
    enabled: Enabled,
    /// What was exported last of a namespace without sockets, and for which settings.
    empty: Option<(Settings, Reading)>,
    /// Whether missing capabilities were logged at the start.
    pub(super) lacks_capabilities: bool,
}

impl Visitor {
    /// # Errors
    /// There is no /proc, or no descriptor to be had.
    pub(super) fn new(config: &CollectorConfig) -> io::Result<Self> {
        let home = Home::open()?;
        let reader = SocketReader {
            choice: config.source,
            procfs: ProcRoot::new(config.procfs.clone()).of_thread(),
            dumper: Dumper::new(Box::new(NetlinkConnect)),
            options: config.census.clone(),
        };
        Ok(Self {
            lister: NamespaceLister {
                procfs: config.procfs.clone(),
                names: config.namespace_names.clone(),
                own: home.key,
            },
            home,
            reader,
            enabled: config.enabled.clone(),
            empty: None,
            lacks_capabilities: !missing_capabilities(config.namespaces == NamespaceChoice::All)
                .is_empty(),
        })
    }

    /// TCP sockets of the namespace that the thread is in.
    pub(super) fn connections(&self) -> u64 {
        let counts = self.reader.procfs.read_socket_statistics().ok();
        counts.as_ref().and_then(connections).unwrap_or(0)
    }

    /// Enters a namespace. Returns whether it succeeded.
    fn enter(&self, known: &mut Known) -> bool {
        match self.home.leave_for(&self.lister, &known.found) {
            Ok(true) => {
                known.entry.note(None);
                return true;
            }
            Ok(false) => known.progress = Progress::Gone,
            Err(error) => {
                if !self.lacks_capabilities {
                    let reason = error.source.to_string();
                    known.entry.note_in_words(reason, &error.to_string());
                }
                known.progress = Progress::Refused;
            }
        }
        false
    }

    /// Enters a namespace and reads its files and UDP sockets: where there are no TCP sockets, most files and the owner
    /// only where something happened since the last run, or in turn. Returns how many TCP sockets there are.
    pub(super) fn check(
        &mut self,
        known: &mut Known,
        run: Instant,
        in_turn: bool,
        deadline: Instant,
    ) -> u64 {
        if !self.enter(known) {
            return 0;
        }
        known.progress = Progress::Checked;
        let procfs = &self.reader.procfs;
        known.read(procfs, |id| id == SOCKET_COUNTS);
        let sockets = known.files.socket_counts().and_then(connections);
        let is_empty = sockets == Some(0);
        let check = (!is_empty).then(|| {
            known.read(procfs, |id| id != SOCKET_COUNTS);
            Check::new(&known.files)
        });
        if in_turn || known.files_read.is_none() || check != known.checked {
            if is_empty {
                known.read(procfs, |id| id != SOCKET_COUNTS);
            }
            known.files_read = Some(run);
            known.read_resident(&self.lister.procfs);
        }
        known.checked = check;
        if self.enabled.has(CollectorId::Udp) {
            let usage = if known.files.udp_in_use() == Some(0) {
                Some(Outcome::whole(Some(UdpUsage::default()), Duration::ZERO))
            } else {
                let settings = known.settings();
                self.reader.read_udp(&settings, &mut known.udp, deadline)
            };
            known.files.set(CollectorId::Udp, usage);
        }
        if is_empty || !self.enabled.has(CollectorId::Sockets) {
            let reading = self.empty(known.settings());
            known.last = None;
            done(known, Outcome::whole(Some(reading), Duration::ZERO));
        }
        sockets.unwrap_or(0)
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

    /// Enters a namespace again and dumps its sockets. Returns false if the deadline came first.
    pub(super) fn dump(&mut self, known: &mut Known, host_sockets: u64, deadline: Instant) -> bool {
        if !self.enter(known) {
            return true;
        }
        let settings = known.settings();
        let begin = Instant::now();
        let given = Given {
            settings: &settings,
            statistics: known.files.socket_counts(),
            bind_table: Some(host_sockets),
            deadline,
        };
        let outcome = self.reader.read(&mut known.sockets, given);
        if outcome.value.is_none() && Instant::now() >= deadline {
            return false;
        }
        known.last = known.checked.map(|check| LastDump {
            at: begin,
            outcome: outcome.clone(),
            check,
            settings,
        });
        done(known, outcome);
        true
    }
}

/// Records the outcome of a dump and ranks the namespace by it. After a failed dump it ranks as before.
fn done(known: &mut Known, outcome: Outcome) {
    let mut snapshot = Snapshot::default();
    snapshot.set(CollectorId::Sockets, Some(outcome.clone()));
    known.rank = rank(&snapshot).or(known.rank);
    known.progress = Progress::Dumped(outcome);
}

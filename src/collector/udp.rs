//! The job that reads the UDP sockets and counts the ports in use.

use std::io;
use std::time::Instant;

use thiserror::Error;

use super::SourceChoice;
use super::complaint::Complaint;
use crate::domain::collectors::CollectorId;
use crate::domain::ports::PortSet;
use crate::domain::settings::Settings;
use crate::domain::snapshot::Outcome;
use crate::domain::udp::{UdpCensus, UdpUsage};
use crate::kernel::procfs::{ProcRoot, ReadError, TableError};
use crate::kernel::sock_diag::{DumpError, Dumper, NetlinkConnect};

/// How often a dump is tried while the kernel reports a temporary state.
const TRIES: usize = 3;

/// Reads the UDP sockets of the network namespace that the calling thread is in.
#[derive(Debug)]
pub(super) struct UdpReader {
    choice: SourceChoice,
    procfs: ProcRoot,
    dumper: Dumper,
    /// How many addresses are exported.
    top: usize,
}

/// Why the UDP ports in use are not known.
#[derive(Debug, Error)]
enum UdpError {
    #[error("net.ipv4.ip_local_port_range is unknown")]
    NoRange,
    #[error(transparent)]
    Dump(#[from] DumpError),
    #[error(transparent)]
    Table(#[from] TableError),
}

impl UdpReader {
    pub(super) fn new(choice: SourceChoice, procfs: ProcRoot, top: usize) -> Self {
        Self {
            choice,
            procfs,
            dumper: Dumper::new(Box::new(NetlinkConnect)),
            top,
        }
    }

    /// The collector of the exporter's own namespace.
    pub(super) fn job(mut self) -> super::Job {
        let mut complaint = Complaint::new(CollectorId::Udp.name(), None);
        Box::new(move |deadline| {
            // What is wrong with the settings is logged by their own collector.
            let (settings, _) = self.procfs.read_settings();
            self.run(&settings, &mut complaint, deadline)
        })
    }

    /// Nothing where this kernel reports no UDP sockets.
    pub(super) fn run(
        &mut self,
        settings: &Settings,
        complaint: &mut Complaint,
        deadline: Instant,
    ) -> Option<Outcome> {
        let begin = Instant::now();
        let result = self.read(settings, deadline);
        complaint.note(result.as_ref().err().map(ToString::to_string));
        let usage = result.map_or(Some(None), |usage| usage.map(Some))?;
        Some(Outcome::whole(usage, begin.elapsed()))
    }

    fn read(
        &mut self,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<Option<UdpUsage>, UdpError> {
        let range = settings.port_range.ok_or(UdpError::NoRange)?;
        let none = PortSet::new();
        let reserved = settings.reserved_ports.as_ref().unwrap_or(&none);
        let v6_only = settings.ipv6_bindv6only == Some(1);
        let census = || UdpCensus::new(range, reserved, v6_only);
        if self.choice != SourceChoice::Procfs {
            match self.dump(census, deadline) {
                Ok(usage) => return Ok(Some(usage)),
                Err(error) if error.is_unusable() && self.choice == SourceChoice::Auto => {}
                Err(error) if error.is_unusable() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        let mut census = census();
        match self
            .procfs
            .tcp_table()
            .read_udp(deadline, &mut |socket| census.add(socket))
        {
            Err(TableError::Read(ReadError::Io { source, .. }))
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            result => Ok(result.map(|()| Some(census.finish(self.top)))?),
        }
    }

    fn dump(
        &mut self,
        census: impl Fn() -> UdpCensus,
        deadline: Instant,
    ) -> Result<UdpUsage, DumpError> {
        let mut tries = 1;
        loop {
            let mut census = census();
            let mut dump = self.dumper.open(deadline)?;
            match dump.udp_sockets(|socket| census.add(&socket)) {
                Err(error) if error.is_passing() && tries < TRIES => tries += 1,
                result => return result.map(|_| census.finish(self.top)),
            }
        }
    }
}

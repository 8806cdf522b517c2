//! Reads the UDP sockets and counts the ports in use.

use std::io;
use std::time::Instant;

use super::complaint::Complaint;
use super::sockets::{ReadError, SocketReader, tried};
use super::{Job, SourceChoice};
use crate::domain::collectors::CollectorId;
use crate::domain::ports::PortSet;
use crate::domain::settings::Settings;
use crate::domain::snapshot::Outcome;
use crate::domain::udp::{UdpCensus, UdpUsage};

impl SocketReader {
    /// The collector of the UDP sockets of the exporter's namespace.
    pub(super) fn udp_job(mut self) -> Job {
        let mut complaint = Complaint::new(CollectorId::Udp.name(), None);
        Box::new(move |deadline| {
            // Errors of the sysctls are logged by their own collector.
            let (settings, _) = self.procfs.read_settings();
            self.read_udp(&settings, &mut complaint, deadline)
        })
    }

    /// Nothing where this kernel reports no UDP sockets.
    pub(super) fn read_udp(
        &mut self,
        settings: &Settings,
        complaint: &mut Complaint,
        deadline: Instant,
    ) -> Option<Outcome> {
        let begin = Instant::now();
        let result = self.udp_usage(settings, deadline);
        complaint.note(result.as_ref().err().map(ToString::to_string));
        let usage = result.map_or(Some(None), |usage| usage.map(Some))?;
        Some(Outcome::whole(usage, begin.elapsed()))
    }

    fn udp_usage(
        &mut self,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<Option<UdpUsage>, ReadError> {
        let range = settings.port_range.ok_or(ReadError::NoRange)?;
        let none = PortSet::new();
        let reserved = settings.reserved_ports.as_ref().unwrap_or(&none);
        let v6_only = settings.ipv6_bindv6only == Some(1);
        let top = self.options.top;
        let census = || UdpCensus::new(range, reserved, v6_only);
        if self.choice != SourceChoice::Procfs {
            let dumped = tried(|| {
                let mut census = census();
                let mut dump = self.dumper.open(deadline)?;
                let interrupted = dump.udp_sockets(|socket| census.add(&socket))?;
                Ok((census.finish(top), !interrupted))
            });
            match dumped {
                Ok((usage, _)) => return Ok(Some(usage)),
                Err(error) if error.is_unusable() && self.choice == SourceChoice::Auto => {}
                Err(error) if error.is_unusable() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        let (procfs, mut census) = (&self.procfs, census());
        match procfs.read_udp(deadline, &mut |socket| census.add(socket)) {
            Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => Ok(None),
            result => Ok(result.map(|()| Some(census.finish(top)))?),
        }
    }
}

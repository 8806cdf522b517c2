//! The job that reads the small files of /proc.

use std::time::Instant;

use super::complaint::{Complaint, join};
use super::{Enabled, FileReadings};
use crate::domain::snapshot::Outcome;
use crate::kernel::procfs::{ProcRoot, ReadError};

/// Reads the files of the collectors that are on, each with its own outcome.
#[derive(Debug)]
pub(super) struct FilesJob {
    procfs: ProcRoot,
    enabled: Enabled,
    page_size_bytes: u64,
    sysctl: Complaint,
    netstat: Complaint,
    sockstat: Complaint,
    slabinfo: Complaint,
}

impl FilesJob {
    /// Of the namespace with this label; `None` is the own one.
    pub(super) fn new(
        procfs: ProcRoot,
        enabled: Enabled,
        page_size_bytes: u64,
        netns: Option<String>,
    ) -> Self {
        Self {
            procfs,
            enabled,
            page_size_bytes,
            sysctl: Complaint::new("sysctl", netns.clone()),
            netstat: Complaint::new("netstat", netns.clone()),
            sockstat: Complaint::new("sockstat", netns.clone()),
            slabinfo: Complaint::new("slabinfo", netns),
        }
    }

    pub(super) fn run(&mut self) -> FileReadings {
        let Self {
            procfs,
            enabled,
            page_size_bytes,
            sysctl,
            netstat,
            sockstat,
            slabinfo,
        } = self;
        FileReadings {
            sysctl: enabled.sysctl.then(|| {
                let begin = Instant::now();
                let (settings, errors) = procfs.read_settings();
                sysctl.note(join(&errors));
                let success = errors.is_empty();
                Outcome {
                    value: Some(settings),
                    success,
                    duration: begin.elapsed(),
                }
            }),
            netstat: enabled
                .netstat
                .then(|| whole(netstat, || procfs.read_kernel_counters())),
            sockstat: enabled
                .sockstat
                .then(|| whole(sockstat, || procfs.read_socket_statistics())),
            slabinfo: enabled
                .slabinfo
                .then(|| whole(slabinfo, || procfs.read_slab_memory(*page_size_bytes))),
        }
    }
}

/// A reading that is there whole or not at all.
pub(super) fn whole<T>(
    complaint: &mut Complaint,
    read: impl FnOnce() -> Result<T, ReadError>,
) -> Outcome<T> {
    let begin = Instant::now();
    let result = read();
    let duration = begin.elapsed();
    complaint.note(result.as_ref().err().map(ToString::to_string));
    Outcome {
        success: result.is_ok(),
        value: result.ok(),
        duration,
    }
}

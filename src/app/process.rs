//! What the exporter tells about its own process.
//!
//! Only carries figures from the kernel's side to the exposition's, neither of which knows the other.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;

use crate::exposition::ProcessFigures;
use crate::http::ReadProcess;
use crate::kernel::process::read_process_figures;

/// Reads the figures whenever it is called, and blocks while it does. Says once that it cannot.
pub(super) fn reader() -> Box<ReadProcess> {
    let has_failed = AtomicBool::new(false);
    Box::new(move || match read_process_figures() {
        Ok(figures) => {
            has_failed.store(false, Ordering::Relaxed);
            Some(told(&figures))
        }
        Err(error) => {
            if !has_failed.swap(true, Ordering::Relaxed) {
                warn!(%error, "Cannot tell process_*");
            }
            None
        }
    })
}

const fn told(read: &crate::kernel::process::ProcessFigures) -> ProcessFigures {
    ProcessFigures {
        cpu_seconds: read.cpu_seconds,
        open_fds: read.open_fds,
        max_fds: read.max_fds,
        virtual_memory_bytes: read.virtual_memory_bytes,
        virtual_memory_max_bytes: read.virtual_memory_max_bytes,
        resident_memory_bytes: read.resident_memory_bytes,
        start_time_seconds: read.start_time_seconds,
    }
}

//! The exporter's metrics of its own process.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;

use crate::kernel::process::read_process_figures;
use crate::site::ReadProcess;

/// Reads them whenever it is called, and blocks meanwhile. A failure is logged once.
pub(super) fn reader() -> Box<ReadProcess> {
    let has_failed = AtomicBool::new(false);
    Box::new(move || match read_process_figures() {
        Ok(usage) => {
            has_failed.store(false, Ordering::Relaxed);
            Some(usage)
        }
        Err(error) => {
            if !has_failed.swap(true, Ordering::Relaxed) {
                warn!(%error, "Cannot read process_*");
            }
            None
        }
    })
}

//! What the exporter tells about its own process.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;

use crate::kernel::process::read_process_figures;
use crate::site::ReadProcess;

/// Reads the figures whenever it is called, and blocks while it does. Says once that it cannot.
pub(super) fn reader() -> Box<ReadProcess> {
    let has_failed = AtomicBool::new(false);
    Box::new(move || match read_process_figures() {
        Ok(figures) => {
            has_failed.store(false, Ordering::Relaxed);
            Some(figures)
        }
        Err(error) => {
            if !has_failed.swap(true, Ordering::Relaxed) {
                warn!(%error, "Cannot tell process_*");
            }
            None
        }
    })
}

//! Helpers that several test modules need:
//!
//! - [`program`]: starts the program, reads its log, sends signals, lists its descriptors;
//! - [`client`]: an HTTP client that shows every byte;
//! - [`exposition`]: parses the metrics of a scrape;
//! - [`server`]: the server inside this process, with collectors that the test controls;
//! - [`scraper`]: the collector inside this process, on the real kernel;
//! - [`fake_kernel`]: a kernel that follows a script;
//! - [`namespace`]: a network namespace of the test's own; [`loopback`] sets its lo up;
//! - [`sockets`]: real TCP sockets in any state;
//! - [`skip`]: how a test says that this machine lacks what it needs;
//! - [`features`]: features of the running kernel.

pub mod client;
pub mod exposition;
pub mod fake_kernel;
pub mod features;
mod loopback;
pub mod namespace;
pub mod program;
pub mod scraper;
pub mod server;
pub mod skip;
pub mod sockets;

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for an event before it fails. No test asserts a shorter time.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a future, which must complete.
pub async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.unwrap()
}

/// Waits until a condition is true.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a future on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

/// A runtime on the calling thread.
pub fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

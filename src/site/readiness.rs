//! Whether the exporter does what it is for.
//!
//! **Invariant:** ready exactly while the last conclusive reading of the socket table succeeded and
//! the program is not shutting down. A reading cut short by its scraper's deadline concludes nothing:
//! an impatient scraper does not take the exporter out of service. Where the sockets collector is
//! switched off, having answered once is enough.
//!
//! There is no timer: scrapes decide, and `/-/ready` itself while the answer is no.
//! Does not know how sockets are read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tracing::{info, warn};

use crate::domain::collectors::CollectorId;
use crate::domain::snapshot::Snapshot;

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    works: AtomicBool,
    /// Whether a failure was logged that is not over yet.
    failure_logged: AtomicBool,
    shutting_down: AtomicBool,
}

/// The answer to "are you ready?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// Not yet, or not any more: worth another reading.
    NotWorking,
    ShuttingDown,
}

impl Readiness {
    /// What is known now.
    pub(super) fn state(&self) -> State {
        if self.shutting_down.load(Ordering::Relaxed) {
            State::ShuttingDown
        } else if self.works.load(Ordering::Relaxed) {
            State::Ready
        } else {
            State::NotWorking
        }
    }

    /// Never ready again.
    pub(super) fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::Relaxed);
    }

    /// Learns from a scrape that has just ended; logs when something changed.
    pub(super) fn observe(&self, snapshot: &Snapshot, deadline: Instant) {
        let sockets = snapshot.outcome(CollectorId::Sockets);
        // An incomplete dump can be answered with.
        let is_success = sockets.is_none_or(|outcome| outcome.success || outcome.value.is_some());
        if is_success {
            self.works.store(true, Ordering::Relaxed);
            if self.failure_logged.swap(false, Ordering::Relaxed) {
                info!("Sockets can be read again");
            }
        } else if Instant::now() < deadline {
            self.works.store(false, Ordering::Relaxed);
            if !self.failure_logged.swap(true, Ordering::Relaxed) {
                warn!("Sockets cannot be read: metrics are incomplete, and /-/ready answers 503");
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::snapshot::Outcome;

    fn snapshot(success: bool) -> Snapshot {
        let outcome = Outcome {
            value: None,
            success,
            duration: Duration::ZERO,
        };
        let mut snapshot = Snapshot::default();
        snapshot.set(CollectorId::Sockets, Some(outcome));
        snapshot
    }

    #[test]
    fn it_follows_the_last_conclusive_reading() {
        let readiness = Readiness::default();
        let past = Instant::now();
        let future = past.checked_add(Duration::from_secs(3600)).unwrap();
        assert_eq!(readiness.state(), State::NotWorking);
        readiness.observe(&snapshot(true), future);
        assert_eq!(readiness.state(), State::Ready);
        readiness.observe(&snapshot(false), past);
        assert_eq!(readiness.state(), State::Ready);
        readiness.observe(&snapshot(false), future);
        assert_eq!(readiness.state(), State::NotWorking);
        readiness.observe(&snapshot(true), past);
        assert_eq!(readiness.state(), State::Ready);
        readiness.shut_down();
        readiness.observe(&snapshot(true), future);
        assert_eq!(readiness.state(), State::ShuttingDown);
    }

    #[test]
    fn without_the_sockets_collector_one_answer_is_enough() {
        let readiness = Readiness::default();
        readiness.observe(&Snapshot::default(), Instant::now());
        assert_eq!(readiness.state(), State::Ready);
    }
}

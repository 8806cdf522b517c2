//! How many scrapes may be under way at once, and the count of those that were.
//!
//! **Invariant:** a slot is given back when it is dropped, so however a scrape ends (answered, or its client
//! gone), its slot is free again. A slot covers collecting and encoding, and not sending: a client that reads
//! slowly keeps its own connection busy, for a bounded time, and nobody from scraping.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::exposition::HandlerMetrics;
use crate::web::answer::{self, Answer};

/// All slots and counts.
#[derive(Debug)]
pub(super) struct Scrapes {
    limit: usize,
    free: Semaphore,
    /// Answers so far by their status.
    by_code: [(u16, AtomicU64); 3],
}

impl Scrapes {
    /// At most `limit` scrapes at once; 0 for any number.
    pub(super) fn new(limit: usize) -> Self {
        let limit = match limit {
            0 => Semaphore::MAX_PERMITS,
            limit => limit,
        };
        Self {
            limit,
            free: Semaphore::new(limit),
            by_code: [200, 500, 503].map(|code| (code, AtomicU64::new(0))),
        }
    }

    /// A slot, if there is a free one.
    pub(super) fn admit(&self) -> Option<SemaphorePermit<'_>> {
        self.free.try_acquire().ok()
    }

    /// The answer without one, in the words of the Go client library, which people search for.
    pub(super) fn refusal(&self) -> Answer {
        let limit = self.limit;
        answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("Limit of concurrent requests reached ({limit}), try again later."),
        )
    }

    /// Counts a scrape as answered.
    pub(super) fn count(&self, status: StatusCode) {
        let mut by_code = self.by_code.iter();
        if let Some((_, count)) = by_code.find(|(code, _)| *code == status.as_u16()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts so far.
    pub(super) fn metrics(&self) -> HandlerMetrics {
        let load = |(code, count): &(u16, AtomicU64)| (*code, count.load(Ordering::Relaxed));
        let [ok, failed, refused] = self.by_code.each_ref().map(load);
        let in_flight = self.limit - self.free.available_permits();
        HandlerMetrics {
            in_flight: u64::try_from(in_flight).unwrap_or(u64::MAX),
            requests_by_code: [ok, failed, refused],
            // Nothing else fails a scrape.
            encoding_errors: failed.1,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_slot_is_free_again() {
        let scrapes = Scrapes::new(1);
        let first = scrapes.admit().unwrap();
        assert_eq!(scrapes.metrics().in_flight, 1);
        assert!(scrapes.admit().is_none());
        let refused = scrapes.refusal();
        assert!(refused.body().windows(3).any(|text| text == b"(1)"));
        scrapes.count(refused.status());
        drop(first);
        assert_eq!(scrapes.metrics().in_flight, 0);
        drop(scrapes.admit().unwrap());
        scrapes.count(StatusCode::INTERNAL_SERVER_ERROR);
        scrapes.count(StatusCode::OK);
        let metrics = scrapes.metrics();
        assert_eq!(metrics.requests_by_code, [(200, 1), (500, 1), (503, 1)]);
        assert_eq!(metrics.encoding_errors, 1);
    }

    #[test]
    fn without_a_limit_no_request_is_refused() {
        let scrapes = Scrapes::new(0);
        let all: Vec<_> = (0..1000).map(|_| scrapes.admit().unwrap()).collect();
        assert_eq!(scrapes.metrics().in_flight, 1000);
        drop(all);
    }
}

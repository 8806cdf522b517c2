//! How many scrapes may be under way at once, and the count of those that were.
//!
//! **Invariant:** a [`Slot`] is given back when it is dropped, so however a scrape ends (answered, or
//! its client gone), its slot is free again. A slot covers collecting and encoding, and not sending:
//! a client that reads slowly keeps its own connection busy, for a bounded time, and nobody from
//! scraping.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;

use crate::exposition::{HandlerErrors, HandlerFigures};

/// All slots and counts.
#[derive(Debug)]
pub(super) struct Slots {
    limit: Option<NonZeroUsize>,
    in_flight: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    encoding_errors: AtomicU64,
}

/// One scrape under way, perhaps one too many.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    is_above_limit: bool,
}

impl Slots {
    /// At most `limit` scrapes at once.
    pub(super) fn new(limit: Option<NonZeroUsize>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            in_flight: AtomicU64::new(0),
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            encoding_errors: AtomicU64::new(0),
        })
    }

    /// Counts a scrape in.
    pub(super) fn enter(self: &Arc<Self>) -> Slot {
        let others = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let limit = self
            .limit
            .map(|limit| u64::try_from(limit.get()).unwrap_or(u64::MAX));
        Slot {
            slots: Arc::clone(self),
            is_above_limit: limit.is_some_and(|limit| others >= limit),
        }
    }

    /// The limit, for those who are above it.
    pub(super) fn limit(&self) -> usize {
        self.limit.map_or(0, NonZeroUsize::get)
    }

    /// The counts so far.
    pub(super) fn figures(&self) -> HandlerFigures {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HandlerFigures {
            in_flight: load(&self.in_flight),
            requests_by_code: [
                (200, load(&self.ok)),
                (500, load(&self.failed)),
                (503, load(&self.refused)),
            ],
            errors: HandlerErrors {
                encoding: load(&self.encoding_errors),
                // A collector's failure is exported as its success 0 and fails no scrape.
                gathering: 0,
            },
        }
    }
}

impl Slot {
    /// Whether this scrape must be refused.
    pub(super) const fn is_above_limit(&self) -> bool {
        self.is_above_limit
    }

    /// Counts a defect in writing the answer.
    pub(super) fn count_encoding_error(&self) {
        self.slots.encoding_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the scrape as answered and gives the slot back.
    pub(super) fn answered(self, status: StatusCode) {
        let counter = match status {
            StatusCode::OK => &self.slots.ok,
            StatusCode::SERVICE_UNAVAILABLE => &self.slots.refused,
            _ => &self.slots.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_slot_is_free_again() {
        let slots = Slots::new(NonZeroUsize::new(1));
        let first = slots.enter();
        assert!(!first.is_above_limit());
        let second = slots.enter();
        assert!(second.is_above_limit());
        assert_eq!(slots.figures().in_flight, 2);
        second.answered(StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        let third = slots.enter();
        assert!(!third.is_above_limit());
        third.count_encoding_error();
        third.answered(StatusCode::INTERNAL_SERVER_ERROR);
        slots.enter().answered(StatusCode::OK);
        let figures = slots.figures();
        assert_eq!(figures.in_flight, 0);
        assert_eq!(figures.requests_by_code, [(200, 1), (500, 1), (503, 1)]);
        assert_eq!(figures.errors.encoding, 1);
    }

    #[test]
    fn no_limit_refuses_nobody() {
        let slots = Slots::new(None);
        let all: Vec<Slot> = (0..1000).map(|_| slots.enter()).collect();
        assert!(all.iter().all(|slot| !slot.is_above_limit()));
    }
}

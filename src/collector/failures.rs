//! The collector of failed connect() calls: a count since the start, and how much of it is recent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tracing::debug;

use super::complaint::Complaint;
use crate::domain::collectors::CollectorId;
use crate::domain::snapshot::{Counts, Outcome};
use crate::kernel::connect_failures::ConnectFailures;

/// What counts as recent, for a finding: longer than any usual interval between two reports.
const WINDOW: Duration = Duration::from_secs(600);

/// How far apart what is remembered is at least, so that it stays small however often it is read.
const STEP: Duration = Duration::from_secs(10);

/// Reads the counters of the kernel, which count by themselves.
pub(super) struct FailuresJob {
    counters: ConnectFailures,
    history: History,
    complaint: Complaint,
}

impl FailuresJob {
    /// Begins to count; `None` where a privilege or the tracepoint is missing: then the collector is off.
    pub(super) fn open() -> Option<Self> {
        let name = CollectorId::Failures.name();
        let opened = ConnectFailures::open()
            .inspect_err(|error| debug!(collector = name, reason = %error, "The collector is off"));
        Some(Self {
            counters: opened.ok()?,
            history: History::new(Instant::now()),
            complaint: Complaint::new(name, None),
        })
    }

    pub(super) fn run(&mut self) -> Outcome {
        let begin = Instant::now();
        let read = self.counters.read();
        self.complaint.note(read.as_ref().err().cloned());
        let counts = read.map(|total| self.history.note(begin, total));
        Outcome::whole(counts.ok(), begin.elapsed())
    }
}

/// The counts of the last minutes.
struct History(VecDeque<(Instant, u64)>);

impl History {
    fn new(now: Instant) -> Self {
        Self([(now, 0)].into())
    }

    /// Notes a count, and returns it with what was added during the window.
    fn note(&mut self, now: Instant, total: u64) -> Counts {
        let age = |noted: Option<&(Instant, u64)>| {
            noted.map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at))
        };
        // The first one stays as long as the window would be shorter without it.
        while age(self.0.get(1)) >= WINDOW {
            self.0.pop_front();
        }
        let seconds = age(self.0.front()).as_secs();
        let before = self.0.front().map_or(0, |(_, count)| *count);
        if age(self.0.back()) >= STEP {
            self.0.push_back((now, total));
        }
        Counts::from_iter([
            ("failures", total),
            ("recent_failures", total.saturating_sub(before)),
            ("recent_seconds", seconds),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_of_the_last_ten_minutes_are_recent() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut history = History::new(start);
        let mut recent = |seconds, total| {
            let counts = history.note(at(seconds), total);
            assert_eq!(counts.get("failures"), Some(total));
            (counts.get("recent_failures"), counts.get("recent_seconds"))
        };
        assert_eq!(recent(1, 5), (Some(5), Some(1)));
        assert_eq!(recent(300, 7), (Some(7), Some(300)));
        assert_eq!(recent(600, 7), (Some(7), Some(600)));
        // What was noted at 300 s is the one to compare with from 900 s on.
        assert_eq!(recent(899, 9), (Some(9), Some(899)));
        assert_eq!(recent(900, 9), (Some(2), Some(600)));
        assert_eq!(recent(90_000, 9), (Some(0), Some(89_101)));
    }

    #[test]
    fn the_history_stays_small_however_often_it_is_read() {
        let start = Instant::now();
        let mut history = History::new(start);
        for tenths in 0_u32..100_000 {
            history.note(start + Duration::from_millis(100) * tenths, tenths.into());
        }
        assert!(history.0.len() <= 62, "{}", history.0.len());
    }
}

//! How often may be asked, all clients together: a bucket of tokens, as Go's `x/time/rate` has it.
//!
//! Reads no clock: the time is handed in.

use std::time::Instant;

use super::config::RateLimit;

/// A bucket that is full at first.
pub(super) struct Bucket {
    limit: RateLimit,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(limit: RateLimit, now: Instant) -> Self {
        Self {
            limit,
            tokens: f64::from(limit.burst),
            filled: now,
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled);
        let gained = passed.as_secs_f64() / self.limit.interval.as_secs_f64();
        self.tokens = (self.tokens + gained).min(f64::from(self.limit.burst));
        self.filled = self.filled.max(now);
        let is_allowed = self.tokens >= 1.0;
        if is_allowed {
            self.tokens -= 1.0;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bucket(burst: u32) -> (Bucket, Instant) {
        let now = Instant::now();
        let interval = Duration::from_secs(2);
        (Bucket::new(RateLimit { interval, burst }, now), now)
    }

    #[test]
    fn a_burst_passes_and_then_one_an_interval() {
        let (mut bucket, begin) = bucket(3);
        let passed = |bucket: &mut Bucket, at: u64| {
            let now = begin + Duration::from_secs(at);
            (0..10).filter(|_| bucket.take(now)).count()
        };
        assert_eq!(passed(&mut bucket, 0), 3);
        assert_eq!(passed(&mut bucket, 1), 0);
        assert_eq!(passed(&mut bucket, 2), 1);
        assert_eq!(passed(&mut bucket, 6), 2);
        // At most one burst accumulates.
        assert_eq!(passed(&mut bucket, 1000), 3);
    }

    #[test]
    fn a_burst_of_0_refuses_everything() {
        let (mut bucket, begin) = bucket(0);
        assert!(!bucket.take(begin));
        assert!(!bucket.take(begin + Duration::from_secs(3600)));
    }

    #[test]
    fn a_clock_that_goes_back_adds_no_tokens() {
        let (mut bucket, begin) = bucket(1);
        assert!(bucket.take(begin + Duration::from_secs(10)));
        assert!(!bucket.take(begin));
        assert!(!bucket.take(begin + Duration::from_secs(11)));
        assert!(bucket.take(begin + Duration::from_secs(12)));
    }
}

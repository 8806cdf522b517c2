//! The connections that are open, and what each is doing.
//!
//! **Invariant:** at most as many are open as the limit says. When one too many comes, the one that
//! has waited longest for its client is told to make way: between two requests at once, and while its
//! answer is on its way after a second. One for which a handler is at work never is.
//! Knows nothing of HTTP or of streams.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How often a listener at its limit looks whether another connection has become idle.
const RETRY: Duration = Duration::from_millis(100);

/// How long a client may take to read its answer while others wait to be let in. The answers of a crowd
/// that does not read would keep everyone out, otherwise, for as long as each of them may take.
const GRACE: Duration = Duration::from_secs(1);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its client is sending a request's head, or has connected and sent nothing yet.
    Receiving,
    /// A handler is at work.
    Answering,
    /// The answer is on its way; the client has to read it.
    Sending,
    /// Between two requests.
    Idle,
}

impl Phase {
    /// Whether nothing would be lost if the connection were closed.
    pub(super) const fn is_between_requests(self) -> bool {
        matches!(self, Self::Receiving | Self::Idle)
    }
}

/// What one connection is doing, shared by all who need to know.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<(Phase, Instant)>,
    changed: Notify,
    make_way: Notify,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new((Phase::Receiving, Instant::now())),
            changed: Notify::new(),
            make_way: Notify::new(),
        }
    }

    /// The phase and when it began.
    pub(super) fn state(&self) -> (Phase, Instant) {
        *lock(&self.state)
    }

    /// From now on it does this.
    pub(super) fn enter(&self, phase: Phase) {
        *lock(&self.state) = (phase, Instant::now());
        self.changed.notify_one();
    }

    /// From now on it does this, if so far it did that.
    pub(super) fn advance(&self, from: Phase, to: Phase) {
        if self.state().0 == from {
            self.enter(to);
        }
    }

    /// Whether the connection may be closed in favour of another.
    pub(super) fn may_make_way(&self) -> bool {
        let (phase, since) = self.state();
        phase.is_between_requests() || phase == Phase::Sending && since.elapsed() >= GRACE
    }

    /// Waits until the phase is another. For one waiter.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until the connection is to make way. For one waiter.
    pub(super) async fn make_way(&self) {
        self.make_way.notified().await;
    }
}

/// All open connections.
#[derive(Debug)]
pub(super) struct OpenConnections {
    limit: u32,
    permits: Arc<Semaphore>,
    /// By number, which only tells them apart.
    activities: Mutex<(u64, BTreeMap<u64, Arc<Activity>>)>,
}

/// One open connection; closed when dropped.
#[derive(Debug)]
pub(super) struct OpenConnection {
    pub(super) activity: Arc<Activity>,
    number: u64,
    all: Arc<OpenConnections>,
    _permit: OwnedSemaphorePermit,
}

impl OpenConnections {
    pub(super) fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self {
            limit,
            permits: Arc::new(Semaphore::new(usize::try_from(limit).unwrap_or(usize::MAX))),
            activities: Mutex::default(),
        })
    }

    /// Room for one more; at the limit, whoever is idle makes way.
    pub(super) async fn open(self: &Arc<Self>) -> OpenConnection {
        let permit = loop {
            let permit = Arc::clone(&self.permits).acquire_owned();
            if self.permits.available_permits() == 0 {
                self.make_one_go();
            }
            if let Ok(Ok(permit)) = tokio::time::timeout(RETRY, permit).await {
                break permit;
            }
        };
        let activity = Arc::new(Activity::new());
        let mut activities = lock(&self.activities);
        activities.0 += 1;
        let number = activities.0;
        activities.1.insert(number, Arc::clone(&activity));
        OpenConnection {
            activity,
            number,
            all: Arc::clone(self),
            _permit: permit,
        }
    }

    /// Has the connection make way that has waited longest for its client, if any may: rather one from
    /// which nothing is taken.
    pub(super) fn make_one_go(&self) {
        let activities = lock(&self.activities);
        let longest_idle = activities
            .1
            .values()
            .filter(|activity| activity.may_make_way())
            .min_by_key(|activity| {
                let (phase, since) = activity.state();
                (!phase.is_between_requests(), since)
            });
        if let Some(activity) = longest_idle {
            activity.make_way.notify_one();
        }
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        lock(&self.activities).1.len()
    }

    /// Waits until none is open. Nobody may open one meanwhile.
    pub(super) async fn none(&self) {
        // The semaphore is never closed.
        let _all = self.permits.acquire_many(self.limit).await;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        lock(&self.all.activities).1.remove(&self.number);
    }
}

/// What these locks guard is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_one_that_waited_longest_makes_way() {
        let all = OpenConnections::new(3);
        let answering = all.open().await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let old = all.open().await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let young = all.open().await;
        answering.activity.enter(Phase::Answering);
        let (fourth, ()) = tokio::join!(all.open(), async {
            old.activity.make_way().await;
            drop(old);
        });
        assert_eq!(all.len(), 3);
        drop((answering, young, fourth));
        all.none().await;
        assert_eq!(all.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_who_is_being_answered_makes_way_until_he_was() {
        let all = OpenConnections::new(1);
        let only = all.open().await;
        only.activity.enter(Phase::Answering);
        let next = tokio::time::timeout(Duration::from_secs(60), all.open()).await;
        assert!(next.is_err());
        only.activity.enter(Phase::Idle);
        let (_next, ()) = tokio::join!(all.open(), async {
            only.activity.make_way().await;
            drop(only);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_makes_way_after_a_second_and_after_those_who_ask_nothing() {
        let all = OpenConnections::new(2);
        let reads_nothing = all.open().await;
        reads_nothing.activity.enter(Phase::Sending);
        tokio::time::advance(GRACE * 10).await;
        let idle = all.open().await;
        idle.activity.enter(Phase::Idle);
        let (third, ()) = tokio::join!(all.open(), async {
            idle.activity.make_way().await;
            drop(idle);
        });
        third.activity.enter(Phase::Sending);
        let (fourth, ()) = tokio::join!(all.open(), async {
            reads_nothing.activity.make_way().await;
            drop(reads_nothing);
        });
        fourth.activity.enter(Phase::Answering);
        let begin = Instant::now();
        let (_fifth, ()) = tokio::join!(all.open(), async {
            third.activity.make_way().await;
            drop(third);
        });
        assert!(begin.elapsed() + RETRY >= GRACE);
    }

    #[test]
    fn a_phase_advances_only_from_where_it_is() {
        let activity = Activity::new();
        activity.advance(Phase::Sending, Phase::Idle);
        assert_eq!(activity.state().0, Phase::Receiving);
        activity.advance(Phase::Receiving, Phase::Answering);
        assert_eq!(activity.state().0, Phase::Answering);
    }
}

//! The connections that are open, what each is doing, and which one makes way for another.
//!
//! **Invariant:** at most [`Limits::connections`] are open. At the limit the one that has waited longest
//! for its client makes way: first those between two requests or in a head, then those whose client has
//! not taken its answer for a second. One for which a handler is at work never does.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::debug;

use super::lock;

/// What clients are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once.
    pub connections: usize,
    /// Time to send a request's head, from the connection's beginning or the head's first byte.
    pub receive: Duration,
    /// Time to read an answer. The kernel's send buffer takes most answers at once; TCP_USER_TIMEOUT is
    /// the same, for what is in it.
    pub send: Duration,
    /// Time between two requests.
    pub idle: Duration,
    /// Time for answers under way when the program ends.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Far more than scrapers make. Each can cost some 22 KiB, which the allocator keeps.
            connections: 256,
            receive: Duration::from_secs(10),
            send: Duration::from_secs(30),
            // Above the scrape intervals in use: each connection that is closed here leaves a TIME-WAIT.
            idle: Duration::from_secs(5 * 60),
            // Below the 30 s that Kubernetes gives, and the 90 s of systemd.
            shutdown: Duration::from_secs(10),
        }
    }
}

/// How long a client may take to read its answer while others wait for a connection. A crowd that does
/// not read would otherwise keep everyone out for [`Limits::send`].
const SENDING_GRACE: Duration = Duration::from_secs(1);

/// How often it is tried again where no connection can make way.
const RETRY: Duration = Duration::from_millis(100);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its client is sending a request's head, or has connected and sent nothing yet.
    Head,
    /// A handler is at work.
    Handler,
    /// The answer is on its way.
    Sending,
    /// Between two requests.
    Idle,
}

/// The phase of one connection, and when it began.
pub(super) struct Activity(Mutex<(Phase, Instant)>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new((Phase::Head, Instant::now())))
    }

    pub(super) fn state(&self) -> (Phase, Instant) {
        *lock(&self.0)
    }

    pub(super) fn enter(&self, phase: Phase) {
        *lock(&self.0) = (phase, Instant::now());
    }

    pub(super) fn advance(&self, from: Phase, to: Phase) {
        if self.state().0 == from {
            self.enter(to);
        }
    }

    /// In which order connections make way, if they may.
    fn rank(&self) -> Option<(bool, Instant)> {
        let (phase, since) = self.state();
        match phase {
            Phase::Head | Phase::Idle => Some((false, since)),
            Phase::Sending if since.elapsed() >= SENDING_GRACE => Some((true, since)),
            Phase::Handler | Phase::Sending => None,
        }
    }
}

/// All open connections.
pub(super) struct Connections {
    permits: Arc<Semaphore>,
    open: Mutex<Vec<(Arc<Activity>, AbortHandle)>>,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limit)),
            open: Mutex::default(),
        }
    }

    /// Room for one more; at the limit, another connection makes way.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        loop {
            let permit = Arc::clone(&self.permits).acquire_owned();
            if self.permits.available_permits() == 0 {
                self.make_one_go();
            }
            if let Ok(Ok(permit)) = tokio::time::timeout(RETRY, permit).await {
                return permit;
            }
        }
    }

    /// Runs a connection until it ends or has to.
    pub(super) fn spawn(
        &self,
        permit: OwnedSemaphorePermit,
        activity: Arc<Activity>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = tokio::spawn(async move {
            connection.await;
            drop(permit);
        });
        self.all().push((activity, task.abort_handle()));
    }

    /// Ends the connection that has waited longest for its client, if any may be ended.
    pub(super) fn make_one_go(&self) {
        let all = self.all();
        let ranks = all.iter().filter_map(|one| Some((one.0.rank()?, &one.1)));
        if let Some((_, task)) = ranks.min_by_key(|(rank, _)| *rank) {
            debug!("Connection closed: limit reached, and it waited for its client");
            task.abort();
        }
    }

    /// Ends those that have no request.
    pub(super) fn end_without_request(&self) {
        for (activity, task) in &*self.all() {
            if matches!(activity.state().0, Phase::Head | Phase::Idle) {
                task.abort();
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.all().len()
    }

    fn all(&self) -> MutexGuard<'_, Vec<(Arc<Activity>, AbortHandle)>> {
        let mut all = lock(&self.open);
        all.retain(|(_, task)| !task.is_finished());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that ends only when it must.
    async fn open(all: &Connections) -> Arc<Activity> {
        let activity = Arc::new(Activity::new());
        let permit = all.room().await;
        all.spawn(permit, Arc::clone(&activity), std::future::pending());
        activity
    }

    /// Whether a connection is still open: it keeps its activity.
    fn is_open(all: &Connections, activity: &Arc<Activity>) -> bool {
        all.all().iter().any(|(one, _)| Arc::ptr_eq(one, activity))
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_is_closed() {
        let all = Connections::new(3);
        let busy = open(&all).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let old = open(&all).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let young = open(&all).await;
        busy.enter(Phase::Handler);
        open(&all).await;
        assert_eq!(all.count(), 3);
        assert!(is_open(&all, &busy) && is_open(&all, &young) && !is_open(&all, &old));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_running_handler_is_closed_only_when_it_is_done() {
        let all = Connections::new(1);
        let only = open(&all).await;
        only.enter(Phase::Handler);
        let next = tokio::time::timeout(Duration::from_secs(60), all.room()).await;
        assert!(next.is_err());
        only.enter(Phase::Idle);
        open(&all).await;
        assert!(!is_open(&all, &only));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_read_is_closed_after_a_second_and_after_idle_ones() {
        let all = Connections::new(2);
        let reads_nothing = open(&all).await;
        reads_nothing.enter(Phase::Sending);
        tokio::time::advance(SENDING_GRACE * 10).await;
        let idle = open(&all).await;
        idle.enter(Phase::Idle);
        let third = open(&all).await;
        assert!(is_open(&all, &reads_nothing) && !is_open(&all, &idle));
        third.enter(Phase::Sending);
        let fourth = open(&all).await;
        assert!(!is_open(&all, &reads_nothing));
        fourth.enter(Phase::Handler);
        let begin = Instant::now();
        open(&all).await;
        assert!(begin.elapsed() + RETRY >= SENDING_GRACE);
        assert!(!is_open(&all, &third));
    }

    #[tokio::test]
    async fn a_phase_advances_only_from_where_it_is() {
        let activity = Activity::new();
        activity.advance(Phase::Sending, Phase::Idle);
        assert_eq!(activity.state().0, Phase::Head);
        activity.advance(Phase::Head, Phase::Handler);
        assert_eq!(activity.state().0, Phase::Handler);
    }
}

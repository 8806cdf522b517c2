//! The requests under way on one HTTP/2 connection, and what it is doing as a whole.
//!
//! It is sending while any answer waits for the client, answering while any handler is at work, and
//! otherwise idle. Each answer has its own time to be taken: a client cannot hold one for ever by
//! asking for others. Bytes that come tell nothing here, for they may be about anything.
//!
//! **Invariant:** a connection has at most two answers, from the handler's beginning until the client has
//! taken all but the last piece; further requests wait for their turn. One answer that is not taken
//! holds up no other, and many requests hold hardly more than the connection of HTTP/1 with its one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::connection::Watch;
use super::open::{Activity, Phase};
use super::server::Limits;

/// How many answers there are at a time.
const ANSWERS: usize = 2;

/// All requests of a connection.
#[derive(Debug)]
pub(super) struct Streams {
    activity: Arc<Activity>,
    turns: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Numbers only tell them apart, and grow.
    next: u64,
    answering: usize,
    /// Since when each is waiting for its client.
    sending: BTreeMap<u64, Instant>,
}

/// One request, until its answer is handed over or nobody wants it any more.
#[derive(Debug)]
pub(super) struct Stream {
    streams: Arc<Streams>,
    /// `None` while its handler is at work.
    sending: Option<u64>,
    turn: Option<OwnedSemaphorePermit>,
}

impl Streams {
    pub(super) fn new(activity: &Arc<Activity>) -> Arc<Self> {
        Arc::new(Self {
            activity: Arc::clone(activity),
            turns: Arc::new(Semaphore::new(ANSWERS)),
            state: Mutex::default(),
        })
    }

    /// A request has come.
    pub(super) fn begin(streams: &Arc<Self>) -> Stream {
        streams.change(|state| state.answering += 1);
        Stream {
            streams: Arc::clone(streams),
            sending: None,
            turn: None,
        }
    }

    /// Ends when the client has taken too long for anything.
    pub(super) async fn dawdled(&self, limits: Limits) -> Phase {
        loop {
            let (phase, since) = self.activity.state();
            let limit = match phase {
                Phase::Receiving => Some((since, limits.receive)),
                Phase::Sending => Some((self.oldest_sending().unwrap_or(since), limits.send)),
                Phase::Idle => Some((since, limits.idle)),
                Phase::Answering => None,
            };
            let Some((since, limit)) = limit else {
                self.activity.changed().await;
                continue;
            };
            let deadline = since + limit;
            if deadline <= Instant::now() {
                return phase;
            }
            tokio::select! {
                biased;
                () = self.activity.changed() => {}
                // The phase may have been another in between: look again.
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    fn oldest_sending(&self) -> Option<Instant> {
        self.lock().sending.values().min().copied()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let phase = if state.answering > 0 && state.sending.is_empty() {
            Phase::Answering
        } else {
            // If nothing is under way, the last bytes are: see `sent`.
            Phase::Sending
        };
        if self.activity.state().0 != phase {
            self.activity.enter(phase);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What it guards is whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Arc<Streams> {
    fn received(&self) {}

    fn sent(&self) {
        let state = self.lock();
        if state.answering == 0 && state.sending.is_empty() {
            self.activity.advance(Phase::Sending, Phase::Idle);
        }
    }

    /// The end of an HTTP/2 client is the end of all its requests.
    fn phase(&self) -> Phase {
        Phase::Idle
    }
}

impl Stream {
    /// Waits until those before it are done.
    pub(super) async fn wait_until_answers_are_few(&mut self) {
        // The semaphore is never closed.
        self.turn = Arc::clone(&self.streams.turns).acquire_owned().await.ok();
    }

    /// Its handler is done.
    pub(super) fn begin_to_send(&mut self) {
        let sending = &mut self.sending;
        self.streams.change(|state| {
            state.next += 1;
            state.answering = state.answering.saturating_sub(1);
            state.sending.insert(state.next, Instant::now());
            *sending = Some(state.next);
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let sending = self.sending;
        self.streams.change(|state| match sending {
            Some(number) => {
                state.sending.remove(&number);
            }
            None => state.answering = state.answering.saturating_sub(1),
        });
    }
}

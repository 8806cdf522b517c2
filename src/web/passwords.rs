//! Whether a user's password is right.
//!
//! **Invariant:** every refusal takes the same time, whether there is such a user or not: as long as the
//! most expensive hash of the file takes here. That time is waited for, not computed; and refusals leave
//! one after the other, as if a single thread had computed each, so that many at once say no more than
//! one. (Go's exporters compute a fixed cost for unknown users, which distinguishes them from known ones whose
//! hashes cost more.) A right password is let in as soon as it is computed. Where more wait than there is
//! room for, the time of a 503 depends on the order of arrival alone: a login of an expensive hash does not wait for
//! its computation then, which goes on once it has begun, so that the next right one is let in.
//!
//! **Invariant:** wrong passwords delay nobody but the users they name, and those only until their right
//! one was seen: from then on any other is known to be wrong without a computation. Of [`THREADS`] one
//! alone computes hashes above [`SLOW_COST`]; each takes a login of the user whose turn was longest ago.
//!
//! **Invariant:** a login that is not computed yet makes way only for another that is not, and only where
//! no user has more of them. So a right password of a hash up to [`SLOW_COST`] gets 503 only if wrong ones
//! for the same user have come faster than the threads compute, for so long that a third of all connections
//! waits for them.
//!
//! Of a right password a keyed digest is kept, for its user and hash, so that no two logins can be taken
//! for each other (CVE-2022-46146). The threads are made at start. They keep nobody from ending: the
//! program does not wait for them, nor for long for those who do.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::config::{BcryptHash, Users};
use super::lock;

/// Above this cost a hash takes seconds.
const SLOW_COST: u32 = 14;

/// The highest cost that each thread computes, and whether it always begins with a user's newest login,
/// which has waited for nobody. While guesses come faster than they are computed, one thread begins with
/// the oldest once there are many, before that has to make way. Two answer 30 passwords a second of the
/// usual cost, 10.
const THREADS: [(u32, bool); 3] = [(SLOW_COST, true), (SLOW_COST, false), (u32::MAX, true)];

/// bcrypt needs some 6 KiB.
const STACK_BYTES: usize = 256 * 1024;

/// How many logins may wait to be computed, and how many for the time of their refusal.
const WAITING: usize = 96;

/// How long a login may wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same once the program is to end, in all.
const ENDING_GRACE: Duration = Duration::from_secs(1);

/// How much longer than its computation a refusal takes at least, so that a short disturbance of the
/// computation does not show.
const MARGIN: f64 = 1.25;

const BUSY: &str = "Too many passwords are waiting to be checked.";
const ENDING: &str = "The program ends, and checking the password takes longer.";

/// Computes whether a password fits a hash.
type Fits = fn(&BcryptHash, &[u8]) -> bool;

/// Checks passwords.
pub(super) struct Passwords(Arc<Shared>);

impl Passwords {
    pub(super) fn start(fits: Fits) -> io::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| io::Error::other("the system gives no random bytes"))?;
        let passwords = Self(Arc::new(Shared {
            fits,
            key,
            state: Mutex::new(State {
                jobs: Vec::new(),
                refused: VecDeque::new(),
                limit: WAITING,
                last_refusal: Instant::now(),
                turns: HashMap::new(),
                turn: 0,
                right: HashMap::new(),
                pace: Pace::measure(),
            }),
            changed: Condvar::new(),
            is_over: watch::Sender::new(false),
        }));
        for (highest_cost, newest_first) in THREADS {
            let shared = Arc::clone(&passwords.0);
            std::thread::Builder::new()
                .name("bcrypt".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || shared.work(highest_cost, newest_first))?;
        }
        Ok(passwords)
    }

    /// Leaves a third of so many connections to others.
    pub(super) fn limit_waiting(&self, connections: usize) {
        lock(&self.0.state).limit = (connections / 3).clamp(1, WAITING);
    }

    /// From now on nobody waits for long.
    pub(super) fn shut_down(&self) {
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            sleep(ENDING_GRACE).await;
            shared.end();
        });
    }

    /// Whether this user has this password, or why that was not checked.
    pub(super) async fn verify(
        &self,
        users: &Users,
        user: &[u8],
        password: &[u8],
    ) -> Result<bool, &'static str> {
        let shared = &self.0;
        let hash = users.hash_of(user);
        let longest = BcryptHash::LONGEST_PASSWORD;
        let password = password.get(..longest).unwrap_or(password);
        let (known, refusal, mut displaced) = {
            let mut state = lock(&shared.state);
            let known = hash.and_then(|hash| shared.remembered(&state, user, hash, password));
            if known == Some(true) {
                return Ok(true);
            }
            let refusal = state.next_refusal(users.highest_cost());
            (known, refusal, state.wait_for_refusal())
        };
        let computed = async {
            let Some(hash) = hash.filter(|_| known.is_none()) else {
                return Ok(false);
            };
            let (answer, answered) = oneshot::channel();
            lock(&shared.state).submit(Job {
                user: user.to_vec(),
                hash: hash.clone(),
                password: password.to_vec(),
                answer,
            });
            shared.changed.notify_all();
            answered.await.map_err(|_| BUSY)
        };
        let decided = async {
            let is_slow = hash.is_some_and(|hash| hash.cost > SLOW_COST);
            let result = tokio::select! {
                biased;
                result = computed => result,
                _ = &mut displaced, if is_slow => return Err(BUSY),
            };
            if result == Ok(true) {
                return result;
            }
            tokio::select! {
                biased;
                _ = displaced => Err(BUSY),
                () = sleep_until(refusal) => result,
            }
        };
        let mut is_over = shared.is_over.subscribe();
        tokio::select! {
            biased;
            result = timeout(PATIENCE, decided) => result.unwrap_or(Err(BUSY)),
            _ = is_over.wait_for(|is_over| *is_over) => Err(ENDING),
        }
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// One password to compute.
struct Job {
    user: Vec<u8>,
    hash: BcryptHash,
    password: Vec<u8>,
    answer: oneshot::Sender<bool>,
}

/// What the threads share.
struct Shared {
    fits: Fits,
    key: hmac::Key,
    state: Mutex<State>,
    changed: Condvar,
    is_over: watch::Sender<bool>,
}

impl Shared {
    /// Whether a password is right, if the user's right one is known.
    fn remembered(
        &self,
        state: &State,
        user: &[u8],
        hash: &BcryptHash,
        password: &[u8],
    ) -> Option<bool> {
        let (_, digest) = state.right.get(user).filter(|(of, _)| of == hash)?;
        Some(hmac::verify(&self.key, password, digest.as_ref()).is_ok())
    }

    /// A thread's work, until nobody is to wait any more.
    fn work(&self, highest_cost: u32, newest_first: bool) {
        let mut state = lock(&self.state);
        while !*self.is_over.borrow() {
            let Some(job) = state.next_job(highest_cost, newest_first) else {
                state = (self.changed.wait(state)).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let known = self.remembered(&state, &job.user, &job.hash, &job.password);
            drop(state);
            let begin = std::time::Instant::now();
            let is_right = known.unwrap_or_else(|| (self.fits)(&job.hash, &job.password));
            let took = begin.elapsed();
            state = lock(&self.state);
            state.pace.learn(job.hash.cost, took);
            if is_right {
                let digest = hmac::sign(&self.key, &job.password);
                state.right.insert(job.user, (job.hash, digest));
            }
            let _gone = job.answer.send(is_right);
        }
    }

    fn end(&self) {
        // No thread is between its question and its sleep.
        let _state = lock(&self.state);
        self.is_over.send_replace(true);
        self.changed.notify_all();
    }
}

struct State {
    /// Logins to compute, the oldest first.
    jobs: Vec<Job>,
    /// Logins that wait for the time of their refusal, in case they are wrong, the oldest first. One ends
    /// when its sender is dropped.
    refused: VecDeque<oneshot::Sender<Infallible>>,
    /// See [`WAITING`].
    limit: usize,
    last_refusal: Instant,
    /// When each user had the last turn, by a count of turns. There are no more than the files listed.
    turns: HashMap<Vec<u8>, u64>,
    turn: u64,
    /// The right password of each user: the hash that it fits, and its digest.
    right: HashMap<Vec<u8>, (BcryptHash, hmac::Tag)>,
    pace: Pace,
}

impl State {
    /// Adds a login. One too many displaces the oldest of the user who has the most.
    fn submit(&mut self, job: Job) {
        self.jobs.retain(|job| !job.answer.is_closed());
        self.jobs.push(job);
        if self.jobs.len() > self.limit {
            let count = |user: &[u8]| self.jobs.iter().filter(|job| job.user == user).count();
            let places = self.jobs.iter().enumerate();
            let oldest = places.max_by_key(|(place, job)| (count(&job.user), Reverse(*place)));
            if let Some((place, _)) = oldest {
                self.jobs.remove(place);
            }
        }
    }

    /// A login of the user whose turn was longest ago. Those whose clients are gone are dropped.
    fn next_job(&mut self, highest_cost: u32, newest_first: bool) -> Option<Job> {
        self.jobs.retain(|job| !job.answer.is_closed());
        let length = self.jobs.len();
        let newest_first = newest_first || length <= self.limit / 2;
        let places = self.jobs.iter().enumerate();
        let ready = places.filter(|(_, job)| job.hash.cost <= highest_cost);
        let (place, _) = ready.min_by_key(|(place, job)| {
            let order = if newest_first { length - place } else { *place };
            (self.turns.get(&job.user), order)
        })?;
        let job = self.jobs.remove(place);
        self.turn += 1;
        self.turns.insert(job.user.clone(), self.turn);
        Some(job)
    }

    /// When the next refusal is due.
    fn next_refusal(&mut self, highest_cost: u32) -> Instant {
        let now = Instant::now();
        let refusal = self.last_refusal.max(now) + self.pace.refusal_takes(highest_cost);
        // What comes later is not waited for.
        self.last_refusal = refusal.min(now + PATIENCE);
        refusal
    }

    /// The receiver ends when a refusal is not waited for any more.
    fn wait_for_refusal(&mut self) -> oneshot::Receiver<Infallible> {
        let (place, displaced) = oneshot::channel();
        self.refused.retain(|place| !place.is_closed());
        self.refused.push_back(place);
        if self.refused.len() > self.limit {
            self.refused.pop_front();
        }
        displaced
    }
}

/// How fast this machine computes bcrypt: the time of one round; a cost of n is 2 to the power of n.
struct Pace {
    at_rest: f64,
    now: f64,
}

impl Pace {
    /// The quickest of several small ones, as an interruption only makes one longer.
    fn measure() -> Self {
        let took = (0..5).map(|_| {
            let begin = std::time::Instant::now();
            std::hint::black_box(bcrypt::bcrypt(4, [0; 16], b"measure"));
            begin.elapsed()
        });
        let at_rest = took.min().unwrap_or_default().as_secs_f64() / rounds(4);
        let now = at_rest;
        Self { at_rest, now }
    }

    /// Follows what else the machine does.
    fn learn(&mut self, cost: u32, took: Duration) {
        let round = took.as_secs_f64() / rounds(cost);
        // Of a short one it only says whether it was interrupted.
        if self.at_rest * rounds(cost) > 0.02 {
            self.at_rest = self.at_rest.min(round);
            self.now = (0.5 * (self.now + round)).min(4.0 * self.at_rest);
        }
    }

    fn refusal_takes(&self, cost: u32) -> Duration {
        let seconds = MARGIN * self.now * rounds(cost);
        Duration::try_from_secs_f64(seconds).map_or(PATIENCE * 2, |time| time.min(PATIENCE * 2))
    }
}

fn rounds(cost: u32) -> f64 {
    f64::from(1_u32 << cost.min(31))
}

#[cfg(test)]
#[path = "passwords_tests.rs"]
mod tests;

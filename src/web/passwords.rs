//! Whether a user's password is right.
//!
//! **Invariant:** every refusal takes the same time, whether there is such a user or not: as long as the
//! most expensive hash of the file takes here. That time is waited for, not computed; and refusals leave
//! one after the other, as if a single thread had computed each, so that many at once say no more than
//! one. (Go's exporters compute a fixed cost for unknown users, which distinguishes them from known ones whose
//! hashes cost more.) A right password is let in as soon as it is computed.
//!
//! **Invariant:** a flood of wrong passwords delays nobody but the users it names. [`THREADS`] threads
//! compute bcrypt, of which at most one is at work on a hash above [`SLOW_COST`]; the next is the newest
//! login of the user whose turn was longest ago. At most [`WAITING`] logins wait, or half as many as
//! there can be connections; one more is answered in place of the oldest, whatever name that has.
//!
//! **Invariant:** a result is remembered for one (user, hash, password), identified by a keyed digest
//! over their lengths and bytes; no two of them can be taken for each other (CVE-2022-46146), and no
//! password is kept. What was refused cannot push out what was right.
//!
//! The threads are made at start. They keep nobody from ending: the program does not wait for them, nor
//! for long for those who do.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::hmac;
use ring::rand::SystemRandom;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::config::{BcryptHash, Digest, Salt, Users, digest};

/// As many as answer 30 passwords a second of the usual cost, 10.
const THREADS: usize = 2;

/// bcrypt needs some 6 KiB.
const STACK_BYTES: usize = 256 * 1024;

/// Above this cost a hash takes seconds.
const SLOW_COST: u32 = 14;

/// How many logins may wait, where there are connections for twice as many.
const WAITING: usize = 128;

/// How many results of each kind are remembered, as in Go's exporters.
const REMEMBERED: usize = 100;

/// How long a login may wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same once the program is to end, in all.
const ENDING_GRACE: Duration = Duration::from_secs(1);

/// How much longer than its computation a refusal takes at least, so that a short disturbance of the
/// computation does not show.
const MARGIN: f64 = 1.25;

type Compute = fn(cost: u32, salt: Salt, password: &[u8]) -> Digest;

/// What a result is remembered by.
type Tag = [u8; 32];

/// Checks passwords.
#[derive(Debug)]
pub(super) struct Passwords {
    shared: Arc<Shared>,
    key: hmac::Key,
    room: Mutex<Room>,
    limit: usize,
    /// When nobody is to wait any more, once the program is to end.
    end: watch::Sender<Option<Instant>>,
}

/// Logins that wait, the oldest first. One is answered when its sender is dropped.
#[derive(Debug)]
struct Room {
    waiting: VecDeque<oneshot::Sender<Infallible>>,
    last_refusal: Instant,
}

/// Why a password was not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unchecked {
    /// Too many wait, or it took too long.
    Busy,
    /// The program ends.
    Ending,
}

impl Passwords {
    pub(super) fn start() -> io::Result<Self> {
        Self::computed_by(digest)
    }

    fn computed_by(compute: Compute) -> io::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| io::Error::other("the system gave no random bytes"))?;
        let shared = Arc::new(Shared::new(compute));
        let passwords = Self {
            shared,
            key,
            room: Mutex::new(Room {
                waiting: VecDeque::new(),
                last_refusal: Instant::now(),
            }),
            limit: WAITING,
            end: watch::Sender::new(None),
        };
        for _ in 0..THREADS {
            let shared = Arc::clone(&passwords.shared);
            std::thread::Builder::new()
                .name("bcrypt".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || shared.work())?;
        }
        Ok(passwords)
    }

    /// Lets at most half of so many connections wait, so that a flood of guesses leaves room for others.
    pub(super) fn leave_room_among(&mut self, connections: u32) {
        let half = usize::try_from(connections / 2).unwrap_or(usize::MAX);
        self.limit = half.clamp(1, WAITING);
    }

    /// From now on nobody waits for long.
    pub(super) fn shut_down(&self) {
        self.end.send_replace(Some(Instant::now() + ENDING_GRACE));
    }

    /// Whether this user has this password.
    pub(super) async fn verify(
        &self,
        users: &Users,
        user: &[u8],
        password: &[u8],
    ) -> Result<bool, Unchecked> {
        let hash = users.hash_of(user);
        let tag = self.tag(user, hash, password);
        let (is_known_wrong, refusal_takes) = {
            let state = self.shared.lock();
            if state.right.all.contains(&tag) {
                return Ok(true);
            }
            let is_known_wrong = state.wrong.all.contains(&tag);
            (is_known_wrong, state.pace.wall_time(users.highest_cost()))
        };
        let (displaced, refusal) = self.enter_room(refusal_takes);
        let decided = async {
            if let Some(hash) = hash.filter(|_| !is_known_wrong) {
                let (answer, answered) = oneshot::channel();
                self.shared.submit(Job {
                    user: user.to_vec(),
                    tag,
                    hash: hash.clone(),
                    password: password.to_vec(),
                    answer,
                });
                if answered.await.map_err(|_| Unchecked::Busy)? {
                    return Ok(true);
                }
            }
            sleep_until(refusal).await;
            Ok(false)
        };
        tokio::select! {
            biased;
            result = decided => result,
            _ = displaced => Err(Unchecked::Busy),
            () = sleep(PATIENCE) => Err(Unchecked::Busy),
            () = self.ended() => Err(Unchecked::Ending),
        }
    }

    /// Takes a place among those that wait. The receiver ends when it is lost; a refusal is due at the
    /// instant.
    fn enter_room(&self, refusal_takes: Duration) -> (oneshot::Receiver<Infallible>, Instant) {
        let (place, displaced) = oneshot::channel();
        let now = Instant::now();
        let mut room = lock(&self.room);
        room.waiting.retain(|place| !place.is_closed());
        room.waiting.push_back(place);
        if room.waiting.len() > self.limit {
            room.waiting.pop_front();
        }
        let refusal = room.last_refusal.max(now) + refusal_takes;
        // What comes later is not waited for.
        room.last_refusal = refusal.min(now + PATIENCE);
        (displaced, refusal)
    }

    async fn ended(&self) {
        let mut end = self.end.subscribe();
        let at = end.wait_for(Option::is_some).await.map(|at| *at);
        // What would say it is borrowed meanwhile.
        if let Ok(Some(at)) = at {
            sleep_until(at).await;
        }
    }

    fn tag(&self, user: &[u8], hash: Option<&BcryptHash>, password: &[u8]) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        let hash = hash.map_or("", BcryptHash::text);
        for part in [user, hash.as_bytes(), password] {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        let mut tag = Tag::default();
        for (to, from) in tag.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        tag
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
    }
}

/// One password to compute.
#[derive(Debug)]
struct Job {
    user: Vec<u8>,
    tag: Tag,
    hash: BcryptHash,
    password: Vec<u8>,
    answer: oneshot::Sender<bool>,
}

impl Job {
    fn is_slow(&self) -> bool {
        self.hash.cost() > SLOW_COST
    }
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    compute: Compute,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The oldest first.
    jobs: Vec<Job>,
    slow_at_work: bool,
    /// When each user had the last turn, by a count of turns. There are no more than the files listed.
    turns: HashMap<Vec<u8>, u64>,
    turn: u64,
    right: Tags,
    wrong: Tags,
    pace: Pace,
    is_over: bool,
}

impl Shared {
    fn new(compute: Compute) -> Self {
        let shared = Self {
            compute,
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        shared.measured(4, || compute(4, Salt::default(), b""));
        shared
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn submit(&self, job: Job) {
        self.lock().jobs.push(job);
        self.changed.notify_all();
    }

    /// A thread's work, until there are no [`Passwords`] any more.
    fn work(&self) {
        let mut state = self.lock();
        while !state.is_over {
            let Some(job) = state.next_job() else {
                state = (self.changed.wait(state)).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            // The same may have been computed for another request meanwhile.
            let remembered = state.right.all.contains(&job.tag);
            drop(state);
            let is_right = remembered || {
                let (cost, salt) = (job.hash.cost(), job.hash.salt());
                let made = self.measured(cost, || (self.compute)(cost, salt, &job.password));
                job.hash.is(&made)
            };
            state = self.lock();
            if is_right {
                state.right.put(job.tag);
            } else {
                state.wrong.put(job.tag);
            }
            state.slow_at_work &= !job.is_slow();
            self.changed.notify_all();
            let _gone = job.answer.send(is_right);
        }
    }

    fn measured(&self, cost: u32, compute: impl FnOnce() -> Digest) -> Digest {
        let (begin, cpu_begin) = (std::time::Instant::now(), thread_cpu_time());
        let digest = std::hint::black_box(compute());
        let cpu = thread_cpu_time().saturating_sub(cpu_begin);
        self.lock().pace.learn(cost, cpu, begin.elapsed());
        digest
    }
}

impl State {
    /// The newest job of the user whose turn was longest ago. Those whose clients are gone are dropped.
    fn next_job(&mut self) -> Option<Job> {
        self.jobs.retain(|job| !job.answer.is_closed());
        let turn = |job: &Job| self.turns.get(&job.user).copied().unwrap_or_default();
        let ready = self.jobs.iter().enumerate();
        let ready = ready.filter(|(_, job)| !(self.slow_at_work && job.is_slow()));
        let (index, _) = ready.min_by_key(|(index, job)| (turn(job), Reverse(*index)))?;
        let job = self.jobs.remove(index);
        self.turn += 1;
        self.turns.insert(job.user.clone(), self.turn);
        self.slow_at_work |= job.is_slow();
        Some(job)
    }
}

/// How fast this machine computes bcrypt.
#[derive(Debug, Default)]
struct Pace {
    /// CPU time of one round; a cost of n is 2 to the power of n of them.
    round_seconds: f64,
    /// How much longer it takes than the CPU time, as other work on the machine wants the CPU, too.
    stretch: f64,
}

impl Pace {
    fn learn(&mut self, cost: u32, cpu: Duration, wall: Duration) {
        self.round_seconds = cpu.as_secs_f64() / rounds(cost);
        // Of a short one it only says whether it was interrupted.
        if cpu > Duration::from_millis(50) {
            let stretch = wall.as_secs_f64() / cpu.as_secs_f64();
            self.stretch = (0.5 * self.stretch + 0.5 * stretch).min(4.0);
        }
    }

    fn wall_time(&self, cost: u32) -> Duration {
        let stretch = MARGIN * self.stretch.max(1.0);
        let seconds = self.round_seconds * rounds(cost) * stretch;
        Duration::try_from_secs_f64(seconds).map_or(PATIENCE * 2, |time| time.min(PATIENCE * 2))
    }
}

fn rounds(cost: u32) -> f64 {
    f64::from(1_u32 << cost.min(31))
}

/// CPU time of this thread so far.
fn thread_cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// A bounded set that forgets the oldest.
#[derive(Debug, Default)]
struct Tags {
    all: HashSet<Tag>,
    by_age: VecDeque<Tag>,
}

impl Tags {
    fn put(&mut self, tag: Tag) {
        if !self.all.insert(tag) {
            return;
        }
        self.by_age.push_back(tag);
        if self.by_age.len() > REMEMBERED
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

/// What these locks guard is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "passwords_tests.rs"]
mod tests;

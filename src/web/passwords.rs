//! Whether a user's password is the right one.
//!
//! **Invariant:** every refusal costs the same, whether there is such a user or not: as much as the
//! dearest hash of the file. (Go's exporters spend a fixed cost on unknown users, which tells them
//! from known ones whose hashes cost more.)
//!
//! **Invariant:** a result is remembered for one (user, hash, password), told apart by a keyed digest
//! over their lengths and bytes; no two of them can be taken for each other (CVE-2022-46146), and no
//! password is kept. What was refused cannot push out what was right.
//!
//! **Invariant:** bcrypt has one thread of its own, as in Go's exporters it has one at a time: it
//! takes no async thread and none that answers are encoded on, and at most one core. The thread is
//! started by the first password that is not remembered. It keeps nobody from ending: the program does
//! not wait for it, nor for long for those who do.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::web::config::{BcryptHash, Digest, Salt, Users, digest};

/// How many requests may wait for bcrypt, where there are connections for twice as many.
const QUEUE: usize = 128;

/// How many results of each kind are remembered, as in Go's exporters.
const REMEMBERED: usize = 100;

/// How long a request may wait for its turn and its result.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same once the program is to end, in all: enough for costs in use, and anybody may ask for dear ones.
const PARTING: Duration = Duration::from_secs(1);

/// What a computation is.
type Compute = fn(cost: u32, salt: Salt, password: &[u8]) -> Digest;

/// What a result is remembered by.
type Tag = [u8; 32];

/// Checks passwords.
#[derive(Debug)]
pub(super) struct Passwords {
    known: Arc<Mutex<Known>>,
    key: hmac::Key,
    compute: Compute,
    queue: usize,
    worker: OnceLock<Option<SyncSender<Job>>>,
    /// When nobody is to wait any more, once the program is to end.
    end: watch::Sender<Option<Instant>>,
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
    pub(super) fn new() -> io::Result<Self> {
        Self::computed_by(digest)
    }

    fn computed_by(compute: Compute) -> io::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| io::Error::other("the system gave no random bytes"))?;
        Ok(Self {
            known: Arc::default(),
            key,
            compute,
            queue: QUEUE,
            worker: OnceLock::new(),
            end: watch::Sender::new(None),
        })
    }

    /// Lets at most half of so many connections wait, so that whoever guesses passwords leaves room
    /// for those who know theirs.
    pub(super) fn leave_room_among(&mut self, connections: u32) {
        let half = usize::try_from(connections / 2).unwrap_or(usize::MAX);
        self.queue = half.clamp(1, QUEUE);
    }

    /// From now on nobody waits for long.
    pub(super) fn shut_down(&self) {
        self.end.send_replace(Some(Instant::now() + PARTING));
    }

    /// Whether this user has this password.
    pub(super) async fn are_right(
        &self,
        users: &Users,
        user: &[u8],
        password: &[u8],
    ) -> Result<bool, Unchecked> {
        let hash = users.hash_of(user);
        let tag = self.tag(user, hash, password);
        if let Some(is_right) = lock(&self.known).get(&tag) {
            return Ok(is_right);
        }
        let (answer, answered) = oneshot::channel();
        let job = Job {
            tag,
            hash: hash.cloned(),
            highest_cost: users.highest_cost(),
            password: password.to_vec(),
            answer,
        };
        let worker = self.worker.get_or_init(|| self.start());
        let worker = worker.as_ref().ok_or(Unchecked::Busy)?;
        worker.try_send(job).map_err(|_full| Unchecked::Busy)?;
        let waiting = tokio::time::timeout(PATIENCE, answered);
        tokio::select! {
            biased;
            result = waiting => result.ok().and_then(Result::ok).ok_or(Unchecked::Busy),
            () = self.ended() => Err(Unchecked::Ending),
        }
    }

    async fn ended(&self) {
        let mut end = self.end.subscribe();
        let told = end.wait_for(Option::is_some).await.map(|at| *at);
        // What would tell it is borrowed meanwhile.
        if let Ok(Some(at)) = told {
            tokio::time::sleep_until(at).await;
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

    fn start(&self) -> Option<SyncSender<Job>> {
        let (worker, jobs) = sync_channel(self.queue);
        let (known, compute) = (Arc::clone(&self.known), self.compute);
        std::thread::Builder::new()
            .name("bcrypt".to_owned())
            .spawn(move || work(&jobs, &known, compute))
            .map_err(
                |error| tracing::error!(%error, "Cannot start the thread that checks passwords"),
            )
            .ok()?;
        Some(worker)
    }
}

/// One password to check.
#[derive(Debug)]
struct Job {
    tag: Tag,
    /// `None` for an unknown user.
    hash: Option<BcryptHash>,
    highest_cost: u32,
    password: Vec<u8>,
    answer: oneshot::Sender<bool>,
}

/// Ends when the program does.
fn work(jobs: &Receiver<Job>, known: &Mutex<Known>, compute: Compute) {
    while let Ok(job) = jobs.recv() {
        // Whoever asked may be gone, or somebody else may have asked the same meanwhile.
        if job.answer.is_closed() {
            continue;
        }
        let remembered = lock(known).get(&job.tag);
        let is_right = remembered.unwrap_or_else(|| {
            let is_right = job.is_right(compute);
            lock(known).put(job.tag, is_right);
            is_right
        });
        let _gone = job.answer.send(is_right);
    }
}

impl Job {
    fn is_right(&self, compute: Compute) -> bool {
        let Some(hash) = &self.hash else {
            std::hint::black_box(compute(self.highest_cost, Salt::default(), &self.password));
            return false;
        };
        if hash.is(&compute(hash.cost(), hash.salt(), &self.password)) {
            return true;
        }
        // Each cost is twice the one below: together with the first this adds up to the highest.
        for cost in hash.cost()..self.highest_cost {
            std::hint::black_box(compute(cost, hash.salt(), &self.password));
        }
        false
    }
}

/// Results so far.
#[derive(Debug, Default)]
struct Known {
    right: Tags,
    wrong: Tags,
}

impl Known {
    fn get(&self, tag: &Tag) -> Option<bool> {
        if self.right.all.contains(tag) {
            return Some(true);
        }
        self.wrong.all.contains(tag).then_some(false)
    }

    fn put(&mut self, tag: Tag, is_right: bool) {
        let tags = if is_right {
            &mut self.right
        } else {
            &mut self.wrong
        };
        tags.put(tag);
    }
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

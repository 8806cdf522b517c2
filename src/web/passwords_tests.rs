#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinHandle;

use super::*;
use crate::web::config::WebFile;

/// "secret".
const SECRET: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

/// The hash that Go's exporters compare with for unknown users: "fakepassword".
const FAKE: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

fn users(entries: &[(&str, &str)]) -> Users {
    let mut text = "basic_auth_users:\n".to_owned();
    for (user, hash) in entries {
        text.extend(["  ", user, ": ", hash, "\n"]);
    }
    WebFile::parse(text.as_bytes())
        .map(|file| file.users)
        .unwrap()
}

fn alice() -> Users {
    users(&[("alice", SECRET)])
}

/// A function for [`Passwords`] that records the cost of each computation, and computes at the lowest
/// cost. A function has no state, so each test has its own.
macro_rules! noting {
    ($costs:ident, $fits:ident) => {
        static $costs: Mutex<Vec<u32>> = Mutex::new(Vec::new());

        fn $fits(hash: &BcryptHash, password: &[u8]) -> bool {
            $costs.lock().unwrap().push(hash.cost);
            at_least_cost(hash, password)
        }
    };
}

fn at_least_cost(hash: &BcryptHash, password: &[u8]) -> bool {
    let mut hash = hash.clone();
    hash.cost = 4;
    hash.fits(password)
}

async fn verify(passwords: &Passwords, users: &Users, user: &str, password: &str) -> bool {
    let checked = passwords.verify(users, user.as_bytes(), password.as_bytes());
    checked.await.unwrap()
}

/// A pace at which the highest cost, 9, takes 0.4 s.
fn set_pace(passwords: &Passwords) {
    let round = 0.4 / MARGIN / rounds(9);
    lock(&passwords.0.state).pace = Pace {
        at_rest: round,
        now: round,
    };
}

#[tokio::test]
async fn every_refusal_takes_as_long_as_the_most_expensive_hash_and_computes_its_own_at_most() {
    noting!(COSTS, fits);
    let computed = || COSTS.lock().unwrap().drain(..).collect::<Vec<_>>();
    let of_cost = |cost: &str| SECRET.replace("$04$", cost);
    let users = users(&[
        ("cheap", SECRET),
        ("middle", &of_cost("$07$")),
        ("expensive", &of_cost("$09$")),
    ]);
    let passwords = Passwords::start(fits).unwrap();
    for (user, expected) in [
        ("cheap", &[4][..]),
        ("middle", &[7]),
        ("expensive", &[9]),
        ("nobody", &[]),
        ("", &[]),
        ("cheap ", &[]),
        ("Cheap", &[]),
    ] {
        set_pace(&passwords);
        let begin = Instant::now();
        assert!(!verify(&passwords, &users, user, "wrong").await);
        let took = begin.elapsed().as_millis();
        assert!(took >= 400, "{user}: {took} ms");
        assert_eq!(computed(), expected, "{user}");
    }
    lock(&passwords.0.state).pace.now = 1000.0;
    tokio::select! {
        biased;
        _ = verify(&passwords, &users, "nobody", "wrong") => panic!("a right password waits for a wrong one"),
        is_right = verify(&passwords, &users, "cheap", "secret") => assert!(is_right),
    }
    assert_eq!(computed(), [4]);
    // Once the right one is cached, the others take as long without a computation.
    lock(&passwords.0.state).last_refusal = Instant::now();
    set_pace(&passwords);
    let begin = Instant::now();
    assert!(!verify(&passwords, &users, "cheap", "wrong").await);
    assert!(begin.elapsed().as_millis() >= 400);
    assert!(computed().is_empty());
}

#[tokio::test]
async fn concurrent_refusals_are_answered_one_after_the_other_for_any_name() {
    static OPEN: AtomicBool = AtomicBool::new(true);
    /// Waits until both requests have arrived, since it changes the pace.
    fn fits(_: &BcryptHash, _: &[u8]) -> bool {
        while !OPEN.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        false
    }
    let users = users(&[
        ("cheap", SECRET),
        ("expensive", &SECRET.replace("$04$", "$09$")),
    ]);
    for name in ["cheap", "expensive", "nobody"] {
        let passwords = Passwords::start(fits).unwrap();
        set_pace(&passwords);
        OPEN.store(false, Ordering::Relaxed);
        let begin = Instant::now();
        let one = async |password: &str| {
            assert!(!verify(&passwords, &users, name, password).await);
            begin.elapsed().as_millis()
        };
        let open = async { OPEN.store(true, Ordering::Relaxed) };
        let (first, second, ()) = tokio::join!(one("1"), one("2"), open);
        assert!(
            first >= 400 && second >= 800,
            "{name}: {first} ms, {second} ms"
        );
    }
}

#[tokio::test]
async fn a_right_password_is_cached_until_the_hash_changes_and_rejects_others() {
    noting!(COSTS, fits);
    let computed = || COSTS.lock().unwrap().len();
    let passwords = Passwords::start(fits).unwrap();
    assert!(!verify(&passwords, &alice(), "alice", "wrong").await);
    assert_eq!(computed(), 1);
    for number in 0..3 {
        assert!(verify(&passwords, &alice(), "alice", "secret").await);
        assert!(!verify(&passwords, &alice(), "alice", &format!("wrong{number}")).await);
        assert!(!verify(&passwords, &alice(), "bob", "secret").await);
        assert_eq!(computed(), 2);
    }
    let other = users(&[("alice", FAKE), ("bob", SECRET)]);
    assert!(!verify(&passwords, &other, "alice", "secret").await);
    assert!(verify(&passwords, &other, "bob", "secret").await);
    assert_eq!(computed(), 4);
    assert!(!verify(&passwords, &users(&[]), "alice", "secret").await);
    assert!(verify(&passwords, &alice(), "alice", "secret").await);
}

#[tokio::test]
async fn a_long_password_is_cached_as_far_as_bcrypt_reads_it() {
    let long = "x".repeat(80);
    let passwords = Passwords::start(|_, password| password.starts_with(b"x")).unwrap();
    assert!(verify(&passwords, &alice(), "alice", &long).await);
    assert!(verify(&passwords, &alice(), "alice", &long[..72]).await);
    assert!(!verify(&passwords, &alice(), "alice", &long[..71]).await);
}

#[tokio::test]
async fn the_cached_login_of_one_user_never_matches_another() {
    let passwords = Passwords::start(at_least_cost).unwrap();
    let users = alice();
    assert!(verify(&passwords, &users, "alice", "secret").await);
    // CVE-2022-46146: parts that give the same when they are put behind one another.
    let all = format!("alice{SECRET}secret");
    for end in 0..=all.len() {
        let (user, password) = all.split_at(end);
        assert!(!verify(&passwords, &users, user, password).await, "{end}");
    }
    let poisoned = format!("alice{SECRET}");
    for (user, password) in [
        (poisoned.as_str(), "fakepassword"),
        ("alice", &format!("{FAKE}fakepassword")),
        ("alice", &format!("{SECRET}secret")),
        ("alice:secret", ""),
        ("", "alice:secret"),
        ("alice\0", "secret"),
        ("alic", "esecret"),
    ] {
        assert!(!verify(&passwords, &users, user, password).await, "{user}");
    }
}

#[tokio::test]
async fn concurrent_identical_logins_are_computed_once_per_thread() {
    noting!(COSTS, fits);
    let passwords = Arc::new(Passwords::start(fits).unwrap());
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..WAITING / 2 {
        let passwords = Arc::clone(&passwords);
        asked.spawn(async move { verify(&passwords, &alice(), "alice", "secret").await });
    }
    assert!(asked.join_all().await.into_iter().all(|is_right| is_right));
    assert!(COSTS.lock().unwrap().len() <= THREADS.len());
}

/// Asks in a task of its own.
fn ask(
    passwords: &Arc<Passwords>,
    users: &Arc<Users>,
    user: &'static str,
    password: &'static str,
) -> JoinHandle<Result<bool, &'static str>> {
    let (passwords, users) = (Arc::clone(passwords), Arc::clone(users));
    tokio::spawn(async move {
        let checked = passwords.verify(&users, user.as_bytes(), password.as_bytes());
        checked.await
    })
}

/// A function for [`Passwords`] that finds "right" to be right, and computes the others once the gate is open. It
/// counts its calls, and before that of "right".
macro_rules! gated {
    ($open:ident, $calls:ident, $before:ident, $fits:ident) => {
        static $open: AtomicBool = AtomicBool::new(false);
        static $calls: AtomicUsize = AtomicUsize::new(0);
        static $before: AtomicUsize = AtomicUsize::new(0);

        fn $fits(_: &BcryptHash, password: &[u8]) -> bool {
            let is_right = password == b"right";
            while !is_right && !$open.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let before = $calls.fetch_add(1, Ordering::Relaxed);
            if is_right {
                $before.store(before, Ordering::Relaxed);
            }
            is_right
        }
    };
}

#[tokio::test]
async fn a_flood_for_one_user_delays_no_other() {
    gated!(OPEN, CALLS, BEFORE, fits);
    let passwords = Arc::new(Passwords::start(fits).unwrap());
    let users = Arc::new(users(&[("flooded", SECRET), ("other", SECRET)]));
    let _flood: Vec<_> = (0..50)
        .map(|_| ask(&passwords, &users, "flooded", "guess"))
        .collect();
    let other = ask(&passwords, &users, "other", "right");
    // All have been submitted once each has run.
    tokio::task::yield_now().await;
    OPEN.store(true, Ordering::Relaxed);
    assert_eq!(other.await.unwrap(), Ok(true));
    // Each thread may have begun with one, and another may count before the right one's does.
    let before = BEFORE.load(Ordering::Relaxed);
    assert!(before <= 3 * THREADS.len(), "{before}");
}

#[tokio::test]
async fn a_right_password_is_let_in_however_many_wrong_ones_of_its_user_come_at_once() {
    for right_at in [0, WAITING / 2, WAITING - 1] {
        gated!(OPEN, CALLS, BEFORE, fits);
        OPEN.store(true, Ordering::Relaxed);
        let passwords = Arc::new(Passwords::start(fits).unwrap());
        lock(&passwords.0.state).pace.now = 1000.0;
        let users = Arc::new(alice());
        // Refusals of other users fill their queue.
        for _ in 0..2 * WAITING {
            ask(&passwords, &users, "nobody", "guess");
        }
        let mut asked: Vec<_> = (0..WAITING)
            .map(|at| {
                let password = if at == right_at { "right" } else { "guess" };
                ask(&passwords, &users, "alice", password)
            })
            .collect();
        assert_eq!(asked.swap_remove(right_at).await.unwrap(), Ok(true));
        assert!(CALLS.load(Ordering::Relaxed) > BEFORE.load(Ordering::Relaxed));
    }
}

/// A state without threads to which these were submitted, and the receivers of its jobs' answers.
fn waiting(limit: usize, logins: &[(&str, &str)]) -> (State, Vec<oneshot::Receiver<bool>>) {
    let mut state = State {
        jobs: Vec::new(),
        refused: VecDeque::new(),
        limit,
        last_refusal: Instant::now(),
        turns: HashMap::new(),
        turn: 0,
        right: HashMap::new(),
        pace: Pace::measure(),
    };
    let mut clients = Vec::new();
    for (number, (user, hash)) in logins.iter().enumerate() {
        let (answer, answered) = oneshot::channel();
        clients.push(answered);
        state.submit(Job {
            user: user.as_bytes().to_vec(),
            hash: BcryptHash::parse(hash).unwrap(),
            password: vec![u8::try_from(number).unwrap()],
            answer,
        });
    }
    (state, clients)
}

fn order(state: &mut State, highest_cost: u32, newest_first: bool) -> Vec<u8> {
    std::iter::from_fn(|| state.next_job(highest_cost, newest_first))
        .map(|job| job.password[0])
        .collect()
}

#[test]
fn users_take_turns_and_of_each_the_newest_goes_first_or_among_many_the_oldest() {
    let flood = ["a", "a", "a", "b", "a"].map(|user| (user, SECRET));
    let (mut state, _clients) = waiting(WAITING, &flood);
    assert_eq!(order(&mut state, 31, true), [4, 3, 2, 1, 0]);
    let (mut state, _clients) = waiting(WAITING, &flood);
    assert_eq!(order(&mut state, 31, false), [4, 3, 2, 1, 0]);
    // More than half of the queue.
    let (mut state, _clients) = waiting(6, &flood);
    assert_eq!(order(&mut state, 31, false), [0, 3, 4, 2, 1]);
}

#[test]
fn one_thread_computes_slow_hashes_and_disconnected_clients_are_skipped() {
    let slow = SECRET.replace("$04$", "$18$");
    let logins = [
        ("slow", slow.as_str()),
        ("slow", &slow),
        ("quick", SECRET),
        ("quick", SECRET),
    ];
    let (mut state, mut clients) = waiting(WAITING, &logins);
    clients.pop();
    assert_eq!(order(&mut state, SLOW_COST, true), [2]);
    assert_eq!(order(&mut state, u32::MAX, true), [1, 0]);
    let slow_threads = THREADS.iter().filter(|(cost, _)| *cost > SLOW_COST);
    assert_eq!(slow_threads.count(), 1);
}

#[tokio::test]
async fn one_login_too_many_displaces_the_oldest_of_the_user_with_the_most() {
    let slow = SECRET.replace("$04$", "$18$");
    let mut logins = vec![("right", SECRET)];
    logins.extend(vec![("slow", slow.as_str()); 100]);
    logins.extend(vec![("quick", SECRET); 2]);
    let (mut state, mut clients) = waiting(8, &logins);
    assert_eq!(state.jobs.len(), 8);
    assert!(clients.remove(1).await.is_err());
    assert_eq!(order(&mut state, SLOW_COST, true), [102, 0, 101]);
}

#[tokio::test]
async fn slow_hashes_have_a_thread_of_their_own() {
    static OPEN: AtomicBool = AtomicBool::new(false);
    static SLOW: AtomicUsize = AtomicUsize::new(0);
    fn fits(hash: &BcryptHash, password: &[u8]) -> bool {
        if hash.cost > SLOW_COST {
            assert_eq!(SLOW.fetch_add(1, Ordering::Relaxed), 0);
            while !OPEN.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            SLOW.store(0, Ordering::Relaxed);
        }
        password == b"right"
    }
    let passwords = Arc::new(Passwords::start(fits).unwrap());
    let slow = SECRET.replace("$04$", "$18$");
    let users = Arc::new(users(&[
        ("slow", &slow),
        ("slow2", &slow),
        ("quick", SECRET),
    ]));
    let mut slow = Vec::new();
    for _ in 0..3 {
        for user in ["slow", "slow2"] {
            slow.push(ask(&passwords, &users, user, "right"));
        }
    }
    while SLOW.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        ask(&passwords, &users, "quick", "right").await.unwrap(),
        Ok(true)
    );
    OPEN.store(true, Ordering::Relaxed);
    for one in slow {
        assert_eq!(one.await.unwrap(), Ok(true));
    }
}

#[tokio::test]
async fn a_disconnected_clients_login_is_computed_only_if_already_begun() {
    gated!(OPEN, CALLS, BEFORE, fits);
    let passwords = Arc::new(Passwords::start(fits).unwrap());
    let users = Arc::new(alice());
    let gone: Vec<_> = (0..20)
        .map(|_| ask(&passwords, &users, "alice", "guess"))
        .collect();
    tokio::task::yield_now().await;
    gone.iter().for_each(JoinHandle::abort);
    let right = ask(&passwords, &users, "alice", "right");
    tokio::task::yield_now().await;
    OPEN.store(true, Ordering::Relaxed);
    assert_eq!(right.await.unwrap(), Ok(true));
    assert!(BEFORE.load(Ordering::Relaxed) <= THREADS.len());
    assert!(CALLS.load(Ordering::Relaxed) <= THREADS.len() + 1);
}

#[tokio::test]
async fn of_too_many_waiting_refusals_the_oldest_are_answered_at_once() {
    let passwords = Arc::new(Passwords::start(BcryptHash::fits).unwrap());
    passwords.limit_waiting(6);
    lock(&passwords.0.state).pace.now = 1000.0;
    let users = Arc::new(alice());
    let asked: Vec<_> = (0..5)
        .map(|_| ask(&passwords, &users, "bob", "guess"))
        .collect();
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let is_over = asked.iter().map(JoinHandle::is_finished);
    assert_eq!(
        is_over.collect::<Vec<_>>(),
        [true, true, true, false, false]
    );
}

#[tokio::test]
async fn in_a_flood_the_order_of_503_is_that_of_arrival_whatever_the_name() {
    static OPEN: AtomicBool = AtomicBool::new(false);
    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
    fn fits(hash: &BcryptHash, password: &[u8]) -> bool {
        while hash.cost > SLOW_COST && !OPEN.load(Ordering::Relaxed) {
            HAS_BEGUN.store(true, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
        }
        password == b"right"
    }
    let passwords = Arc::new(Passwords::start(fits).unwrap());
    lock(&passwords.0.state).pace.now = 1000.0;
    let slow = SECRET.replace("$04$", "$18$");
    let users = Arc::new(users(&[("quick", SECRET), ("slow", &slow)]));
    let begin = Instant::now();
    let mut asked = vec![ask(&passwords, &users, "slow", "right")];
    while !HAS_BEGUN.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for name in ["quick", "slow", "nobody"].iter().cycle().take(200) {
        asked.push(ask(&passwords, &users, name, "guess"));
        tokio::task::yield_now().await;
    }
    let over = asked.len() - WAITING;
    let is_over = || asked.iter().map(JoinHandle::is_finished);
    while is_over().filter(|is_over| *is_over).count() < over {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(begin.elapsed() < PATIENCE, "some have waited to the end");
    let places: Vec<_> = is_over().collect();
    assert!(places[..over].iter().all(|is_over| *is_over), "{places:?}");
    for login in asked.drain(..over) {
        assert_eq!(login.await.unwrap(), Err(BUSY));
    }
    // The right password of the expensive hash is known soon, although its client has been answered.
    OPEN.store(true, Ordering::Relaxed);
    while lock(&passwords.0.state).right.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let again = ask(&passwords, &users, "slow", "right");
    assert_eq!(again.await.unwrap(), Ok(true));
}

#[tokio::test(start_paused = true)]
async fn shutdown_answers_pending_logins_soon_and_cached_ones_still_work() {
    let passwords = Passwords::start(at_least_cost).unwrap();
    let users = alice();
    let ask = |password: &'static str| passwords.verify(&users, b"alice", password.as_bytes());
    // The clock runs ahead while the thread computes.
    while ask("secret").await != Ok(true) {}
    lock(&passwords.0.state).pace.now = 1000.0;
    let begin = Instant::now();
    let (waited, ()) = tokio::join!(ask("guess"), async { passwords.shut_down() });
    assert_eq!(waited, Err(ENDING));
    assert_eq!(ask("secret").await, Ok(true));
    assert_eq!(ask("another").await, Err(ENDING));
    assert!(begin.elapsed() < ENDING_GRACE * 2);
}

#[test]
fn the_pace_follows_the_load_and_one_interruption_does_not_matter() {
    let mut pace = Pace {
        at_rest: 1.0,
        now: 1.0,
    };
    let quick = Duration::from_millis(60);
    // The error of an interrupted start is corrected.
    for _ in 0..60 {
        pace.learn(10, quick);
    }
    assert_eq!(pace.refusal_takes(10).as_millis(), 75);
    assert_eq!(pace.refusal_takes(12).as_millis(), 300);
    for _ in 0..20 {
        pace.learn(10, quick * 2);
    }
    assert_eq!(pace.refusal_takes(10).as_millis(), 149);
    // Stopped for a while.
    pace.learn(10, quick * 1000);
    assert_eq!(pace.refusal_takes(10).as_millis(), 300);
    pace.now = pace.at_rest;
    pace.learn(4, Duration::from_millis(19));
    assert!(pace.refusal_takes(4) < Duration::from_millis(3));
    assert_eq!(pace.refusal_takes(31), PATIENCE * 2);
}

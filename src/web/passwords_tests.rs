#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::web::config::WebFile;

/// "secret".
const SECRET: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

/// What Go's exporters compare with for unknown users: "fakepassword".
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

/// A function for [`Passwords`] that notes the cost of each computation, and computes at the least
/// cost. A function has no state, so each test has its own.
macro_rules! noting {
    ($costs:ident, $compute:ident) => {
        static $costs: Mutex<Vec<u32>> = Mutex::new(Vec::new());

        fn $compute(cost: u32, salt: Salt, password: &[u8]) -> Digest {
            if !password.is_empty() {
                lock(&$costs).push(cost);
            }
            digest(4, salt, password)
        }
    };
}

async fn verify(passwords: &Passwords, users: &Users, user: &str, password: &str) -> bool {
    let checked = passwords.verify(users, user.as_bytes(), password.as_bytes());
    checked.await.unwrap()
}

/// A pace at which the highest cost, 9, takes 0.4 s.
fn set_pace(passwords: &Passwords) {
    passwords.shared.lock().pace = Pace {
        round_seconds: 0.4 / MARGIN / rounds(9),
        stretch: 1.0,
    };
}

#[tokio::test]
async fn every_refusal_takes_as_long_as_the_most_expensive_hash_and_computes_its_own_at_most() {
    noting!(COSTS, compute);
    let computed = || lock(&COSTS).drain(..).collect::<Vec<_>>();
    let of_cost = |cost: &str| SECRET.replace("$04$", cost);
    let users = users(&[
        ("cheap", SECRET),
        ("middle", &of_cost("$07$")),
        ("expensive", &of_cost("$09$")),
    ]);
    let passwords = Passwords::computed_by(compute).unwrap();
    for (user, expected) in [
        ("cheap", &[4][..]),
        ("middle", &[7]),
        ("expensive", &[9]),
        ("nobody", &[]),
        ("", &[]),
        ("cheap ", &[]),
        ("Cheap", &[]),
        // What is remembered as wrong is not computed again.
        ("cheap", &[]),
    ] {
        set_pace(&passwords);
        let begin = Instant::now();
        assert!(!verify(&passwords, &users, user, "wrong").await);
        let took = begin.elapsed().as_millis();
        assert!(took >= 400, "{user}: {took} ms");
        assert_eq!(computed(), expected, "{user}");
    }
    set_pace(&passwords);
    tokio::select! {
        biased;
        _ = verify(&passwords, &users, "nobody", "wrong") => panic!("a right password waits for a wrong one"),
        is_right = verify(&passwords, &users, "cheap", "secret") => assert!(is_right),
    }
    assert_eq!(computed(), [4]);
}

#[tokio::test]
async fn refusals_that_come_together_leave_one_after_the_other_for_any_name() {
    static OPEN: AtomicBool = AtomicBool::new(true);
    /// Not before both have come, for it changes the pace.
    fn compute(_: u32, _: Salt, _: &[u8]) -> Digest {
        while !OPEN.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        Digest::default()
    }
    let users = users(&[
        ("cheap", SECRET),
        ("expensive", &SECRET.replace("$04$", "$09$")),
    ]);
    for name in ["cheap", "expensive", "nobody"] {
        let passwords = Passwords::computed_by(compute).unwrap();
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
async fn results_are_remembered_until_the_hash_changes() {
    noting!(COSTS, compute);
    let computed = || lock(&COSTS).len();
    let passwords = Passwords::computed_by(compute).unwrap();
    for _ in 0..3 {
        assert!(verify(&passwords, &alice(), "alice", "secret").await);
        assert!(!verify(&passwords, &alice(), "alice", "wrong").await);
        assert!(!verify(&passwords, &alice(), "bob", "secret").await);
        assert_eq!(computed(), 2);
    }
    let other = users(&[("alice", FAKE), ("bob", SECRET)]);
    assert!(!verify(&passwords, &other, "alice", "secret").await);
    assert!(verify(&passwords, &other, "bob", "secret").await);
    assert!(!verify(&passwords, &users(&[]), "alice", "secret").await);
}

#[tokio::test]
async fn what_is_remembered_of_one_login_is_not_taken_for_another() {
    let passwords = Passwords::computed_by(|_, salt, password| digest(4, salt, password)).unwrap();
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
async fn wrong_passwords_push_out_no_right_one() {
    noting!(COSTS, compute);
    let passwords = Passwords::computed_by(compute).unwrap();
    let users = alice();
    assert!(verify(&passwords, &users, "alice", "secret").await);
    for number in 0..2 * REMEMBERED {
        passwords
            .shared
            .lock()
            .wrong
            .put([u8::try_from(number).unwrap(); 32]);
    }
    let before = lock(&COSTS).len();
    assert!(verify(&passwords, &users, "alice", "secret").await);
    assert_eq!(lock(&COSTS).len(), before);
    let state = passwords.shared.lock();
    assert_eq!(
        (
            state.right.all.len(),
            state.wrong.all.len(),
            state.wrong.by_age.len()
        ),
        (1, REMEMBERED, REMEMBERED)
    );
}

#[tokio::test]
async fn the_same_login_at_once_is_computed_once_a_thread() {
    noting!(COSTS, compute);
    let passwords = Arc::new(Passwords::computed_by(compute).unwrap());
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..WAITING {
        let passwords = Arc::clone(&passwords);
        asked.spawn(async move { verify(&passwords, &alice(), "alice", "secret").await });
    }
    assert!(asked.join_all().await.into_iter().all(|is_right| is_right));
    assert!(lock(&COSTS).len() <= THREADS);
}

/// A state without threads, and what its jobs would answer to.
fn waiting(jobs: &[(&str, &str)]) -> (State, Vec<oneshot::Receiver<bool>>) {
    let mut state = State::default();
    let mut clients = Vec::new();
    for (number, (user, hash)) in jobs.iter().enumerate() {
        let (answer, answered) = oneshot::channel();
        clients.push(answered);
        state.jobs.push(Job {
            user: user.as_bytes().to_vec(),
            tag: Tag::default(),
            hash: BcryptHash::parse(hash).unwrap(),
            password: vec![u8::try_from(number).unwrap()],
            answer,
        });
    }
    (state, clients)
}

#[test]
fn users_take_turns_and_the_newest_of_each_goes_first() {
    let flood = [
        ("a", SECRET),
        ("a", SECRET),
        ("a", SECRET),
        ("b", SECRET),
        ("a", SECRET),
    ];
    let (mut state, _clients) = waiting(&flood);
    let order: Vec<u8> = std::iter::from_fn(|| state.next_job())
        .map(|job| job.password[0])
        .collect();
    assert_eq!(order, [4, 3, 2, 1, 0]);
}

#[test]
fn one_slow_hash_at_a_time_leaves_a_thread_to_others_and_who_is_gone_is_forgotten() {
    let slow = SECRET.replace("$04$", "$18$");
    let (mut state, mut clients) = waiting(&[
        ("slow", &slow),
        ("slow", &slow),
        ("quick", SECRET),
        ("quick", SECRET),
    ]);
    clients.pop();
    let mut next = || state.next_job().map(|job| job.password[0]);
    assert_eq!([next(), next(), next()], [Some(2), Some(1), None]);
    state.slow_at_work = false;
    assert!(state.next_job().is_some_and(|job| job.is_slow()));
}

#[tokio::test]
async fn who_waits_is_bounded_and_the_oldest_makes_way() {
    let mut passwords = Passwords::start().unwrap();
    passwords.leave_room_among(6);
    let (passwords, users) = (Arc::new(passwords), Arc::new(alice()));
    let mut asked = Vec::new();
    for number in 0..5_u8 {
        let (passwords, users) = (Arc::clone(&passwords), Arc::clone(&users));
        // Names that are known and some that are not.
        let name = if number % 2 == 0 { "alice" } else { "bob" };
        passwords.shared.lock().pace.round_seconds = 1000.0;
        asked.push(tokio::spawn(async move {
            passwords
                .verify(&users, name.as_bytes(), &[number + 1])
                .await
        }));
        tokio::task::yield_now().await;
    }
    for displaced in asked.drain(..2) {
        assert_eq!(displaced.await.unwrap(), Err(Unchecked::Busy));
    }
    tokio::task::yield_now().await;
    assert!(asked.iter().all(|one| !one.is_finished()));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_nobody_waits_for_long_and_what_is_known_is_still_known() {
    let passwords = Passwords::computed_by(|_, salt, password| digest(4, salt, password)).unwrap();
    let users = alice();
    let ask = |password: &'static str| passwords.verify(&users, b"alice", password.as_bytes());
    // The clock runs ahead while the thread computes.
    while ask("secret").await != Ok(true) {}
    passwords.shared.lock().pace.round_seconds = 1000.0;
    let begin = Instant::now();
    let (waited, ()) = tokio::join!(ask("guess"), async { passwords.shut_down() });
    assert_eq!(waited, Err(Unchecked::Ending));
    assert_eq!(ask("secret").await, Ok(true));
    assert_eq!(ask("another").await, Err(Unchecked::Ending));
    assert!(begin.elapsed() < ENDING_GRACE * 2);
}

#[test]
fn the_pace_follows_the_load_and_one_interruption_does_not_matter() {
    let mut pace = Pace::default();
    let cpu = Duration::from_millis(60);
    pace.learn(10, cpu, cpu);
    assert_eq!(pace.wall_time(10).as_millis(), 75);
    assert_eq!(pace.wall_time(12).as_millis(), 300);
    for _ in 0..20 {
        pace.learn(10, cpu, cpu * 2);
    }
    assert_eq!(pace.wall_time(10).as_millis(), 149);
    pace.learn(4, Duration::from_millis(1), Duration::from_secs(1));
    assert!(pace.wall_time(4) < Duration::from_millis(3));
    assert_eq!(pace.wall_time(31), PATIENCE * 2);
}

proptest! {
    #[test]
    fn different_logins_have_different_tags(
        one in ("[a:$]{0,3}", "[a:$]{0,3}"),
        other in ("[a:$]{0,3}", "[a:$]{0,3}"),
        is_known in any::<bool>(),
    ) {
        let passwords = Passwords::start().unwrap();
        let hash = BcryptHash::parse(SECRET).unwrap();
        let hash = is_known.then_some(&hash);
        let tag = |login: &(String, String)| {
            passwords.tag(login.0.as_bytes(), hash, login.1.as_bytes())
        };
        prop_assert_eq!(one == other, tag(&one) == tag(&other));
    }
}

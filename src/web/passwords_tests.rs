#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    WebFile::parse(text.as_bytes(), Path::new(""))
        .unwrap()
        .users
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
            lock(&$costs).push(cost);
            digest(4, salt, password)
        }
    };
}

async fn are_right(passwords: &Passwords, users: &Users, user: &str, password: &str) -> bool {
    let checked = passwords.are_right(users, user.as_bytes(), password.as_bytes());
    checked.await.unwrap()
}

#[tokio::test]
async fn every_refusal_costs_the_same() {
    noting!(COSTS, compute);
    let rounds = || -> u64 { lock(&COSTS).drain(..).map(|cost| 1 << cost).sum() };
    let of_cost = |cost: &str| SECRET.replace("$04$", cost);
    let dear = of_cost("$09$");
    let users = users(&[
        ("cheap", SECRET),
        ("middle", &of_cost("$07$")),
        ("dear", &dear),
    ]);
    let passwords = Passwords::computed_by(compute).unwrap();
    for (number, user) in ["cheap", "middle", "dear", "nobody", "", "cheap ", "Cheap"]
        .into_iter()
        .enumerate()
    {
        let password = format!("wrong {number}");
        assert!(!are_right(&passwords, &users, user, &password).await);
        assert_eq!(rounds(), 1 << 9, "{user}");
    }
    assert!(are_right(&passwords, &users, "cheap", "secret").await);
    assert_eq!(rounds(), 1 << 4);
    // For one cost alone it is one computation, for the unknown as for the known.
    for user in ["alice", "bob"] {
        assert!(!are_right(&passwords, &alice(), user, "wrong").await);
        assert_eq!(lock(&COSTS).drain(..).collect::<Vec<_>>(), [4], "{user}");
    }
}

#[tokio::test]
async fn results_are_remembered_until_the_hash_changes() {
    noting!(COSTS, compute);
    let computed = || lock(&COSTS).len();
    let passwords = Passwords::computed_by(compute).unwrap();
    for _ in 0..3 {
        assert!(are_right(&passwords, &alice(), "alice", "secret").await);
        assert!(!are_right(&passwords, &alice(), "alice", "wrong").await);
        assert!(!are_right(&passwords, &alice(), "bob", "secret").await);
        assert_eq!(computed(), 3);
    }
    let other = users(&[("alice", FAKE), ("bob", SECRET)]);
    assert!(!are_right(&passwords, &other, "alice", "secret").await);
    assert!(are_right(&passwords, &other, "bob", "secret").await);
    assert!(!are_right(&passwords, &users(&[]), "alice", "secret").await);
}

#[tokio::test]
async fn what_is_remembered_of_one_login_is_not_taken_for_another() {
    let passwords = Passwords::computed_by(|_, salt, password| digest(4, salt, password)).unwrap();
    let users = alice();
    assert!(are_right(&passwords, &users, "alice", "secret").await);
    // CVE-2022-46146: parts that give the same when they are put behind one another.
    let all = format!("alice{SECRET}secret");
    for end in 0..=all.len() {
        let (user, password) = all.split_at(end);
        assert!(
            !are_right(&passwords, &users, user, password).await,
            "{end}"
        );
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
        assert!(
            !are_right(&passwords, &users, user, password).await,
            "{user}"
        );
    }
}

#[tokio::test]
async fn wrong_passwords_push_out_no_right_one() {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    fn compute(_: u32, salt: Salt, password: &[u8]) -> Digest {
        COUNT.fetch_add(1, Ordering::Relaxed);
        if password == b"secret" {
            digest(4, salt, password)
        } else {
            Digest::default()
        }
    }
    let passwords = Passwords::computed_by(compute).unwrap();
    let users = alice();
    assert!(are_right(&passwords, &users, "alice", "secret").await);
    for number in 0..10 * REMEMBERED {
        let password = format!("wrong {number}");
        assert!(!are_right(&passwords, &users, "alice", &password).await);
    }
    let before = COUNT.load(Ordering::Relaxed);
    assert!(are_right(&passwords, &users, "alice", "secret").await);
    assert_eq!(COUNT.load(Ordering::Relaxed), before);
    let known = lock(&passwords.known);
    assert_eq!(
        (known.right.all.len(), known.wrong.all.len()),
        (1, REMEMBERED)
    );
    assert_eq!(known.wrong.by_age.len(), REMEMBERED);
}

#[tokio::test]
async fn the_same_login_at_once_is_computed_once() {
    noting!(COSTS, compute);
    let passwords = Arc::new(Passwords::computed_by(compute).unwrap());
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..QUEUE {
        let passwords = Arc::clone(&passwords);
        asked.spawn(async move { are_right(&passwords, &alice(), "alice", "secret").await });
    }
    assert!(asked.join_all().await.into_iter().all(|is_right| is_right));
    assert_eq!(lock(&COSTS).len(), 1);
}

#[test]
fn what_waits_for_bcrypt_is_bounded_and_forgotten_with_its_client() {
    static GATE: Mutex<()> = Mutex::new(());
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    fn compute(_: u32, _: Salt, _: &[u8]) -> Digest {
        let _until_it_opens = lock(&GATE);
        COUNT.fetch_add(1, Ordering::Relaxed);
        Digest::default()
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let passwords = Arc::new(Passwords::computed_by(compute).unwrap());
    let users = Arc::new(alice());
    let ask = |number: usize| {
        let (passwords, users) = (Arc::clone(&passwords), Arc::clone(&users));
        async move {
            let password = number.to_le_bytes();
            passwords.are_right(&users, b"alice", &password).await
        }
    };
    let closed = lock(&GATE);
    runtime.block_on(async {
        let mut asked = tokio::task::JoinSet::new();
        // One is being computed, or will be.
        for number in 0..=QUEUE {
            asked.spawn(ask(number));
        }
        // The runtime comes back here before it has been through all of them.
        for _ in 0..=QUEUE {
            tokio::task::yield_now().await;
        }
        let mut refused = 0;
        for number in 0..10 {
            let waiting = tokio::time::timeout(Duration::from_millis(1), ask(1000 + number));
            refused += usize::from(matches!(waiting.await, Ok(Err(Unchecked::Busy))));
        }
        assert!(refused >= 8, "{refused}");
        // All the clients go.
        asked.shutdown().await;
    });
    drop(closed);
    let answer = runtime.block_on(async {
        loop {
            match ask(usize::MAX).await {
                Err(Unchecked::Busy) => tokio::task::yield_now().await,
                other => return other.unwrap(),
            }
        }
    });
    assert!(!answer);
    // The one that was under way, and the last.
    assert!(COUNT.load(Ordering::Relaxed) <= 4, "{COUNT:?}");
}

#[test]
fn at_the_end_nobody_waits_for_long_and_what_is_known_is_still_known() {
    static GATE: Mutex<()> = Mutex::new(());
    fn compute(cost: u32, salt: Salt, password: &[u8]) -> Digest {
        let _until_it_opens = lock(&GATE);
        digest(cost, salt, password)
    }
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
    let passwords = Passwords::computed_by(compute).unwrap();
    let users = alice();
    let ask = |password: &'static str| passwords.are_right(&users, b"alice", password.as_bytes());
    // The clock runs ahead while the thread computes.
    runtime.block_on(async { while ask("secret").await != Ok(true) {} });
    let closed = lock(&GATE);
    runtime.block_on(async {
        let begin = Instant::now();
        let (waited, ()) = tokio::join!(ask("guess"), async { passwords.shut_down() });
        assert_eq!(waited, Err(Unchecked::Ending));
        assert_eq!(ask("secret").await, Ok(true));
        assert_eq!(ask("another").await, Err(Unchecked::Ending));
        assert!(begin.elapsed() < PARTING * 2);
    });
    drop(closed);
}

#[test]
fn no_thread_is_started_before_a_password_comes() {
    let passwords = Passwords::new().unwrap();
    assert!(passwords.worker.get().is_none());
}

proptest! {
    #[test]
    fn different_logins_have_different_tags(
        one in ("[a:$]{0,3}", "[a:$]{0,3}"),
        other in ("[a:$]{0,3}", "[a:$]{0,3}"),
        is_known in any::<bool>(),
    ) {
        let passwords = Passwords::new().unwrap();
        let hash = BcryptHash::parse(SECRET).unwrap();
        let hash = is_known.then_some(&hash);
        let tag = |login: &(String, String)| {
            passwords.tag(login.0.as_bytes(), hash, login.1.as_bytes())
        };
        prop_assert_eq!(one == other, tag(&one) == tag(&other));
    }
}

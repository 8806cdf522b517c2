//! The cost of wrong passwords, and that other requests do not pay it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use timewait_exporter::web::Limits;
use tokio::task::JoinSet;

use super::certificates::Folder;
use super::client::basic;
use super::handshakes::{serve, serve_with};
use super::requests::{SECRET, get};
use super::start;
use crate::support::client::Client;
use crate::support::patiently;

/// "secret" at cost 7: eight times the work of [`SECRET`].
const COST_7: &str = "$2y$07$abcdefghijklmnopqrstuuIs/gM0Fa6RfwP3m2cvkz9ya9wGeauxW";

/// "secret" at the usual cost, 10.
const COST_10: &str = "$2y$10$abcdefghijklmnopqrstuuqflPDzB6gcMhKa1rZqKiun2YGL5sa2u";

/// "secret" at cost 12: slow enough to delay others.
const COST_12: &str = "$2y$12$abcdefghijklmnopqrstuuT1Iwu6o8Wx7BoOyIMHfgVJq6JO/IJhW";

#[tokio::test]
async fn a_wrong_password_takes_as_long_for_known_users_as_for_unknown_ones() {
    let folder = Folder::new();
    let text = format!("basic_auth_users:\n  alice: {SECRET}\n  bob: {COST_7}\n");
    let server = serve(&folder, &text).await;
    let mut client = server.connect().await;
    let users = ["alice", "bob", "nobody"];
    // Other load only adds to the time: the fastest request is the least disturbed, and a busy machine needs more
    // rounds until each user has one.
    let mut quickest = [f64::INFINITY; 3];
    for round in 1..=300 {
        for (user, quickest) in users.iter().zip(&mut quickest) {
            // Never the same twice, since that would be cached.
            let header = format!(
                "Authorization: {}\r\n",
                basic(user, &format!("wrong {round}"))
            );
            let begin = Instant::now();
            let answer = client.request("GET", "/-/healthy", &header).await;
            *quickest = begin.elapsed().as_secs_f64().min(*quickest);
            assert_eq!(answer.status, 401);
        }
        let least = quickest.into_iter().fold(f64::INFINITY, f64::min);
        let most = quickest.into_iter().fold(0.0, f64::max);
        // A cost lower by one would be a factor of 2, without bcrypt it would be far more.
        if round >= 30 && most / least < 1.5 {
            println!("the quickest of {round}, in s: {users:?} {quickest:?}");
            return;
        }
    }
    panic!("the quickest of 300, in s: {users:?} {quickest:?}");
}

#[tokio::test]
async fn bcrypt_delays_no_other_request() {
    let folder = Folder::new();
    let text = format!("basic_auth_users:\n  alice: {SECRET}\n");
    let server = serve(&folder, &text).await;
    // Correct once, and cached.
    let login = Some(("alice", "secret"));
    assert_eq!(get(&server, "/metrics", login).await.status, 200);
    folder.write("web.yml", &format!("{text}  bob: {COST_12}\n"));
    let mut guesses = JoinSet::new();
    for number in 0..30 {
        let mut client = server.connect().await;
        let guess = basic("bob", &format!("guess {number}"));
        guesses.spawn(async move {
            let header = format!("Authorization: {guess}\r\n");
            client.ask("GET", "/metrics", &header).await;
            client.answer(true).await.status
        });
    }
    // Once one of them is answered, all have been received.
    let first = patiently(guesses.join_next()).await.unwrap().unwrap();
    assert_eq!(first, 401);
    let begin = Instant::now();
    for path in ["/metrics", "/", "/api/v1/report", "/-/healthy", "/-/ready"] {
        assert_eq!(get(&server, path, login).await.status, 200, "{path}");
        assert_eq!(get(&server, path, None).await.status, 401, "{path}");
    }
    println!("10 answers while bcrypt was busy: {:?}", begin.elapsed());
    let mut done = 0;
    while guesses.try_join_next().is_some() {
        done += 1;
    }
    // The answers did not wait for the guesses, most of which are still pending.
    assert!(done < 20, "{done} of 29 guesses were answered meanwhile");
    guesses.abort_all();
}

#[tokio::test]
async fn twenty_wrong_passwords_per_second_delay_no_right_one() {
    let folder = Folder::new();
    // The first correct password of each user is computed; later ones are cached.
    let names: Vec<String> = (0..5).map(|number| format!("right{number}")).collect();
    let mut text = "basic_auth_users:\n".to_owned();
    for name in &names {
        text.extend(["  ", name, ": ", COST_10, "\n"]);
    }
    let expensive = COST_10.replace("$10$", "$18$");
    text.extend(["  expensive: ", &expensive, "\n"]);
    let server = serve_with(&folder, &text, Limits::default()).await;
    let address = server.addresses[0];
    let mut flood = JoinSet::new();
    let mut slowest = Duration::ZERO;
    for number in 0..200 {
        let target = ["expensive", "right0", "nobody", "right4"][number % 4];
        let guess = basic(target, &format!("guess {number}"));
        flood.spawn(async move {
            let mut client = Client::connect(address).await;
            let header = format!("Authorization: {guess}\r\n");
            let status = client.request("GET", "/-/healthy", &header).await.status;
            assert!(status == 401 || status == 503, "{status}");
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        if number % 40 == 39 {
            let login = Some((names[number / 40].as_str(), "secret"));
            let begin = Instant::now();
            assert_eq!(get(&server, "/-/healthy", login).await.status, 200);
            slowest = slowest.max(begin.elapsed());
        }
    }
    println!("the slowest right first password took {slowest:?}");
    // Alone it takes 0.1 s, on a busy machine longer, but it does not wait for the hash of cost 18.
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    flood.abort_all();
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_leaves_room_for_right_ones() {
    let folder = Folder::new();
    let text = format!("basic_auth_users:\n  alice: {SECRET}\n");
    let path = folder.write("web.yml", &text);
    let flag = format!("--web.config.file={path}");
    let server = crate::support::server::Running::with(
        crate::support::server::collector(|_| crate::support::server::outcome(true)),
        &[&flag],
        // More than the clients: at the limit a client that has not sent its request yet may be disconnected.
        Limits {
            connections: 400,
            ..Limits::default()
        },
    )
    .await;
    let login = Some(("alice", "secret"));
    assert_eq!(get(&server, "/metrics", login).await.status, 200);
    folder.write("web.yml", &format!("{text}  bob: {COST_12}\n"));
    let mut guesses = JoinSet::new();
    for number in 0..300 {
        let address = server.addresses[0];
        let guess = basic("bob", &format!("guess {number}"));
        guesses.spawn(async move {
            let mut client = Client::connect(address).await;
            let header = format!("Authorization: {guess}\r\n");
            client.ask("GET", "/metrics", &header).await;
            let answer = client.answer(true).await;
            (
                answer.status,
                answer.header("retry-after").map(str::to_owned),
            )
        });
    }
    // Those beyond the queue get 503 at once, and can try again.
    for _ in 0..150 {
        let (status, retry) = patiently(guesses.join_next()).await.unwrap().unwrap();
        if status == 503 {
            assert_eq!(retry.as_deref(), Some("1"));
        } else {
            assert_eq!(status, 401);
        }
    }
    assert_eq!(get(&server, "/metrics", login).await.status, 200);
    assert!(!guesses.is_empty());
    guesses.abort_all();
}

#[test]
fn a_login_against_an_expensive_hash_does_not_delay_shutdown() {
    let folder = Folder::new();
    // Takes some minutes.
    let expensive = COST_12.replace("$12$", "$22$");
    let path = folder.write(
        "web.yml",
        &format!("basic_auth_users:\n  bob: {expensive}\n"),
    );
    let exporter = start(&path);
    let mut guess = TcpStream::connect(exporter.address()).unwrap();
    let login = basic("bob", "guess");
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {login}\r\n\r\n");
    guess.write_all(request.as_bytes()).unwrap();
    // Once a later request is answered, this one is pending.
    assert_eq!(
        crate::support::client::get(exporter.address(), "/").status,
        401
    );
    let begin = Instant::now();
    exporter.end();
    // Less than the ten seconds granted to requests in progress.
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    println!("ended after {took:?}");
    let mut answer = String::new();
    guess.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("The program ends"), "{answer}");
}

//! The checks before an answer, their order, and what changes without a restart.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use timewait_exporter::web::Limits;

use super::certificates::Folder;
use super::client::basic;
use super::handshakes::serve;
use crate::support;
use crate::support::client::Answer;
use crate::support::server::{Running, collector, generous, outcome};
use crate::support::{block_on, patiently};

/// "secret", at the lowest cost of bcrypt.
pub const SECRET: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

const PATHS: [&str; 7] = [
    "/metrics",
    "/",
    "/api/v1/report",
    "/-/healthy",
    "/-/ready",
    "/nothing",
    "*",
];

/// One request, optionally with name and password.
pub async fn get(server: &Running, path: &str, login: Option<(&str, &str)>) -> Answer {
    let header = login.map_or_else(String::new, |(user, password)| {
        format!("Authorization: {}\r\n", basic(user, password))
    });
    server.connect().await.request("GET", path, &header).await
}

fn users(hash: &str) -> String {
    format!("basic_auth_users:\n  alice: {hash}\n")
}

#[tokio::test]
async fn everything_is_behind_the_password() {
    let folder = Folder::new();
    let server = serve(&folder, &users(SECRET)).await;
    for path in PATHS {
        for login in [
            None,
            Some(("alice", "wrong")),
            Some(("alice", "")),
            Some(("", "secret")),
            Some(("bob", "secret")),
            Some(("Alice", "secret")),
        ] {
            let answer = get(&server, path, login).await;
            assert_eq!(answer.status, 401, "{path} {login:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Basic"));
            assert_eq!(answer.text(), "Unauthorized\n");
        }
        let expected = if path == "/nothing" || path == "*" {
            404
        } else {
            200
        };
        let answer = get(&server, path, Some(("alice", "secret"))).await;
        assert_eq!(answer.status, expected, "{path}");
    }
    // Other methods too, and other spellings of the header.
    let mut client = server.connect().await;
    assert_eq!(client.request("POST", "/metrics", "").await.status, 401);
    assert_eq!(client.request("HEAD", "/metrics", "").await.status, 401);
    for header in [
        "Bearer YWxpY2U6c2VjcmV0",
        "Basic YWxpY2U6c2VjcmV",
        "Basic alice:secret",
        "Basic",
    ] {
        let header = format!("Authorization: {header}\r\n");
        let answer = client.request("GET", "/metrics", &header).await;
        assert_eq!(answer.status, 401, "{header}");
    }
    let header = "authorization: bASIC YWxpY2U6c2VjcmV0\r\n";
    assert_eq!(client.request("GET", "/metrics", header).await.status, 200);
}

#[tokio::test]
async fn headers_are_set_on_every_answer_that_passes_the_file_and_rate_checks() {
    let folder = Folder::new();
    let headers = "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n    \
        Strict-Transport-Security: max-age=31536000; includeSubDomains\n    \
        X-Content-Type-Options: nosniff\n    X-XSS-Protection: 1\n    \
        Content-Security-Policy: \"default-src 'self'\"\n";
    let expected = [
        ("x-frame-options", "sameorigin"),
        (
            "strict-transport-security",
            "max-age=31536000; includeSubDomains",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-xss-protection", "1"),
        ("content-security-policy", "default-src 'self'"),
    ];
    let server = serve(&folder, &format!("{headers}{}", users(SECRET))).await;
    for path in PATHS {
        for login in [None, Some(("alice", "secret"))] {
            let answer = get(&server, path, login).await;
            for (name, value) in expected {
                assert_eq!(answer.header(name), Some(value), "{path} {login:?}");
            }
        }
    }
    folder.write("web.yml", "junk");
    let answer = get(&server, "/metrics", None).await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.header("x-frame-options"), None);
    // Without headers in the file, the exporter's own are unchanged.
    folder.write(
        "web.yml",
        "basic_auth_users: {}\nhttp_server_config:\n  headers:\n    Content-Security-Policy: \"\"\n",
    );
    let answer = get(&server, "/", None).await;
    assert!(
        answer
            .header("content-security-policy")
            .unwrap()
            .contains("sha256-")
    );
}

#[tokio::test]
async fn checks_run_in_the_order_file_rate_password() {
    let folder = Folder::new();
    let rate = "rate_limit:\n  interval: 1h\n  burst: 3\n";
    let text = format!(
        "{rate}{}http_server_config:\n  headers:\n    X-Frame-Options: deny\n",
        users(SECRET)
    );
    let server = serve(&folder, &text).await;
    let login = Some(("alice", "secret"));
    assert_eq!(get(&server, "/-/healthy", None).await.status, 401);
    // Requests during a broken file do not count against the rate.
    folder.write("web.yml", "junk");
    for _ in 0..5 {
        assert_eq!(get(&server, "/-/healthy", login).await.status, 500);
    }
    folder.write("web.yml", &text);
    assert_eq!(get(&server, "/-/healthy", login).await.status, 200);
    assert_eq!(get(&server, "/-/healthy", login).await.status, 200);
    for login in [login, None] {
        let answer = get(&server, "/-/healthy", login).await;
        assert_eq!(answer.status, 429);
        assert_eq!(answer.text(), "Too Many Requests\n");
        assert_eq!(answer.header("x-frame-options"), None);
        assert_eq!(answer.header("www-authenticate"), None);
    }
}

#[tokio::test]
async fn a_burst_of_0_refuses_everything_and_an_interval_of_0_nothing() {
    let folder = Folder::new();
    let server = serve(&folder, "rate_limit:\n  interval: 1s\n  burst: 0\n").await;
    for path in PATHS {
        assert_eq!(get(&server, path, None).await.status, 429, "{path}");
    }
    for text in [
        "rate_limit:\n  interval: 0\n  burst: 0\n",
        "rate_limit:\n  burst: 1\n",
    ] {
        let server = serve(&folder, text).await;
        for _ in 0..20 {
            assert_eq!(get(&server, "/-/healthy", None).await.status, 200);
        }
    }
}

#[tokio::test]
async fn the_rate_limit_is_fixed_at_start() {
    let folder = Folder::new();
    let server = serve(&folder, "").await;
    folder.write("web.yml", "rate_limit:\n  interval: 1h\n  burst: 0\n");
    assert_eq!(get(&server, "/-/healthy", None).await.status, 200);
    let server = serve(&folder, "rate_limit:\n  interval: 1h\n  burst: 1\n").await;
    folder.write("web.yml", "");
    assert_eq!(get(&server, "/-/healthy", None).await.status, 200);
    assert_eq!(get(&server, "/-/healthy", None).await.status, 429);
}

#[tokio::test]
async fn tls_cannot_be_enabled_after_start() {
    let folder = Folder::new();
    let server = serve(&folder, "").await;
    let tls = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";
    folder.write("web.yml", tls);
    assert_eq!(get(&server, "/-/healthy", None).await.status, 200);
}

#[tokio::test]
async fn users_and_headers_change_without_a_restart() {
    let folder = Folder::new();
    let server = serve(&folder, "").await;
    let status = async |login| get(&server, "/-/healthy", login).await.status;
    let login = Some(("alice", "secret"));
    assert_eq!(status(None).await, 200);
    folder.write("web.yml", &users(SECRET));
    assert_eq!(status(None).await, 401);
    assert_eq!(status(login).await, 200);
    // Another password for the same user, while the old one is cached.
    folder.write(
        "web.yml",
        &users("$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"),
    );
    assert_eq!(status(login).await, 401);
    folder.write("web.yml", &format!("basic_auth_users:\n  bob: {SECRET}\n"));
    assert_eq!(status(login).await, 401);
    assert_eq!(status(Some(("bob", "secret"))).await, 200);
    // An invalid hash rejects its user, and does not affect other users.
    folder.write(
        "web.yml",
        &format!("basic_auth_users:\n  alice: secret\n  bob: {SECRET}\n"),
    );
    assert_eq!(status(login).await, 401);
    assert_eq!(status(Some(("bob", "secret"))).await, 200);
    // It applies to the same connection, too.
    let mut client = server.connect().await;
    assert_eq!(client.request("GET", "/-/healthy", "").await.status, 401);
    folder.write(
        "web.yml",
        "basic_auth_users: {}\nhttp_server_config:\n  headers:\n    X-Frame-Options: deny\n",
    );
    let answer = client.request("GET", "/-/healthy", "").await;
    assert_eq!(
        (answer.status, answer.header("x-frame-options")),
        (200, Some("deny"))
    );
    for broken in [
        "junk",
        "http_server_config:\n  headers:\n    Server: me\n",
        "tls_server_config:\n  cipher_suites: [none]\n",
    ] {
        folder.write("web.yml", broken);
        let answer = client.request("GET", "/-/healthy", "").await;
        assert_eq!(
            (answer.status, answer.text()),
            (500, "Internal Server Error\n"),
            "{broken}"
        );
    }
    std::fs::remove_file(folder.path().join("web.yml")).unwrap();
    assert_eq!(client.request("GET", "/metrics", "").await.status, 500);
    folder.write("web.yml", "");
    assert_eq!(client.request("GET", "/metrics", "").await.status, 200);
}

#[tokio::test]
async fn while_cp_overwrites_the_file_nobody_gets_in_without_a_password() {
    let folder = Folder::new();
    let text = format!("{}http_server_config:\n  http2: true\n", users(SECRET));
    let server = serve(&folder, &text).await;
    let path = folder.path().join("web.yml");
    // In two parts, as on a slow disk: the file is empty, then half, then complete.
    let (half, rest) = text.split_at(text.find("alice").unwrap());
    let (half, rest) = (half.to_owned(), rest.to_owned());
    let (end, ended) = mpsc::channel::<()>();
    let copies = std::thread::spawn(move || {
        let mut count = 0;
        // Complete for a millisecond, then the next copy.
        while ended.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
            let mut file = std::fs::File::create(&path).unwrap();
            std::thread::yield_now();
            file.write_all(half.as_bytes()).unwrap();
            std::thread::yield_now();
            file.write_all(rest.as_bytes()).unwrap();
            count += 1;
        }
        count
    });
    let mut client = server.connect().await;
    let mut statuses = BTreeMap::new();
    // Until both were seen often enough to be meaningful.
    while statuses.values().filter(|count| **count >= 100).count() < 2 {
        let status = client.request("GET", "/-/healthy", "").await.status;
        assert!(status == 401 || status == 500, "{status}");
        *statuses.entry(status).or_insert(0) += 1;
        assert!(statuses.values().sum::<i32>() < 100_000, "{statuses:?}");
    }
    end.send(()).unwrap();
    println!(
        "{} copies; answers by status: {statuses:?}",
        copies.join().unwrap()
    );
    assert_eq!(
        get(&server, "/-/healthy", Some(("alice", "secret")))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_file_that_stays_without_users_allows_access_after_several_seconds() {
    let folder = Folder::new();
    let server = serve(&folder, &users(SECRET)).await;
    let status = async || get(&server, "/-/healthy", None).await.status;
    assert_eq!(status().await, 401);
    folder.write("web.yml", "");
    let begin = Instant::now();
    assert_eq!(status().await, 500);
    // The time begins again when the file is written again, even with the same content.
    tokio::time::sleep(Duration::from_secs(3)).await;
    folder.write("web.yml", "");
    while status().await == 500 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        begin.elapsed() >= Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(status().await, 200);
}

#[test]
fn a_broken_file_is_logged_once_per_error() {
    let folder = Folder::new();
    let exporter = super::start(&folder.write("web.yml", ""));
    let ask = |expected: u16| {
        block_on(patiently(async {
            let mut client = support::client::Client::connect(exporter.address()).await;
            for _ in 0..50 {
                let status = client.request("GET", "/-/healthy", "").await.status;
                assert_eq!(status, expected);
            }
        }));
    };
    folder.write("web.yml", "junk");
    ask(500);
    folder.write("web.yml", "rate_limits:\n");
    ask(500);
    folder.write("web.yml", "");
    ask(200);
    folder.write("web.yml", "junk");
    ask(500);
    exporter.wait_for("Unable to parse configuration", 3);
    exporter.wait_for("Configuration can be used again", 1);
    let logged = exporter.logged("Unable to parse configuration");
    assert_eq!(logged.len(), 3, "{logged:?}");
    assert!(logged[1].contains("rate_limits"), "{logged:?}");
    assert_eq!(exporter.logged("Configuration can be used again").len(), 1);
}

#[tokio::test]
async fn without_a_file_no_password_is_required() {
    let server = Running::with(
        collector(|_| outcome(true)),
        &["--web.config.file="],
        Limits {
            connections: 1,
            ..generous()
        },
    )
    .await;
    assert_eq!(get(&server, "/metrics", None).await.status, 200);
}

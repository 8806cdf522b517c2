//! What a client sees, on real loopback connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use timewait_exporter::web::Limits;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::client::{self, Client};
use crate::support::patiently;
use crate::support::program::{Program, field};
use crate::support::server::{Gate, Running, Switch, collector, generous, outcome};

/// Leaves the collector 50 ms.
const IMPATIENT: &str = "X-Prometheus-Scrape-Timeout-Seconds: 0.5\r\n";

const SOCKETS_SUCCESS: &str = "timewait_scrape_collector_success{collector=\"sockets\"}";

#[tokio::test]
async fn every_path_has_its_answer() {
    let server = Running::start(collector(|_| outcome(true))).await;
    let metrics = server.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert_eq!(
        metrics.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(metrics.metrics().get(SOCKETS_SUCCESS), Some(1.0));
    assert_eq!(server.get("/metrics?x=1").await.status, 200);
    let landing = server.get("/").await;
    assert_eq!(landing.status, 200);
    assert!(landing.text().contains("href=\"./metrics\""));
    let policy = landing.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    for path in ["/-/healthy", "/-/ready"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    for path in [
        "/metrics/",
        "//metrics",
        "/nothing",
        "/-/",
        "/api/v1/",
        "/api/v1/reports",
        "*",
    ] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn other_methods_are_refused_and_bodies_ignored() {
    let server = Running::start(collector(|_| outcome(true))).await;
    for path in ["/metrics", "/", "/api/v1/report", "/-/healthy", "/-/ready"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
            let answer = server.connect().await.request(method, path, "").await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD"));
        }
    }
    let answer = server.connect().await.request("POST", "/nothing", "").await;
    assert_eq!(answer.status, 404);
    // Bodies are neither awaited nor read to their end.
    for length in ["5", "99999999999"] {
        let header = format!("Content-Length: {length}\r\n");
        let answer = server
            .connect()
            .await
            .request("GET", "/metrics", &header)
            .await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let server = Running::start(collector(|_| outcome(true))).await;
    // Without values that change between the two requests.
    for path in ["/", "/-/healthy", "/nothing"] {
        let mut client = server.connect().await;
        let head = client.request("HEAD", path, "").await;
        // On the same connection, so that an unexpected body would be noticed.
        let get = client.request("GET", path, "").await;
        let without_date = |headers: &[(String, String)]| -> Vec<_> {
            headers
                .iter()
                .filter(|(name, _)| name != "date")
                .cloned()
                .collect()
        };
        assert_eq!(head.status, get.status);
        assert_eq!(without_date(&head.headers), without_date(&get.headers));
        assert_eq!(
            head.header("content-length"),
            Some(&*get.body.len().to_string())
        );
    }
    let mut client = server.connect().await;
    let head = client.request("HEAD", "/metrics", "").await;
    let length: usize = head.header("content-length").unwrap().parse().unwrap();
    assert!(head.status == 200 && length > 100, "{head:?}");
    assert_eq!(client.request("GET", "/metrics", "").await.status, 200);
}

#[tokio::test]
async fn pipelined_requests_are_answered() {
    let server = Running::start(collector(|_| outcome(true))).await;
    let mut client = server.connect().await;
    let one = "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";
    client.send(&one.repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(client.answer(true).await.status, 200);
    }
}

#[tokio::test]
async fn a_request_without_exactly_one_valid_host_is_refused_and_closes_the_connection() {
    let server = Running::start(collector(|_| outcome(true))).await;
    for (head, fault) in [
        ("GET /metrics HTTP/1.1\r\n", "missing required Host header"),
        (
            "GET http://x/metrics HTTP/1.1\r\n",
            "missing required Host header",
        ),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n",
            "too many Host headers",
        ),
        (
            "GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n",
            "too many Host headers",
        ),
        ("GET / HTTP/1.1\r\nHost: x/y\r\n", "malformed Host header"),
    ] {
        let mut client = server.connect().await;
        client.send(&format!("{head}\r\n")).await;
        let answer = client.answer(true).await;
        assert_eq!(answer.status, 400, "{head}");
        assert_eq!(answer.text(), format!("400 Bad Request: {fault}\n"));
        assert_eq!(client.closed().await, b"", "{head}");
    }
    for head in [
        "GET /-/healthy HTTP/1.0\r\n",
        "GET /-/healthy HTTP/1.1\r\nHost:\r\n",
        "GET /-/healthy HTTP/1.1\r\nHost: [::1%25eth0]:10072\r\n",
        "GET http://x/-/healthy HTTP/1.1\r\nHost: x\r\n",
    ] {
        let mut client = server.connect().await;
        client.send(&format!("{head}\r\n")).await;
        assert_eq!(client.answer(true).await.status, 200, "{head}");
    }
}

#[test]
fn requests_and_their_answers_are_logged_at_debug_level() {
    let program = Program::start(&["--log.level=debug"]);
    assert_eq!(client::get(program.address(), "/-/healthy").status, 200);
    assert_eq!(client::get(program.address(), "/no%0Athing").status, 404);
    let lines = program.wait_for("Answered a request", 2);
    for (line, path, status) in [
        (&lines[0], "/-/healthy", "200"),
        (&lines[1], "/no%0Athing", "404"),
    ] {
        let logged = ["level", "method", "path", "status"].map(|key| field(line, key));
        assert_eq!(logged, ["DEBUG", "GET", path, status], "{line}");
    }
    program.end();
}

#[tokio::test]
async fn the_format_follows_the_accept_headers() {
    let server = Running::start(collector(|_| outcome(true))).await;
    let mut client = server.connect().await;
    let accept = "Accept: application/openmetrics-text;version=1.0.0\r\nAccept-Encoding: gzip\r\n";
    let answer = client.request("GET", "/metrics", accept).await;
    let content_type = answer.header("content-type").unwrap();
    assert!(
        content_type.starts_with("application/openmetrics-text"),
        "{content_type}"
    );
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.header("vary"), Some("Accept, Accept-Encoding"));
    assert!(answer.body.starts_with(&[0x1f, 0x8b]));
    let plain = client.request("GET", "/metrics", "").await;
    assert_eq!(plain.header("content-encoding"), None);
}

#[tokio::test]
async fn the_telemetry_path_can_be_changed() {
    let flags = ["--web.telemetry-path=/m", "--web.disable-exporter-metrics"];
    let server = Running::with(collector(|_| outcome(true)), &flags, generous()).await;
    assert_eq!(server.get("/metrics").await.status, 404);
    let metrics = server.get("/m").await;
    assert_eq!(metrics.status, 200);
    assert!(!metrics.text().contains("promhttp_"));
    assert!(server.get("/").await.text().contains("href=\"./m\""));
    let flags = ["--web.telemetry-path=/"];
    let server = Running::with(collector(|_| outcome(true)), &flags, generous()).await;
    assert_eq!(
        server.get("/").await.metrics().get(SOCKETS_SUCCESS),
        Some(1.0)
    );
}

#[tokio::test]
async fn above_the_limit_a_scrape_is_refused_and_counted() {
    let (mut gate, collector) = Gate::collector();
    let server = Running::with(collector, &["--web.max-requests=1"], generous()).await;
    let mut first = server.connect().await;
    first.ask("GET", "/metrics", "").await;
    gate.entered().await;
    let refused = server.get("/metrics").await;
    assert_eq!(refused.status, 503);
    assert_eq!(
        refused.text(),
        "Limit of concurrent requests reached (1), try again later.\n"
    );
    // The limit applies to scrapes only.
    assert_eq!(server.get("/-/healthy").await.status, 200);
    gate.open();
    let answer = first.answer(true).await;
    assert_eq!(
        answer
            .metrics()
            .get("promhttp_metric_handler_requests_in_flight"),
        Some(1.0)
    );
    gate.open();
    let later = server.get("/metrics").await;
    let total = |code: &str| {
        later.metrics().get(&format!(
            "promhttp_metric_handler_requests_total{{code=\"{code}\"}}"
        ))
    };
    assert_eq!(
        (total("200"), total("503"), total("500")),
        (Some(1.0), Some(1.0), Some(0.0))
    );
}

#[tokio::test]
async fn at_the_deadline_a_scrape_answers_with_what_it_has() {
    let (gate, collector) = Gate::collector();
    let server = Running::start(collector).await;
    let answer = server
        .connect()
        .await
        .request("GET", "/metrics", IMPATIENT)
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.metrics().get(SOCKETS_SUCCESS), Some(0.0));
    assert_eq!(
        answer.metrics().get("timewait_sockets{family=\"ipv4\"}"),
        None
    );
    gate.open();
}

#[tokio::test]
async fn a_collector_that_panics_costs_its_own_metrics_only() {
    let panics = Switch::default();
    panics.set(true);
    let inner = panics.clone();
    let job = collector(move |_| {
        assert!(!inner.get(), "on purpose");
        outcome(true)
    });
    let server = Running::start(job).await;
    let answer = server.get("/metrics").await;
    assert_eq!(
        (answer.status, answer.metrics().get(SOCKETS_SUCCESS)),
        (200, Some(0.0))
    );
    panics.set(false);
    assert_eq!(
        server.get("/metrics").await.metrics().get(SOCKETS_SUCCESS),
        Some(1.0)
    );
}

#[tokio::test]
async fn concurrent_scrapes_share_their_dumps() {
    let (mut gate, collector) = Gate::collector();
    let server = Running::start(collector).await;
    let mut clients = vec![server.connect().await];
    clients[0].ask("GET", "/metrics", "").await;
    // Before the others arrive, or all might share the first.
    gate.entered().await;
    for _ in 1..40 {
        let mut client = server.connect().await;
        client.ask("GET", "/metrics", "").await;
        clients.push(client);
    }
    // All have arrived once the limit of 40 refuses one more.
    patiently(async {
        while server
            .connect()
            .await
            .request("GET", "/metrics", IMPATIENT)
            .await
            .status
            != 503
        {}
    })
    .await;
    gate.open();
    gate.entered().await;
    gate.open();
    for client in &mut clients {
        assert_eq!(
            client.answer(true).await.metrics().get(SOCKETS_SUCCESS),
            Some(1.0)
        );
    }
    assert!(!gate.was_entered(), "a third dump for 40 scrapes");
}

#[tokio::test]
async fn a_half_closed_client_gets_its_answer_and_then_the_end() {
    let (mut gate, gated) = Gate::collector();
    let server = Running::with(gated, &[], generous()).await;
    let mut client = server.connect().await;
    client.ask("GET", "/metrics", "").await;
    client.stream.shutdown().await.unwrap();
    gate.entered().await;
    gate.open();
    assert_eq!(client.answer(true).await.status, 200);
    assert_eq!(client.closed().await, b"");
    let server = Running::start(collector(|_| outcome(true))).await;
    for path in ["/metrics", "/", "/-/healthy", "/nothing"] {
        let mut client = server.connect().await;
        client.ask("GET", path, "").await;
        client.stream.shutdown().await.unwrap();
        assert!(client.closed().await.starts_with(b"HTTP/1.1 "), "{path}");
    }
}

#[tokio::test]
async fn a_client_that_disconnects_frees_its_slot() {
    let (mut gate, collector) = Gate::collector();
    let server = Running::with(collector, &["--web.max-requests=1"], generous()).await;
    let mut client = server.connect().await;
    client.ask("GET", "/metrics", "").await;
    gate.entered().await;
    drop(client);
    patiently(async {
        while server
            .connect()
            .await
            .request("GET", "/metrics", IMPATIENT)
            .await
            .status
            == 503
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    gate.open();
}

#[tokio::test]
async fn shutdown_finishes_requests_in_progress_and_no_others() {
    let (mut gate, collector) = Gate::collector();
    let mut server = Running::with(collector, &[], generous()).await;
    let mut idle = server.connect().await;
    assert_eq!(idle.request("GET", "/-/healthy", "").await.status, 200);
    let mut half = server.connect().await;
    half.send("GET / HT").await;
    let mut busy = server.connect().await;
    busy.ask("GET", "/metrics", "").await;
    gate.entered().await;
    server.shut_down();
    assert_eq!(idle.closed().await, b"");
    assert_eq!(half.closed().await, b"");
    let refused = TcpStream::connect(server.addresses[0]).await;
    assert!(refused.is_err());
    gate.open();
    let answer = busy.answer(true).await;
    assert_eq!(
        (answer.status, answer.metrics().get(SOCKETS_SUCCESS)),
        (200, Some(1.0))
    );
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(busy.closed().await, b"");
    assert_eq!(server.drained().await, 0);
}

#[tokio::test]
async fn shutdown_does_not_wait_indefinitely() {
    let limits = Limits {
        shutdown: Duration::from_millis(50),
        ..generous()
    };
    let (mut gate, collector) = Gate::collector();
    let mut server = Running::with(collector, &[], limits).await;
    let mut busy = server.connect().await;
    busy.ask("GET", "/metrics", "").await;
    gate.entered().await;
    server.shut_down();
    assert_eq!(server.drained().await, 1);
    gate.open();
}

#[tokio::test]
async fn several_listeners_give_the_same_answers() {
    let flags = [
        "--web.listen-address=127.0.0.1:0",
        "--web.listen-address=localhost:0",
    ];
    let server = Running::with(collector(|_| outcome(true)), &flags, generous()).await;
    assert_eq!(server.addresses.len(), 2);
    for address in &server.addresses {
        let mut client = Client::connect(*address).await;
        assert_eq!(client.request("GET", "/metrics", "").await.status, 200);
    }
}

#[tokio::test]
async fn readiness_follows_the_sockets_collector() {
    let works = Switch::default();
    let inner = works.clone();
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&runs);
    let job = collector(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        outcome(inner.get())
    });
    let server = Running::start(job).await;
    assert_eq!(server.get("/-/ready").await.status, 503);
    assert_eq!(server.get("/-/healthy").await.status, 200);
    works.set(true);
    assert_eq!(server.get("/-/ready").await.status, 200);
    // While it is ready, a request costs no scrape.
    let before = runs.load(Ordering::SeqCst);
    assert_eq!(server.get("/-/ready").await.status, 200);
    assert_eq!(runs.load(Ordering::SeqCst), before);
    works.set(false);
    assert_eq!(server.get("/metrics").await.status, 200);
    assert_eq!(server.get("/-/ready").await.status, 503);
}

//! Limits and timeouts for clients, on real loopback connections.

use std::time::Duration;

use timewait_exporter::domain::snapshot::{
    AGE_BANDS, Breakdown, Outcome, PerFamily, SocketSummary, Source,
};
use timewait_exporter::web::Limits;
use tokio::net::TcpSocket;

use crate::support::PATIENCE;
use crate::support::client::Client;
use crate::support::server::{Gate, Running, collector, generous, outcome};

#[tokio::test]
async fn an_unfinished_request_head_times_out() {
    let limits = Limits {
        receive: Duration::from_millis(50),
        ..generous()
    };
    let server = Running::with(collector(|_| outcome(true)), &[], limits).await;
    let silent = server.connect().await;
    assert_eq!(silent.closed().await, b"");
    let mut slow = server.connect().await;
    slow.send("GET / HTTP/1.1\r\nHost:").await;
    assert_eq!(slow.closed().await, b"");
    // The same applies to the second request of a connection.
    let mut second = server.connect().await;
    assert_eq!(second.request("GET", "/-/healthy", "").await.status, 200);
    second.send("GET").await;
    assert_eq!(second.closed().await, b"");
}

#[tokio::test]
async fn idle_connections_have_a_timeout_of_their_own() {
    let server = |receive, idle| {
        let limits = Limits {
            receive,
            idle,
            ..generous()
        };
        Running::with(collector(|_| outcome(true)), &[], limits)
    };
    let short = Duration::from_millis(100);
    let patient = server(short, PATIENCE * 10).await;
    let mut client = patient.connect().await;
    assert_eq!(client.request("GET", "/-/healthy", "").await.status, 200);
    tokio::time::sleep(short * 3).await;
    assert_eq!(client.request("GET", "/-/healthy", "").await.status, 200);
    let impatient = server(PATIENCE * 10, short).await;
    let mut client = impatient.connect().await;
    assert_eq!(client.request("GET", "/-/healthy", "").await.status, 200);
    assert_eq!(client.closed().await, b"");
}

#[tokio::test]
async fn a_request_head_that_is_too_long_is_refused() {
    let server = Running::start(collector(|_| outcome(true))).await;
    // The server closes with most of it unread, which may cost the client the answer.
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nX-Long: ").await;
    let rest = [b'x'; 1024];
    while tokio::io::AsyncWriteExt::write_all(&mut client.stream, &rest)
        .await
        .is_ok()
    {}
    let received = client.closed().await;
    assert!(received.is_empty() || received.starts_with(b"HTTP/1.1 431 "));
    let many = "X-Many: y\r\n".repeat(200);
    let mut client = server.connect().await;
    client.ask("GET", "/", &many).await;
    assert_eq!(client.answer(true).await.status, 431);
    let mut client = server.connect().await;
    client.send("junk\r\n\r\n").await;
    assert_eq!(client.answer(true).await.status, 400);
    assert_eq!(server.get("/-/healthy").await.status, 200);
}

#[tokio::test]
async fn at_the_connection_limit_an_idle_connection_is_closed() {
    let limits = Limits {
        connections: 2,
        ..generous()
    };
    let (mut gate, collector) = Gate::collector();
    let server = Running::with(collector, &[], limits).await;
    let mut busy = server.connect().await;
    busy.ask("GET", "/metrics", "").await;
    gate.entered().await;
    let mut idle = server.connect().await;
    assert_eq!(idle.request("GET", "/-/healthy", "").await.status, 200);
    assert_eq!(server.get("/-/healthy").await.status, 200);
    assert_eq!(idle.closed().await, b"");
    gate.open();
    assert_eq!(busy.answer(true).await.status, 200);
}

/// Metrics whose text is some 12 MB: more than the kernel's buffers take.
pub(crate) fn endless(_: std::time::Instant) -> Outcome {
    let exported = (0..200_000_u32)
        .map(|bits| (std::net::IpAddr::from(bits.to_be_bytes()).into(), 1))
        .collect();
    let summary = SocketSummary {
        source: Some(Source::Netlink),
        messages: 0,
        time_wait: PerFamily::default(),
        by_src_addr: Some(Breakdown { exported, other: 0 }),
        by_src_port: None,
        by_dst_addr: None,
        by_dst_port: None,
        by_age: Some([0; AGE_BANDS]),
        ports: None,
    };
    Outcome {
        value: Some(summary.into()),
        ..outcome(true)
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let limits = Limits {
        connections: 1,
        send: Duration::from_millis(100),
        ..generous()
    };
    let server = Running::with(collector(endless), &[], limits).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(server.addresses[0]).await.unwrap();
    let mut reads_nothing = Client::over(stream);
    reads_nothing.ask("GET", "/metrics", "").await;
    reads_nothing.stream.readable().await.unwrap();
    // The limit is one connection, and one that is being answered is not closed.
    assert_eq!(server.get("/-/healthy").await.status, 200);
    let received = reads_nothing.closed().await;
    assert!(received.len() < 10_000_000, "{}", received.len());
}

//! What a client may hold with HTTP/2, where one connection has many requests.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::Request;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use timewait_exporter::web::Limits;
use tokio::task::JoinHandle;

use super::certificates::Folder;
use super::client::{Client, Nothing, all_of, curl};
use super::handshakes::serve_with;
use crate::limits::endless;
use crate::support::patiently;
use crate::support::server::{Gate, Running, generous};

const TLS: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";

struct Connection {
    sender: SendRequest<Nothing>,
    ended: JoinHandle<()>,
}

async fn connect(folder: &Folder, address: SocketAddr, window: u32) -> Connection {
    let stream = Client::new(&folder.ca.pem())
        .connect(address)
        .await
        .unwrap();
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let ended = tokio::spawn(async move {
        let _however = connection.await;
    });
    Connection { sender, ended }
}

fn get(path: &str) -> Request<Nothing> {
    Request::get(format!("https://localhost{path}"))
        .body(Nothing)
        .unwrap()
}

async fn status(connection: &mut Connection, path: &str) -> u16 {
    let answer = patiently(connection.sender.send_request(get(path)))
        .await
        .unwrap();
    let status = answer.status().as_u16();
    all_of(answer.into_body()).await.unwrap();
    status
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_its_time_and_no_longer() {
    let folder = Folder::new();
    let short = Duration::from_millis(200);
    let limits = Limits {
        idle: short,
        ..generous()
    };
    let server = serve_with(&folder, TLS, limits).await;
    let mut connection = connect(&folder, server.addresses[0], 65_535).await;
    assert_eq!(status(&mut connection, "/-/healthy").await, 200);
    assert_eq!(status(&mut connection, "/metrics").await, 200);
    patiently(connection.ended).await.unwrap();
    // Neither the limit of sending nor that of receiving holds then.
    let limits = Limits {
        receive: short,
        send: short,
        ..generous()
    };
    let server = serve_with(&folder, TLS, limits).await;
    let mut connection = connect(&folder, server.addresses[0], 65_535).await;
    assert_eq!(status(&mut connection, "/metrics").await, 200);
    tokio::time::sleep(short * 3).await;
    assert_eq!(status(&mut connection, "/metrics").await, 200);
    // Without any request the limit of receiving does.
    let silent = connect(&folder, server.addresses[0], 65_535).await;
    patiently(silent.ended).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends_the_connection_whatever_else_is_asked() {
    let folder = Folder::new();
    let limits = Limits {
        send: Duration::from_millis(300),
        ..generous()
    };
    let path = folder.write("web.yml", TLS);
    let flag = format!("--web.config.file={path}");
    let server = Running::with(crate::support::server::collector(endless), &[&flag], limits).await;
    let mut connection = connect(&folder, server.addresses[0], 1_000).await;
    let held = patiently(connection.sender.send_request(get("/metrics")))
        .await
        .unwrap();
    assert_eq!(held.status(), 200);
    while !connection.ended.is_finished() {
        if let Ok(answer) = connection.sender.send_request(get("/-/healthy")).await {
            let _may_end = all_of(answer.into_body()).await;
        }
    }
    drop(held);
}

#[tokio::test]
async fn a_connection_has_two_answers_at_a_time_however_small_and_whatever_is_asked() {
    let folder = Folder::new();
    let server = serve_with(&folder, TLS, generous()).await;
    // The first byte of each answer is taken, and no more.
    let mut connection = connect(&folder, server.addresses[0], 1).await;
    let mut asked: Vec<_> = (0..3)
        .map(|_| tokio::spawn(connection.sender.send_request(get("/-/healthy"))))
        .collect();
    let third = asked.pop().unwrap();
    let mut held = Vec::new();
    for one in asked {
        held.push(patiently(one).await.unwrap().unwrap());
    }
    // Time enough for an answer: another connection is made and has one.
    let mut other = connect(&folder, server.addresses[0], 65_535).await;
    assert_eq!(status(&mut other, "/-/healthy").await, 200);
    assert!(!third.is_finished());
    let taken = patiently(all_of(held.pop().unwrap().into_body())).await;
    assert_eq!(taken.unwrap(), b"TIME-WAIT Exporter is Healthy.\n");
    assert_eq!(patiently(third).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn requests_whose_client_is_gone_are_given_up() {
    let folder = Folder::new();
    let path = folder.write("web.yml", TLS);
    let flag = format!("--web.config.file={path}");
    let (mut gate, collector) = Gate::collector();
    let mut server = Running::with(collector, &[&flag], generous()).await;
    let mut connection = connect(&folder, server.addresses[0], 65_535).await;
    let mut under_way = Vec::new();
    for _ in 0..3 {
        under_way.push(connection.sender.send_request(get("/metrics")));
    }
    let sent = tokio::spawn(async move {
        for one in under_way {
            let _gone = one.await;
        }
    });
    gate.entered().await;
    sent.abort();
    connection.ended.abort();
    drop(connection.sender);
    // Were one of them still waited for, this would wait for the gate.
    server.shut_down();
    server.drained().await;
    gate.open();
}

#[tokio::test]
async fn what_is_under_way_is_finished_when_the_program_ends() {
    let folder = Folder::new();
    let path = folder.write("web.yml", TLS);
    let flag = format!("--web.config.file={path}");
    let (mut gate, collector) = Gate::collector();
    let mut server = Running::with(collector, &[&flag], generous()).await;
    let mut connection = connect(&folder, server.addresses[0], 65_535).await;
    let mut idle = connect(&folder, server.addresses[0], 65_535).await;
    assert_eq!(status(&mut idle, "/-/healthy").await, 200);
    let scrape = connection.sender.send_request(get("/metrics"));
    let scrape = tokio::spawn(async move { all_of(scrape.await.unwrap().into_body()).await });
    gate.entered().await;
    server.shut_down();
    patiently(idle.ended).await.unwrap();
    gate.open();
    let body = patiently(scrape).await.unwrap().unwrap();
    assert!(!body.is_empty());
    server.drained().await;
}

#[tokio::test]
async fn many_requests_at_once_are_all_answered() {
    let folder = Folder::new();
    let server = serve_with(&folder, TLS, generous()).await;
    let mut connection = connect(&folder, server.addresses[0], 65_535).await;
    // By then the client knows how many are taken at once.
    assert_eq!(status(&mut connection, "/-/healthy").await, 200);
    let asked: Vec<_> = (0..100)
        .map(|_| tokio::spawn(connection.sender.send_request(get("/-/healthy"))))
        .collect();
    for one in asked {
        let answer = patiently(one).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn head_has_the_length_of_get_and_no_body() {
    let folder = Folder::new();
    let server = serve_with(&folder, TLS, generous()).await;
    let mut connection = connect(&folder, server.addresses[0], 65_535).await;
    for path in ["/-/healthy", "/metrics", "/", "/nothing"] {
        let mut request = get(path);
        let got = patiently(connection.sender.send_request(request.clone())).await;
        let got = got.unwrap();
        let got = (got.status(), all_of(got.into_body()).await.unwrap().len());
        *request.method_mut() = hyper::Method::HEAD;
        let head = patiently(connection.sender.send_request(request)).await;
        let head = head.unwrap();
        let length = head.headers()["content-length"].to_str().unwrap();
        let length: usize = length.parse().unwrap();
        assert_eq!(head.status(), got.0, "{path}");
        // The two that are read anew differ.
        if path != "/metrics" && path != "/" {
            assert_eq!(length, got.1, "{path}");
        }
        assert!(length > 10, "{path}");
        assert_eq!(all_of(head.into_body()).await.unwrap(), b"", "{path}");
    }
    let url = format!("https://localhost:{}/metrics", server.addresses[0].port());
    let ca = folder.path().join("ca.pem");
    let arguments = ["--head", "--http2", "--cacert", ca.to_str().unwrap(), &url];
    if let Some((status, said)) = curl(&arguments).await {
        assert!(status == 0 && said.starts_with("HTTP/2 200"), "{said}");
    }
}

#[tokio::test]
async fn heads_that_are_too_long_are_refused_and_others_served() {
    let folder = Folder::new();
    let server = serve_with(&folder, TLS, generous()).await;
    let mut connection = connect(&folder, server.addresses[0], 65_535).await;
    let mut long = get("/-/healthy");
    let value = "x"
        .repeat(15_000)
        .parse::<hyper::header::HeaderValue>()
        .unwrap();
    for number in 0..10 {
        let name = format!("x-long-{number}");
        let name = name.parse::<hyper::header::HeaderName>().unwrap();
        long.headers_mut().insert(name, value.clone());
    }
    let refused = patiently(connection.sender.send_request(long)).await;
    assert!(refused.is_err() || refused.unwrap().status() == 431);
    let mut other = connect(&folder, server.addresses[0], 65_535).await;
    assert_eq!(status(&mut other, "/-/healthy").await, 200);
}

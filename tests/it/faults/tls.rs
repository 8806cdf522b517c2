//! Crowds of clients over TLS.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tokio_rustls::TlsConnector;

use super::{Steady, USUAL_LIMIT, raise_descriptor_limit, write_crowded_table};
use crate::support::client::{self, Answer};
use crate::support::namespace::in_namespace;
use crate::support::{PATIENCE, block_on};
use crate::web_config::certificates::Folder;
use crate::web_config::client::Client;

const STALLED: usize = 1_000;
const SLOW: usize = 300;

/// The client's end of a TLS session before its handshake.
fn session(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::clone(config), name).unwrap()
}

/// One request on a connection of its own.
pub(super) fn get(config: &Arc<ClientConfig>, address: &str, path: &str) -> Answer {
    block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name, stream).await.unwrap();
        client::Client::over(stream).get(path, "").await
    })
}

/// A program with a certificate of this folder.
fn steady(name: &'static str, folder: &Folder, flags: &[&str]) -> Steady {
    let file = folder.write(
        "web.yml",
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n",
    );
    let mut client = Client::new(&folder.ca.pem());
    client.alpn = &[];
    let tree = crate::collector::copy();
    write_crowded_table(tree.path(), 1_000);
    let file = format!("--web.config.file={file}");
    let flags = [flags, &[&*file]].concat();
    let config = Arc::new(client.config());
    Steady::over_tls(name, tree, &flags, USUAL_LIMIT, Some(config))
}

#[test]
fn a_thousand_stalled_handshakes_delay_no_other_client() {
    in_namespace(|| {
        raise_descriptor_limit();
        let folder = Folder::new();
        let steady = steady("stalled handshakes", &folder, &[]);
        let mut hello = Vec::new();
        let mut session = session(steady.tls.as_ref().unwrap());
        session.write_tls(&mut hello).unwrap();
        let begin = Instant::now();
        let mut slowest = Duration::ZERO;
        let mut peak_kib = 0;
        let mut crowd: Vec<TcpStream> = Vec::new();
        let one = |number: usize| {
            // Nothing, a byte, half of the first message, all of it and no answer to the server's.
            let said = [0, 1, hello.len() / 2, hello.len()][number % 4];
            let mut stream = steady.connect();
            stream.write_all(&hello[..said]).unwrap();
            stream
        };
        for number in 0..STALLED {
            crowd.push(one(number));
            if number % 100 == 99 {
                slowest = slowest.max(steady.assert_answers());
                peak_kib = peak_kib.max(steady.process.resident_kib());
            }
        }
        while steady.process.descriptors() > steady.descriptors {
            assert!(begin.elapsed() < PATIENCE * 3, "they are not given up");
            slowest = slowest.max(steady.assert_answers());
            thread::sleep(Duration::from_millis(100));
        }
        let given_up = begin.elapsed().as_millis();
        drop(crowd);
        // The allocator reuses the memory of one crowd for the next: it does not grow.
        let another_crowd = || {
            drop((0..STALLED).map(one).collect::<Vec<_>>());
            steady.await_no_connection();
            steady.process.resident_kib()
        };
        let (after_two, _, after_four) = (another_crowd(), another_crowd(), another_crowd());
        assert!(
            after_four <= after_two + 2048,
            "{after_two} KiB, then {after_four} KiB"
        );
        steady.assert_unmoved(&format!(
            "{STALLED} clients, all given up after {given_up} ms; slowest scrape of others meanwhile {} \
             ms; at most {peak_kib} KiB resident meanwhile",
            slowest.as_millis()
        ));
    });
}

#[test]
fn slow_readers_over_tls_delay_no_other_client() {
    in_namespace(|| {
        raise_descriptor_limit();
        let folder = Folder::new();
        let steady = steady("slow readers over TLS", &folder, &["--collector.top=1000"]);
        let config = steady.tls.as_ref().unwrap();
        let (crowd, slowest, peak_kib) =
            steady.slow_readers(SLOW, |stream| StreamOwned::new(session(config), stream));
        let open = steady.process.descriptors() - steady.descriptors;
        drop(crowd);
        steady.assert_unmoved(&format!(
            "{SLOW} clients, {open} open at the end; answers of {} kB; slowest scrape of others \
             meanwhile {} ms; at most {peak_kib} KiB resident meanwhile",
            steady.answer.len() / 1000,
            slowest.as_millis()
        ));
    });
}

//! `healthcheck`: what a container's health check sees of a server.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;

use crate::support::namespace::in_namespace;
use crate::support::program::{self, Program};
use crate::support::skip::skip;

fn check(address: &str) -> Output {
    program::command()
        .args([&format!("--web.listen-address={address}"), "healthcheck"])
        .output()
        .unwrap()
}

#[track_caller]
fn assert_healthy(output: &Output) {
    assert!(output.status.success(), "{output:?}");
    assert!(
        output.stdout.is_empty() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[track_caller]
fn assert_unhealthy(output: &Output, why: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(why), "{said}");
}

/// A server that sends the same bytes to every client, and its address.
fn stranger(says: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _sent = stream.write_all(says);
        // Until the client is gone.
        let _read = stream.read_to_end(&mut Vec::new());
    });
    address
}

#[test]
fn a_server_on_all_addresses_is_healthy_where_ipv6_is_switched_off() {
    in_namespace(|| {
        for link in ["all", "lo"] {
            let switch = format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6");
            if fs::write(switch, "1").is_err() {
                return skip("IPv6 has no switch here");
            }
        }
        let mut command = program::command();
        let server = Program::spawn(command.arg("--web.listen-address=[::]:10072"));
        assert_healthy(&check(&format!("[::]:{}", server.address().port())));
    });
}

#[test]
fn a_server_that_answers_is_healthy_wherever_it_listens() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", directory.path().join("exporter.sock").display());
    let mut command = program::command();
    command.args([
        "--web.listen-address=127.0.0.1:0",
        &format!("--web.listen-address={socket}"),
    ]);
    let mut process = Program::spawn(&mut command);
    let address = process.address().to_string();
    process.line_with("exporter.sock");

    assert_healthy(&check(&address));
    assert_healthy(&check(&socket));
    // All addresses contain the loopback one.
    let port = address.rsplit_once(':').unwrap().1;
    assert_healthy(&check(&format!(":{port}")));
    assert_healthy(&check(&format!("localhost:{port}")));
    let mut from_environment: Command = program::command();
    from_environment.env("TIMEWAIT_EXPORTER_WEB_LISTEN_ADDRESS", &address);
    assert_healthy(&from_environment.arg("healthcheck").output().unwrap());

    process.end();
    assert_unhealthy(&check(&address), &format!("cannot connect to {address}"));
    assert_unhealthy(&check(&socket), "cannot connect to unix:");
}

#[test]
fn a_server_that_answers_an_error_or_another_protocol_is_unhealthy() {
    let trouble = check(&stranger(b"HTTP/1.1 500 Internal Server Error\r\n\r\n"));
    assert_unhealthy(&trouble, "HTTP/1.1 500");
    assert_unhealthy(
        &check(&stranger(b"SSH-2.0-OpenSSH_9.2\r\n")),
        "SSH-2.0-Open",
    );
    assert_unhealthy(&check(&stranger(b"")), "does not answer");
}

#[test]
fn a_server_that_hangs_times_out() {
    // The kernel accepts the connection, and no program reads from it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = check(&address);
    assert_unhealthy(
        &output,
        &format!("{address} does not answer: timed out after 3 s"),
    );
    drop(listener);
}

#[test]
fn an_address_that_cannot_be_known_is_reported() {
    assert_unhealthy(&check("127.0.0.1:0"), "port is 0");
    let output = program::command()
        .args(["--web.systemd-socket", "healthcheck"])
        .output()
        .unwrap();
    assert_unhealthy(&output, "passed by systemd");
}

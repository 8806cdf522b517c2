//! Listen addresses, and notifications to the service manager.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::PATIENCE;
use crate::support::client::{Answer, get, get_unix};
use crate::support::eventually;
use crate::support::namespace::in_namespace;
use crate::support::program::{self, Program, field};
use crate::support::skip::{has_or_skips, skip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_timewait_exporter");

fn assert_answers(answer: &Answer) {
    let build_info = answer.metrics().sum("timewait_exporter_build_info");
    assert_eq!(build_info, 1.0, "{answer:?}");
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("exporter.sock");
    (directory, path)
}

fn flag(socket: &Path) -> String {
    format!("--web.listen-address=unix:{}", socket.display())
}

/// Whether this machine has IPv6; without it the IPv6 part is skipped.
fn has_ipv6() -> bool {
    let result = TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
    let has = result.is_ok();
    if !has {
        skip("the part on IPv6: this machine has none");
    }
    has
}

#[test]
fn addresses_of_every_kind_give_the_same_answers() {
    let (_directory, socket) = place();
    let mut command = program::command();
    command.args(["--web.listen-address=127.0.0.1:0", &flag(&socket)]);
    if has_ipv6() {
        command.args([
            "--web.listen-address=[::1]:0",
            "--web.listen-address=[::]:0",
        ]);
    }
    let process = Program::spawn(&mut command);
    let addresses = process.addresses(if has_ipv6() { 4 } else { 2 });
    let plain = &addresses[0];
    assert!(plain.starts_with("127.0.0.1:"), "{plain}");
    assert_answers(&get(plain, "/metrics"));
    assert_eq!(addresses[1], socket.display().to_string());
    assert_answers(&get_unix(&socket, "/metrics"));
    if let [_, _, loopback, both] = &addresses[..] {
        assert!(loopback.starts_with("[::1]:"), "{loopback}");
        assert_answers(&get(loopback, "/metrics"));
        let port = loopback.strip_prefix("[::1]").unwrap();
        let by_ipv4 = TcpStream::connect(format!("127.0.0.1{port}"));
        assert_eq!(by_ipv4.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let port = both.strip_prefix("[::]").unwrap();
        for host in ["127.0.0.1", "[::1]"] {
            assert_answers(&get(format!("{host}{port}"), "/metrics"));
        }
    }
    process.end();
}

#[test]
fn a_port_given_twice_is_refused_and_both_addresses_are_named() {
    // In a namespace, so that no other process uses the port.
    in_namespace(|| {
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut command = program::command();
        command.args([
            format!("--web.listen-address=127.0.0.1:{free}"),
            format!("--web.listen-address=localhost:{free}"),
        ]);
        let mut process = Program::spawn(&mut command);
        process.line_with("the exporter itself listens on 127.0.0.1");
        assert_eq!(process.wait().code(), Some(1));
    });
}

#[test]
fn curl_reads_metrics_over_a_unix_socket() {
    if !has_or_skips("curl") {
        return;
    }
    let (_directory, socket) = place();
    let mut process = Program::spawn(program::command().arg(flag(&socket)));
    process.line_with("Listening on");
    let output = Command::new("curl")
        .args(["--silent", "--include", "--unix-socket"])
        .arg(&socket)
        .arg("http://localhost/metrics")
        .output()
        .unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("timewait_exporter_build_info{"), "{answer}");
    process.end();
}

#[test]
fn a_unix_socket_has_the_permissions_of_the_umask_and_is_removed_at_the_end() {
    for (umask, mode) in [("022", 0o755), ("0117", 0o660), ("0", 0o777)] {
        let (_directory, socket) = place();
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\""), PROGRAM])
            .arg(flag(&socket));
        let mut process = Program::spawn(&mut command);
        process.line_with("Listening on");
        let found = fs::metadata(&socket).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, mode, "umask {umask}");
        process.end();
        assert!(!socket.exists());
    }
}

#[test]
fn a_socket_left_by_a_killed_program_is_replaced() {
    let (_directory, socket) = place();
    let mut killed = Program::spawn(program::command().arg(flag(&socket)));
    killed.line_with("Listening on");
    let before = fs::metadata(&socket).unwrap().ino();
    killed.signal(Signal::KILL);
    killed.wait();
    assert_eq!(fs::metadata(&socket).unwrap().ino(), before);
    let mut successor = Program::spawn(program::command().arg(flag(&socket)));
    successor.line_with("Listening on");
    assert_answers(&get_unix(&socket, "/metrics"));
    successor.end();
    assert!(!socket.exists());
}

#[test]
fn a_file_in_the_place_of_a_unix_socket_is_kept_and_named() {
    let (_directory, socket) = place();
    let refused = |says: &str| {
        let mut process = Program::spawn(program::command().arg(flag(&socket)));
        let line = process.line_with("cannot listen on unix:");
        assert!(
            line.contains(says) && line.contains("level=ERROR"),
            "{line}"
        );
        assert_eq!(process.wait().code(), Some(1));
    };
    fs::write(&socket, "precious").unwrap();
    refused("not a socket");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
    fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    refused("another program listens on this path");
    UnixStream::connect(&socket).unwrap();
    drop(listener);
}

#[test]
fn a_failed_start_leaves_no_socket() {
    let (_directory, socket) = place();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = format!("--web.listen-address={}", holder.local_addr().unwrap());
    let mut process = Program::spawn(program::command().args([flag(&socket), in_use]));
    assert_eq!(process.wait().code(), Some(1));
    assert!(!socket.exists());
}

/// Starts the program as systemd does: with one or two descriptors from 3 on, and variables with the ID of the
/// process that it becomes.
fn activated(first: impl Into<OwnedFd>, second: Option<OwnedFd>) -> Command {
    let count = if second.is_some() { 2 } else { 1 };
    let mut command = Command::new("sh");
    let script = format!(
        "exec 3<&0 0</dev/null; {} LISTEN_FDS={count} LISTEN_PID=$$ exec \"$0\" \"$@\"",
        if count == 2 {
            "exec 4>&1 1>/dev/null;"
        } else {
            ""
        },
    );
    command
        .env_clear()
        .args(["-c", &script, PROGRAM, "--web.systemd-socket"])
        .stdin(first.into())
        .stdout(second.map_or_else(Stdio::null, Stdio::from));
    command
}

#[test]
fn all_sockets_that_systemd_passes_are_served_and_none_is_removed() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let (_directory, socket) = place();
    let unix = UnixListener::bind(&socket).unwrap();
    // Waits in the backlog until the program runs.
    let early = TcpStream::connect(&address).unwrap();
    let mut command = activated(tcp, Some(unix.into()));
    // Ignored; the test could not listen on it.
    command.arg("--web.listen-address=192.0.2.1:1");
    let mut process = Program::spawn(&mut command);
    process.line_with("Listening on systemd activated listeners instead of port listeners.");
    let expected = [address.clone(), socket.display().to_string()];
    assert_eq!(process.addresses(2), expected);
    assert_answers(&get(address, "/metrics"));
    assert_answers(&get_unix(&socket, "/metrics"));
    drop(early);
    process.end();
    assert!(socket.exists());
}

#[test]
fn an_abstract_socket_can_be_passed() {
    let name = format!("timewait-exporter-passed-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let mut process = Program::spawn(&mut activated(listener, None));
    process.line_with("systemd activated");
    let line = process.line_with("Listening on");
    assert_eq!(field(&line, "address"), format!("@{name}"));
    UnixStream::connect_addr(&address).unwrap();
    process.end();
}

#[test]
fn systemd_socket_activation_starts_it() {
    // In a namespace, so that no other process uses the port.
    in_namespace(|| {
        if !has_or_skips("systemd-socket-activate") {
            return;
        }
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let (_directory, socket) = place();
        let mut command = Command::new("systemd-socket-activate");
        command
            .env_clear()
            .stdin(Stdio::null())
            .args(["-l", &free.to_string(), "-l"])
            .arg(&socket)
            .args(["--", PROGRAM, "--web.systemd-socket"]);
        let mut process = Program::spawn(&mut command);
        // The first connection starts it.
        eventually("systemd-socket-activate listens", || {
            TcpStream::connect(free).is_ok()
        });
        assert_answers(&get(free, "/metrics"));
        assert_answers(&get_unix(&socket, "/metrics"));
        process.line_with("systemd activated listeners");
        process.end();
    });
}

#[test]
fn without_sockets_from_systemd_the_error_says_what_is_missing() {
    let fails = |command: &mut Command, says: &[&str]| {
        let mut process = Program::spawn(command);
        let line = process.line_with("level=ERROR");
        for part in says {
            assert!(line.contains(part), "{line}");
        }
        assert_eq!(process.wait().code(), Some(1));
    };
    let none = "no socket activation file descriptors found";
    let asks = || {
        let mut command = program::command();
        command.arg("--web.systemd-socket");
        command
    };
    fails(&mut asks(), &[none, "LISTEN_FDS is not set", ".socket"]);
    fails(asks().env("LISTEN_FDS", "0"), &[none, "LISTEN_FDS is 0"]);
    fails(
        asks().env("LISTEN_FDS", "1"),
        &[none, "LISTEN_PID is not set"],
    );
    let other = asks()
        .env("LISTEN_FDS", "1")
        .env("LISTEN_PID", "1")
        .output();
    let said = String::from_utf8(other.unwrap().stderr).unwrap();
    assert!(
        said.contains("LISTEN_PID is 1, and this process is"),
        "{said}"
    );
    let datagram = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
    fails(
        &mut activated(datagram, None),
        &["descriptor 3", "ListenStream="],
    );
    let file = fs::File::open("/dev/null").unwrap();
    fails(
        &mut activated(tcp(), Some(file.into())),
        &["descriptor 4", "ListenStream="],
    );
    let listener = tcp();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    fails(
        &mut activated(connected, None),
        &["descriptor 3", "Accept=no"],
    );
    let (one, _other) = UnixStream::pair().unwrap();
    fails(&mut activated(one, None), &["descriptor 3", "Accept=no"]);
}

/// A service manager that receives `NOTIFY_SOCKET` messages.
struct Manager(UnixDatagram);

impl Manager {
    fn over(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn received(&self) -> String {
        let mut buffer = [0; 100];
        let length = self.0.recv(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        text.trim_end().to_owned()
    }
}

#[test]
fn the_service_manager_is_notified_of_readiness_and_of_the_end() {
    let (_directory, path) = place();
    let name = format!("timewait-exporter-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    for (manager, variable) in [
        (UnixDatagram::bind(&path), path.display().to_string()),
        (UnixDatagram::bind_addr(&address), format!("@{name}")),
    ] {
        let manager = Manager::over(manager.unwrap());
        let mut command = program::command();
        command
            .arg("--web.listen-address=127.0.0.1:0")
            .env("NOTIFY_SOCKET", variable);
        let mut process = Program::spawn(&mut command);
        assert_eq!(manager.received(), "READY=1");
        // By then it listens: no waiting is needed.
        assert_answers(&get(process.address(), "/metrics"));
        process.signal(Signal::TERM);
        assert_eq!(manager.received(), "STOPPING=1");
        assert_eq!(process.wait().code(), Some(0));
        manager.0.set_nonblocking(true).unwrap();
        assert!(manager.0.recv(&mut [0; 100]).is_err());
    }
}

#[test]
fn a_service_manager_that_reads_nothing_does_not_block_indefinitely() {
    let (_directory, path) = place();
    let manager = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"x", &path).is_ok() {}
    let mut command = program::command();
    command
        .arg("--web.listen-address=127.0.0.1:0")
        .env("NOTIFY_SOCKET", &path);
    let mut process = Program::spawn(&mut command);
    let address = process.address();
    let line = process.line_with("accepted no message");
    assert!(
        line.contains("level=WARN") && line.contains("READY=1"),
        "{line}"
    );
    assert_answers(&get(address, "/metrics"));
    drop(manager);
    process.end();
}

#[test]
fn a_missing_service_manager_is_logged_and_does_no_harm() {
    for (name, says) in [
        ("/nowhere/notify", "No such file"),
        ("vsock:2:1", "neither with a slash"),
    ] {
        let mut command = program::command();
        command
            .arg("--web.listen-address=127.0.0.1:0")
            .env("NOTIFY_SOCKET", name);
        let mut process = Program::spawn(&mut command);
        let address = process.address();
        let line = process.line_with("NOTIFY_SOCKET");
        assert!(line.contains(says) && line.contains("level=WARN"), "{line}");
        assert_answers(&get(address, "/metrics"));
        process.end();
    }
}

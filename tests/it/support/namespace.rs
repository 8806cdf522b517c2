//! Runs a test in its own network namespace, as root of its own user namespace: works for an ordinary user,
//! and its sysctls, addresses and sockets end with the namespace. With `TIMEWAIT_TEST_AS_ROOT` it runs as root
//! of the host instead, without seeing the host's other processes.
//!
//! A process can enter a new user namespace only while it has one thread, so the test program is
//! started again under unshare(1), for this one test.

use std::any::type_name;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use super::{eventually, loopback, skip};

/// Set in the process inside; its value is the test's name.
const INSIDE: &str = "TIMEWAIT_TEST_INSIDE";

/// Runs tests without a user namespace if set; requires root.
const AS_ROOT: &str = "TIMEWAIT_TEST_AS_ROOT";

/// Runs `body` in a new namespace with lo up. Must be called with a closure of the test function itself, as its
/// only statement.
///
/// Where the system does not allow user namespaces the test is skipped, which is a failure under `CI`.
pub fn in_namespace<F: FnOnce()>(body: F) {
    let name = test_name::<F>();
    if env::var(INSIDE).as_deref() == Ok(name) {
        bring_up_loopback();
        body();
        return;
    }
    let mut command = Command::new("unshare");
    if env::var_os(AS_ROOT).is_some() {
        command.args(["--mount-proc", "--pid", "--fork", "--kill-child"]);
    } else {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--"]);
    command.arg(env::current_exe().expect("the test program has a path"));
    command.args([name, "--exact", "--nocapture"]);
    let output = match command.env(INSIDE, name).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return skip::skip(&format!("{name}: unshare(1) is not installed"));
        }
        Err(error) => panic!("cannot run unshare: {error}"),
    };
    print_output(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.starts_with("unshare: unshare failed") {
        return skip::skip(&format!("{name}: {}", stderr.trim()));
    }
    assert!(
        output.status.success(),
        "{name} failed inside its namespace, see above"
    );
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        stdout.contains("1 passed"),
        "{name} was not run inside its namespace"
    );
}

/// Whether this process runs inside such a namespace, whose ports only the test uses.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// The test harness's name of the function that contains the closure `F`.
fn test_name<F>() -> &'static str {
    let path = type_name::<F>();
    let function = path
        .strip_suffix("::{{closure}}")
        .expect("called with a closure");
    function
        .split_once("::")
        .expect("a crate's name comes first")
        .1
}

fn print_output(output: &Output) {
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
}

fn bring_up_loopback() {
    ip(&["link", "set", "lo", "up"]);
}

/// Runs ip(8).
pub fn ip(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("ip(8) is installed");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {stderr}");
}

/// Moves the calling thread, which must be inside already, to a new namespace with lo up and these addresses on
/// it; IPv6 addresses may become usable a moment later. Threads and processes that it starts are in the same
/// namespace, which ends with the last of them and of their sockets.
pub fn enter_new_namespace(addresses: &[&str]) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root of a user namespace");
    loopback::bring_up();
    for address in addresses {
        loopback::add_address(address);
    }
}

/// Adds an address to lo, ready at once.
pub fn add_address(address: &str) {
    let mut arguments = vec!["address", "add", address, "dev", "lo"];
    if address.contains(':') {
        // Duplicate address detection would delay it for a second.
        arguments.push("nodad");
    }
    ip(&arguments);
    // The kernel makes an IPv6 address and its routes usable a little later. Nothing listens on the port of the
    // test connection, which leaves no socket.
    let (address, _) = address
        .split_once('/')
        .expect("an address with its prefix length");
    eventually("the new address is ready", || {
        TcpStream::connect((address, 9))
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
}

/// Writes a sysctl under /proc/sys/net/ipv4.
pub fn set_sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/net/ipv4/{name}");
    fs::write(&path, value)
        .unwrap_or_else(|error| panic!("cannot write {value} to {path}: {error}"));
}

/// The same, unless this kernel has no such sysctl.
pub fn set_sysctl_if_any(name: &str, value: &str) {
    if has_sysctl(name) {
        set_sysctl(name, value);
    }
}

/// Whether this kernel has a sysctl under /proc/sys/net/ipv4.
pub fn has_sysctl(name: &str) -> bool {
    Path::new("/proc/sys/net/ipv4").join(name).exists()
}

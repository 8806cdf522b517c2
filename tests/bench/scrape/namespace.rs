//! Restarts the benchmark in new namespaces, one situation at a time.
//!
//! All sockets of a situation end with its namespace, TIME-WAIT or not, so that dumps of the next one do not iterate
//! over them: all namespaces share the kernel's hash table.

use std::env;
use std::fs;
use std::process::{Command, Stdio, exit};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::bare;

/// Set in the process inside.
const INSIDE: &str = "TIMEWAIT_BENCH_INSIDE";

/// A dump that takes longer iterates over many sockets of other namespaces.
const QUIET_DUMP: Duration = Duration::from_millis(2);

/// Whether this process runs inside the namespaces.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this program with these arguments inside, and returns what it printed. Ends the benchmark
/// if that fails. Root may keep its privileges on the machine.
pub fn run(arguments: &[String], keeps_privileges: bool) -> String {
    let keeps_user = keeps_privileges && rustix::process::geteuid().is_root();
    let user: &[&str] = if keeps_user {
        &[]
    } else {
        &["--user", "--map-root-user"]
    };
    let output = Command::new("unshare")
        .args(user)
        // If the benchmark is killed, its children are killed too.
        .args([
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .arg(env::current_exe().expect("the benchmark has a path"))
        .args(arguments)
        .env(INSIDE, "1")
        .stderr(Stdio::inherit())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(output) => {
            eprintln!(
                "the benchmark needs user namespaces, or failed in them: {}",
                output.status
            );
            exit(1);
        }
        Err(error) => {
            eprintln!("cannot run unshare: {error}");
            exit(1);
        }
    }
}

/// To the hard limit. Where that is too low for a row, helper processes share its sockets.
pub fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit can be read");
    for limit in [hard.max(300_000), hard] {
        if setrlimit(Resource::RLIMIT_NOFILE, limit, limit).is_ok() {
            return;
        }
    }
}

/// Sets up the namespace, and waits until the sockets of an earlier one are gone.
pub fn prepare() {
    ip(&["link", "set", "lo", "up"]);
    ip(&["-6", "route", "add", "local", "2001:db8::/32", "dev", "lo"]);
    sysctl("ipv4/tcp_tw_reuse", "0");
    sysctl("ipv4/tcp_max_tw_buckets", "4000000");
    sysctl("ipv4/ip_local_port_range", "32768 60999");
    sysctl("ipv6/ip_nonlocal_bind", "1");
    let until = Instant::now() + Duration::from_secs(30);
    while bare::dump(bare::CONNECTED).1.cpu > QUIET_DUMP && Instant::now() < until {
        thread::sleep(Duration::from_millis(100));
    }
}

/// Mounts tracefs, where the exporter finds tracepoints, if this is root. The mount is private to this process.
pub fn mount_tracefs() {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tracefs", "tracefs", "/sys/kernel/tracing"]);
    let _not_root = mount.stderr(Stdio::null()).status();
}

/// Writes a sysctl under /proc/sys/net.
pub fn sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Runs ip(8).
pub fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "ip {arguments:?} failed"
    );
}

/// `tw` of /proc/net/sockstat: TIME-WAIT sockets of this namespace.
pub fn time_wait_sockets() -> usize {
    let text = fs::read_to_string("/proc/net/sockstat").expect("/proc is mounted");
    let line = text.lines().find(|line| line.starts_with("TCP:"));
    let mut words = line.expect("it has a TCP line").split_ascii_whitespace();
    words.find(|word| *word == "tw").expect("the line has tw");
    words.next().unwrap().parse().expect("tw is a number")
}

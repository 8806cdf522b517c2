//! The program without privileges, under the system call filter of a service: everything works, and what a
//! stricter filter forbids costs no more than necessary.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::client::{Answer, get, get_unix};
use crate::support::namespace::{in_namespace, set_sysctl};
use crate::support::program::Program;
use crate::support::skip::{has_or_skips, skip};
use crate::support::sockets::{accepted, at, connect_bound, listening};

/// The exit status of `tests/seccomp/sandbox --probe` where it cannot work.
const SKIPPED: i32 = 77;

/// The program and the sandbox in a directory that every user can read.
struct Place(TempDir);

impl Place {
    /// None where the test is skipped.
    fn new() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = root.join("tests/seccomp/sandbox");
        let unit = root.join("deploy/systemd/timewait_exporter.service");
        if !has_or_skips("setpriv") || !probe(&script) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // World-writable, since the program creates its socket there.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_timewait_exporter"));
        for file in [&script, &unit, program] {
            let copy = folder.path().join(file.file_name().unwrap());
            fs::copy(file, &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Some(Self(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program as the user nobody, without capabilities, with `no_new_privs`, in the sandbox.
    fn command(&self, sandbox: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.stdin(Stdio::null()).arg("--no-new-privs");
        if rustix::process::geteuid().is_root() {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
            command.args([
                "--inh-caps=-all",
                "--ambient-caps=-all",
                "--bounding-set=-all",
            ]);
        }
        command.arg(self.path("sandbox")).args(sandbox).arg("--");
        command.arg(self.path("timewait_exporter")).args(arguments);
        command
    }
}

fn probe(script: &Path) -> bool {
    let output = Command::new(script).arg("--probe").output().unwrap();
    if output.status.success() {
        return true;
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(SKIPPED), "{output:?}");
    skip(&said);
    false
}

fn status_of(process: &Program, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap().trim_start_matches(':').trim().to_owned()
}

fn assert_all_works(answer: &Answer, source: &str) {
    let metrics = answer.metrics();
    for collector in ["sockets", "sysctl", "netstat", "sockstat", "slabinfo"] {
        // Without the privilege to read it, slabinfo is off, which is not a failure.
        assert!(metrics.success(collector), "{collector}");
    }
    let series = format!("timewait_scrape_source{{source=\"{source}\"}}");
    assert_eq!(metrics.value(&series), 1.0);
    for exposed in [
        "timewait_sockets{family=\"ipv4\"}",
        "timewait_port_range_usable_ports",
        "timewait_entered_total",
        "process_resident_memory_bytes",
    ] {
        metrics.value(exposed);
    }
}

#[test]
fn nothing_needs_a_privilege_or_a_call_outside_the_services_filter() {
    let Some(place) = Place::new() else { return };
    let unit = place.path("timewait_exporter.service");
    let unit = unit.to_str().unwrap();
    // A call outside the filter fails, or ends the process, so that none remains unnoticed. The filter is that of
    // the shipped unit.
    for violation in ["EPERM", "kill"] {
        let filter = ["--unit", unit, "--violation", violation];
        let socket = place.path("exporter.sock");
        let unix = format!("--web.listen-address=unix:{}", socket.display());
        let flags = ["--web.listen-address=localhost:0", &*unix];
        let process = Program::spawn(&mut place.command(&filter, &flags));
        process.addresses(2);
        let address = process.address();
        for (field, expected) in [
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
            // A filter; there are two of them.
            ("Seccomp", "2"),
        ] {
            assert_eq!(status_of(&process, field), expected, "{field}");
        }
        assert_all_works(&get(address, "/metrics"), "netlink");
        assert_all_works(&get_unix(&socket, "/metrics"), "netlink");
        for path in ["/", "/api/v1/report", "/-/ready", "/-/healthy"] {
            let answer = get(address, path);
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
        process.end();
        assert!(!socket.exists());
        for (arguments, status) in [
            (&["report"][..], 0),
            (&["report", "--format=json"], 0),
            (&["check", "--warning=1", "--critical=1"], 0),
            (
                &[
                    "check",
                    "--collector.source=procfs",
                    "--warning=1",
                    "--critical=1",
                ],
                0,
            ),
            (&["--version"], 0),
        ] {
            let output = place.command(&filter, arguments).output().unwrap();
            assert_eq!(
                output.status.code(),
                Some(status),
                "{arguments:?}: {output:?}"
            );
        }
    }
}

#[test]
fn the_probe_works_without_privileges_under_the_filter_of_a_service() {
    in_namespace(|| {
        let Some(place) = Place::new() else { return };
        set_sysctl("ip_local_port_range", "40000 40099");
        let to = at("127.0.0.2", 80);
        let listener = listening(to);
        let _kept = accepted(connect_bound(at("127.0.0.1", 0), to).unwrap(), &listener);
        let unit = place.path("timewait_exporter.service");
        for violation in ["EPERM", "kill"] {
            // Outside the range, since its connections would count.
            let listen = "--web.listen-address=127.0.0.1:20072";
            // Root of the user namespace, which has no capabilities without a bounding set.
            let mut command = Command::new("setpriv");
            command.args(["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]);
            command.arg(place.path("sandbox")).arg("--unit").arg(&unit);
            command.args(["--violation", violation, "--"]);
            command.arg(place.path("timewait_exporter"));
            let process = Program::spawn(command.arg(listen));
            let metrics = get(process.address(), "/metrics").metrics();
            assert_eq!(status_of(&process, "CapEff"), "0000000000000000");
            assert!(metrics.success("probe"));
            assert_eq!(metrics.value("timewait_port_range_bind_owned_ports"), 1.0);
        }
    });
}

#[test]
fn a_filter_that_forbids_netlink_causes_a_fallback_to_procfs() {
    let Some(place) = Place::new() else { return };
    let listen = ["--web.listen-address=127.0.0.1:0"];
    for filter in [
        &["--families", "AF_INET AF_INET6 AF_UNIX"][..],
        &["--deny", "sendto"],
    ] {
        let mut process = Program::spawn(&mut place.command(filter, &listen));
        let address = process.address();
        assert_all_works(&get(address, "/metrics"), "procfs");
        // sendto() forbidden: a signal handler could not notify the main thread.
        process.signal(Signal::TERM);
        process.line_with("Shutting down");
        assert_eq!(process.wait().code(), Some(0), "{filter:?}");
    }
}

#[test]
fn the_sandbox_enforces_its_filter() {
    let Some(place) = Place::new() else { return };
    let run = |sandbox: &[&str], program: &[&str]| {
        let mut command = Command::new(place.path("sandbox"));
        command
            .args(sandbox)
            .arg("--")
            .args(program)
            .output()
            .unwrap()
    };
    let forbidden = ["/usr/bin/nice", "-n", "5", "/bin/true"];
    let failed = run(&[], &forbidden);
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(said.contains("Operation not permitted"), "{said}");
    let killed = run(&["--violation", "kill"], &forbidden);
    let signal = std::os::unix::process::ExitStatusExt::signal(&killed.status);
    assert_eq!(signal, Some(Signal::SYS.as_raw()));
    assert!(
        run(&["--violation", "kill"], &["/bin/true"])
            .status
            .success()
    );
    let unit = place.path("x.service");
    let wanted = |text: &str, says: &str| {
        fs::write(&unit, text).unwrap();
        let output = run(&["--unit", unit.to_str().unwrap()], &forbidden);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(says), "{text}: {said}");
    };
    // A deny list, continued lines, and later assignments win.
    wanted(
        "[Service]\nSystemCallFilter=~@resources\nSystemCallErrorNumber=EXDEV",
        "cross-device",
    );
    wanted(
        "[Service]\nSystemCallFilter= @system-service \\\n ~x",
        "not understood",
    );
    wanted(
        "[Service]\nSystemCallFilter=@no-such-group",
        "does not know",
    );
    wanted(
        "[Unit]\nSystemCallFilter=@system-service",
        "has no SystemCallFilter=",
    );
    wanted(
        "[Service]\nSystemCallFilter=@system-service\nSystemCallFilter=\n",
        "has no SystemCallFilter=",
    );
}

//! Signals, the log, the clock and /proc.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Steady;
use crate::support::client::{self, Answer};
use crate::support::eventually;
use crate::support::exposition::Metrics;
use crate::support::namespace::in_namespace;
use crate::support::program::{self, Program, field};
use crate::support::skip::{has_or_skips, skip};
use crate::web_config::certificates::Folder;
use crate::web_config::client::basic;
use crate::web_config::requests::SECRET;

/// Replaces a tree's connection table by one of so many sockets, which takes longer to read.
/// Returns a function that restores it.
fn lengthen_table(tree: &Path, sockets: usize) -> impl FnOnce() + use<> {
    let (table, aside, long) = (
        tree.join("net/tcp"),
        tree.join("net/aside"),
        tree.join("net/long"),
    );
    let line = "   0: 0100007F:1F90 0200007F:4E20 06 00000000:00000000 03:00000BB8 00000000     0        \
                0 0 3 0000000000000000\n";
    let header = "  sl  local_address rem_address   st\n";
    fs::write(&long, [header, &line.repeat(sockets)].concat()).unwrap();
    fs::hard_link(&table, &aside).unwrap();
    // Atomically: a scrape reads the one or the other.
    fs::rename(&long, &table).unwrap();
    move || fs::rename(&aside, &table).unwrap()
}

#[test]
fn with_limited_memory_scrapes_are_complete_or_the_program_ends() {
    if !has_or_skips("prlimit") {
        return;
    }
    let folder = Folder::new();
    let users = format!("basic_auth_users:\n  alice: {SECRET}\n");
    let file = format!("--web.config.file={}", folder.write("web.yml", &users));
    let login = format!(
        "Authorization: {}\r\nAccept-Encoding: gzip\r\n",
        basic("alice", "secret")
    );
    in_namespace(|| {
        // Each thread's stack counts.
        let process = Program::start_through(&["prlimit", "--data=16777216"], &[&file]);
        for path in ["/metrics", "/", "/api/v1/report", "/-/ready", "/metrics"] {
            let answer = client::get_with(process.address(), path, &login);
            assert_eq!(answer.status, 200, "{path}");
            assert!(!answer.body.is_empty(), "{path}");
        }
        process.end();
        // In between, memory suffices for everything but compression. Where an allocation fails that Rust cannot
        // report, the program aborts, and a service manager starts it again.
        for kib in (1500..10_000).step_by(250) {
            let limit = format!("--data={}", kib * 1024);
            let mut command = Command::new("prlimit");
            command.arg(&limit).arg(program::path()).arg(&file);
            command.arg("--web.listen-address=127.0.0.1:0");
            let mut process = Program::spawn(&mut command);
            eventually("it listens or has ended", || {
                !process.logged("Listening on").is_empty() || !process.is_running()
            });
            let request =
                format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{login}\r\n");
            let mut answer = Vec::new();
            let exchanged = process.is_running()
                && TcpStream::connect(process.address())
                    .and_then(|mut stream| {
                        stream.write_all(request.as_bytes())?;
                        stream.read_to_end(&mut answer)
                    })
                    .is_ok();
            if exchanged && !answer.is_empty() {
                let status = String::from_utf8_lossy(&answer[..12]);
                assert_eq!(status, "HTTP/1.1 200", "{limit}");
            } else {
                assert!(!process.wait().success(), "{limit}");
                println!("{limit}: {}", process.rest().trim_end());
            }
        }
    });
}

#[test]
fn scrapes_in_progress_at_sigterm_are_answered_completely() {
    const SCRAPES: usize = 20;
    const SOCKETS: usize = 100_000;
    in_namespace(|| {
        let mut steady = Steady::start("SIGTERM during scrapes");
        let restore = lengthen_table(steady.tree.path(), SOCKETS);
        let mut waiting: Vec<TcpStream> = (0..SCRAPES).map(|_| steady.connect()).collect();
        for stream in &mut waiting {
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                .unwrap();
        }
        // Once this one has its answer, those before it have been read.
        let mut last = steady.connect();
        last.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        assert!(last.read(&mut [0; 16]).unwrap() > 0);
        steady.process.signal(Signal::TERM);
        steady.process.line_with("Shutting down");
        let begin = Instant::now();
        let answers: Vec<String> = waiting
            .into_iter()
            .map(|stream| std::io::read_to_string(stream).unwrap())
            .collect();
        for answer in &answers {
            let metrics = Answer::parse(answer).metrics();
            assert!(metrics.success("sockets"), "{answer}");
            let sockets = metrics.value("timewait_sockets{family=\"ipv4\"}");
            // Mapped addresses in tcp6 are included.
            assert!(sockets >= SOCKETS as f64, "{sockets}");
        }
        restore();
        steady.process.line_with("Stopped");
        assert_eq!(steady.process.wait().code(), Some(0));
        println!(
            "MEASURED SIGTERM during scrapes: {} of {SCRAPES} complete answers, the last after {} ms",
            answers.len(),
            begin.elapsed().as_millis()
        );
    });
}

#[test]
fn a_full_log_pipe_costs_log_lines_but_no_answers_or_memory() {
    const LINES: usize = 5_000;
    in_namespace(|| {
        let (reader, writer) = std::io::pipe().unwrap();
        let tree = crate::collector::copy();
        let mut command = program::command();
        command
            .args([
                "--web.listen-address=127.0.0.1:0",
                "--collector.source=procfs",
            ])
            .args(["--log.level=debug", "--web.disable-exporter-metrics"])
            .arg(format!("--path.procfs={}", tree.path().display()))
            .stderr(writer);
        let process = Program::spawn_without_log(&mut command);
        // The command keeps the other end open.
        drop(command);
        let mut log = BufReader::new(reader).lines().map(Result::unwrap);
        let line = log.find(|line| line.contains("Listening on")).unwrap();
        let address = field(&line, "address").to_owned();
        let steady = Steady::adopt("full log pipe", process, address, tree, None);
        // From here on the log is not read; each of these requests writes a line.
        let mut slowest = Duration::ZERO;
        for number in 0..LINES {
            let mut stream = steady.connect();
            stream.write_all(b"junk\r\n\r\n").unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
            if number % 1000 == 0 {
                slowest = slowest.max(steady.assert_answers());
            }
        }
        steady.assert_unmoved(&format!(
            "{LINES} unread lines; slowest scrape meanwhile {} ms",
            slowest.as_millis()
        ));
        // Once the log is read again, it contains the number of lost lines.
        let line = log
            .find(|line| line.contains("Log lines were dropped"))
            .unwrap();
        let dropped: usize = field(&line, "lines").parse().unwrap();
        assert!(dropped > 0 && dropped < LINES + 100, "{line}");
    });
}

/// Makes the clock of a program jump: Debian's libfaketime.
fn libfaketime() -> Option<PathBuf> {
    let found = fs::read_dir("/usr/lib").ok()?.flatten().find_map(|folder| {
        let library = folder.path().join("faketime/libfaketime.so.1");
        library.exists().then_some(library)
    });
    if found.is_none() {
        skip("libfaketime is not installed");
    }
    found
}

#[test]
fn a_clock_that_jumps_changes_no_deadline_and_no_value() {
    let Some(library) = libfaketime() else { return };
    in_namespace(move || {
        let offset = tempfile::NamedTempFile::new().unwrap();
        let jump = |to: &str| fs::write(offset.path(), format!("{to}\n")).unwrap();
        jump("+0d");
        let environment = format!(
            "export LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 \
             DONT_FAKE_MONOTONIC=1",
            library.display(),
            offset.path().display()
        );
        let flags = ["--log.level=debug"];
        let mut steady = Steady::start_with("clock", &flags, &environment);
        let logged_year = |steady: &mut Steady| -> i32 {
            steady.connect().write_all(b"junk\r\n\r\n").unwrap();
            let line = steady.process.line_with("Connection ended");
            field(&line, "time")[..4].parse().unwrap()
        };
        let year = logged_year(&mut steady);
        let mut idle = steady.connect();
        let healthy = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut ask_again = || {
            idle.write_all(healthy).unwrap();
            let mut answer = [0; 12];
            idle.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            idle.set_nonblocking(true).unwrap();
            while idle.read(&mut [0; 1024]).is_ok() {}
            idle.set_nonblocking(false).unwrap();
        };
        ask_again();
        let jumps = [("+3653d", 10), ("-7306d", -20), ("+0d", 0), ("-3653d", -10)];
        for (to, years) in jumps {
            // While a scrape waits for its deadline, 150 ms away: the table takes longer.
            let restore = lengthen_table(steady.tree.path(), 400_000);
            let mut late = steady.connect();
            let begin = Instant::now();
            late.write_all(
                b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 0.2\r\n\
                  Connection: close\r\n\r\n",
            )
            .unwrap();
            jump(to);
            let mut answer = String::new();
            late.read_to_string(&mut answer).unwrap();
            let waited = begin.elapsed();
            assert!(waited >= Duration::from_millis(140), "{to}: {waited:?}");
            let failed = "timewait_scrape_collector_success{collector=\"sockets\"} 0";
            assert!(answer.contains(failed), "{to}: {answer}");
            restore();
            eventually("all is exposed again", || steady.scrape() == steady.answer);
            // The program's clock did jump, and the idle connection outlived it.
            let now = logged_year(&mut steady);
            assert!((now - year - years).abs() <= 1, "{to}: {year}, {now}");
            ask_again();
        }
        drop(idle);
        steady.assert_unmoved(&format!("{} jumps of 10 to 30 years", jumps.len()));
    });
}

/// What can happen to a file, and its reversal.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Missing,
    Folder,
    Loop,
    NoRights,
    Empty,
    NotText,
}

fn spoil(path: &Path, fault: Fault) {
    fs::remove_file(path).unwrap();
    match fault {
        Fault::Missing => {}
        Fault::Folder => fs::create_dir(path).unwrap(),
        Fault::Loop => std::os::unix::fs::symlink(path, path).unwrap(),
        Fault::NoRights => {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        }
        Fault::Empty => fs::write(path, "").unwrap(),
        Fault::NotText => fs::write(path, [0xff; 5000]).unwrap(),
    }
}

fn restore(path: &Path, content: &str) {
    let _perhaps_missing = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
    fs::write(path, content).unwrap();
}

#[test]
fn unreadable_proc_files_cost_their_own_metrics_only_until_they_return() {
    if !has_or_skips("setpriv") {
        return;
    }
    in_namespace(|| {
        // Without CAP_DAC_OVERRIDE, for which no file is unreadable.
        let without =
            "exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all \"$0\" \"$@\"";
        let steady = Steady::start_with("/proc unreadable", &[], without);
        let parsed = |answer: &str| {
            let (status, body) = answer.split_once('\n').unwrap();
            assert_eq!(status, "HTTP/1.1 200", "{answer}");
            Metrics::parse(body)
        };
        let all = parsed(&steady.answer);
        let mut tried = 0;
        for (file, collector, gone) in [
            ("net/tcp", "sockets", "timewait_sockets"),
            ("net/sockstat", "sockstat", "timewait_buckets"),
            ("net/netstat", "netstat", "timewait_entered_total"),
            ("slabinfo", "slabinfo", "timewait_memory_bytes"),
            (
                "sys/net/ipv4/tcp_timestamps",
                "sysctl",
                "timewait_sysctl_tcp_timestamps",
            ),
            (
                "sys/net/ipv4/ip_local_port_range",
                "sysctl",
                "timewait_port_range_min",
            ),
        ] {
            let path = steady.tree.path().join(file);
            let content = fs::read_to_string(&path).unwrap();
            for fault in [
                Fault::Missing,
                Fault::Folder,
                Fault::Loop,
                Fault::NoRights,
                Fault::Empty,
                Fault::NotText,
            ] {
                spoil(&path, fault);
                let answer = steady.scrape();
                let metrics = parsed(&answer);
                assert!(metrics.of(gone).is_empty(), "{file} {fault:?}: {answer}");
                // Every exported series existed before: nothing is invented.
                let is_known = |name: &&str| all.names().contains(name);
                assert!(metrics.names().iter().all(is_known), "{file} {fault:?}");
                for other in ["sockets", "sysctl", "netstat", "sockstat", "slabinfo"] {
                    assert!(
                        metrics.success(other) || other == collector,
                        "{file} {fault:?}: {other}"
                    );
                }
                restore(&path, &content);
                steady.assert_answers();
                tried += 1;
            }
        }
        // All files at once, while it runs.
        let aside = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let parts = ["net", "sys", "slabinfo"];
            for part in parts {
                fs::rename(steady.tree.path().join(part), aside.path().join(part)).unwrap();
            }
            let answer = steady.scrape();
            let sockets = parsed(&answer).of("timewait_sockets").len();
            assert_eq!(sockets, 0, "{round}: {answer}");
            for part in parts {
                fs::rename(aside.path().join(part), steady.tree.path().join(part)).unwrap();
            }
            steady.assert_answers();
        }
        steady.assert_unmoved(&format!(
            "{tried} ways for one file, 20 times all of them gone"
        ));
    });
}

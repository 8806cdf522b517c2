//! The exporter under test, as a process, and the cost of programs.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

/// CPU time of user and kernel, and wall time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub cpu: Duration,
    pub wall: Duration,
}

impl Cost {
    /// The cost of a closure for the calling thread.
    pub fn of_this_thread<T>(body: impl FnOnce() -> T) -> (T, Self) {
        Self::by_clock(ClockId::CLOCK_THREAD_CPUTIME_ID, body)
    }

    /// The cost of a closure for all threads of another process.
    pub fn of_process<T>(pid: Pid, body: impl FnOnce() -> T) -> (T, Self) {
        let clock = clock_getcpuclockid(pid).expect("the process lives");
        Self::by_clock(clock, body)
    }

    fn by_clock<T>(clock: ClockId, body: impl FnOnce() -> T) -> (T, Self) {
        let read = || Duration::from(clock.now().expect("the process lives"));
        let (cpu, wall) = (read(), Instant::now());
        let value = body();
        let cost = Self {
            wall: wall.elapsed(),
            cpu: read().saturating_sub(cpu),
        };
        (value, cost)
    }
}

/// A server to be scraped; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    log: Option<NamedTempFile>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Server {
    /// The exporter with these flags added. Returns as soon as it accepts requests; see
    /// [`Server::start_to_first_answer`] for how long that takes.
    pub fn exporter(flags: &[&str]) -> Self {
        Self::exporter_at(SocketAddr::from(([127, 0, 0, 1], 10_072)), flags)
    }

    /// The same at another address.
    pub fn exporter_at(address: SocketAddr, flags: &[&str]) -> Self {
        // A file, so that a full pipe never stops it.
        let log = NamedTempFile::new().expect("a log can be written");
        let child = Command::new(exporter_path())
            .arg(format!("--web.listen-address={address}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.reopen().expect("a log can be written"))
            .spawn()
            .expect("the exporter was built");
        let server = Self {
            child,
            address,
            log: Some(log),
        };
        server.wait();
        server
    }

    /// Another server of `/metrics`.
    pub fn other(program: &str, flags: &[&str], address: SocketAddr) -> Option<Self> {
        let child = Command::new(program)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let server = Self {
            child,
            address,
            log: None,
        };
        server.wait();
        Some(server)
    }

    fn wait(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(self.address).is_err() {
            assert!(Instant::now() < until, "the server does not listen");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// One scrape: the answer and its cost for the server; wall time from request to last byte.
    pub fn scrape(&self) -> (String, Cost) {
        let mut stream = TcpStream::connect(self.address).expect("the server listens");
        let (answer, mut cost) = Cost::of_process(self.pid(), || {
            let begin = Instant::now();
            let answer = exchange(&mut stream, "text/plain");
            (answer, begin.elapsed())
        });
        cost.wall = answer.1;
        assert!(answer.0.starts_with("HTTP/1.1 200"), "{}", answer.0);
        (answer.0, cost)
    }

    /// Waits until it is idle.
    pub fn wait_until_idle(&self) {
        const INTERVAL: Duration = Duration::from_millis(200);
        let until = Instant::now() + Duration::from_secs(60);
        while Cost::of_process(self.pid(), || std::thread::sleep(INTERVAL))
            .1
            .cpu
            > INTERVAL / 100
        {
            assert!(Instant::now() < until, "the server does not become idle");
        }
    }

    /// A line of `/proc/<pid>/status` with a size, in bytes.
    pub fn status_bytes(&self, name: &str) -> u64 {
        self.status(name) * 1024
    }

    fn status(&self, name: &str) -> u64 {
        number_in(&self.proc("status"), name)
    }

    /// Resets the peak resident size.
    pub fn reset_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("it is ours");
    }

    /// How often its threads were scheduled: 0 while they sleep.
    pub fn wake_ups(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it lives");
        tasks
            .map(|task| {
                let path = task.expect("it lives").path().join("status");
                let text = fs::read_to_string(path).unwrap_or_default();
                number_in(&text, "voluntary_ctxt_switches")
                    + number_in(&text, "nonvoluntary_ctxt_switches")
            })
            .sum()
    }

    /// The number of its open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .expect("it lives")
            .count()
    }

    /// The errors in its log.
    pub fn errors(&self) -> Vec<String> {
        let log = self.log.as_ref().expect("the exporter's log is kept");
        fs::read_to_string(log)
            .unwrap_or_default()
            .lines()
            .filter(|line| line.contains("level=error") || line.contains("panicked"))
            .map(str::to_owned)
            .collect()
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("it lives")
    }

    /// From starting the program to the last byte of its first answer.
    pub fn start_to_first_answer() -> Duration {
        let begin = Instant::now();
        let server = Self::exporter(&[]);
        server.scrape();
        begin.elapsed()
    }
}

/// Where cargo built the exporter for this benchmark.
pub fn exporter_path() -> &'static str {
    env!("CARGO_BIN_EXE_timewait_exporter")
}

fn number_in(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Requests `/metrics` and reads the complete answer.
pub fn exchange(stream: &mut TcpStream, accept: &str) -> String {
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: bench\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    )
    .expect("the server takes a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The values of a metric whose line begins with `name`, labels included as written.
pub fn values(answer: &str, name: &str) -> Vec<f64> {
    answer
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        .collect()
}

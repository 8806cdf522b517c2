//! The program as a process: its log, signals, exit status and descriptors.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tokio::runtime::Runtime;

use super::client::Client;
use super::exposition::Metrics;
use super::{PATIENCE, eventually, namespace, runtime};

/// The log line with the program's listen address.
const LISTENING: &str = "msg=\"Listening on\" address=";

/// The path of the program; an environment variable names another build.
pub fn path() -> String {
    let built = env!("CARGO_BIN_EXE_timewait_exporter");
    std::env::var("TIMEWAIT_EXPORTER").unwrap_or_else(|_| built.to_owned())
}

/// The program, with only `PATH` of this process's environment.
pub fn command() -> Command {
    through(&[])
}

/// The same through a command that executes the program, such as setpriv(1).
fn through(words: &[&str]) -> Command {
    let path = path();
    let mut words = words.iter().copied().chain([&*path]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).env_clear().stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A running program, which is killed at the end of the test.
pub struct Program {
    child: Child,
    log: Log,
    /// How many lines of the log have been read in order.
    read: usize,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Program {
    /// Starts it with these flags on 127.0.0.1, and waits until the log says that it listens.
    pub fn start(flags: &[&str]) -> Self {
        Self::start_through(&[], flags)
    }

    /// The same through a command that executes the program, such as setpriv(1).
    pub fn start_through(words: &[&str], flags: &[&str]) -> Self {
        static PORT: AtomicU16 = AtomicU16::new(10_072);
        // In the test's own namespace the program must not use a port of the range.
        let port = if namespace::is_inside() {
            PORT.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        let mut command = through(words);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let program = Self::spawn(command.args(flags));
        program.wait_for("msg=\"TLS is ", 1);
        program
    }

    /// Starts a command that is or executes the program, and reads its log.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        Self {
            child,
            log,
            read: 0,
        }
    }

    /// Starts it with the log that the command already has.
    pub fn spawn_without_log(command: &mut Command) -> Self {
        Self {
            child: command.spawn().unwrap(),
            log: Log::default(),
            read: 0,
        }
    }

    /// Where it listens: the first of its TCP addresses.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        let first = self.wait_for(LISTENING, 1).remove(0);
        field(&first, "address").parse().unwrap()
    }

    /// All addresses that it listens on; waits for this number.
    #[track_caller]
    pub fn addresses(&self, count: usize) -> Vec<String> {
        let lines = self.wait_for(LISTENING, count);
        let addresses = lines.iter().map(|line| field(line, "address").to_owned());
        addresses.collect()
    }

    /// Opens a connection that stays open from scrape to scrape, so that scraping leaves no TIME-WAIT
    /// sockets.
    pub fn scraper(&self) -> Scraper {
        let runtime = runtime();
        let client = runtime.block_on(Client::connect(self.address()));
        Scraper { runtime, client }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it exits.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Ends it as a service manager would.
    pub fn end(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0));
    }

    /// The lines logged so far that contain a text.
    pub fn logged(&self, text: &str) -> Vec<String> {
        self.log.lines.lock().unwrap().with(text)
    }

    /// Waits until at least so many lines contain a text, and returns them.
    #[track_caller]
    pub fn wait_for(&self, text: &str, count: usize) -> Vec<String> {
        let log = self.log.wait_until(|log| log.with(text).len() >= count);
        let found = log.with(text);
        assert!(
            found.len() >= count,
            "{count} lines with {text:?} were expected: {:#?}",
            log.lines
        );
        found
    }

    /// Waits for the next line of the log with a text; those before it count as read.
    #[track_caller]
    pub fn line_with(&mut self, text: &str) -> String {
        let next = |log: &Lines| {
            let mut unread = log.lines.iter().enumerate().skip(self.read);
            unread.find_map(|(index, line)| line.contains(text).then_some(index))
        };
        let log = self.log.wait_until(|log| next(log).is_some());
        let index = next(&log).unwrap_or_else(|| {
            panic!("no line has {text:?}, only: {:#?}", &log.lines[self.read..]);
        });
        self.read = index + 1;
        log.lines[index].clone()
    }

    /// The rest of its log, from the first unread line to its end.
    pub fn rest(&self) -> String {
        let log = self.log.wait_until(|log| log.is_over);
        assert!(log.is_over, "the log does not end: {:#?}", log.lines);
        log.lines[self.read..].join("\n")
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.id())).join(name)
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// The number that the next descriptor it opens would get.
    pub fn first_free_descriptor(&self) -> u64 {
        let is_free = |number: &u64| {
            let path = self.proc("fd").join(number.to_string());
            fs::symlink_metadata(path).is_err()
        };
        (0..1024).find(is_free).unwrap()
    }

    /// From now on no new descriptor can have this number or a higher one.
    pub fn limit_descriptors(&self, limit: u64) {
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(1024),
        };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).unwrap();
    }

    /// Its resident memory.
    pub fn resident_kib(&self) -> u64 {
        resident_kib(&self.id().to_string())
    }
}

/// The resident memory of a process, or of "self".
pub fn resident_kib(process: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.unwrap().trim().strip_suffix(" kB").unwrap();
    words.parse().unwrap()
}

/// The log of a program, read continuously so that the program never blocks on it.
#[derive(Clone)]
struct Log {
    lines: Arc<Mutex<Lines>>,
    changed: Arc<Condvar>,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    is_over: bool,
}

impl Lines {
    fn with(&self, text: &str) -> Vec<String> {
        let lines = self.lines.iter().filter(|line| line.contains(text));
        lines.cloned().collect()
    }
}

impl Default for Log {
    /// A log that is not read.
    fn default() -> Self {
        Self {
            lines: Arc::new(Mutex::new(Lines {
                lines: Vec::new(),
                is_over: true,
            })),
            changed: Arc::default(),
        }
    }
}

impl Log {
    fn of(stderr: std::process::ChildStderr) -> Self {
        let log = Self {
            lines: Arc::default(),
            changed: Arc::default(),
        };
        let reader = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("{line}");
                reader.lines.lock().unwrap().lines.push(line);
                reader.changed.notify_all();
            }
            reader.lines.lock().unwrap().is_over = true;
            reader.changed.notify_all();
        });
        log
    }

    /// Waits until this is true, the log ends, or [`PATIENCE`](super::PATIENCE) has passed.
    fn wait_until(&self, condition: impl Fn(&Lines) -> bool) -> std::sync::MutexGuard<'_, Lines> {
        let end = Instant::now() + PATIENCE;
        let mut log = self.lines.lock().unwrap();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if condition(&log) || log.is_over || left == Duration::ZERO {
                return log;
            }
            log = self.changed.wait_timeout(log, left).unwrap().0;
        }
    }
}

/// The value of a logfmt key.
#[track_caller]
pub fn field<'a>(line: &'a str, key: &str) -> &'a str {
    let pairs = line
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='));
    let mut values = pairs
        .filter(|(known, _)| *known == key)
        .map(|(_, value)| value);
    values.next().unwrap()
}

/// One connection to a program.
pub struct Scraper {
    runtime: Runtime,
    client: Client,
}

impl Scraper {
    /// The body of /metrics, in the format that the Accept header asks for.
    pub fn body(&mut self, accept: &str) -> String {
        let headers = format!("Accept: {accept}\r\n");
        let request = self.client.request("GET", "/metrics", &headers);
        let answer = self.runtime.block_on(request);
        assert_eq!(answer.status, 200);
        answer.text().to_owned()
    }

    /// One scrape.
    pub fn metrics(&mut self) -> Metrics {
        Metrics::parse(&self.body("text/plain"))
    }
}

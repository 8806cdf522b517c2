//! The program as a process of which nothing is hidden: its log, its signals, its end, what it holds.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::support::PATIENCE;

/// Where the program is; a variable names another build of it.
pub fn path() -> String {
    let built = env!("CARGO_BIN_EXE_timewait_exporter");
    std::env::var("TIMEWAIT_EXPORTER").unwrap_or_else(|_| built.to_owned())
}

/// The program, without any of this process's environment.
pub fn program() -> Command {
    let mut command = Command::new(path());
    command.env_clear().stdin(Stdio::null());
    command
}

/// A program that runs, and is killed with the test.
pub struct Process {
    child: Child,
    log: Option<Receiver<String>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Process {
    /// Starts it and reads its log.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (put, log) = mpsc::channel();
        // To the end, so that the program never waits for its log.
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _test_over = put.send(line);
            }
        });
        Self {
            child,
            log: Some(log),
        }
    }

    /// Starts it with whatever log it was given.
    pub fn start_without_log(command: &mut Command) -> Self {
        Self {
            child: command.spawn().unwrap(),
            log: None,
        }
    }

    /// Starts the program with these flags on any port of 127.0.0.1, and says which.
    pub fn listening(flags: &[&str]) -> (Self, String) {
        let mut process = Self::start(
            program()
                .arg("--web.listen-address=127.0.0.1:0")
                .args(flags),
        );
        let address = process.address();
        (process, address)
    }

    /// Waits until it says where it listens.
    pub fn address(&mut self) -> String {
        field(&self.line_with("Listening on\" address="), "address").to_owned()
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

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it as a service manager would.
    pub fn end(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0));
    }

    /// Waits for a line of the log with this.
    pub fn line_with(&mut self, text: &str) -> String {
        let log = self.log.as_ref().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("no line has {text:?} ({error}), only: {seen:#?}"),
            }
        }
    }

    /// What its log has until its end, less what was read of it.
    pub fn rest(&mut self) -> String {
        let log = self.log.as_ref().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        loop {
            match log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return lines.join("\n"),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the log does not end: {lines:#?}"),
            }
        }
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.id());
        fs::read_dir(folder).unwrap().count()
    }

    /// The number that the next descriptor it opens would get.
    pub fn first_free_descriptor(&self) -> u64 {
        let is_free = |number: &u64| {
            let path = format!("/proc/{}/fd/{number}", self.id());
            fs::symlink_metadata(path).is_err()
        };
        (0..1024).find(is_free).unwrap()
    }

    /// From now on no descriptor may have this number or a higher one.
    pub fn limit_descriptors(&self, limit: u64) {
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(1024),
        };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).unwrap();
    }

    /// Its resident memory.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let words = line.unwrap().trim().strip_suffix(" kB").unwrap();
        words.parse().unwrap()
    }
}

/// The value of a logfmt key.
pub fn field<'a>(line: &'a str, key: &str) -> &'a str {
    let pairs = line
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='));
    let mut values = pairs
        .filter(|(known, _)| *known == key)
        .map(|(_, value)| value);
    values.next().unwrap()
}

/// An answer to a GET, as it came.
pub fn get(address: &str, path: &str) -> String {
    get_over(TcpStream::connect(address).unwrap(), path)
}

/// The same over a socket in the file system.
pub fn get_unix(socket: &Path, path: &str) -> String {
    get_over(UnixStream::connect(socket).unwrap(), path)
}

fn get_over(mut stream: impl Read + Write, path: &str) -> String {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Whether a program of the system is there; if not, the test is skipped and says so, which under `CI`
/// is a failure.
pub fn has_or_skips(program: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    });
    if !found {
        assert!(
            std::env::var_os("CI").is_none(),
            "cannot be skipped in CI: {program} is not installed"
        );
        println!("SKIPPED: {program} is not installed");
    }
    found
}

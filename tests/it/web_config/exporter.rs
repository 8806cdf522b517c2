//! The program with a web configuration, on a port that the kernel chooses.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use crate::support::PATIENCE;

/// A running exporter, ended when dropped.
pub struct Exporter {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

fn command(file: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_timewait_exporter"));
    command
        .arg("--web.listen-address=127.0.0.1:0")
        .arg(format!("--web.config.file={file}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end, which is to come by itself.
pub fn run(file: &str) -> Output {
    command(file).output().unwrap()
}

impl Exporter {
    /// Starts it, and waits until it listens and has said all about it.
    pub fn start(file: &str) -> Self {
        let mut child = command(file).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (found, address) = mpsc::channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line.clone());
                if let Some((_, rest)) = line.split_once("abled.\" address=") {
                    let address = rest.split(' ').next().unwrap_or_default().parse();
                    let _test_over = found.send(address.unwrap());
                }
            }
        });
        let address = address.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!("does not listen with {file}: {:?}", log.lock().unwrap());
        });
        Self {
            child,
            address,
            log,
        }
    }

    /// The lines so far that contain a text.
    pub fn logged(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter(|line| line.contains(text))
            .cloned()
            .collect()
    }

    /// Waits until so many lines contain a text.
    pub fn wait_for(&self, text: &str, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.logged(text).len() < count {
            assert!(Instant::now() < deadline, "{text}: {:?}", self.logged(""));
            std::thread::yield_now();
        }
    }

    /// Waits until it has a thread of this name.
    pub fn wait_for_thread(&self, name: &str) {
        let tasks = format!("/proc/{}/task", self.child.id());
        let deadline = Instant::now() + PATIENCE;
        let has_it = || {
            let mut tasks = std::fs::read_dir(&tasks).unwrap().flatten();
            tasks.any(|task| {
                std::fs::read_to_string(task.path().join("comm"))
                    .is_ok_and(|comm| comm.trim_end() == name)
            })
        };
        while !has_it() {
            assert!(Instant::now() < deadline, "no thread {name}");
            std::thread::yield_now();
        }
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _status = self.child.wait();
    }
}

//! Faults of clients, the system and the kernel, one test each, which prints its result: during the fault
//! other clients are answered; afterwards the answer, memory and descriptors are as before.
//!
//! - [`clients`]: crowds that are slow, do not read, vanish, or use up descriptors;
//! - [`tls`]: the same crowds with TLS;
//! - [`requests`]: bytes that are not a valid request;
//! - [`process`]: signals, the log, the clock, /proc;
//! - [`netlink`]: what a fake kernel does to the whole server.

mod clients;
mod netlink;
mod process;
mod requests;
mod tls;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use rustls::ClientConfig;
use tempfile::TempDir;

use crate::support::client::{self, Answer};
use crate::support::exposition::Metrics;
use crate::support::program::Program;
use crate::support::{PATIENCE, eventually};

/// How much more memory may be resident after a fault: what the allocator keeps of the buffers of the
/// maximum number of open connections, 256 with some 22 KiB each.
const MARGIN_KIB: u64 = 8 * 1024;

/// The same for request heads in pieces: the buffer grows from 8 KiB to 16 KiB, and sometimes (in 2 of
/// 77 runs, on a busy machine) no freed block can be reused, 36 KiB per connection in all.
const PIECES_MARGIN_KIB: u64 = 12 * 1024;

/// The same with TLS, whose buffers add up to some 45 KiB each.
const TLS_MARGIN_KIB: u64 = 16 * 1024;

/// Scrapes until memory is stable.
const WARM_UP: usize = 30;

/// A program that reads unchanging files, and its state before a fault.
struct Steady {
    process: Program,
    address: String,
    tree: TempDir,
    answer: String,
    descriptors: usize,
    resident_kib: u64,
    name: &'static str,
    tls: Option<Arc<ClientConfig>>,
}

impl Steady {
    fn start(name: &'static str) -> Self {
        Self::start_with(name, &[], "")
    }

    /// With flags, after a line of shell.
    fn start_with(name: &'static str, flags: &[&str], shell: &str) -> Self {
        let tree = crate::collector::copy();
        Self::over(name, tree, flags, shell)
    }

    fn over(name: &'static str, tree: TempDir, flags: &[&str], shell: &str) -> Self {
        Self::over_tls(name, tree, flags, shell, None)
    }

    fn over_tls(
        name: &'static str,
        tree: TempDir,
        flags: &[&str],
        shell: &str,
        tls: Option<Arc<ClientConfig>>,
    ) -> Self {
        let script = format!("{shell}\nexec \"$0\" \"$@\"");
        let procfs = format!("--path.procfs={}", tree.path().display());
        // Its metrics about itself change.
        let steady = "--web.disable-exporter-metrics";
        let flags = [&["--collector.source=procfs", steady, &*procfs], flags].concat();
        let process = Program::start_through(&["sh", "-c", &script], &flags);
        let address = process.address().to_string();
        Self::adopt(name, process, address, tree, tls)
    }

    fn adopt(
        name: &'static str,
        process: Program,
        address: String,
        tree: TempDir,
        tls: Option<Arc<ClientConfig>>,
    ) -> Self {
        let mut steady = Self {
            process,
            address,
            tree,
            answer: String::new(),
            descriptors: 0,
            resident_kib: 0,
            name,
            tls,
        };
        for _ in 0..WARM_UP {
            steady.scrape();
        }
        steady.answer = steady.scrape();
        let (_, body) = steady.answer.split_once('\n').unwrap();
        let success = Metrics::parse(body).sum("timewait_scrape_collector_success");
        assert!(success >= 5.0, "{}", steady.answer);
        steady.await_no_connection();
        steady.descriptors = steady.process.descriptors();
        steady.resident_kib = steady.process.resident_kib();
        steady
    }

    fn connect(&self) -> TcpStream {
        connect(&self.address)
    }

    /// The exposition without durations.
    fn scrape(&self) -> String {
        let (answer, _) = self.timed_scrape();
        answer
    }

    fn timed_scrape(&self) -> (String, Duration) {
        let begin = Instant::now();
        let answer = match &self.tls {
            None => client::get(&self.address, "/metrics"),
            Some(config) => tls::get(config, &self.address, "/metrics"),
        };
        (stable_lines(&answer), begin.elapsed())
    }

    /// Asserts that other clients are answered, and returns how long that took.
    fn assert_answers(&self) -> Duration {
        let (answer, time) = self.timed_scrape();
        assert_eq!(answer, self.answer, "{}", self.name);
        time
    }

    /// So many clients that send a request and read one byte of the answer (over TLS, one record) into a small
    /// buffer. Returns them with the slowest scrape of others meanwhile and the highest resident memory in KiB.
    fn slow_readers<S: Stream>(
        &self,
        count: usize,
        open: impl Fn(TcpStream) -> S,
    ) -> (Vec<S>, Duration, u64) {
        let mut crowd = Vec::with_capacity(count);
        let (mut slowest, mut peak_kib) = (Duration::ZERO, 0);
        for number in 1..=count {
            let stream = self.connect();
            sockopt::set_socket_recv_buffer_size(stream.as_fd(), 2048).unwrap();
            let mut stream = open(stream);
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                .unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 1);
            crowd.push(stream);
            if number % 100 == 0 {
                slowest = slowest.max(self.assert_answers());
                peak_kib = peak_kib.max(self.process.resident_kib());
            }
        }
        (crowd, slowest, peak_kib)
    }

    /// Waits until the connections of this process are closed at the other end, too.
    fn await_no_connection(&self) {
        let folder = format!("/proc/{}/fd", self.process.id());
        let at_rest = self.descriptors;
        eventually("no connection is open", || {
            let now = fs::read_dir(&folder).unwrap().count();
            if at_rest == 0 {
                !self.has_clients()
            } else {
                now == at_rest
            }
        });
    }

    /// Whether a client's connection is open: the table has a socket with the server's port.
    fn has_clients(&self) -> bool {
        let (_, port) = self.address.rsplit_once(':').unwrap();
        let local = format!("0100007F:{:04X}", port.parse::<u16>().unwrap());
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.process.id())).unwrap();
        table.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (at, _, state) = (words.next(), words.next(), words.next());
            // Established, or closed by the client.
            at == Some(&*local) && matches!(state, Some("01" | "08"))
        })
    }

    /// Asserts that after the fault everything is as before.
    fn assert_unmoved(&self, result: &str) {
        let margin = match self.tls {
            None => MARGIN_KIB,
            Some(_) => TLS_MARGIN_KIB,
        };
        self.assert_unmoved_but_for(margin, result);
    }

    /// The same, with so much more memory allowed, in KiB.
    fn assert_unmoved_but_for(&self, margin: u64, result: &str) {
        self.assert_answers();
        self.await_no_connection();
        let resident = self.process.resident_kib();
        println!(
            "MEASURED {}: {result}; resident {} KiB before, {resident} KiB after; {} descriptors before \
             and after",
            self.name, self.resident_kib, self.descriptors
        );
        assert!(
            resident <= self.resident_kib + margin,
            "{}: resident {} KiB before, {resident} KiB after",
            self.name,
            self.resident_kib
        );
    }
}

/// A connection, with TLS or without.
trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// With timeouts, so that a test fails instead of hanging.
fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The lines that depend on the files only.
fn stable_lines(answer: &Answer) -> String {
    let mut kept = format!("HTTP/1.1 {}\n", answer.status);
    for line in answer
        .text()
        .lines()
        .filter(|line| !line.contains("duration_seconds"))
    {
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// Raises this process's descriptor limit to the hard limit: the crowds are in it.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    assert!(
        hard >= 2048,
        "the tests need 2,048 descriptors: ulimit -Hn says {hard}"
    );
}

/// A line of shell that limits the program to the usual number of descriptors.
const USUAL_LIMIT: &str = "ulimit -Sn 1024";

/// Writes a connection table in which every socket is in TIME-WAIT and has another client.
pub fn write_crowded_table(tree: &Path, sockets: u32) {
    let mut table = String::from("  sl  local_address rem_address   st\n");
    for number in 0..sockets {
        let client = u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number;
        writeln!(
            table,
            "{number:4}: 0100007F:1F90 {:08X}:{:04X} 06 00000000:00000000 03:00000BB8 00000000 0 0 0 \
             3 0000000000000000",
            client.swap_bytes(),
            20_000 + number % 10_000,
        )
        .unwrap();
    }
    fs::write(tree.join("net/tcp"), table).unwrap();
}

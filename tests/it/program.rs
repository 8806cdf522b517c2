//! The program as a process, and what it tells.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use tokio::runtime::Runtime;

use crate::support::{Client, PATIENCE};

/// A running exporter, ended when dropped.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Starts it with these flags on 127.0.0.1, and waits until it listens. Only to be used in a
    /// namespace of the test's own: its port is a fixed one, outside the ephemeral range.
    pub fn start(flags: &[&str]) -> Self {
        Self::start_through(&[], flags)
    }

    /// The same through a command that becomes the program, such as setpriv(1).
    pub fn start_through(through: &[&str], flags: &[&str]) -> Self {
        static PORT: AtomicU16 = AtomicU16::new(10_072);
        let port = PORT.fetch_add(1, Ordering::Relaxed);
        // tests/run sets the variable for a user who may not enter the build folder.
        let path = crate::process::path();
        let words: Vec<&str> = through.iter().copied().chain([&*path]).collect();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(flags)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (found, address) = mpsc::channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        // Reads on to the end, so that the program never waits for its log.
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("{line}");
                lines.lock().unwrap().push(line.clone());
                if let Some((_, rest)) = line.split_once("msg=\"Listening on\" address=") {
                    let address = rest.split(' ').next().unwrap_or_default().parse();
                    let _test_over = found.send(address.unwrap());
                }
            }
        });
        let address = address
            .recv_timeout(PATIENCE)
            .expect("the program says where it listens");
        Self {
            child,
            address,
            log,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The lines logged so far that contain a text.
    pub fn logged(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter(|line| line.contains(text))
            .cloned()
            .collect()
    }

    /// Opens a connection that stays open from scrape to scrape, so that scraping leaves no
    /// TIME-WAIT sockets.
    pub fn scraper(&self) -> Scraper {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(Client::connect(self.address));
        Scraper { runtime, client }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _status = self.child.wait();
    }
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
        let answer = self
            .runtime
            .block_on(self.client.request("GET", "/metrics", &headers));
        assert_eq!(answer.status, 200);
        answer.text().to_owned()
    }

    /// One scrape.
    pub fn metrics(&mut self) -> Metrics {
        Metrics::parse(&self.body("text/plain"))
    }
}

/// What one scrape told, in the text format: the value of each series as it is written.
#[derive(Clone, Debug)]
pub struct Metrics {
    series: BTreeMap<String, f64>,
}

impl Metrics {
    /// Fails if a series is told twice.
    pub fn parse(text: &str) -> Self {
        let mut series = BTreeMap::new();
        for line in text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
        {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let before = series.insert(name.to_owned(), value.parse().unwrap());
            assert!(before.is_none(), "{name} is told twice");
        }
        Self { series }
    }

    /// The value of one series, spelled as the text format does.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The same, of one that must be there.
    pub fn value(&self, series: &str) -> f64 {
        self.get(series)
            .unwrap_or_else(|| panic!("{series} is not told: {self:#?}"))
    }

    /// The sum of all series of a metric.
    pub fn sum(&self, metric: &str) -> f64 {
        self.of(metric).values().sum()
    }

    /// The series of a metric.
    pub fn of(&self, metric: &str) -> BTreeMap<&str, f64> {
        let is_of = |series: &str| series.split('{').next() == Some(metric);
        self.series
            .iter()
            .filter(|(series, _)| is_of(series))
            .map(|(series, value)| (series.as_str(), *value))
            .collect()
    }

    /// The six sums that must be equal, and are: the number of TIME-WAIT sockets.
    pub fn time_wait(&self) -> f64 {
        let total = self.sum("timewait_sockets");
        for breakdown in ["src_addr", "src_port", "dst_addr", "dst_port", "age"] {
            let sum = self.sum(&format!("timewait_sockets_by_{breakdown}"));
            assert!(
                (sum - total).abs() < 0.5,
                "by {breakdown}: {sum}, in all: {total}"
            );
        }
        total
    }
}

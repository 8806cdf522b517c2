//! A plain HTTP client that shows every byte, and a server with collectors that the test controls.

use std::net::SocketAddr;
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use timewait_exporter::build_info::BUILD;
use timewait_exporter::collector::{Collector, Enabled, FileReadings};
use timewait_exporter::config::{Config, WebConfig};
use timewait_exporter::domain::snapshot::{Outcome, SocketSummary};
use timewait_exporter::site::{About, Site};
use timewait_exporter::web::{Drained, Limits, Listener, Protection, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// How long a test waits for what must happen, before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Limits that no test reaches by chance.
pub(crate) const fn generous() -> Limits {
    Limits {
        receive: LONGER_THAN_PATIENCE,
        send: LONGER_THAN_PATIENCE,
        idle: LONGER_THAN_PATIENCE,
        shutdown: LONGER_THAN_PATIENCE,
        connections: 100,
    }
}

const LONGER_THAN_PATIENCE: Duration = Duration::from_secs(3600);

/// Waits for what must happen.
pub(crate) async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.unwrap()
}

/// What the flags would give.
pub(crate) fn config(flags: &[&str]) -> Config {
    let flags = std::iter::once("timewait_exporter").chain(flags.iter().copied());
    timewait_exporter::cli::parse(flags).unwrap()
}

/// An outcome without figures.
pub(crate) const fn outcome(success: bool) -> Outcome<SocketSummary> {
    Outcome {
        value: None,
        success,
        duration: Duration::ZERO,
    }
}

/// A collector whose sockets job is this, and whose files say nothing.
pub(crate) fn collector(
    sockets: impl FnMut(Instant) -> Outcome<SocketSummary> + Send + 'static,
) -> Collector {
    let none = |_| FileReadings::default();
    Collector::start(Enabled::default(), sockets, none).unwrap()
}

/// A sockets job that says when it was entered and waits for leave.
pub(crate) struct Gate {
    entered: mpsc::UnboundedReceiver<()>,
    leave: blocking::Sender<()>,
}

impl Gate {
    pub(crate) fn collector() -> (Self, Collector) {
        let (enter, entered) = mpsc::unbounded_channel();
        let (leave, may_leave) = blocking::channel();
        let collector = collector(move |_| {
            let _test_over = enter.send(());
            let _test_over = may_leave.recv();
            outcome(true)
        });
        (Self { entered, leave }, collector)
    }

    /// Waits until the job runs.
    pub(crate) async fn entered(&mut self) {
        patiently(self.entered.recv()).await.unwrap();
    }

    /// Whether another run has begun.
    pub(crate) fn was_entered(&mut self) -> bool {
        self.entered.try_recv().is_ok()
    }

    /// Lets one run end.
    pub(crate) fn open(&self) {
        self.leave.send(()).unwrap();
    }
}

/// A running server.
pub(crate) struct Running {
    pub(crate) addresses: Vec<SocketAddr>,
    shutdown: Option<oneshot::Sender<()>>,
    drained: JoinHandle<Drained>,
}

impl Running {
    /// With the defaults.
    pub(crate) async fn start(collector: Collector) -> Self {
        Self::with(collector, &[], Limits::default()).await
    }

    pub(crate) async fn with(collector: Collector, flags: &[&str], limits: Limits) -> Self {
        let WebConfig {
            mut listen_addresses,
            ..
        } = config(flags).web;
        // The default address would be everyone's.
        if !flags
            .iter()
            .any(|flag| flag.starts_with("--web.listen-address"))
        {
            listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
        }
        let mut listeners = Vec::new();
        for address in &listen_addresses {
            listeners.push(Listener::bind(address).await.unwrap());
        }
        let addresses = listeners
            .iter()
            .map(|listener| listener.local_address().tcp().unwrap())
            .collect();
        let web = config(flags).web;
        let about = About {
            build: BUILD,
            process: web
                .exporter_metrics
                .then(|| -> Box<timewait_exporter::site::ReadProcess> { Box::new(|| None) }),
        };
        let site = Arc::new(Site::new(&web, Arc::new(collector), about));
        let (shutdown, wanted) = oneshot::channel();
        let protection = web.config_file.map(Protection::open).transpose().unwrap();
        let server = Server::new(listeners, Arc::clone(&site), limits).protected_by(protection);
        let drained = tokio::spawn(server.run(async move {
            let _test_over = wanted.await;
            site.shut_down();
        }));
        Self {
            addresses,
            shutdown: Some(shutdown),
            drained,
        }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.addresses[0]).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.connect().await.request("GET", path, "").await
    }

    /// Begins to shut down.
    pub(crate) fn shut_down(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    /// Waits for the end.
    pub(crate) async fn drained(self) -> Drained {
        patiently(self.drained).await.unwrap()
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} comes twice: {self:?}");
        value
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    /// The value of a series, written as the text format has it.
    pub(crate) fn series(&self, series: &str) -> Option<f64> {
        let line = self
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(series))?;
        Some(line.trim().parse().unwrap())
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Sends a request, with more header lines (each with its end) if wanted.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, headers: &str) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        self.send(&request).await;
    }

    pub(crate) async fn request(&mut self, method: &str, path: &str, headers: &str) -> Answer {
        self.ask(method, path, headers).await;
        self.answer(method != "HEAD").await
    }

    /// The next answer. One to a HEAD request has no body.
    pub(crate) async fn answer(&mut self, has_body: bool) -> Answer {
        patiently(async {
            let end = loop {
                if let Some(at) = self
                    .received
                    .windows(4)
                    .position(|four| four == b"\r\n\r\n")
                {
                    break at + 4;
                }
                assert!(
                    self.receive().await,
                    "closed within a head: {:?}",
                    self.received
                );
            };
            let head: Vec<u8> = self.received.drain(..end).collect();
            let mut answer = parse_head(str::from_utf8(&head).unwrap());
            let length = answer.header("content-length").unwrap().parse().unwrap();
            while has_body && self.received.len() < length {
                assert!(self.receive().await, "closed within a body");
            }
            if has_body {
                answer.body = self.received.drain(..length).collect();
            }
            answer
        })
        .await
    }

    /// Waits until the server closes, and gives all that came before.
    pub(crate) async fn closed(mut self) -> Vec<u8> {
        patiently(async {
            while self.receive().await {}
            self.received
        })
        .await
    }

    async fn receive(&mut self) -> bool {
        // A reset is an end, too.
        matches!(self.stream.read_buf(&mut self.received).await, Ok(bytes) if bytes > 0)
    }
}

fn parse_head(head: &str) -> Answer {
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        })
        .collect();
    Answer {
        status,
        headers,
        body: Vec::new(),
    }
}

/// What a test tells its job.
#[derive(Clone, Default)]
pub(crate) struct Switch(Arc<Mutex<bool>>);

impl Switch {
    pub(crate) fn set(&self, on: bool) {
        *self.0.lock().unwrap() = on;
    }

    pub(crate) fn get(&self) -> bool {
        *self.0.lock().unwrap()
    }
}

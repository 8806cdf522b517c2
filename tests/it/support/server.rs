//! The server inside this process, with collectors that the test controls.

use std::net::SocketAddr;
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use timewait_exporter::collector::{Collector, Job};
use timewait_exporter::config::{Config, WebConfig};
use timewait_exporter::domain::collectors::CollectorId;
use timewait_exporter::domain::snapshot::Outcome;
use timewait_exporter::site::Site;
use timewait_exporter::web::{Limits, Listener, Protection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::client::{Answer, Client};
use super::patiently;

/// Limits that no test reaches by accident.
pub const fn generous() -> Limits {
    Limits {
        receive: LONGER_THAN_PATIENCE,
        send: LONGER_THAN_PATIENCE,
        idle: LONGER_THAN_PATIENCE,
        shutdown: LONGER_THAN_PATIENCE,
        connections: 100,
    }
}

const LONGER_THAN_PATIENCE: Duration = Duration::from_secs(3600);

/// The configuration for these flags.
pub fn config(flags: &[&str]) -> Config {
    let flags = std::iter::once("timewait_exporter").chain(flags.iter().copied());
    timewait_exporter::cli::parse(flags).unwrap()
}

/// An outcome without a value.
pub const fn outcome(success: bool) -> Outcome {
    Outcome {
        value: None,
        success,
        duration: Duration::ZERO,
    }
}

/// A collector whose sockets job is this, and whose files have nothing.
pub fn collector(mut sockets: impl FnMut(Instant) -> Outcome + Send + 'static) -> Collector {
    let job: Job = Box::new(move |deadline| Some(sockets(deadline)));
    Collector::start([(CollectorId::Sockets, job)]).unwrap()
}

/// A sockets job that reports when it has begun and waits until it is released.
pub struct Gate {
    entered: mpsc::UnboundedReceiver<()>,
    leave: blocking::Sender<()>,
}

impl Gate {
    pub fn collector() -> (Self, Collector) {
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
    pub async fn entered(&mut self) {
        patiently(self.entered.recv()).await.unwrap();
    }

    /// Whether another run has begun.
    pub fn was_entered(&mut self) -> bool {
        self.entered.try_recv().is_ok()
    }

    /// Lets one run end.
    pub fn open(&self) {
        self.leave.send(()).unwrap();
    }
}

/// A running server.
pub struct Running {
    pub addresses: Vec<SocketAddr>,
    shutdown: Option<oneshot::Sender<()>>,
    drained: JoinHandle<usize>,
}

impl Running {
    /// With the defaults.
    pub async fn start(collector: Collector) -> Self {
        Self::with(collector, &[], Limits::default()).await
    }

    #[expect(clippy::unused_async, reason = "it needs a runtime")]
    pub async fn with(collector: Collector, flags: &[&str], limits: Limits) -> Self {
        let WebConfig {
            mut listen_addresses,
            ..
        } = config(flags).web;
        // The default address would be reachable from outside.
        if !flags
            .iter()
            .any(|flag| flag.starts_with("--web.listen-address"))
        {
            listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
        }
        let listeners = Listener::bind_all(&listen_addresses).unwrap();
        let addresses = listeners
            .iter()
            .map(|listener| listener.tcp.unwrap())
            .collect();
        let web = config(flags).web;
        let site = Arc::new(Site::new(&web, collector));
        let (shutdown, wanted) = oneshot::channel();
        let protection = web.config_file.map(Protection::open).transpose().unwrap();
        let shutting_down = Arc::clone(&site);
        let ended = async move {
            let _test_over = wanted.await;
            shutting_down.shut_down();
        };
        let server = timewait_exporter::web::serve(listeners, site, protection, limits, ended);
        let drained = tokio::spawn(server);
        Self {
            addresses,
            shutdown: Some(shutdown),
            drained,
        }
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.addresses[0]).await
    }

    /// One request on a connection of its own.
    pub async fn get(&self, path: &str) -> Answer {
        self.connect().await.request("GET", path, "").await
    }

    /// Begins to shut down.
    pub fn shut_down(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    /// Waits for the end.
    pub async fn drained(self) -> usize {
        patiently(self.drained).await.unwrap()
    }
}

/// A value that a test sets and its job reads.
#[derive(Clone, Default)]
pub struct Switch(Arc<Mutex<bool>>);

impl Switch {
    pub fn set(&self, on: bool) {
        *self.0.lock().unwrap() = on;
    }

    pub fn get(&self) -> bool {
        *self.0.lock().unwrap()
    }
}

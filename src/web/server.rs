//! Accepts connections until it is told to end, and then lets the answers under way finish.
//!
//! **Invariant:** while nobody connects there is nothing that wakes up. Does not know what is asked
//! or answered, nor how a connection is driven.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{HeaderMap, Method};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::answer::Answer;
use super::connection;
use super::listener::Listener;
use super::open::OpenConnections;
use super::protection::Protection;

/// What clients are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once. At the limit a new one takes the place of the one that has waited
    /// longest for its client, be it for a second only to read its answer; where none waits, the new
    /// one does.
    pub connections: u32,
    /// Time to send a request's head, from the connection's beginning or the head's first byte.
    pub receive: Duration,
    /// Time to read an answer, in all. The kernel's send buffer takes most answers at once.
    pub send: Duration,
    /// Time between two requests.
    pub idle: Duration,
    /// Time for answers under way when the program ends.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Far more than scrapers make. Each can cost some 22 KiB, which the allocator keeps.
            connections: 256,
            receive: Duration::from_secs(10),
            send: Duration::from_secs(30),
            // Above the scrape intervals in use, so that Prometheus keeps its connection.
            idle: Duration::from_secs(300),
            // Below the 30 s that Kubernetes gives, and the 90 s of systemd.
            shutdown: Duration::from_secs(10),
        }
    }
}

/// How the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every answer under way was sent.
    All,
    /// Time was over for the connections still open.
    Cut {
        /// How many they were.
        connections: usize,
    },
}

/// What is answered to a request.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> impl Future<Output = Answer> + Send;
}

/// Listeners and what is answered on them.
#[derive(Debug)]
pub struct Server<H> {
    listeners: Vec<Listener>,
    service: Service<H>,
}

/// What every connection is served with.
#[derive(Debug)]
pub(super) struct Service<H> {
    handler: Arc<H>,
    pub(super) protection: Option<Protection>,
    pub(super) limits: Limits,
}

impl<H: Handler> Service<H> {
    pub(super) fn is_encrypted(&self) -> bool {
        let protection = self.protection.as_ref();
        protection.is_some_and(|protection| protection.tls().is_some())
    }

    /// Answers one request, if it may be answered.
    pub(super) async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Answer {
        let Some(protection) = &self.protection else {
            return self.handler.answer(method, path, headers).await;
        };
        match protection.admit(headers).await {
            Err(refusal) => refusal,
            Ok(admitted) => {
                let mut answer = self.handler.answer(method, path, headers).await;
                admitted.adorn(&mut answer);
                answer
            }
        }
    }
}

impl<H: Handler> Server<H> {
    /// Puts the parts together.
    #[must_use]
    pub const fn new(listeners: Vec<Listener>, handler: Arc<H>, limits: Limits) -> Self {
        Self {
            listeners,
            service: Service {
                handler,
                protection: None,
                limits,
            },
        }
    }

    /// Puts it behind a web configuration.
    #[must_use]
    pub fn protected_by(mut self, mut protection: Option<Protection>) -> Self {
        if let Some(protection) = &mut protection {
            protection.leave_room_among(self.service.limits.connections);
        }
        self.service.protection = protection;
        self
    }

    /// Serves until `shutdown` completes and what was under way then is done.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Drained {
        let service = Arc::new(self.service);
        let open = OpenConnections::new(service.limits.connections);
        let (close, closing) = watch::channel(false);
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(accept_all(
                listener,
                Arc::clone(&open),
                Arc::clone(&service),
                closing.clone(),
            ));
        }
        shutdown.await;
        if let Some(protection) = &service.protection {
            protection.shut_down();
        }
        // Closes the listeners, so that whoever connects now is refused and goes elsewhere.
        accepting.shutdown().await;
        close.send_replace(true);
        match tokio::time::timeout(service.limits.shutdown, open.none()).await {
            Ok(()) => Drained::All,
            Err(_) => Drained::Cut {
                connections: open.len(),
            },
        }
    }
}

/// How long until it is looked again whether somebody waits, while accept() would fail.
const NOBODY_WAITS: Duration = Duration::from_millis(50);

async fn accept_all<H: Handler>(
    listener: Listener,
    open: Arc<OpenConnections>,
    service: Arc<Service<H>>,
    closing: watch::Receiver<bool>,
) {
    let mut trouble = Trouble::default();
    loop {
        match listener.accept().await {
            Ok(stream) => {
                trouble.accepted(Instant::now());
                let connection = open.open().await;
                let (service, closing) = (Arc::clone(&service), closing.clone());
                tokio::spawn(connection::serve(stream, connection, service, closing));
            }
            Err(error) if is_the_clients(&error) => {}
            Err(_) if !listener.is_awaited() => tokio::time::sleep(NOBODY_WAITS).await,
            Err(error) => {
                // Out of file descriptors, most likely: one fewer may help.
                open.make_one_go();
                tokio::time::sleep(trouble.pause_after(&error, Instant::now())).await;
            }
        }
    }
}

/// Whether only the one connection failed, before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// Errors from accept() that repeat, logged when they begin, when they change and when they are over.
#[derive(Debug, Default)]
struct Trouble {
    latest: Option<(i32, Instant)>,
    pause: Duration,
}

impl Trouble {
    const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);

    /// Without an error for so long it is over. At the limit of descriptors one accept() fails and
    /// the next succeeds, again and again; that is one trouble.
    const QUIET: Duration = Duration::from_secs(10);

    /// How long to wait: the connection stays in the backlog, so the error would come again at once.
    fn pause_after(&mut self, error: &io::Error, now: Instant) -> Duration {
        let errno = error.raw_os_error().unwrap_or_default();
        let before = self.latest.replace((errno, now));
        if before.is_none_or(|(known, _)| known != errno) {
            warn!(%error, "Cannot accept connections; trying again");
        }
        self.pause = (self.pause * 2).clamp(Self::SHORTEST_PAUSE, Self::LONGEST_PAUSE);
        self.pause
    }

    fn accepted(&mut self, now: Instant) {
        self.pause = Duration::ZERO;
        if self
            .latest
            .is_some_and(|(_, then)| now - then >= Self::QUIET)
        {
            self.latest = None;
            info!("Accepting connections again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_a_second_and_begins_anew() {
        let mut trouble = Trouble::default();
        let error = io::Error::from_raw_os_error(24);
        let now = Instant::now();
        let mut pause = || trouble.pause_after(&error, now).as_millis();
        let pauses: Vec<_> = (0..9).map(|_| pause()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        trouble.accepted(now);
        assert_eq!(trouble.pause_after(&error, now).as_millis(), 10);
    }

    #[test]
    fn one_success_is_not_the_end_of_it() {
        let mut trouble = Trouble::default();
        let begin = Instant::now();
        trouble.pause_after(&io::Error::from_raw_os_error(24), begin);
        trouble.accepted(begin + Duration::from_secs(1));
        assert!(trouble.latest.is_some());
        trouble.accepted(begin + Trouble::QUIET);
        assert!(trouble.latest.is_none());
    }
}

//! Accepts connections until it is to end, and then lets the answers under way finish.
//!
//! **Invariant:** while nobody connects there is nothing that wakes up.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::server::graceful::GracefulShutdown;
use tokio::task::JoinSet;
use tracing::warn;

use super::answer::Handler;
use super::connection::{self, Service};
use super::connections::{Connections, Limits};
use super::listener::Listener;
use super::protection::Protection;
use super::stream::Watched;

/// Serves until `shutdown` completes and what was under way then is done. Returns how many connections
/// were cut off, as time was over for them.
pub async fn serve<H: Handler>(
    listeners: Vec<Listener>,
    handler: Arc<H>,
    protection: Option<Protection>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> usize {
    if let Some(protection) = &protection {
        protection.passwords.limit_waiting(limits.connections);
    }
    let server = Arc::new(Server {
        service: Arc::new(Service {
            handler,
            protection,
        }),
        connections: Connections::new(limits.connections),
        limits,
        graceful: GracefulShutdown::new(),
    });
    let accept = |listener| Arc::clone(&server).accept_all(listener);
    let mut accepting: JoinSet<()> = listeners.into_iter().map(accept).collect();
    shutdown.await;
    // Closes the listeners, so that new connections are refused and go elsewhere.
    accepting.shutdown().await;
    let Some(server) = Arc::into_inner(server) else {
        return 0;
    };
    if let Some(protection) = &server.service.protection {
        protection.passwords.shut_down();
    }
    server.connections.end_without_request();
    match tokio::time::timeout(limits.shutdown, server.graceful.shutdown()).await {
        Ok(()) => 0,
        Err(_) => server.connections.count(),
    }
}

struct Server<H> {
    service: Arc<Service<H>>,
    connections: Connections,
    limits: Limits,
    graceful: GracefulShutdown,
}

/// How long until the next attempt when accept() fails. The connection stays in the backlog, so that the
/// error would come again at once.
const PAUSE: Duration = Duration::from_millis(50);

/// Without an error for so long it is over. At the limit of descriptors one accept() fails and the next
/// succeeds, again and again; that is one trouble.
const QUIET: Duration = Duration::from_secs(10);

impl<H: Handler> Server<H> {
    async fn accept_all(self: Arc<Self>, listener: Listener) {
        let mut latest_error: Option<Instant> = None;
        loop {
            match listener.accept(self.limits.send).await {
                Ok(stream) => {
                    let permit = self.connections.room().await;
                    let stream = Watched::new(stream, self.limits);
                    let activity = Arc::clone(&stream.activity);
                    let service = Arc::clone(&self.service);
                    let connection = connection::serve(stream, service, self.graceful.watcher());
                    self.connections.spawn(permit, activity, connection);
                }
                // Only the one connection failed, before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of file descriptors, most likely: one fewer may help, if anybody waits.
                    if listener.is_awaited() {
                        self.connections.make_one_go();
                        let last = latest_error.replace(Instant::now());
                        if last.is_none_or(|at| at.elapsed() > QUIET) {
                            warn!(%error, "Cannot accept connections; retrying");
                        }
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

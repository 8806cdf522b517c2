//! Tells the service manager when the exporter is ready and when it stops: `sd_notify(3)`.
//!
//! One datagram for each, to the socket that `NOTIFY_SOCKET` names. Does nothing where the variable is
//! not set, and never fails the program: what went wrong is logged. Knows of no watchdog.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tracing::{debug, warn};

/// How long a manager that is busy is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Connections are accepted.
    Ready,
    /// The end has begun.
    Stopping,
}

impl State {
    const fn message(self) -> &'static str {
        match self {
            Self::Ready => "READY=1",
            Self::Stopping => "STOPPING=1",
        }
    }
}

/// The service manager, if there is one.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    socket: Option<UnixDatagram>,
}

/// Why the manager cannot be told anything.
#[derive(Debug, thiserror::Error)]
enum NotifyError {
    #[error("it begins neither with a slash nor with @")]
    Form,
    #[error(transparent)]
    System(#[from] io::Error),
    #[error("it takes no message within {} s", TIMEOUT.as_secs())]
    Busy,
}

impl ServiceManager {
    /// The one that the environment names. Must be called on a tokio runtime.
    pub(crate) fn from_environment() -> Self {
        let name = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let socket = name.and_then(|name| {
            connect(&name)
                .inspect_err(|error| warn!(%error, ?name, "Cannot use NOTIFY_SOCKET"))
                .ok()
        });
        Self { socket }
    }

    /// Tells it a state.
    pub(crate) async fn tell(&self, state: State) {
        let Some(socket) = &self.socket else {
            return;
        };
        let message = state.message();
        match send(socket, message).await {
            Ok(()) => debug!(message, "Told the service manager"),
            Err(error) => warn!(%error, message, "Cannot tell the service manager"),
        }
    }
}

fn connect(name: &OsStr) -> Result<UnixDatagram, NotifyError> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(NotifyError::Form),
    };
    let socket = StdDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(UnixDatagram::from_std(socket)?)
}

async fn send(socket: &UnixDatagram, message: &str) -> Result<(), NotifyError> {
    let sent = tokio::time::timeout(TIMEOUT, socket.send(message.as_bytes())).await;
    sent.map_err(|_| NotifyError::Busy)??;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_paths_and_abstract_names_are_known() {
        for name in ["vsock:2:1234", "run/systemd/notify", " /x"] {
            assert!(matches!(connect(OsStr::new(name)), Err(NotifyError::Form)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_that_reads_nothing_is_not_waited_for_for_ever() {
        let name = format!("timewait-exporter-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _manager = StdDatagram::bind_addr(&address).unwrap();
        let socket = connect(OsStr::new(&format!("@{name}"))).unwrap();
        // Its queue has room for some messages.
        let mut result = Ok(());
        for _ in 0..10_000 {
            result = send(&socket, "READY=1").await;
            if result.is_err() {
                break;
            }
        }
        assert!(matches!(result, Err(NotifyError::Busy)), "{result:?}");
    }
}

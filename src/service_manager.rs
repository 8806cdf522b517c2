//! Notifies the service manager when the exporter is ready and when it stops: `sd_notify(3)`.
//!
//! Does nothing without `NOTIFY_SOCKET`, and never fails the program: errors are logged.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::{debug, warn};

/// How long a busy manager may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn notify(state: NotifyState<'static>) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    let state = state.to_string();
    match tokio::time::timeout(TIMEOUT, send(&name, &state)).await {
        Ok(Ok(())) => debug!(state, "Notified the service manager"),
        Ok(Err(error)) => warn!(%error, ?name, state, "Cannot write to NOTIFY_SOCKET"),
        Err(_) => warn!(?name, state, "NOTIFY_SOCKET accepted no message within 5 s"),
    }
}

/// Waits while a busy manager takes nothing, as sd-notify's own sending would block for.
async fn send(name: &OsStr, state: &str) -> io::Result<()> {
    let address = match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => {
            return Err(io::Error::other(
                "it begins neither with a slash nor with @",
            ));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    let socket = tokio::net::UnixDatagram::from_std(socket)?;
    socket.send(state.as_bytes()).await?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_paths_and_abstract_names_are_accepted() {
        for name in ["vsock:2:1234", "run/systemd/notify", " /x"] {
            let error = send(name.as_ref(), "READY=1").await.unwrap_err();
            assert!(error.to_string().contains("neither"), "{name}: {error}");
        }
    }
}

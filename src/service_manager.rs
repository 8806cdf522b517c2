//! Notifies the service manager when the exporter is ready and when it stops: `sd_notify(3)`.
//!
//! Does nothing without `NOTIFY_SOCKET`, and never fails the program: errors are logged.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::oneshot;
use tracing::{debug, warn};

/// How long a busy manager may take.
const TIMEOUT: Duration = Duration::from_secs(5);

const STACK_BYTES: usize = 128 * 1024;

pub(crate) async fn notify(state: NotifyState<'static>) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    let text = state.to_string();
    let (done, result) = oneshot::channel();
    let known = name.to_str().map(str::to_owned);
    // A thread of its own, for a busy manager blocks it.
    let started = std::thread::Builder::new()
        .name("notify".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || done.send(send(known.as_deref(), &state)));
    let result = match started {
        Ok(_) => tokio::time::timeout(TIMEOUT, result).await,
        Err(error) => Ok(Ok(Err(error))),
    };
    match result {
        Ok(Ok(Ok(()))) => debug!(state = text, "Notified the service manager"),
        Ok(Ok(Err(error))) => warn!(%error, ?name, state = text, "Cannot use NOTIFY_SOCKET"),
        _ => warn!(
            ?name,
            state = text,
            "NOTIFY_SOCKET accepts no message within 5 s"
        ),
    }
}

/// sd-notify takes any name for a path; abstract names begin with "@".
fn send(name: Option<&str>, state: &NotifyState<'static>) -> io::Result<()> {
    match name.map(|name| (name, name.strip_prefix('@'))) {
        Some((_, Some(name))) => {
            let address = SocketAddr::from_abstract_name(name)?;
            let message = state.to_string();
            UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
            Ok(())
        }
        Some((name, None)) if !name.starts_with('/') => Err(io::Error::other(
            "it begins neither with a slash nor with @",
        )),
        _ => sd_notify::notify(std::slice::from_ref(state)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_paths_and_abstract_names_are_accepted() {
        for name in ["vsock:2:1234", "run/systemd/notify", " /x"] {
            let error = send(Some(name), &NotifyState::Ready).unwrap_err();
            assert!(error.to_string().contains("neither"), "{name}: {error}");
        }
    }
}

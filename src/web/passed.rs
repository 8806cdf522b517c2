//! Sockets that systemd passes: `sd_listen_fds(3)`.
//!
//! The descriptors begin at 3; `LISTEN_FDS` says how many they are and `LISTEN_PID` whose. Taking them
//! over, which needs unsafe code, is the listenfd crate's matter; here is what it does not tell apart.
//! Whoever passes a socket removes it: its file is not ours.

use std::env;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use rustix::net::sockopt;

/// More than any unit has.
const MOST: usize = 1024;

/// The number of the first one.
const FIRST: usize = 3;

/// A socket that listens.
#[derive(Debug)]
pub enum Passed {
    /// `ListenStream=` with a port.
    Tcp(TcpListener),
    /// `ListenStream=` with a path.
    Unix(UnixListener),
}

/// Why there are no sockets to take over.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// Nothing was passed.
    #[error(
        "no socket activation file descriptors found: LISTEN_FDS is {}; with --web.systemd-socket \
         the exporter is to be started by a .socket unit (systemctl enable --now NAME.socket)",
        .count.as_deref().unwrap_or("not set")
    )]
    None {
        /// `LISTEN_FDS`.
        count: Option<String>,
    },
    /// They were passed to somebody else.
    #[error(
        "no socket activation file descriptors found: LISTEN_PID is {}, and this process is {own}; \
         let ExecStart= start the exporter itself, or a shell with exec",
        .pid.as_deref().unwrap_or("not set")
    )]
    NotOurs {
        /// `LISTEN_PID`.
        pid: Option<String>,
        /// Our number.
        own: u32,
    },
    /// One of them is not what is needed.
    #[error(
        "descriptor {descriptor} of those that systemd passed is neither a TCP nor a Unix stream \
         socket: name it with ListenStream= in the .socket unit ({source})"
    )]
    NotAStream {
        /// Its number.
        descriptor: usize,
        /// What was found.
        source: io::Error,
    },
    /// One of them is a connection.
    #[error(
        "descriptor {descriptor} of those that systemd passed does not listen: set Accept=no in \
         the .socket unit"
    )]
    NotListening {
        /// Its number.
        descriptor: usize,
    },
}

impl Passed {
    /// Takes all of them over. To be called once, and before there are other threads that read the
    /// environment or open descriptors: the variables are removed.
    pub fn take_all() -> Result<Vec<Self>, PassedError> {
        let variable = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let count = count(variable("LISTEN_FDS"))?;
        let own = std::process::id();
        let pid = variable("LISTEN_PID");
        if pid.as_deref().and_then(|pid| pid.parse().ok()) != Some(own) {
            return Err(PassedError::NotOurs { pid, own });
        }
        let mut passed = ListenFd::from_env();
        (0..count).map(|index| take(&mut passed, index)).collect()
    }
}

fn count(variable: Option<String>) -> Result<usize, PassedError> {
    let count = variable.as_deref().and_then(|text| text.parse().ok());
    count
        .filter(|count| (1..=MOST).contains(count))
        .ok_or(PassedError::None { count: variable })
}

fn take(passed: &mut ListenFd, index: usize) -> Result<Passed, PassedError> {
    let descriptor = FIRST.saturating_add(index);
    let not_a_stream = |source| PassedError::NotAStream { descriptor, source };
    let not_listening = || PassedError::NotListening { descriptor };
    if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
        let listens = sockopt::socket_acceptconn(&socket).unwrap_or(false);
        return listens
            .then_some(Passed::Tcp(socket))
            .ok_or_else(not_listening);
    }
    let socket = passed.take_unix_listener(index).map_err(not_a_stream)?;
    let socket = socket.ok_or_else(not_listening)?;
    let listens = sockopt::socket_acceptconn(&socket).unwrap_or(false);
    listens
        .then_some(Passed::Unix(socket))
        .ok_or_else(not_listening)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_is_none_is_told_as_it_stands() {
        assert!(matches!(count(Some("2".to_owned())), Ok(2)));
        for text in ["", "0", "-1", "1025", "two", "99999999999999999999"] {
            let error = count(Some(text.to_owned()));
            assert!(
                matches!(&error, Err(PassedError::None { count }) if count.as_deref() == Some(text)),
                "{error:?}"
            );
        }
        let said = count(None).map_err(|error| error.to_string());
        assert!(said.is_err_and(|said| said.contains("LISTEN_FDS is not set")));
    }
}

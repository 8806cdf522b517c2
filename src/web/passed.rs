//! Sockets that systemd passes: `sd_listen_fds(3)`.
//!
//! The descriptors begin at 3; `LISTEN_FDS` says how many they are and `LISTEN_PID` whose. Taking
//! ownership of them, which needs unsafe code, is the listenfd crate's job; here is what it does not say.
//! A socket's file is removed by who made it, which is systemd.

use std::env;
use std::io;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

/// More than any unit has.
const MAX: usize = 1024;

/// The number of the first one.
const FIRST: usize = 3;

/// A TCP or Unix socket that listens.
#[derive(Debug)]
pub struct Passed(pub(super) OwnedFd);

/// Why there are no sockets to listen on.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// `LISTEN_FDS` is not set, or no number.
    #[error(
        "no socket activation file descriptors found: LISTEN_FDS is {0}; with --web.systemd-socket \
         the exporter is to be started by a .socket unit (systemctl enable --now NAME.socket)"
    )]
    None(String),
    /// `LISTEN_PID` is that of another process.
    #[error(
        "no socket activation file descriptors found: LISTEN_PID is {0}, and this process is {own}; \
         let ExecStart= start the exporter itself, or a shell with exec",
        own = std::process::id()
    )]
    NotOurs(String),
    /// One of them is not what is needed.
    #[error(
        "descriptor {0} of those that systemd passed is neither a TCP nor a Unix stream socket: name \
         it with ListenStream= in the .socket unit ({1})"
    )]
    NotAStream(usize, io::Error),
    /// One of them is a connection.
    #[error(
        "descriptor {0} of those that systemd passed does not listen: set Accept=no in the .socket \
         unit"
    )]
    NotListening(usize),
}

impl Passed {
    /// Takes all of them. To be called once, and before there are other threads that read the
    /// environment or open descriptors: the variables are removed.
    pub fn take_all() -> Result<Vec<Self>, PassedError> {
        let variable = |name| {
            env::var_os(name).map_or("not set".into(), |value| value.to_string_lossy().into())
        };
        let count = count(variable("LISTEN_FDS"))?;
        let pid = variable("LISTEN_PID");
        if pid.parse() != Ok(std::process::id()) {
            return Err(PassedError::NotOurs(pid));
        }
        let mut passed = ListenFd::from_env();
        (0..count).map(|index| take(&mut passed, index)).collect()
    }
}

fn count(variable: String) -> Result<usize, PassedError> {
    match variable.parse() {
        Ok(count @ 1..=MAX) => Ok(count),
        _ => Err(PassedError::None(variable)),
    }
}

fn take(passed: &mut ListenFd, index: usize) -> Result<Passed, PassedError> {
    let number = FIRST.saturating_add(index);
    let socket = match passed.take_tcp_listener(index) {
        Ok(socket) => socket.map(OwnedFd::from),
        Err(_) => passed
            .take_unix_listener(index)
            .map_err(|source| PassedError::NotAStream(number, source))?
            .map(OwnedFd::from),
    };
    socket
        .filter(|socket| socket_acceptconn(socket).unwrap_or(false))
        .map(Passed)
        .ok_or(PassedError::NotListening(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_is_none_is_quoted_as_it_is() {
        assert!(matches!(count("2".to_owned()), Ok(2)));
        for text in ["", "0", "-1", "1025", "two", "99999999999999999999"] {
            let error = count(text.to_owned());
            assert!(
                matches!(&error, Err(PassedError::None(count)) if count == text),
                "{error:?}"
            );
        }
    }
}

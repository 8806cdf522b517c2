//! Sockets that systemd passes: `sd_listen_fds(3)`.
//!
//! The descriptors begin at 3; `LISTEN_FDS` says how many they are and `LISTEN_PID` whose. Taking
//! ownership of them, which needs unsafe code, is the listenfd crate's job; here is what it does not say.
//! A socket's file is removed by who made it, which is systemd.

use std::env;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

/// More than any unit has.
const MAX: usize = 1024;

/// The number of the first one.
const FIRST: usize = 3;

/// A TCP or Unix socket that listens.
#[derive(Debug)]
pub(crate) struct Passed(pub(super) OwnedFd);

impl Passed {
    /// Takes all of them. To be called once, and before there are other threads that read the
    /// environment or open descriptors: the variables are removed.
    pub(crate) fn take_all() -> Result<Vec<Self>, String> {
        let variable = |name| -> String {
            env::var_os(name).map_or("not set".into(), |value| value.to_string_lossy().into())
        };
        let [count, pid] = ["LISTEN_FDS", "LISTEN_PID"].map(variable);
        let count = self::count(&count, &pid, std::process::id())?;
        let mut passed = ListenFd::from_env();
        (0..count).map(|index| take(&mut passed, index)).collect()
    }
}

fn count(count: &str, pid: &str, own: u32) -> Result<usize, String> {
    let number = count.parse().unwrap_or_default();
    if (1..=MAX).contains(&number) && pid.parse() == Ok(own) {
        return Ok(number);
    }
    Err(format!(
        "no socket activation file descriptors found: LISTEN_FDS is {count}; LISTEN_PID is {pid}, and \
         this process is {own}; with --web.systemd-socket the exporter is to be started by a .socket \
         unit (systemctl enable --now NAME.socket), and ExecStart= starts it itself, or a shell with exec"
    ))
}

fn take(passed: &mut ListenFd, index: usize) -> Result<Passed, String> {
    let wrong = |reason: &str| {
        let number = FIRST.saturating_add(index);
        format!("descriptor {number} of those that systemd passed {reason} in the .socket unit")
    };
    let socket = match passed.take_tcp_listener(index) {
        Ok(socket) => socket.map(OwnedFd::from),
        Err(_) => passed
            .take_unix_listener(index)
            .map_err(|_| {
                wrong("is neither a TCP nor a Unix stream socket: name it with ListenStream=")
            })?
            .map(OwnedFd::from),
    };
    socket
        .filter(|socket| socket_acceptconn(socket).unwrap_or(false))
        .map(Passed)
        .ok_or_else(|| wrong("does not listen: set Accept=no"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_count_is_quoted() {
        let count = |text| count(text, "7", 7);
        assert!(matches!(count("2"), Ok(2)));
        for text in ["", "0", "-1", "1025", "two", "99999999999999999999"] {
            let said = count(text);
            let expected = format!("LISTEN_FDS is {text};");
            assert!(said.is_err_and(|said| said.contains(&expected)), "{text}");
        }
    }
}

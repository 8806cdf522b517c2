//! The signals that end the program, and those that must not.
//!
//! They are received on a thread of their own, not by tokio's handler: a handler can only pass a signal
//! on by writing to a socket, which is sendto(), and under a system call filter without sendto() SIGTERM
//! would be lost silently. So no thread may receive them otherwise: they are blocked before there is a
//! second thread, and threads inherit that. To block SIGHUP and SIGXFSZ is to ignore them; an action
//! cannot be set in safe Rust. SIGPIPE is ignored by Rust's own start-up code.

use std::io;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::mpsc;

/// The first signal begins the shutdown, the second one ends it; further ones change nothing.
const WAITING: usize = 2;

/// A limit on memory (RLIMIT_DATA) counts all of it.
const STACK_BYTES: usize = 128 * 1024;

/// For a server, keeps the signals of [`Signals`] from ending the program by themselves. For every
/// command, keeps a file size limit from doing so: the write fails with EFBIG instead. Call it before
/// there are other threads.
pub fn block(is_server: bool) -> io::Result<()> {
    let mut blocked = SigSet::from(Signal::SIGXFSZ);
    if is_server {
        blocked.extend(&received());
    }
    Ok(blocked.thread_block()?)
}

fn received() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
}

/// SIGTERM and SIGINT, as they arrive.
#[derive(Debug)]
pub(super) struct Signals {
    arrived: mpsc::Receiver<Signal>,
}

impl Signals {
    /// Starts to receive them. They must be blocked in all threads.
    pub(super) fn receive() -> io::Result<Self> {
        let (sender, arrived) = mpsc::channel(WAITING);
        thread::Builder::new()
            .name("signals".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let signals = received();
                // Fails only for signals that do not exist.
                while let Ok(signal) = signals.wait() {
                    if signal == Signal::SIGHUP {
                        tracing::info!(
                            "Ignored SIGHUP: the web configuration is re-read on every request, other settings at start"
                        );
                    } else {
                        let _one_too_many = sender.try_send(signal);
                    }
                }
            })?;
        Ok(Self { arrived })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        match self.arrived.recv().await {
            Some(signal) => signal.as_str(),
            None => std::future::pending().await,
        }
    }
}

//! The signals that end the program.
//!
//! They are waited for on a thread of their own, not caught by a handler: a handler can only pass a
//! signal on by writing to a descriptor, tokio's does so with sendto(), and where a system call filter
//! forbids that the signal would be lost without a word. No thread may take them, then, so they are to
//! be blocked before there is a second one, which inherits that.

use std::io;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::mpsc;

/// More than two are not told apart.
const WAITING: usize = 2;

/// Keeps the signals from ending the program by themselves. To be called before there are threads, and
/// only where [`Signals`] are waited for: the program cannot be ended by them otherwise.
pub fn block() -> io::Result<()> {
    Ok(signals().thread_block()?)
}

fn signals() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT])
}

/// The signals that come.
#[derive(Debug)]
pub(super) struct Signals {
    coming: mpsc::Receiver<Signal>,
}

impl Signals {
    /// Begins to wait for them. They must be blocked in all threads.
    pub(super) fn receive() -> io::Result<Self> {
        let (came, coming) = mpsc::channel(WAITING);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let signals = signals();
                // Fails for signals that do not exist, only.
                while let Ok(signal) = signals.wait() {
                    let _one_too_many = came.try_send(signal);
                }
            })?;
        Ok(Self { coming })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        match self.coming.recv().await {
            Some(signal) => signal.as_str(),
            None => std::future::pending().await,
        }
    }
}

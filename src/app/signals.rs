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
use tokio::sync::oneshot;

/// A limit on memory (RLIMIT_DATA) counts all of it.
const STACK_BYTES: usize = 128 * 1024;

/// For a server, keeps the signals of [`receive`] from ending the program by themselves. For every
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

/// Starts to receive SIGTERM and SIGINT, which must be blocked in all threads: the names of the first one,
/// which begins the shutdown, and of the second one, which ends it.
pub(super) fn receive() -> io::Result<[oneshot::Receiver<&'static str>; 2]> {
    let (first_sender, first) = oneshot::channel();
    let (second_sender, second) = oneshot::channel();
    thread::Builder::new()
        .name("signals".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let signals = received();
            let mut senders = [first_sender, second_sender].into_iter();
            // Fails only for signals that do not exist.
            while let Ok(signal) = signals.wait() {
                if signal == Signal::SIGHUP {
                    tracing::info!(
                        "Ignored SIGHUP: the web configuration is re-read on every request, other settings at start"
                    );
                } else if let Some(sender) = senders.next() {
                    let _ended = sender.send(signal.as_str());
                }
            }
        })?;
    Ok([first, second])
}

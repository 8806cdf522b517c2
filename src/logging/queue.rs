//! The queue between those who log and the thread that writes.
//!
//! Knows nothing of what a line says.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that may wait to be written. At a few hundred bytes a line this bounds the queue to less
/// than half a megabyte.
const CAPACITY: usize = 1024;

/// A limit on memory (RLIMIT_DATA) counts all of it.
const STACK_BYTES: usize = 128 * 1024;

/// How often the end of the program checks whether a full queue has room again.
const FLUSH_POLL: Duration = Duration::from_millis(5);

#[derive(Debug)]
enum Message {
    Line(String),
    /// Everything before this is written: say so.
    Flush(SyncSender<()>),
}

/// The end that lines are put into.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    messages: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    /// Starts the thread that writes. It ends with the last clone of the queue.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (messages, receiver) = mpsc::sync_channel(CAPACITY);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        thread::Builder::new()
            .name("log".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || write_all(&receiver, &counter, output))?;
        Ok(Self { messages, dropped })
    }

    /// Puts a line, with its newline, into the queue; drops and counts it when the queue is full.
    pub(super) fn push(&self, line: String) {
        if self.messages.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines so far are written, but not longer than this.
    pub(super) fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let (written, wait) = mpsc::sync_channel(1);
        let mut message = Message::Flush(written);
        loop {
            message = match self.messages.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => back,
                Err(_) => return,
            };
            #[expect(
                clippy::disallowed_methods,
                reason = "a bounded channel does not report room"
            )]
            thread::sleep(FLUSH_POLL);
        }
        // A timeout means that stderr is not read.
        let _timeout = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn write_all(receiver: &Receiver<Message>, dropped: &AtomicU64, mut output: impl Write) {
    while let Ok(message) = receiver.recv() {
        match message {
            // A closed pipe is no reason to end: metrics are still exported.
            Message::Line(line) => drop(output.write_all(line.as_bytes())),
            Message::Flush(written) => drop(written.send(())),
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            // Goes through the front door, so that it has the log's format.
            tracing::warn!(lines = lost, "Log lines were dropped: stderr was not read");
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// An output that waits for permission before each line.
    struct Gated {
        permits: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_never_time() {
        let (permit, permits) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let output = Gated {
            permits,
            written: Arc::clone(&written),
        };
        let queue = Queue::start(output).unwrap();
        for _ in 0..CAPACITY + 10 {
            queue.push("x\n".to_owned());
        }
        // The thread may have taken one line already.
        let dropped = queue.dropped.load(Ordering::Relaxed);
        assert!((9..=10).contains(&dropped), "{dropped}");
        queue.flush(Duration::from_millis(1));
        for _ in 0..=CAPACITY {
            permit.send(()).unwrap();
        }
        queue.flush(Duration::from_secs(60));
        let lines = written.lock().unwrap().len() / 2;
        assert!((CAPACITY..=CAPACITY + 1).contains(&lines), "{lines}");
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_closed_pipe_is_outlived() {
        let (permit, permits) = mpsc::channel();
        drop(permit);
        let output = Gated {
            permits,
            written: Arc::default(),
        };
        let queue = Queue::start(output).unwrap();
        queue.push("x\n".to_owned());
        queue.push("y\n".to_owned());
        queue.flush(Duration::from_secs(60));
        let (done, wait) = mpsc::sync_channel(1);
        queue.messages.try_send(Message::Flush(done)).unwrap();
        wait.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}

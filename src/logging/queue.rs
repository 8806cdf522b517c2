//! The queue between those who log and the thread that writes.
//!
//! Knows nothing of what a line says.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that may wait to be written. At a few hundred bytes a line this bounds the queue to less
/// than half a megabyte.
const CAPACITY: usize = 1024;

/// A limit on memory (RLIMIT_DATA) counts all of it.
const STACK_BYTES: usize = 128 * 1024;

/// How often the end of the program checks whether all is written.
const FLUSH_POLL: Duration = Duration::from_millis(5);

/// The end that lines are put into.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    lines: SyncSender<String>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Lines in the queue, and the one that is being written.
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

impl Queue {
    /// Starts the thread that writes. It ends with the last clone of the queue.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, receiver) = mpsc::sync_channel(CAPACITY);
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        thread::Builder::new()
            .name("log".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || write_all(&receiver, &shared, output))?;
        Ok(Self { lines, counts })
    }

    /// Puts a line, with its newline, into the queue; drops and counts it when the queue is full.
    pub(super) fn push(&self, line: String) {
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        if self.lines.try_send(line).is_err() {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines so far are written, but not longer than this: stderr may not be read.
    pub(super) fn flush(&self, timeout: Duration) {
        let begin = Instant::now();
        while self.counts.waiting.load(Ordering::Acquire) > 0 && begin.elapsed() < timeout {
            #[expect(clippy::disallowed_methods, reason = "the end of the program waits")]
            thread::sleep(FLUSH_POLL);
        }
    }
}

fn write_all(receiver: &Receiver<String>, counts: &Counts, mut output: impl Write) {
    while let Ok(line) = receiver.recv() {
        // A closed pipe is no reason to end: metrics are still exported.
        drop(output.write_all(line.as_bytes()));
        let lost = counts.dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            // Goes through the front door, so that it has the log's format.
            tracing::warn!(lines = lost, "Log lines were dropped: stderr was not read");
        }
        counts.waiting.fetch_sub(1, Ordering::Release);
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
    fn a_stalled_reader_costs_lines_but_never_blocks() {
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
        let dropped = queue.counts.dropped.load(Ordering::Relaxed);
        assert!((9..=10).contains(&dropped), "{dropped}");
        queue.flush(Duration::from_millis(1));
        for _ in 0..=CAPACITY {
            permit.send(()).unwrap();
        }
        queue.flush(Duration::from_secs(60));
        let lines = written.lock().unwrap().len() / 2;
        assert!((CAPACITY..=CAPACITY + 1).contains(&lines), "{lines}");
        assert_eq!(queue.counts.dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn it_survives_a_closed_pipe() {
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
        assert_eq!(queue.counts.waiting.load(Ordering::Relaxed), 0);
    }
}

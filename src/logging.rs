//! The program's log: one line an event, to stderr.
//!
//! **Invariant:** logging never blocks. A line is handed to a thread of its own through a bounded
//! queue; when stderr is a pipe that nobody reads, that thread waits and later lines are dropped and
//! counted, while scrapes go on being answered. Writes no files and rotates nothing.

mod format;
mod queue;

use std::io;
use std::time::{Duration, SystemTime};

use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::config::{LogConfig, LogFormat};

use queue::Queue;

/// How long the end of the program waits for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The running log, which turns events into lines and puts them into the queue.
#[derive(Clone, Debug)]
pub struct Log {
    format: LogFormat,
    queue: Queue,
}

impl Log {
    /// Starts the log for the whole process; panics go there too, for the usual hook would wait for
    /// stderr.
    ///
    /// # Errors
    /// The system provides no thread, or the process has a log already.
    pub fn start(config: LogConfig) -> io::Result<Self> {
        let log = Self {
            format: config.format,
            queue: Queue::start(io::stderr())?,
        };
        let subscriber = tracing_subscriber::registry()
            .with(config.level)
            .with(log.clone());
        tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
        std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panicked")));
        Ok(log)
    }

    /// Waits until every line so far is written, or for a second if nobody reads them.
    pub fn flush(&self) {
        self.queue.flush(FLUSH_TIMEOUT);
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        #[expect(clippy::disallowed_methods, reason = "people want to know when")]
        let line = format::line(self.format, SystemTime::now(), event);
        self.queue.push(line);
    }
}

//! The program's log: one line an event, to stderr.
//!
//! **Invariant:** whoever logs never waits. A line is handed to a thread of its own through a bounded
//! queue; when stderr is a pipe that nobody reads, that thread waits and later lines are dropped and
//! counted, while scrapes go on being answered. Writes no files and rotates nothing.

mod format;
mod queue;

use std::time::{Duration, SystemTime};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::SetGlobalDefaultError;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::config::{LogConfig, LogFormat, LogLevel};

use queue::Queue;

/// How long the program's end waits for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system gave no thread for the writer.
    #[error("cannot start the thread that writes the log: {source}")]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },
    /// The process has a log already.
    #[error("the log was started twice")]
    Twice {
        /// What tracing said.
        source: SetGlobalDefaultError,
    },
}

/// The running log.
#[derive(Debug)]
pub struct Log {
    queue: Queue,
}

impl Log {
    /// Starts the log for the whole process; panics go there too, for the usual hook would wait for
    /// stderr.
    pub fn start(config: LogConfig) -> Result<Self, LogError> {
        let queue =
            Queue::start(std::io::stderr()).map_err(|source| LogError::Thread { source })?;
        let layer = Lines {
            format: config.format,
            queue: queue.clone(),
        };
        let subscriber = tracing_subscriber::registry().with(layer.with_filter_level(config.level));
        tracing::subscriber::set_global_default(subscriber)
            .map_err(|source| LogError::Twice { source })?;
        std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panicked")));
        Ok(Self { queue })
    }

    /// Waits until every line so far is written, or for a second if nobody reads them.
    pub fn flush(&self) {
        self.queue.flush(FLUSH_TIMEOUT);
    }
}

/// Turns events into lines and puts them into the queue.
#[derive(Debug)]
struct Lines {
    format: LogFormat,
    queue: Queue,
}

/// Lines of at least one level; a filter for each layer would want the `env-filter` machinery.
#[derive(Debug)]
struct Filtered {
    lines: Lines,
    level: LevelFilter,
}

impl Lines {
    const fn with_filter_level(self, level: LogLevel) -> Filtered {
        let level = match level {
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error => LevelFilter::ERROR,
        };
        Filtered { lines: self, level }
    }
}

impl<S: Subscriber> Layer<S> for Filtered {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        #[expect(clippy::disallowed_methods, reason = "people want to know when")]
        let line = format::line(self.lines.format, SystemTime::now(), event);
        self.lines.queue.push(line);
    }
}

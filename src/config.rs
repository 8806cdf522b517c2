//! What the program needs to know before it starts, whoever said it.
//!
//! Values that must keep a form (an address to listen on, a path) are types here, so that the rest
//! of the program need not doubt them. Knows nothing of flags and of environment variables: see
//! [`crate::cli`].

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::collector::CollectorConfig;
use crate::report::check::Thresholds;
use crate::web::ListenAddress;

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to do.
    pub command: Command,
    /// The HTTP server.
    pub web: WebConfig,
    /// The figures.
    pub collector: CollectorConfig,
    /// The log.
    pub log: LogConfig,
}

/// What the program is to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command {
    /// Serve metrics until it is ended.
    Serve,
    /// Tell what is wrong on this host.
    Report(ReportConfig),
    /// Say how full the port range is.
    Check(CheckConfig),
    /// Ask the server with this configuration whether it is alive.
    Healthcheck,
}

/// What `report` needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportConfig {
    /// How to tell it.
    pub format: ReportFormat,
    /// How long to wait before the next look; `None` for one look.
    pub watch: Option<Duration>,
    /// Whether to look for processes that hold sockets.
    pub processes: bool,
    /// How long one look may take.
    pub timeout: Duration,
}

/// How a report is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: src/report/report.schema.json.
    Json,
}

/// What `check` needs to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckConfig {
    /// From which ratio on the state is what.
    pub thresholds: Thresholds,
    /// How long it may take.
    pub timeout: Duration,
}

/// What the HTTP server needs to know.
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// Where to listen, at least one; of no use with `systemd_socket`.
    pub listen_addresses: Vec<ListenAddress>,
    /// Whether to listen on the sockets that systemd passes instead.
    pub systemd_socket: bool,
    /// Where the metrics are told.
    pub telemetry_path: TelemetryPath,
    /// How many scrapes may be under way at once; `None` for no limit.
    pub max_requests: Option<NonZeroUsize>,
    /// Whether the exporter tells about itself.
    pub exporter_metrics: bool,
    /// What is asked of clients, if anything; see [`crate::web::config`].
    pub config_file: Option<PathBuf>,
}

/// What the log needs to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// The least grave lines that are written.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// How grave a log line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// What each connection and request did.
    Debug,
    /// Start, end, and what changed.
    #[default]
    Info,
    /// Something an operator should look at.
    Warn,
    /// Something does not work.
    Error,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `key=value`, as the Go exporters write it.
    #[default]
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// The path under which the metrics are told.
///
/// **Invariant:** begins with a slash, has only characters that a URL path holds as they are, and
/// is none of the other routes' but perhaps `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryPath(String);

/// Why a text is no path for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryPathError {
    /// It does not begin with a slash.
    #[error("a path begins with a slash, as in \"/metrics\"")]
    NoSlash,
    /// It has a character that would have to be escaped, or that ends a path.
    #[error("{character:?} cannot stand in the path: use letters, digits and any of -._~/:@+,;=")]
    BadCharacter {
        /// The first such character.
        character: char,
    },
    /// Something else is told there.
    #[error("this path is the exporter's own for something else: choose another")]
    Taken,
}

impl TelemetryPath {
    /// The path, with its slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TelemetryPath {
    type Err = TelemetryPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.starts_with('/') {
            return Err(TelemetryPathError::NoSlash);
        }
        let is_good = |c: &char| c.is_ascii_alphanumeric() || "-._~/:@+,;=".contains(*c);
        if let Some(character) = text.chars().find(|c| !is_good(c)) {
            return Err(TelemetryPathError::BadCharacter { character });
        }
        // All of /-/ and /api/ is kept free for what later versions tell there.
        if text.starts_with("/-/") || text.starts_with("/api/") {
            return Err(TelemetryPathError::Taken);
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn telemetry_paths_stay_out_of_the_way_of_other_routes() {
        use TelemetryPathError as E;
        let path = |text: &str| text.parse::<TelemetryPath>();
        for good in ["/metrics", "/", "/a/b-c.d~e", "/-metrics", "/apimetrics"] {
            assert_eq!(path(good).unwrap().as_str(), good);
        }
        assert_eq!(path("metrics"), Err(E::NoSlash));
        assert_eq!(path(""), Err(E::NoSlash));
        assert_eq!(path("/a?b"), Err(E::BadCharacter { character: '?' }));
        assert_eq!(path("/ä"), Err(E::BadCharacter { character: 'ä' }));
        assert_eq!(path("/<x"), Err(E::BadCharacter { character: '<' }));
        assert_eq!(path("/-/healthy"), Err(E::Taken));
        assert_eq!(path("/api/v1/report"), Err(E::Taken));
    }
}

//! What the program has to know before it starts.
//!
//! Values that must keep a form are types here, so that the rest of the program need not check them.
//! What has the shape of its flags derives them; [`crate::cli`] has the others, and the environment.

use std::path::PathBuf;
use std::time::Duration;

use crate::collector::CollectorConfig;
use crate::domain::advice::thresholds::{RATIO_CRITICAL, RATIO_WARNING};
use crate::web::ListenAddress;

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// `None` serves metrics.
    pub command: Option<Command>,
    /// The HTTP server.
    pub web: WebConfig,
    /// Which metrics to collect, and how.
    pub collector: CollectorConfig,
    /// The log.
    pub log: LogConfig,
}

/// A subcommand.
#[derive(Clone, Copy, Debug, PartialEq, clap::Subcommand)]
pub enum Command {
    /// Print what is wrong on this host, where, and what helps. Starts no server
    Report(ReportConfig),
    /// Print the state of the port range in one line, with the exit status of a monitoring plugin: 0 OK,
    /// 1 WARNING, 2 CRITICAL, 3 UNKNOWN (also for wrong usage)
    Check(CheckConfig),
    /// Ask the server with these flags or environment variables whether it is alive; print nothing if it
    /// is. For a container's health check
    Healthcheck,
}

/// The flags of `report`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct ReportConfig {
    /// Output format
    // The log has a flag with this name in its own group.
    #[arg(
        id = "report.format",
        long = "format",
        value_name = "FORMAT",
        value_enum,
        default_value = "text"
    )]
    pub(crate) format: ReportFormat,

    /// Repeat the report at this interval and show what has changed. With json, one line each time
    #[arg(long, value_name = "SECONDS", value_parser = interval)]
    pub(crate) watch: Option<Duration>,

    /// Do not look up the processes with live sockets to the destinations with the highest ratio
    #[arg(long, value_parser = boolean)]
    pub(crate) no_processes: bool,

    /// Time limit of one report
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = timeout)]
    pub(crate) timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people
    Text,
    /// For programs, as report.schema.json describes it
    Json,
}

/// The flags of `check`.
#[derive(Clone, Copy, Debug, PartialEq, clap::Args)]
pub struct CheckConfig {
    /// WARNING at or above this exhaustion ratio of a destination: 0 to 1, or a percentage as in "75%"
    #[arg(short, long, value_name = "RATIO", default_value_t = RATIO_WARNING, value_parser = ratio)]
    pub(crate) warning: f64,

    /// CRITICAL at or above this ratio
    #[arg(short, long, value_name = "RATIO", default_value_t = RATIO_CRITICAL, value_parser = ratio)]
    pub(crate) critical: f64,

    /// Time limit; UNKNOWN when it is exceeded
    #[arg(short, long, value_name = "SECONDS", default_value = "10", value_parser = timeout)]
    pub(crate) timeout: Duration,
}

/// What the HTTP server has to know.
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// At least one; unused with `systemd_socket`.
    pub listen_addresses: Vec<ListenAddress>,
    /// Whether to listen on the sockets that systemd passes instead.
    pub(crate) systemd_socket: bool,
    /// Where the metrics are exported.
    pub(crate) telemetry_path: String,
    /// Maximum number of parallel scrapes; 0 for no limit.
    pub(crate) max_requests: usize,
    /// Whether not to export `promhttp_*` and `process_*`.
    pub(crate) disable_exporter_metrics: bool,
    /// See [`crate::web::config`].
    pub config_file: Option<PathBuf>,
}

/// The flags of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Log (to stderr)")]
pub struct LogConfig {
    /// Minimum level to log
    #[arg(
        long = "log.level",
        value_name = "LEVEL",
        value_enum,
        default_value = "info"
    )]
    pub(crate) level: LogLevel,

    /// Output format of log messages
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        value_enum,
        default_value = "logfmt"
    )]
    pub(crate) format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogLevel {
    /// Every connection and request
    Debug,
    /// Start, end, and changes
    Info,
    /// What an operator should look at
    Warn,
    /// What does not work
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// key=value, as the Go exporters write it
    Logfmt,
    /// One JSON object per line
    Json,
}

/// What the environment variable of a flag without a value contains.
pub(crate) fn boolean(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("write true or false"),
    }
}

/// A number from 0 to 1.
fn ratio(text: &str) -> Result<f64, &'static str> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let ratio = number.parse::<f64>().map(|number| number / unit).ok();
    ratio
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or("a ratio is a number from 0 to 1, or a percentage as in \"75%\"")
}

/// Seconds, or a duration with its unit as in `5m`.
fn duration(text: &str) -> Option<Duration> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    }
}

fn interval(text: &str) -> Result<Duration, &'static str> {
    duration(text)
        .filter(|time| (Duration::from_millis(500)..=Duration::from_secs(86_400)).contains(time))
        .ok_or("write seconds from 0.5 to 86400, or a duration as in 5m")
}

pub(crate) fn max_age(text: &str) -> Result<Duration, &'static str> {
    duration(text)
        .filter(|time| *time <= Duration::from_secs(86_400))
        .ok_or("write seconds from 0 to 86400, or a duration as in 5m")
}

fn timeout(text: &str) -> Result<Duration, &'static str> {
    duration(text)
        .filter(|time| (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(time))
        .ok_or("write seconds from 0.1 to 3600, or a duration as in 5m")
}

/// A path that begins with a slash, contains only characters that a URL path may contain unescaped, and is
/// no other route's, except perhaps `/`.
pub(crate) fn telemetry_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("a path begins with a slash, as in \"/metrics\"".to_owned());
    }
    let is_good = |c: &char| c.is_ascii_alphanumeric() || "-._~/:@+,;=".contains(*c);
    if let Some(bad) = text.chars().find(|c| !is_good(c)) {
        return Err(format!(
            "{bad:?} cannot stand in the path: use letters, digits and any of -._~/:@+,;="
        ));
    }
    // All of /-/ and /api/ is reserved for later versions.
    if text.starts_with("/-/") || text.starts_with("/api/") {
        return Err("this path is reserved by the exporter: choose another".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn telemetry_paths_stay_out_of_the_way_of_other_routes() {
        for good in ["/metrics", "/", "/a/b-c.d~e", "/-metrics", "/apimetrics"] {
            assert_eq!(telemetry_path(good).unwrap(), good);
        }
        for (bad, says) in [
            ("metrics", "begins with a slash"),
            ("", "begins with a slash"),
            ("/a?b", "'?' cannot"),
            ("/ä", "'ä' cannot"),
            ("/<x", "'<' cannot"),
            ("/-/healthy", "reserved"),
            ("/api/v1/report", "reserved"),
        ] {
            let error = telemetry_path(bad).unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        assert_eq!(timeout("2.5"), Ok(Duration::from_millis(2_500)));
        assert_eq!(timeout("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(interval("1h"), Ok(Duration::from_secs(3_600)));
        for wrong in ["", "0", "-1", "nan", "inf", "2x", "2h", "1e300"] {
            assert!(timeout(wrong).is_err(), "{wrong}");
        }
    }
}

//! What the program has to know before it starts, in the shape of its flags: [`crate::cli`] reads them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgAction;
use clap::builder::{
    PathBufValueParser, PossibleValue, PossibleValuesParser, TypedValueParser as _,
};
use tracing::level_filters::LevelFilter;

use crate::build_info::BUILD;
use crate::collector::{NamespaceChoice, SourceChoice};
use crate::domain::advice::thresholds::{RATIO_CRITICAL, RATIO_WARNING};
use crate::domain::collectors::Enabled;
use crate::domain::options::CensusOptions;
use crate::web::ListenAddress;

const AFTER_HELP: &str = "\
Environment:
  Each flag has an environment variable: TIMEWAIT_EXPORTER_ and the flag's name
  in capitals, with '_' for '.' and '-': TIMEWAIT_EXPORTER_WEB_LISTEN_ADDRESS.
  For the flags of one command the command's name comes first:
  TIMEWAIT_EXPORTER_REPORT_FORMAT. A flag takes precedence; an empty variable
  counts as unset. For a repeatable flag the variable holds several values
  separated by spaces, for a flag without a value true or false.

Exit status:
  0 success, or ended by SIGTERM or SIGINT; 1 failure while running; 2 wrong
  usage. check: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN or wrong usage.";

/// `--version` shall begin "timewait_exporter, version", as the Go exporters' does, and clap writes the
/// name, a space and the version.
const VERSION_NAME: &str = "timewait_exporter,";

/// What `--version` prints after the program's name, in the form of the Go exporters.
fn version() -> String {
    format!(
        "version {} (revision: {})\n  rust version:     {}\n  platform:         {}\n",
        BUILD.version, BUILD.revision, BUILD.rustversion, BUILD.target,
    )
}

/// Prometheus exporter for TIME-WAIT sockets and ephemeral port exhaustion
#[derive(Clone, Debug, clap::Parser)]
#[command(
    display_name = VERSION_NAME,
    version = version(),
    disable_version_flag = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    subcommand_help_heading = "Commands (default: serve metrics)",
    after_help = AFTER_HELP,
    max_term_width = 80,
)]
pub struct Config {
    /// `None` serves metrics.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The HTTP server.
    #[command(flatten)]
    pub web: WebConfig,
    /// Which metrics to collect, and how.
    #[command(flatten)]
    pub collector: CollectorConfig,
    /// The log.
    #[command(flatten)]
    pub log: LogConfig,
    /// Show the version and exit
    #[arg(long, help_heading = "Other", action = ArgAction::Version)]
    version: Option<bool>,
    /// Show this help and exit
    #[arg(short, long, global = true, help_heading = "Other", action = ArgAction::Help)]
    help: Option<bool>,
}

/// A subcommand.
#[derive(Clone, Copy, Debug, PartialEq, clap::Subcommand)]
pub enum Command {
    /// Print what is wrong on this host, where, and what helps. Starts no server
    Report(ReportConfig),
    /// Print the state of the port range in one line, with the exit status of a monitoring plugin: 0 OK,
    /// 1 WARNING, 2 CRITICAL, 3 UNKNOWN (also for wrong usage)
    #[command(display_name = VERSION_NAME, version = version())]
    Check(CheckConfig),
    /// Ask the server with these flags or environment variables whether it is alive; print nothing if it
    /// is. For a container's health check
    Healthcheck,
}

/// The flags of `report`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct ReportConfig {
    /// Output format
    #[arg(long = "format", value_name = "FORMAT", default_value = "text")]
    pub(crate) output: ReportFormat,

    /// Repeat the report at this interval and show what has changed. With json, one line each time
    #[arg(long, value_name = "SECONDS", value_parser = duration(0.5, 86_400.0))]
    pub(crate) watch: Option<Duration>,

    /// Do not look up the processes with live sockets to the destinations with the highest ratio
    #[arg(long)]
    pub(crate) no_processes: bool,

    /// Time limit of one report
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = duration(0.1, 3_600.0))]
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
    #[arg(short, long, value_name = "SECONDS", default_value = "10", value_parser = duration(0.1, 3_600.0))]
    pub(crate) timeout: Duration,

    /// Show the version and exit
    // As monitoring plugins have it.
    #[arg(id = "check.version", short = 'V', long = "version", help_heading = "Other", action = ArgAction::Version)]
    version: Option<bool>,
}

/// The flags of the HTTP server.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Web")]
pub struct WebConfig {
    /// Address to listen on: ":PORT" for all addresses of both families, "HOST:PORT", "[IPV6]:PORT", or
    /// "unix:/PATH". Port 0 is any free port. Repeatable
    #[allow(
        rustdoc::broken_intra_doc_links,
        reason = "brackets of the help text are no links"
    )]
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = ":10072"
    )]
    pub listen_addresses: Vec<ListenAddress>,

    /// Listen on the sockets that systemd passes (a .socket unit) instead of the addresses
    #[arg(long = "web.systemd-socket")]
    pub(crate) systemd_socket: bool,

    /// Path under which to expose metrics
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        default_value = "/metrics",
        value_parser = telemetry_path,
    )]
    pub(crate) telemetry_path: String,

    /// Maximum number of parallel scrapes; further ones are answered with 503. 0 disables the limit
    #[arg(long = "web.max-requests", value_name = "N", default_value = "40", value_parser = number(0, 1_000_000))]
    pub(crate) max_requests: usize,

    /// Exclude metrics about the exporter itself (promhttp_*, process_*)
    #[arg(long = "web.disable-exporter-metrics")]
    pub(crate) disable_exporter_metrics: bool,

    /// Configuration file with TLS, users, headers and a rate limit, in the format of the Go exporters;
    /// re-read on every request
    // Not a path to clap, which takes no empty one.
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub config_file: Option<OsString>,
}

/// The flags of the collectors.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Collection")]
pub struct CollectorConfig {
    /// Where to read sockets from; auto is netlink, or procfs where netlink cannot be used
    #[arg(long = "collector.source", default_value = "auto")]
    pub source: SourceChoice,

    /// What is exported of the sockets.
    #[command(flatten)]
    pub census: CensusOptions,

    /// Network namespaces to export in addition to the exporter's: self (none), named (those in
    /// --path.netns), all (also those of processes), or names separated by commas. named needs
    /// CAP_SYS_ADMIN, all also CAP_SYS_PTRACE
    #[arg(long = "collector.netns", value_name = "WHICH", default_value = "self")]
    pub namespaces: NamespaceChoice,

    /// Maximum number of other namespaces to export; those with the highest exhaustion ratio are kept.
    /// 1 to 10000
    #[arg(
        long = "collector.netns-max",
        value_name = "N",
        default_value = "256",
        value_parser = number(1, 10_000),
    )]
    pub most_namespaces: usize,

    /// Maximum age of the socket metrics of other namespaces. Namespaces whose highest ratio can be 0.4 or
    /// more are read on every scrape; 0 reads all of them. Seconds up to 86400, or a duration as in 5m
    #[arg(
        long = "collector.netns-max-age",
        value_name = "AGE",
        default_value = "5m",
        value_parser = duration(0.0, 86_400.0),
    )]
    pub max_age: Duration,

    /// Directory with the names of network namespaces, see ip-netns(8)
    #[arg(long = "path.netns", value_name = "DIR", default_value = "/run/netns")]
    pub namespace_names: PathBuf,

    /// Mount point of procfs
    #[arg(
        long = "path.procfs",
        value_name = "DIR",
        default_value = "/proc",
        value_parser = PathBufValueParser::new().try_map(directory),
    )]
    pub procfs: PathBuf,

    /// Which collectors run.
    // After the breakdowns, whose flags it completes.
    #[command(flatten)]
    pub enabled: Enabled,
}

/// The flags of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Log (to stderr)")]
pub struct LogConfig {
    /// Minimum level to log
    #[arg(
        long = "log.level",
        default_value = "info",
        value_parser = PossibleValuesParser::new(levels()).try_map(|level| level.parse::<LevelFilter>()),
    )]
    pub(crate) level: LevelFilter,

    /// Output format of log messages
    #[arg(long = "log.format", default_value = "logfmt")]
    pub(crate) format: LogFormat,
}

fn levels() -> [PossibleValue; 4] {
    [
        ("debug", "Every connection and request"),
        ("info", "Start, end, and changes"),
        ("warn", "What an operator should look at"),
        ("error", "What does not work"),
    ]
    .map(|(level, help)| PossibleValue::new(level).help(help))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// key=value, as the Go exporters write it
    Logfmt,
    /// One JSON object per line
    Json,
}

/// A number within these bounds.
pub(crate) fn number(least: usize, most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| {
        let number = text.parse().ok();
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("write a number from {least} to {most}"))
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

/// Seconds within these bounds, or a duration with its unit as in `5m`.
fn duration(least: f64, most: f64) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let duration = match text.parse() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Err(_) => humantime::parse_duration(text).ok(),
        };
        duration
            .filter(|time| (least..=most).contains(&time.as_secs_f64()))
            .ok_or_else(|| format!("write seconds from {least} to {most}, or a duration as in 5m"))
    }
}

/// The mount point of a file system. Without it every file would be absent, and a mistyped path would
/// go unnoticed.
fn directory(path: PathBuf) -> Result<PathBuf, &'static str> {
    let found = path.is_dir().then_some(path);
    found.ok_or("there is no such directory")
}

/// A path that begins with a slash, contains only characters that a URL path may contain unescaped, and is
/// no other route's, except perhaps `/`.
fn telemetry_path(text: &str) -> Result<String, String> {
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
        let timeout = duration(0.1, 3_600.0);
        assert_eq!(timeout("2.5"), Ok(Duration::from_millis(2_500)));
        assert_eq!(timeout("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(
            duration(0.5, 86_400.0)("1h"),
            Ok(Duration::from_secs(3_600))
        );
        for wrong in ["", "0", "-1", "nan", "inf", "2x", "2h", "1e300"] {
            assert!(timeout(wrong).is_err(), "{wrong}");
        }
    }
}

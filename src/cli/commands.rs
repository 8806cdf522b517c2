//! The subcommands: what they are told, beyond the flags that all have.

use std::time::Duration;

use crate::config::{CheckConfig, Command, ReportConfig, ReportFormat};
use crate::report::check::Thresholds;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Look at this host once, and tell what is wrong, where, and what helps. No server
    Report(ReportFlags),
    /// Say in one line how full the port range is, with an exit status for monitoring: 0 OK,
    /// 1 WARNING, 2 CRITICAL, 3 UNKNOWN (also for wrong usage)
    Check(CheckFlags),
    /// Ask the server with these settings (flags before this word, or variables) whether it is
    /// alive, and say nothing if it is: for a container's health check
    Healthcheck,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReportFlags {
    /// How to tell it
    // The log has a flag with this name in its own group.
    #[arg(
        id = "report.format",
        long = "format",
        value_name = "FORMAT",
        value_enum,
        default_value = "text"
    )]
    format: ReportFormat,

    /// Look again and again, so many seconds apart, and tell what has changed. With json one line
    /// each time
    #[arg(long, value_name = "SECONDS", value_parser = watch)]
    watch: Option<Duration>,

    /// Do not look for the processes that hold live sockets to the fullest destinations
    #[arg(long)]
    no_processes: bool,

    /// How long one look may take
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = timeout)]
    timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckFlags {
    /// WARNING from this spent share of a destination's ports on: 0 to 1, or as in "75%"
    #[arg(long, value_name = "RATIO", default_value_t = Ratio(Thresholds::default().warning), value_parser = ratio)]
    warning: Ratio,

    /// CRITICAL from this share on
    #[arg(long, value_name = "RATIO", default_value_t = Ratio(Thresholds::default().critical), value_parser = ratio)]
    critical: Ratio,

    /// How long it may take; then it is UNKNOWN
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = timeout)]
    timeout: Duration,
}

/// Why the thresholds cannot be these.
const DISORDER: &str = "--warning must not be above --critical";

impl Subcommand {
    /// What it means, or what is wrong with several flags together.
    pub(super) fn into_command(self) -> Result<Command, &'static str> {
        match self {
            Self::Report(flags) => Ok(Command::Report(ReportConfig {
                format: flags.format,
                watch: flags.watch,
                processes: !flags.no_processes,
                timeout: flags.timeout,
            })),
            Self::Healthcheck => Ok(Command::Healthcheck),
            Self::Check(flags) if flags.warning.0 > flags.critical.0 => Err(DISORDER),
            Self::Check(flags) => Ok(Command::Check(CheckConfig {
                thresholds: Thresholds {
                    warning: flags.warning.0,
                    critical: flags.critical.0,
                },
                timeout: flags.timeout,
            })),
        }
    }
}

/// A share, 0 to 1.
#[derive(Clone, Copy, Debug)]
struct Ratio(f64);

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn ratio(text: &str) -> Result<Ratio, &'static str> {
    const BOUNDS: &str = "a ratio is a number from 0 to 1, or a percentage as in \"75%\"";
    let value = match text.strip_suffix('%') {
        Some(percent) => percent
            .trim_end()
            .parse::<f64>()
            .map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    let value = value.map_err(|_| BOUNDS)?;
    (0.0..=1.0)
        .contains(&value)
        .then_some(Ratio(value))
        .ok_or(BOUNDS)
}

fn seconds(text: &str, least: f64, most: f64) -> Option<Duration> {
    let value = text.parse::<f64>().ok()?;
    let is_within = (least..=most).contains(&value);
    is_within
        .then(|| Duration::try_from_secs_f64(value).ok())
        .flatten()
}

fn watch(text: &str) -> Result<Duration, &'static str> {
    seconds(text, 0.5, 86_400.0).ok_or("a number of seconds from 0.5 to 86400")
}

fn timeout(text: &str) -> Result<Duration, &'static str> {
    seconds(text, 0.1, 3_600.0).ok_or("a number of seconds from 0.1 to 3600")
}

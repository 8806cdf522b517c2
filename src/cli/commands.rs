//! The subcommands and the flags that only they have.

use std::time::Duration;

use super::values::{boolean, interval, ratio, timeout};
use crate::config::{CheckConfig, Command, ReportConfig, ReportFormat};
use crate::report::check::Thresholds;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Print what is wrong on this host, where, and what helps. Starts no server
    Report(ReportFlags),
    /// Print the state of the port range in one line, with the exit status of a monitoring plugin: 0 OK,
    /// 1 WARNING, 2 CRITICAL, 3 UNKNOWN (also for wrong usage)
    Check(CheckFlags),
    /// Ask the server with these settings (flags before this word, or environment variables) whether it
    /// is alive; print nothing if it is. For a container's health check
    Healthcheck,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReportFlags {
    /// Output format
    // The log has a flag with this name in its own group.
    #[arg(
        id = "report.format",
        long = "format",
        value_name = "FORMAT",
        value_enum,
        default_value = "text"
    )]
    format: ReportFormat,

    /// Repeat the report at this interval and show what has changed. With json, one line each time
    #[arg(long, value_name = "SECONDS", value_parser = interval)]
    watch: Option<Duration>,

    /// Do not look up the processes with live sockets to the destinations with the highest ratio
    #[arg(long, value_parser = boolean)]
    no_processes: bool,

    /// Time limit of one report
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = timeout)]
    timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckFlags {
    /// WARNING at or above this exhaustion ratio of a destination: 0 to 1, or a percentage as in "75%"
    #[arg(long, value_name = "RATIO", default_value_t = Thresholds::default().warning, value_parser = ratio)]
    warning: f64,

    /// CRITICAL at or above this ratio
    #[arg(long, value_name = "RATIO", default_value_t = Thresholds::default().critical, value_parser = ratio)]
    critical: f64,

    /// Time limit; UNKNOWN when it is exceeded
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = timeout)]
    timeout: Duration,
}

impl Subcommand {
    /// The command, or what is wrong with several flags together.
    pub(super) fn into_command(self) -> Result<Command, &'static str> {
        Ok(match self {
            Self::Report(flags) => Command::Report(ReportConfig {
                format: flags.format,
                watch: flags.watch,
                processes: !flags.no_processes,
                timeout: flags.timeout,
            }),
            Self::Healthcheck => Command::Healthcheck,
            Self::Check(flags) if flags.warning > flags.critical => {
                return Err("--warning must not be above --critical");
            }
            Self::Check(flags) => Command::Check(CheckConfig {
                thresholds: Thresholds {
                    warning: flags.warning,
                    critical: flags.critical,
                },
                timeout: flags.timeout,
            }),
        })
    }
}

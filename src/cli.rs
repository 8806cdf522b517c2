//! The command line and the environment, and their way into a [`Config`].
//!
//! Flags, then environment variables, then defaults. A variable's name follows from its flag's. Does not
//! print and does not end the program: the caller gets a [`clap::Error`] that says what is wrong, where,
//! and with which exit status.

mod environment;
mod switches;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser as _};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use crate::build_info::BUILD;
use crate::collector::{CollectorConfig, MOST_NAMESPACES, NamespaceChoice, SourceChoice};
use crate::config::{Command, Config, LogConfig, WebConfig, boolean, max_age, telemetry_path};
use crate::domain::options::{CensusOptions, PinnedDestination};
use crate::web::ListenAddress;

use environment::{blame_variable, with_environment};
pub use environment::{unknown_variables, variable_of};
use switches::Switches;
use values::{Words, number, pinned_destination, words};

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

/// Prometheus exporter for TIME-WAIT sockets and ephemeral port exhaustion
#[derive(Debug, Parser)]
#[command(
    // `--version` shall begin "timewait_exporter, version", as the Go exporters' does, and clap
    // writes the name, a space and the version.
    display_name = "timewait_exporter,",
    version = version(),
    disable_version_flag = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    subcommand_help_heading = "Commands (default: serve metrics)",
    after_help = AFTER_HELP,
    max_term_width = 80,
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    web: WebFlags,
    #[command(flatten)]
    collector: CollectorFlags,
    #[command(flatten)]
    switches: Switches,
    #[command(flatten)]
    log: LogConfig,

    /// Show the version and exit
    #[arg(long, help_heading = "Other", action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// Show this help and exit
    #[arg(short, long, global = true, help_heading = "Other", action = clap::ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Web")]
struct WebFlags {
    /// Address to listen on: ":PORT" for all addresses of both families, "HOST:PORT", "[IPV6]:PORT", or
    /// "unix:/PATH". Port 0 is any free port. Repeatable
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = ":10072",
        value_parser = words::<ListenAddress>,
    )]
    listen_addresses: Vec<Words<ListenAddress>>,

    /// Listen on the sockets that systemd passes (a .socket unit) instead of the addresses
    #[arg(long = "web.systemd-socket", value_parser = boolean)]
    systemd_socket: bool,

    /// Path under which to expose metrics
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        default_value = "/metrics",
        value_parser = telemetry_path,
    )]
    telemetry_path: String,

    /// Maximum number of parallel scrapes; further ones are answered with 503. 0 disables the limit
    #[arg(long = "web.max-requests", value_name = "N", default_value = "40", value_parser = number(0, 1_000_000))]
    max_requests: usize,

    /// Exclude metrics about the exporter itself (promhttp_*, process_*)
    #[arg(long = "web.disable-exporter-metrics", value_parser = boolean)]
    disable_exporter_metrics: bool,

    /// Configuration file with TLS, users, headers and a rate limit, in the format of the Go exporters;
    /// re-read on every request
    #[arg(
        long = "web.config.file",
        value_name = "FILE",
        // The parser of paths takes no empty one.
        value_parser = OsStringValueParser::new().map(PathBuf::from),
    )]
    config_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Collection")]
struct CollectorFlags {
    /// Where to read sockets from; auto is netlink, or procfs where netlink cannot be used
    #[arg(
        long = "collector.source",
        value_name = "SOURCE",
        value_enum,
        default_value = "auto"
    )]
    source: SourceChoice,

    /// Number of values exported individually per breakdown, the highest first; the rest is summed up as
    /// "other". 1 to 1000
    #[arg(
        long = "collector.top",
        value_name = "N",
        default_value = "20",
        value_parser = number(1, 1_000),
    )]
    top: usize,

    /// Always export this port, local or remote, even at 0. Repeatable
    #[arg(
        long = "collector.pin-port",
        value_name = "PORT",
        value_parser = |text: &str| values::words_with(text, values::port),
    )]
    pinned_ports: Vec<Words<u16>>,

    /// Always export this destination, even at 0: [SRC_ADDR,]DST_ADDR:DST_PORT, IPv6 in brackets, or
    /// SRC_ADDR,DST_ADDR,DST_PORT. Repeatable
    #[arg(
        long = "collector.pin-destination",
        value_name = "DESTINATION",
        value_parser = |text: &str| values::words_with(text, pinned_destination),
    )]
    pinned_destinations: Vec<Words<PinnedDestination>>,

    /// Network namespaces to export in addition to the exporter's: self (none), named (those in
    /// --path.netns), all (also those of processes), or names separated by commas. named needs
    /// CAP_SYS_ADMIN, all also CAP_SYS_PTRACE
    #[arg(
        long = "collector.netns",
        value_name = "WHICH",
        default_value = "self",
        value_parser = values::namespaces,
    )]
    namespaces: NamespaceChoice,

    /// Maximum number of other namespaces to export; those with the highest exhaustion ratio are kept.
    /// 1 to 10000
    #[arg(
        long = "collector.netns-max",
        value_name = "N",
        default_value_t = MOST_NAMESPACES,
        value_parser = number(1, 10_000),
    )]
    most_namespaces: usize,

    /// Maximum age of the socket metrics of other namespaces. Those whose highest ratio can be 0.4 or more
    /// are always read anew; 0 reads all of them anew. Seconds up to 86400, or a duration as in 5m
    #[arg(
        long = "collector.netns-max-age",
        value_name = "AGE",
        default_value = "5m",
        value_parser = max_age,
    )]
    max_age: Duration,

    /// Directory with the names of network namespaces, see ip-netns(8)
    #[arg(long = "path.netns", value_name = "DIR", default_value = "/run/netns")]
    namespace_names: PathBuf,

    /// Mount point of procfs
    #[arg(
        long = "path.procfs",
        value_name = "DIR",
        default_value = "/proc",
        value_parser = PathBufValueParser::new().try_map(values::directory),
    )]
    procfs: PathBuf,
}

/// Reads the command line, the program's name first, and the environment.
///
/// The error is also how `--help` and `--version` come: print it and exit with its code.
pub fn parse<I, T>(arguments: I) -> Result<Config, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let shares_web = asks_for("healthcheck", &arguments);
    let mut command = with_environment(with_short_version(Cli::command()), shares_web);
    let matches = command
        .try_get_matches_from_mut(&arguments)
        .map_err(|error| blame_variable(error, &command, &arguments))?;
    let typed = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    typed
        .into_config()
        .map_err(|wrong| command.error(ErrorKind::ValueValidation, wrong))
}

/// Every flag, for the manual pages and the completions.
#[must_use]
pub fn command() -> clap::Command {
    with_environment(with_short_version(Cli::command()), true)
}

/// `check -V`, as monitoring plugins have it.
fn with_short_version(command: clap::Command) -> clap::Command {
    command.mut_subcommand("check", |check| {
        let flag = clap::Arg::new("check.version").short('V').long("version");
        let flag = flag.help("Show the version and exit").help_heading("Other");
        // As `--version` of the program begins.
        let check = check.display_name("timewait_exporter,").version(version());
        check.arg(flag.action(clap::ArgAction::Version))
    })
}

/// Whether the command is `check`, whose wrong usage is UNKNOWN: its other exit statuses have meanings.
#[must_use]
pub fn asks_for_check(arguments: &[OsString]) -> bool {
    asks_for("check", arguments)
}

fn asks_for(name: &str, arguments: &[OsString]) -> bool {
    // The usage is wrong somewhere, which may be before the word, where clap ends; and the name may
    // be the value of a flag.
    let command = Cli::command();
    let takes_value = |flag: &str| {
        let mut known = command.get_arguments();
        known.any(|arg| arg.get_long() == Some(flag) && arg.get_action().takes_values())
    };
    let mut words = arguments.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        match word.strip_prefix("--") {
            Some("") => return false,
            Some(flag) if takes_value(flag) => drop(words.next()),
            None if !word.starts_with('-') => return word == name,
            _ => {}
        }
    }
    false
}

impl Cli {
    fn into_config(self) -> Result<Config, &'static str> {
        if let Some(Command::Check(check)) = self.command
            && check.warning > check.critical
        {
            return Err("--warning must not be above --critical");
        }
        let mut census = CensusOptions {
            top: self.collector.top,
            pinned_ports: distinct(self.collector.pinned_ports),
            pinned_destinations: distinct(self.collector.pinned_destinations),
            ..CensusOptions::default()
        };
        let enabled = self.switches.apply(&mut census);
        Ok(Config {
            command: self.command,
            web: WebConfig {
                listen_addresses: distinct(self.web.listen_addresses),
                systemd_socket: self.web.systemd_socket,
                telemetry_path: self.web.telemetry_path,
                max_requests: self.web.max_requests,
                disable_exporter_metrics: self.web.disable_exporter_metrics,
                // An empty name is none, as in the Go exporters.
                config_file: self
                    .web
                    .config_file
                    .filter(|path| !path.as_os_str().is_empty()),
            },
            collector: CollectorConfig {
                source: self.collector.source,
                procfs: self.collector.procfs,
                enabled,
                census,
                namespaces: self.collector.namespaces,
                most_namespaces: self.collector.most_namespaces,
                max_age: self.collector.max_age,
                namespace_names: self.collector.namespace_names,
            },
            log: self.log,
        })
    }
}

/// The values of all mentions, without duplicates.
fn distinct<T: PartialEq>(mentions: Vec<Words<T>>) -> Vec<T> {
    let mut kept = Vec::new();
    for value in mentions.into_iter().flat_map(|words| words.0) {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    kept
}

/// What `--version` prints after the program's name, in the form of the Go exporters.
fn version() -> String {
    format!(
        "version {} (revision: {})\n  rust version:     {}\n  platform:         {}\n",
        BUILD.version, BUILD.revision, BUILD.rustversion, BUILD.target,
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

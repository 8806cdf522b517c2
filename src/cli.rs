//! What the user typed, and its way into a [`Config`].
//!
//! Flags, then environment variables, then defaults. A variable's name follows from its flag's, so
//! that there is no table of them to keep. Does not print and does not end the program: the caller
//! is given a [`clap::Error`] that says what is wrong, where, and with which exit status.

mod commands;
mod switches;
mod values;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser as _};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use crate::build_info::BUILD;
use crate::collector::{CollectorConfig, MOST_NAMESPACES, NamespaceChoice, SourceChoice};
use crate::config::{
    Command, Config, ListenAddress, LogConfig, LogFormat, LogLevel, TelemetryPath, WebConfig,
};
use crate::domain::options::{CensusOptions, PinnedDestination};

use commands::Subcommand;
use switches::Switches;
use values::{Words, pinned_destination, words};

/// What every environment variable begins with.
const ENVIRONMENT_PREFIX: &str = "TIMEWAIT_EXPORTER_";

const AFTER_HELP: &str = "\
Environment:
  Each flag has a variable: TIMEWAIT_EXPORTER_ and its name in capitals, with
  '_' for '.' and '-', as in TIMEWAIT_EXPORTER_WEB_LISTEN_ADDRESS. A flag wins
  over its variable; an empty variable counts as unset. Where a flag can be
  repeated, its variable holds several values separated by spaces. Where it
  takes no value, its variable holds true or false.

Exit status:
  0 ended on SIGTERM or SIGINT, or said what was asked; 1 failed while running,
  2 wrong usage. check: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN or wrong usage.";

/// Tells Prometheus about TIME-WAIT sockets, and how close this host is to running out of
/// ephemeral ports.
#[derive(Debug, Parser)]
#[command(
    // `--version` shall begin "timewait_exporter, version", as the Go exporters' does, and clap
    // writes the name, a space and the version.
    display_name = "timewait_exporter,",
    version = version(),
    disable_version_flag = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    subcommand_help_heading = "Commands (none serves metrics)",
    after_help = AFTER_HELP,
    max_term_width = 80,
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Subcommand>,

    #[command(flatten)]
    web: WebFlags,
    #[command(flatten)]
    collector: CollectorFlags,
    #[command(flatten)]
    switches: Switches,
    #[command(flatten)]
    log: LogFlags,

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
    /// Where to listen: ":PORT" for all addresses of both families, "HOST:PORT", "[IPV6]:PORT", or
    /// "unix:/PATH". Port 0 takes any that is free. Repeatable
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = ":10072",
        value_parser = words::<ListenAddress>,
    )]
    listen_addresses: Vec<Words<ListenAddress>>,

    /// Listen on the sockets that systemd passes (a .socket unit) instead of the addresses
    #[arg(long = "web.systemd-socket", value_parser = values::boolean)]
    systemd_socket: bool,

    /// Path under which to expose metrics
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        default_value = "/metrics"
    )]
    telemetry_path: TelemetryPath,

    /// Maximum number of scrapes under way at once; others are answered 503. 0 is no limit
    #[arg(long = "web.max-requests", value_name = "N", default_value = "40", value_parser = values::max_requests)]
    max_requests: usize,

    /// Leave out the metrics about the exporter itself (promhttp_*, process_*)
    #[arg(long = "web.disable-exporter-metrics", value_parser = values::boolean)]
    disable_exporter_metrics: bool,

    /// File with TLS, users, headers and a rate limit, as the Go exporters have it; read again on
    /// every request
    #[arg(
        long = "web.config.file",
        value_name = "FILE",
        // The parser of paths takes no empty one.
        value_parser = OsStringValueParser::new().map(PathBuf::from),
    )]
    config_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Figures")]
struct CollectorFlags {
    /// Where to read sockets from. auto is netlink, and procfs where netlink cannot be used
    #[arg(
        long = "collector.source",
        value_name = "SOURCE",
        value_enum,
        default_value = "auto"
    )]
    source: values::SourceFlag,

    /// How many values of each breakdown to tell, the most frequent; the others are told as one sum.
    /// 1 to 1000
    #[arg(
        long = "collector.top",
        value_name = "N",
        default_value = "20",
        value_parser = values::top,
    )]
    top: usize,

    /// Always tell this port, local or remote, even at 0. Repeatable
    #[arg(
        long = "collector.pin-port",
        value_name = "PORT",
        value_parser = words::<values::PinnedPort>,
    )]
    pinned_ports: Vec<Words<values::PinnedPort>>,

    /// Always tell this destination, even at 0: [SRC_ADDR,]DST_ADDR:DST_PORT, IPv6 in brackets, or
    /// SRC_ADDR,DST_ADDR,DST_PORT. Repeatable
    #[arg(
        long = "collector.pin-destination",
        value_name = "DESTINATION",
        value_parser = |text: &str| values::words_with(text, pinned_destination),
    )]
    pinned_destinations: Vec<Words<PinnedDestination>>,

    /// Which network namespaces to tell beside the exporter's own: self (none), named (those in
    /// --path.netns), all (also those of processes), or names separated by commas. named needs
    /// CAP_SYS_ADMIN, all CAP_SYS_PTRACE too
    #[arg(
        long = "collector.netns",
        value_name = "WHICH",
        default_value = "self",
        value_parser = values::namespaces,
    )]
    namespaces: NamespaceChoice,

    /// How many other namespaces to tell at most, those with the worst exhaustion ratio. 1 to 10000
    #[arg(
        long = "collector.netns-max",
        value_name = "N",
        default_value_t = MOST_NAMESPACES,
        value_parser = values::most_namespaces,
    )]
    most_namespaces: usize,

    /// Where network namespaces have names, as ip-netns(8) gives them
    #[arg(long = "path.netns", value_name = "DIR", default_value = "/run/netns")]
    namespace_names: PathBuf,

    /// Where procfs is mounted
    #[arg(
        long = "path.procfs",
        value_name = "DIR",
        default_value = "/proc",
        value_parser = PathBufValueParser::new().try_map(values::directory),
    )]
    procfs: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Log (to stderr)")]
struct LogFlags {
    /// The least grave lines to write
    #[arg(
        long = "log.level",
        value_name = "LEVEL",
        value_enum,
        default_value = "info"
    )]
    level: LogLevel,

    /// How a line looks
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        value_enum,
        default_value = "logfmt"
    )]
    format: LogFormat,
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
    let mut command = command();
    let matches = command
        .try_get_matches_from_mut(&arguments)
        .map_err(|error| blame_variable(error, &command, &arguments))?;
    let typed = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    typed
        .into_config()
        .map_err(|wrong| command.error(ErrorKind::ValueValidation, wrong))
}

/// Every flag, for those who write the manual page and the completions.
#[must_use]
pub fn command() -> clap::Command {
    with_environment(Cli::command())
}

/// Whether `check` was asked for, whose wrong usage is UNKNOWN: its other exit statuses are taken.
#[must_use]
pub fn asks_for_check(arguments: &[OsString]) -> bool {
    // The usage is wrong somewhere, which may be before the word, where clap ends; and "check" may be
    // the value of a flag.
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
            None if !word.starts_with('-') => return word == "check",
            _ => {}
        }
    }
    false
}

impl Cli {
    fn into_config(self) -> Result<Config, &'static str> {
        let command = match self.command {
            None => Command::Serve,
            Some(command) => command.into_command()?,
        };
        let mut census = CensusOptions {
            top: self.collector.top,
            pinned_ports: distinct(
                Words::flatten(self.collector.pinned_ports).map(values::PinnedPort::get),
            ),
            pinned_destinations: distinct(Words::flatten(self.collector.pinned_destinations)),
            ..CensusOptions::default()
        };
        let enabled = self.switches.apply(&mut census);
        Ok(Config {
            command,
            web: WebConfig {
                listen_addresses: distinct(Words::flatten(self.web.listen_addresses)),
                systemd_socket: self.web.systemd_socket,
                telemetry_path: self.web.telemetry_path,
                max_requests: NonZeroUsize::new(self.web.max_requests),
                exporter_metrics: !self.web.disable_exporter_metrics,
                // An empty name is none, as in the Go exporters.
                config_file: self
                    .web
                    .config_file
                    .filter(|path| !path.as_os_str().is_empty()),
            },
            collector: CollectorConfig {
                source: SourceChoice::from(self.collector.source),
                procfs: self.collector.procfs,
                enabled,
                census,
                namespaces: self.collector.namespaces,
                most_namespaces: self.collector.most_namespaces,
                namespace_names: self.collector.namespace_names,
            },
            log: LogConfig {
                level: self.log.level,
                format: self.log.format,
            },
        })
    }
}

/// The first of each value, in their order: said twice is said once.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut kept = Vec::new();
    for value in values {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    kept
}

/// The environment variable of a flag, which is given without its dashes.
#[must_use]
pub fn variable_of(flag: &str) -> String {
    let name = flag.to_ascii_uppercase().replace(['.', '-'], "_");
    format!("{ENVIRONMENT_PREFIX}{name}")
}

/// Gives each flag its variable, but where it is empty or where a flag is another's negation. The
/// server's flags are of no use to a subcommand; what it shares with the server it takes too.
fn with_environment(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|subcommand| subcommand.get_name().to_owned())
        .collect();
    let command = names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name.clone(), |subcommand| {
            with_variables(subcommand, &format!("{name}."))
        })
    });
    with_variables(command, "").mut_args(|arg| {
        let is_shared = arg.get_long().is_some_and(|long| {
            let long = long.strip_prefix("no-").unwrap_or(long);
            ["collector.", "path.", "log."]
                .iter()
                .any(|prefix| long.starts_with(prefix))
        });
        let is_global = is_shared || arg.is_global_set();
        arg.global(is_global)
    })
}

fn with_variables(command: clap::Command, prefix: &str) -> clap::Command {
    command.mut_args(|arg| {
        let name = match arg.get_long() {
            None | Some("help" | "version") => return arg,
            Some(long) if long.starts_with("no-") => return arg,
            Some(long) => variable_of(&format!("{prefix}{long}")),
        };
        if std::env::var_os(&name).is_none_or(|value| value.is_empty()) {
            return arg;
        }
        arg.env(name).hide_env(true)
    })
}

/// Makes an error about a variable's value say so: clap would blame the flag, which nobody typed.
fn blame_variable(
    mut error: clap::Error,
    command: &clap::Command,
    arguments: &[OsString],
) -> clap::Error {
    let Some(ContextValue::String(blamed)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let Some(arg) = command
        .get_arguments()
        .find(|arg| arg.to_string() == *blamed)
    else {
        return error;
    };
    let (Some(variable), Some(flag)) = (arg.get_env(), arg.get_long()) else {
        return error;
    };
    // The flag's own value is as wrong without the environment.
    let alone = Cli::command().try_get_matches_from(arguments);
    if alone.is_err_and(|other| {
        other.get(ContextKind::InvalidArg) == error.get(ContextKind::InvalidArg)
    }) {
        return error;
    }
    let described = format!(
        "{} (environment variable for --{flag})",
        variable.to_string_lossy()
    );
    error.insert(ContextKind::InvalidArg, ContextValue::String(described));
    error
}

/// What `--version` tells, after the program's name, in the form of the Go exporters.
fn version() -> String {
    format!(
        "version {} (revision: {})\n  rust version:     {}\n  platform:         {}\n",
        BUILD.version, BUILD.revision, BUILD.rustversion, BUILD.target,
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

//! The environment variables of the flags.
//!
//! A variable's name follows from its flag's.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue};

use super::Cli;

/// Every variable begins with it.
const PREFIX: &str = "TIMEWAIT_EXPORTER_";

/// Read when the program is built; cargo passes them to what it runs.
const OF_BUILD: &str = "BUILD_";

/// The environment variable of a flag, which is given without its dashes.
#[must_use]
pub fn variable_of(flag: &str) -> String {
    let name = flag.to_ascii_uppercase().replace(['.', '-'], "_");
    format!("{PREFIX}{name}")
}

/// Gives each flag its variable, unless that is empty or the flag is another's negation. A subcommand
/// accepts the flags that it shares with the server; those of the web server only `healthcheck`.
pub(super) fn with_environment(command: clap::Command, shares_web: bool) -> clap::Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|subcommand| subcommand.get_name().to_owned())
        .collect();
    let command = names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name.clone(), |subcommand| {
            with_variables(subcommand, &format!("{name}."))
        })
    });
    let command = with_variables(command, "").mut_args(|arg| {
        let is_shared = is_of_collection(&arg) || shares_web && is_of_server(&arg);
        let is_global = is_shared || arg.is_global_set();
        arg.global(is_global)
    });
    show_own_flags(command)
}

fn begins(arg: &clap::Arg, prefixes: &[&str]) -> bool {
    arg.get_long().is_some_and(|long| {
        let long = long.strip_prefix("no-").unwrap_or(long);
        prefixes.iter().any(|prefix| long.starts_with(prefix))
    })
}

fn is_of_collection(arg: &clap::Arg) -> bool {
    begins(arg, &["collector.", "path.", "log."])
}

fn is_of_server(arg: &clap::Arg) -> bool {
    begins(arg, &["web."])
}

/// Hides from the help of a command the shared flags that do not concern it.
fn show_own_flags(mut command: clap::Command) -> clap::Command {
    // Shared flags reach the commands when these are built.
    command.build();
    for name in ["report", "check", "healthcheck"] {
        let is_foreign = |arg: &clap::Arg| {
            if name == "healthcheck" {
                is_of_collection(arg)
            } else {
                is_of_server(arg)
            }
        };
        command = command.mut_subcommand(name, |subcommand| {
            subcommand.mut_args(|arg| {
                let is_hidden = is_foreign(&arg) || arg.is_hide_set();
                arg.hide(is_hidden)
            })
        });
    }
    command
}

fn with_variables(command: clap::Command, prefix: &str) -> clap::Command {
    command.mut_args(|arg| match variable(&arg, prefix) {
        Some(name) if std::env::var_os(&name).is_some_and(|value| !value.is_empty()) => {
            arg.env(name).hide_env(true)
        }
        _ => arg,
    })
}

/// The variable of a flag. A negation shares that of the flag that it negates.
fn variable(arg: &clap::Arg, prefix: &str) -> Option<String> {
    match arg.get_long()? {
        "help" | "version" => None,
        long if long.starts_with("no-collector.") => None,
        long => Some(variable_of(&format!("{prefix}{long}"))),
    }
}

/// A variable of ours that no flag reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVariable {
    /// Its name.
    pub name: String,
    /// The name that comes nearest.
    pub suggestion: String,
}

/// The variables that have our prefix and are not empty, but belong to no flag: most likely mistyped.
#[must_use]
pub fn unknown_variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<UnknownVariable> {
    let known = known_variables();
    let unknown = environment.into_iter().filter_map(|(name, value)| {
        let name = name.to_string_lossy().into_owned();
        let rest = name.strip_prefix(PREFIX)?;
        let is_ours = known.contains(&name) || rest.starts_with(OF_BUILD);
        if value.is_empty() || is_ours || is_of_services(rest, &value) {
            return None;
        }
        let likeness = |known: &&String| strsim::jaro_winkler(&name, known);
        let nearest = known
            .iter()
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
        Some(UnknownVariable {
            suggestion: nearest.clone(),
            name,
        })
    });
    unknown.collect()
}

fn known_variables() -> Vec<String> {
    let command = Cli::command();
    let of = |command: &clap::Command, prefix: &str| {
        let variables = command.get_arguments();
        let variables = variables.filter_map(|arg| variable(arg, prefix));
        variables.collect::<Vec<_>>()
    };
    let mut known = of(&command, "");
    for subcommand in command.get_subcommands() {
        known.extend(of(subcommand, &format!("{}.", subcommand.get_name())));
    }
    known
}

/// Whether Kubernetes or a Docker link sets it, for a service whose name begins like ours.
fn is_of_services(rest: &str, value: &OsStr) -> bool {
    let has_port = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let is_url = || value.to_string_lossy().contains("://");
    rest.starts_with("SERVICE_")
        || rest.starts_with("PORT_")
        || rest.contains("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.split("_PORT_").skip(1).any(has_port)
        || (rest == "PORT" || rest.ends_with("_PORT")) && is_url()
}

/// Makes an error about a variable's value name the variable: clap names the flag, which nobody typed.
pub(super) fn blame_variable(
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
    let typed = format!("--{flag}");
    let is_it = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument.split('=').next() == Some(&*typed)
    };
    if arguments.iter().any(is_it) {
        return error;
    }
    let described = format!(
        "{} (environment variable for --{flag})",
        variable.to_string_lossy()
    );
    error.insert(ContextKind::InvalidArg, ContextValue::String(described));
    error
}

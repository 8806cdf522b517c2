//! The environment variables of the flags.
//!
//! A variable's name follows from its flag's.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _};

use crate::config::Config;

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

/// Each flag of the program, or of a command with its name and a dot as the prefix, and its variable. A
/// negation shares that of the flag that it negates.
fn variables<'a>(
    command: &'a Command,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a Arg, &'a str, String)> {
    let flags = command.get_arguments();
    let flags = flags.filter_map(|arg| Some((arg, arg.get_long()?)));
    // The flags of the program, which commands share, have dots.
    let own = flags.filter(move |(_, flag)| flag.contains('.') == prefix.is_empty());
    own.filter(|(_, flag)| {
        !flag.starts_with("no-collector.") && !["help", "version"].contains(flag)
    })
    .map(move |(arg, flag)| (arg, flag, variable_of(&format!("{prefix}{flag}"))))
}

/// The arguments with the flags that variables set and nobody typed: those of the program come first, those
/// of the command last.
pub(super) fn with_variables(
    command: &mut Command,
    typed: &ArgMatches,
    mut arguments: Vec<OsString>,
) -> Result<Vec<OsString>, clap::Error> {
    let place = arguments.len().min(1);
    arguments.splice(place..place, set_by_variables(command, "", typed)?);
    if let Some((name, typed)) = typed.subcommand()
        && let Some(command) = command.find_subcommand_mut(name)
    {
        arguments.extend(set_by_variables(command, &format!("{name}."), typed)?);
    }
    Ok(arguments)
}

fn set_by_variables(
    command: &mut Command,
    prefix: &str,
    typed: &ArgMatches,
) -> Result<Vec<OsString>, clap::Error> {
    let mut set = Vec::new();
    for (arg, flag, name) in variables(command, prefix) {
        let is_typed = |id: &str| {
            let is_known = typed.try_contains_id(id).is_ok();
            is_known && typed.value_source(id) == Some(ValueSource::CommandLine)
        };
        let is_typed = is_typed(arg.get_id().as_str()) || is_typed(&format!("no-{flag}"));
        let value = std::env::var_os(&name).unwrap_or_default();
        if is_typed || value.is_empty() {
            continue;
        }
        match (arg.get_action(), boolean(&value)) {
            (ArgAction::Append, _) => {
                // An invalid byte makes a wrong value all the same.
                let values = value.to_string_lossy();
                let values = values.split_whitespace();
                set.extend(values.map(|value| format!("--{flag}={value}").into()));
            }
            (ArgAction::Set, _) => {
                let mut assignment = OsString::from(format!("--{flag}="));
                assignment.push(value);
                set.push(assignment);
            }
            (_, Some(true)) => set.push(format!("--{flag}").into()),
            (_, Some(false)) if flag.starts_with("collector.") => {
                set.push(format!("--no-{flag}").into());
            }
            // The others are off by default.
            (_, Some(false)) => {}
            (_, None) => {
                let value = value.display();
                let described = described(&name, flag);
                let wrong =
                    format!("invalid value '{value}' for '{described}': write true or false");
                return Err(command.clone().error(ErrorKind::ValueValidation, wrong));
            }
        }
    }
    Ok(set)
}

/// What the variable of a flag without a value contains.
fn boolean(value: &OsStr) -> Option<bool> {
    match value.to_str()?.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn described(variable: &str, flag: &str) -> String {
    format!("{variable} (environment variable for --{flag})")
}

/// Makes an error about a flag that nobody typed name its variable.
pub(super) fn blame_variable(mut error: clap::Error, command: Option<&str>) -> clap::Error {
    if let Some(ContextValue::String(blamed)) = error.get(ContextKind::InvalidArg)
        && let Some(flag) = blamed
            .strip_prefix("--")
            .and_then(|it| it.split(' ').next())
    {
        let variable = match command {
            Some(command) if !flag.contains('.') => variable_of(&format!("{command}.{flag}")),
            _ => variable_of(flag),
        };
        let described = described(&variable, flag);
        error.insert(ContextKind::InvalidArg, ContextValue::String(described));
    }
    error
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
    let command = Config::command();
    let names = |command: &Command, prefix: &str| -> Vec<String> {
        let variables = variables(command, prefix);
        variables.map(|(_, _, name)| name).collect()
    };
    let mut known = names(&command, "");
    for subcommand in command.get_subcommands() {
        known.extend(names(subcommand, &format!("{}.", subcommand.get_name())));
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

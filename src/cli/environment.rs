//! The environment variables of the flags.
//!
//! A variable's name follows from its flag's.

use std::ffi::{OsStr, OsString};
use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _};

use crate::config::Config;

/// Every variable begins with it.
const PREFIX: &str = "TIMEWAIT_EXPORTER_";

/// Read when the program is built; cargo passes them to what it runs.
const OF_BUILD: &str = "BUILD_";

/// The environment variable of a flag, which is given without its dashes.
pub fn variable_of(flag: &str) -> String {
    let name = flag.to_ascii_uppercase().replace(['.', '-'], "_");
    format!("{PREFIX}{name}")
}

/// The variable of a flag of the program or of one of its commands.
struct Variable<'a> {
    name: String,
    /// The command; empty for the program.
    owner: &'a str,
    flag: &'a str,
    arg: &'a Arg,
}

/// All of them. A negation shares that of the flag that it negates.
fn variables(command: &Command) -> impl Iterator<Item = Variable<'_>> {
    let commands = command.get_subcommands().map(|it| (it.get_name(), it));
    let owners = std::iter::once(("", command)).chain(commands);
    owners.flat_map(|(owner, command)| {
        let flags = command.get_arguments();
        let flags = flags.filter_map(|arg| Some((arg, arg.get_long()?)));
        // The flags of the program, which commands share, have dots.
        let own = flags.filter(move |(_, flag)| flag.contains('.') == owner.is_empty());
        let read = own.filter(|(_, flag)| {
            !flag.starts_with("no-collector.") && !["help", "version"].contains(flag)
        });
        read.map(move |(arg, flag)| Variable {
            name: variable_of(format!("{owner}.{flag}").trim_start_matches('.')),
            owner,
            flag,
            arg,
        })
    })
}

impl Variable<'_> {
    fn is_typed(&self, typed: &ArgMatches) -> bool {
        let is_typed = |id: &str| {
            let is_known = typed.try_contains_id(id).is_ok();
            is_known && typed.value_source(id) == Some(ValueSource::CommandLine)
        };
        is_typed(self.arg.get_id().as_str()) || is_typed(&format!("no-{}", self.flag))
    }

    /// The arguments that set the flag to a value.
    fn arguments(&self, value: &OsStr) -> Result<Vec<OsString>, String> {
        let flag = self.flag;
        let assigned = |value: &OsStr| {
            let mut argument = OsString::from(format!("--{flag}="));
            argument.push(value);
            argument
        };
        // An invalid byte makes a wrong value of all but paths.
        let text = value.to_string_lossy();
        let switch = text.to_ascii_lowercase();
        Ok(match (self.arg.get_action(), switch.as_str()) {
            (ArgAction::Set, _) => vec![assigned(value)],
            (ArgAction::Append, _) => {
                let values = text.split_whitespace().map(OsStr::new);
                values.map(assigned).collect()
            }
            (_, "true" | "1" | "yes" | "on") => vec![format!("--{flag}").into()],
            // Other switches than those of the collectors are off by default.
            (_, "false" | "0" | "no" | "off") if !flag.starts_with("collector.") => Vec::new(),
            (_, "false" | "0" | "no" | "off") => vec![format!("--no-{flag}").into()],
            _ => {
                return Err(format!(
                    "invalid value '{text}' for '{self}': write true or false"
                ));
            }
        })
    }
}

impl fmt::Display for Variable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, flag, .. } = self;
        write!(f, "{name} (environment variable for --{flag})")
    }
}

/// The arguments with the flags that variables set and nobody typed: those of the program come first, those
/// of the command last.
pub(super) fn with_variables(
    command: &Command,
    typed: &ArgMatches,
    mut arguments: Vec<OsString>,
) -> Result<Vec<OsString>, clap::Error> {
    for variable in variables(command) {
        let (place, matches) = match typed.subcommand() {
            _ if variable.owner.is_empty() => (1, typed),
            Some((name, matches)) if variable.owner == name => (arguments.len(), matches),
            _ => continue,
        };
        let value = std::env::var_os(&variable.name).unwrap_or_default();
        if !value.is_empty() && !variable.is_typed(matches) {
            let set = variable.arguments(&value);
            let wrong = |wrong| command.clone().error(ErrorKind::ValueValidation, wrong);
            let place = place.min(arguments.len());
            arguments.splice(place..place, set.map_err(wrong)?);
        }
    }
    Ok(arguments)
}

/// Makes an error about a flag that nobody typed name its variable.
pub(super) fn blame_variable(
    mut error: clap::Error,
    command: &Command,
    subcommand: Option<&str>,
) -> clap::Error {
    if let Some(ContextValue::String(blamed)) = error.get(ContextKind::InvalidArg)
        && let Some(variable) = variables(command).find(|variable| {
            let flag = blamed.trim_start_matches('-').split(' ').next();
            let is_of_command = variable.owner.is_empty() || Some(variable.owner) == subcommand;
            is_of_command && Some(variable.flag) == flag
        })
    {
        let variable = ContextValue::String(variable.to_string());
        error.insert(ContextKind::InvalidArg, variable);
    }
    error
}

/// The variables that have our prefix and are not empty, but belong to no flag: most likely mistyped. Each
/// with the known name that comes nearest.
pub fn unknown_variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(String, String)> {
    let command = Config::command();
    let known: Vec<String> = variables(&command).map(|variable| variable.name).collect();
    let unknown = environment.into_iter().filter_map(|(name, value)| {
        let name = name.to_string_lossy().into_owned();
        let rest = name.strip_prefix(PREFIX)?;
        let is_ours = known.contains(&name) || rest.starts_with(OF_BUILD);
        if value.is_empty() || is_ours || is_of_services(rest, &value) {
            return None;
        }
        let score = |known: &&String| strsim::jaro_winkler(&name, known);
        let nearest = known.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
        Some((name, nearest.clone()))
    });
    unknown.collect()
}

/// Whether Kubernetes or a Docker link sets it, for a service whose name begins like ours.
fn is_of_services(rest: &str, value: &OsStr) -> bool {
    // A service may have a longer name than ours, so that more comes first.
    let rest = format!("_{rest}");
    let has_port = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    rest.starts_with("_SERVICE_")
        || rest.starts_with("_PORT_")
        || rest.contains("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.split("_PORT_").skip(1).any(has_port)
        || rest.ends_with("_PORT") && value.to_string_lossy().contains("://")
}

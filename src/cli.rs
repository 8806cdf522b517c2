//! The command line and the environment, and their way into a [`Config`].
//!
//! Flags, then environment variables, then defaults. A variable's name follows from its flag's. Does not
//! print and does not end the program: the caller gets a [`clap::Error`] that says what is wrong, where,
//! and with which exit status.

mod environment;
mod switches;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, CommandFactory as _, FromArgMatches as _};

use crate::config::{Command, Config};

use environment::{blame_variable, with_variables};
pub use environment::{unknown_variables, variable_of};

/// Reads the command line, the program's name first, and the environment.
///
/// The error is also how `--help` and `--version` come: print it and exit with its code.
pub fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Config, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let mut command = with_shared_flags(asks_for("healthcheck", &arguments));
    let typed = command.try_get_matches_from_mut(&arguments)?;
    let arguments = with_variables(&command, &typed, arguments)?;
    let matches = command
        .try_get_matches_from_mut(arguments)
        .map_err(|error| blame_variable(error, &command, typed.subcommand_name()))?;
    let mut config =
        Config::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    if let Some(Command::Check(check)) = config.command
        && check.warning > check.critical
    {
        let wrong = "--warning must not be above --critical";
        return Err(command.error(ErrorKind::ValueValidation, wrong));
    }
    distinct(&mut config.web.listen_addresses);
    distinct(&mut config.collector.census.pinned_ports);
    distinct(&mut config.collector.census.pinned_destinations);
    // As in the Go exporters.
    let _empty = config.web.config_file.take_if(|path| path.is_empty());
    Ok(config)
}

fn distinct<T: PartialEq>(values: &mut Vec<T>) {
    for value in std::mem::take(values) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
}

/// Every flag, for the manual pages and the completions.
pub fn command() -> clap::Command {
    with_shared_flags(true)
}

/// The server's flags, which have a dot in their names, are those of its commands, too; but those of the web
/// server only where `shares_web`. A command's help shows those that concern it.
fn with_shared_flags(shares_web: bool) -> clap::Command {
    let is_shared = |arg: &Arg| arg.get_long().is_some_and(|long| long.contains('.'));
    let is_web = |arg: &Arg| arg.get_long().is_some_and(|it| it.starts_with("web."));
    let mut command = Config::command().mut_args(|arg| {
        let is_global = is_shared(&arg) && (shares_web || !is_web(&arg)) || arg.is_global_set();
        arg.global(is_global)
    });
    // Shared flags reach the commands when these are built.
    command.build();
    command.mut_subcommands(|subcommand| {
        let asks_server = subcommand.get_name() == "healthcheck";
        subcommand.mut_args(|arg| {
            let is_foreign = is_shared(&arg) && is_web(&arg) != asks_server;
            let is_hidden = is_foreign || arg.is_hide_set();
            arg.hide(is_hidden)
        })
    })
}

/// Whether this is the command, however wrong the usage is.
pub fn asks_for(name: &str, arguments: &[OsString]) -> bool {
    // The usage is wrong somewhere, which may be before the word, where clap ends; and the name may
    // be the value of a flag.
    let command = Config::command();
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

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

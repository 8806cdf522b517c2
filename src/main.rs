//! The program: arguments, log, exit status. Everything else is in the library.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use timewait_exporter::config::{Command, Config};
use timewait_exporter::logging::Log;
use timewait_exporter::{app, cli};

/// Exit status for wrong usage, as clap defines it.
const USAGE: u8 = 2;

const NO_LOG: &str = "cannot start the thread that writes the log";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let config = match cli::parse(&arguments) {
        Ok(config) => config,
        Err(message) => return show(&message, cli::asks_for_check(&arguments)),
    };
    if let Err(error) = app::signals::block(config.command.is_none()) {
        return complain("cannot block signals", &error);
    }
    let log = match Log::start(config.log) {
        Ok(log) => log,
        Err(error) if matches!(config.command, Some(Command::Check(_))) => {
            return ExitCode::from(app::check::impossible(NO_LOG, &error));
        }
        Err(error) => return complain(NO_LOG, &error),
    };
    if config.command != Some(Command::Healthcheck) {
        warn_of_unknown_variables();
    }
    let code = run(config);
    log.flush();
    code
}

/// A mistyped variable would otherwise go unnoticed: without its web configuration a server asks for no
/// password.
fn warn_of_unknown_variables() {
    for unknown in cli::unknown_variables(std::env::vars_os()) {
        tracing::warn!(
            name = unknown.name,
            suggestion = unknown.suggestion,
            "Ignored an unknown environment variable"
        );
    }
}

fn run(config: Config) -> ExitCode {
    let done = match config.command {
        None => app::run(config).map(|()| 0),
        Some(Command::Report(report)) => app::report::run(config.collector, report),
        Some(Command::Check(check)) => Ok(app::check::run(config.collector, check)),
        Some(Command::Healthcheck) => app::healthcheck(&config).map(|()| 0),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(if error.is_of_settings() { USAGE } else { 1 })
        }
    }
}

/// Help, version, or what was wrong with the command line.
fn show(message: &clap::Error, is_check: bool) -> ExitCode {
    // A closed pipe is no failure of ours: `timewait_exporter --help | head`.
    let _closed = message.print();
    if is_check && message.use_stderr() {
        return ExitCode::from(app::check::wrong_usage(&message.to_string()));
    }
    ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(USAGE))
}

#[expect(clippy::print_stderr, reason = "there is no log yet")]
fn complain(what: &str, error: &io::Error) -> ExitCode {
    eprintln!("timewait_exporter: {what}: {error}");
    ExitCode::FAILURE
}

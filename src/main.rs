//! The program: arguments, log, exit status. Everything else is in the library.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use timewait_exporter::app::{self, Failure};
use timewait_exporter::cli;
use timewait_exporter::config::{Command, Config};
use timewait_exporter::logging::Log;
use timewait_exporter::web::ProtectionError;

/// Exit status for wrong usage, as clap defines it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let config = match cli::parse(&arguments) {
        Ok(config) => config,
        Err(message) => return show(&message, cli::asks_for("check", &arguments)),
    };
    let command = config.command;
    let blocked = app::signals::block(command.is_none());
    let log = match blocked.and_then(|()| Log::start(config.log)) {
        Ok(log) => log,
        Err(error) => return complain(command, &error),
    };
    // A mistyped variable would otherwise go unnoticed: without its web configuration a server asks for no
    // password.
    if command != Some(Command::Healthcheck) {
        for (name, suggestion) in cli::unknown_variables(std::env::vars_os()) {
            tracing::warn!(name, suggestion, "Ignored an unknown environment variable");
        }
    }
    let status = run(config).unwrap_or_else(|error| {
        tracing::error!("{error}");
        // A wrong setting, which no restart would help.
        let is_usage = error.is::<ProtectionError>();
        if is_usage { USAGE } else { 1 }
    });
    log.flush();
    ExitCode::from(status)
}

fn run(config: Config) -> Result<u8, Failure> {
    match config.command {
        None => app::run(config).map(|()| 0),
        Some(Command::Report(report)) => app::report::run(config.collector, report),
        Some(Command::Check(check)) => Ok(app::check::run(config.collector, check)),
        Some(Command::Healthcheck) => Ok(app::healthcheck::run(&config.web).map(|()| 0)?),
    }
}

/// Help, version, or what was wrong with the command line.
fn show(message: &clap::Error, is_check: bool) -> ExitCode {
    // A closed pipe is no failure of ours: `timewait_exporter --help | head`.
    let _closed = message.print();
    // The other exit statuses of `check` have meanings.
    if is_check && message.use_stderr() {
        return ExitCode::from(app::check::wrong_usage(&message.to_string()));
    }
    ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(USAGE))
}

#[expect(clippy::print_stderr, reason = "there is no log yet")]
fn complain(command: Option<Command>, error: &io::Error) -> ExitCode {
    let complaint =
        format!("cannot block signals or start the thread that writes the log: {error}");
    if let Some(Command::Check(_)) = command {
        return ExitCode::from(app::check::unknown(&complaint));
    }
    eprintln!("timewait_exporter: {complaint}");
    ExitCode::FAILURE
}

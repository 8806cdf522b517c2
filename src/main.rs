//! The program: arguments, log, threads, exit status. Everything else is in the library.

use std::process::ExitCode;

use timewait_exporter::config::Config;
use timewait_exporter::logging::Log;
use timewait_exporter::{app, cli};

/// Exit status for wrong usage, as clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let config = match cli::parse(std::env::args_os()) {
        Ok(config) => config,
        Err(message) => return show(&message),
    };
    let log = match Log::start(config.log) {
        Ok(log) => log,
        Err(error) => return complain(&error),
    };
    let code = serve(config);
    log.flush();
    code
}

fn serve(config: Config) -> ExitCode {
    match app::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Help, version, or what was wrong with the command line.
fn show(message: &clap::Error) -> ExitCode {
    // A closed pipe is no failure of ours: `timewait_exporter --help | head`.
    let _closed = message.print();
    ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(USAGE))
}

#[expect(clippy::print_stderr, reason = "there is no log yet")]
fn complain(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("timewait_exporter: {error}");
    ExitCode::FAILURE
}

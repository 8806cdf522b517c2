//! The program: arguments, log, threads, exit status. Everything else is in the library.

use std::process::ExitCode;
use std::time::Duration;

use timewait_exporter::collector::{Collector, FileReadings};
use timewait_exporter::config::Config;
use timewait_exporter::domain::snapshot::Outcome;
use timewait_exporter::http::About;
use timewait_exporter::logging::Log;
use timewait_exporter::{app, build_info, cli};

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
    let code = serve(&config);
    log.flush();
    code
}

fn serve(config: &Config) -> ExitCode {
    let collector = match start_collector(config) {
        Ok(collector) => collector,
        Err(error) => {
            tracing::error!(%error, "Cannot start the collector's threads");
            return ExitCode::FAILURE;
        }
    };
    match app::run(&config.web, collector, about(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Stands in for the jobs that read the kernel, until these are there: nothing can be read.
fn start_collector(config: &Config) -> std::io::Result<Collector> {
    let sockets = |_| Outcome {
        value: None,
        success: false,
        duration: Duration::ZERO,
    };
    let enabled = config.collector.enabled;
    Collector::start(enabled, sockets, |_| FileReadings::default())
}

fn about(config: &Config) -> About {
    About {
        build: build_info::BUILD,
        process: config.web.exporter_metrics.then(read_process),
    }
}

/// Stands in for the reader of `/proc/self`, until it is there.
fn read_process() -> Box<timewait_exporter::http::ReadProcess> {
    Box::new(|| None)
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

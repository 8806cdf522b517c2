//! `check`: one reading, one line, one exit status.

use crate::domain::collectors::CollectorId;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::report::read;
use super::warn_of_missing_rights;
use crate::build_info::BUILD;
use crate::collector::{Collector, CollectorConfig};
use crate::config::CheckConfig;
use crate::kernel::process::{host_name, kernel_release};
use crate::kernel::sock_diag::NetlinkConnect;
use crate::report::check::{Thresholds, line};
use crate::report::{Report, State};

/// Says the line on stdout and gives the exit status. Whatever goes wrong is UNKNOWN.
#[must_use]
pub fn run(mut collector: CollectorConfig, check: CheckConfig) -> u8 {
    // It says nothing of what these read.
    let unneeded = [
        CollectorId::Netstat,
        CollectorId::Slabinfo,
        CollectorId::Failures,
    ];
    collector.enabled = collector.enabled.without(&unneeded);
    collector.max_age = Duration::ZERO;
    warn_of_missing_rights(&collector.namespaces);
    let deadline = Instant::now() + check.timeout;
    let snapshot = Collector::open(collector, Box::new(NetlinkConnect))
        .and_then(|collector| read(&collector, deadline, |_| ()));
    let (state, line) = match snapshot {
        Ok(snapshot) => {
            let report = Report::new(BUILD.version, host_name(), kernel_release(), snapshot);
            let CheckConfig {
                warning, critical, ..
            } = check;
            line(&report, Thresholds { warning, critical })
        }
        Err(error) => unknown(&error.to_string()),
    };
    say(&line);
    state.code()
}

/// Prints why nothing was checked, where the program did not come that far.
#[must_use]
pub fn impossible(what: &str, error: &std::io::Error) -> u8 {
    let (state, line) = unknown(&format!("{what}: {error}"));
    say(&line);
    state.code()
}

/// Prints what was wrong with the usage, of which `message` is the whole explanation.
#[must_use]
pub fn wrong_usage(message: &str) -> u8 {
    let mut lines = message.lines().map(str::trim);
    let reason = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let reason = reason.strip_prefix("error: ").unwrap_or(reason);
    // A bar separates performance data.
    let (state, line) = unknown(&format!("wrong usage: {}", reason.replace('|', "/")));
    say(&line);
    state.code()
}

fn unknown(reason: &str) -> (State, String) {
    let state = State::Unknown;
    (state, format!("TIMEWAIT {} - {reason}", state.as_str()))
}

fn say(line: &str) {
    // The exit status is the state, whether the line is read or not.
    let _closed = writeln!(std::io::stdout(), "{line}");
}

//! `check`: one reading, one line, one exit status.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::report::read;
use super::warn_of_missing_capabilities;
use crate::build_info::BUILD;
use crate::collector::{Collector, CollectorConfig};
use crate::config::CheckConfig;
use crate::domain::collectors::CollectorId::{Failures, Netstat, Slabinfo};
use crate::kernel::process::{host_name, kernel_release};
use crate::kernel::sock_diag::NetlinkConnect;
use crate::report::check::{Thresholds, line};
use crate::report::{Report, State};

/// Says the line on stdout and gives the exit status. Whatever goes wrong is UNKNOWN.
pub fn run(mut collector: CollectorConfig, check: CheckConfig) -> u8 {
    // It says nothing of what these read.
    collector.enabled = collector.enabled.without(&[Netstat, Slabinfo, Failures]);
    collector.max_age = Duration::ZERO;
    warn_of_missing_capabilities(&collector.namespaces);
    let deadline = Instant::now() + check.timeout;
    let snapshot = Collector::open(collector, Box::new(NetlinkConnect))
        .and_then(|collector| read(&collector, deadline, |_| ()));
    match snapshot {
        Ok(snapshot) => {
            let report = Report::new(BUILD.version, host_name(), kernel_release(), snapshot);
            let CheckConfig {
                warning, critical, ..
            } = check;
            let (state, line) = line(&report, Thresholds { warning, critical });
            say(state, &line)
        }
        Err(error) => unknown(&error.to_string()),
    }
}

/// Prints why nothing was checked.
pub fn unknown(reason: &str) -> u8 {
    let state = State::Unknown;
    // A bar separates performance data.
    let reason = reason.replace('|', "/");
    say(state, &format!("TIMEWAIT {} - {reason}", state.as_str()))
}

/// Prints what was wrong with the usage, of which `message` is the whole explanation.
pub fn wrong_usage(message: &str) -> u8 {
    let mut lines = message.lines().map(str::trim);
    let reason = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let reason = reason.strip_prefix("error: ").unwrap_or(reason);
    unknown(&format!("wrong usage: {reason}"))
}

fn say(state: State, line: &str) -> u8 {
    // The exit status is the state, whether the line is read or not.
    let _closed = writeln!(std::io::stdout(), "{line}");
    state.code()
}

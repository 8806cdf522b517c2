//! `report`: reads this host once or repeatedly, without a server.
//!
//! Reads through the same [`Collector`] as the server. Ends after one report; with `--watch` on a signal,
//! or when stdout is closed.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;

use super::{AppError, warn_of_missing_rights};
use crate::build_info::BUILD;
use crate::collector::{Collector, CollectorConfig, SourceChoice};
use crate::config::{ReportConfig, ReportFormat};
use crate::domain::advice::Severity;
use crate::domain::namespace::HostSnapshot;
use crate::domain::snapshot::{Destination, Snapshot};
use crate::kernel::holders::HolderFinder;
use crate::kernel::namespaces::inside;
use crate::kernel::process::{host_name, kernel_release};
use crate::kernel::sock_diag::NetlinkConnect;
use crate::report::screen::{self, CLEAR_LINE};
use crate::report::text::{self, Style};
use crate::report::{Report, json};

/// After so long without a result it is said that it goes on.
const PATIENCE: Duration = Duration::from_secs(1);

/// For how many destinations, the fullest, the processes with live sockets are looked up.
const HELD_DESTINATIONS: usize = 3;

/// Prints the report; the exit status is 1 where the connection table could not be read.
pub fn run(mut config: CollectorConfig, options: ReportConfig) -> Result<u8, AppError> {
    config.census.whole_table = true;
    config.max_age = Duration::ZERO;
    warn_of_missing_rights(&config.namespaces);
    let finder = (!options.no_processes)
        .then(|| HolderFinder::new(config.procfs.clone(), config.source != SourceChoice::Procfs));
    let collector = Collector::open(config, Box::new(NetlinkConnect))
        .map_err(AppError::system("cannot start the collector's threads"))?;
    let mut before = None;
    loop {
        let begin = Instant::now();
        let report = one(&collector, finder.as_ref(), options.timeout)?;
        let text = written(&report, before.as_ref(), options)?;
        match show(&text) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            Err(error) => return Err(AppError::System("cannot write to stdout", error)),
            Ok(()) => {}
        }
        let Some(every) = options.watch else {
            return Ok(u8::from(!report.is_complete()));
        };
        before = Some(report);
        pause(every.saturating_sub(begin.elapsed()));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is waited for is time itself"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn one(
    collector: &Collector,
    finder: Option<&HolderFinder>,
    timeout: Duration,
) -> Result<Report, AppError> {
    let deadline = Instant::now() + timeout;
    let mut progress = Progress::default();
    let snapshot = read(collector, deadline, |waited| progress.say(waited));
    let snapshot = snapshot.map_err(AppError::system("cannot start the runtime"))?;
    let mut report = Report::new(BUILD.version, host_name(), kernel_release(), snapshot);
    if let Some(finder) = finder {
        for namespace in &mut report.namespaces {
            let worst = worst_destinations(&namespace.snapshot);
            namespace.holders = match &namespace.identity {
                None => finder.find(&worst, deadline),
                // Only where there is an issue: on a host of many pods this would take long.
                Some(identity) if namespace.advice.severity >= Severity::Warning => {
                    inside(identity, || finder.find(&worst, deadline))
                        .ok()
                        .flatten()
                }
                Some(_) => None,
            };
        }
    }
    progress.end();
    Ok(report)
}

/// Those among the fullest destinations with live sockets.
fn worst_destinations(snapshot: &Snapshot) -> Vec<Destination> {
    let exported = snapshot.destinations();
    let exported = exported.map_or(&[][..], |breakdown| &breakdown.exported);
    exported
        .iter()
        .filter(|usage| usage.in_use.established + usage.in_use.other > 0)
        .take(HELD_DESTINATIONS)
        .map(|usage| usage.destination)
        .collect()
}

/// One reading; `on_wait` is called each second with the time waited so far.
pub(super) fn read(
    collector: &Collector,
    deadline: Instant,
    mut on_wait: impl FnMut(Duration),
) -> io::Result<HostSnapshot> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let begin = Instant::now();
    Ok(runtime.block_on(async {
        let mut scrape = std::pin::pin!(collector.scrape(deadline));
        loop {
            tokio::select! {
                biased;
                snapshot = scrape.as_mut() => return snapshot,
                () = tokio::time::sleep(PATIENCE) => on_wait(begin.elapsed()),
            }
        }
    }))
}

fn written(
    report: &Report,
    before: Option<&Report>,
    options: ReportConfig,
) -> Result<String, AppError> {
    let json = |result: Result<String, serde_json::Error>| {
        let text = result
            .map_err(|error| AppError::System("cannot write the report as JSON", error.into()))?;
        Ok(format!("{text}\n"))
    };
    match (options.format, options.watch) {
        (ReportFormat::Json, None) => json(json::render_pretty(report)),
        (ReportFormat::Json, Some(_)) => json(json::render(report)),
        (ReportFormat::Text, watch) => {
            let text = text::render(report, watch.map(|_| before), style());
            Ok(if watch.is_some() {
                in_place(&text)
            } else {
                text
            })
        }
    }
}

/// How stdout wants it: colours on a terminal only, and not where `NO_COLOR` is set or the terminal is
/// a dumb one.
fn style() -> Style {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return Style::default();
    }
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    Style {
        color: !is_set("NO_COLOR") && !is_dumb(),
        width: Some(screen_size().0),
    }
}

/// Whether a terminal knows no commands: what is written there stays.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Columns and rows of the terminal; one that does not say has 80 columns and any number of rows.
fn screen_size() -> (usize, Option<usize>) {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let some = |length: u16| Some(usize::from(length)).filter(|length| *length > 0);
    let columns = size.and_then(|size| some(size.ws_col));
    (
        columns.unwrap_or(80),
        size.and_then(|size| some(size.ws_row)),
    )
}

/// On a terminal, unless it is a dumb one, in place of the last one; elsewhere after a separating line.
fn in_place(text: &str) -> String {
    if !io::stdout().is_terminal() || is_dumb() {
        return format!("----\n{text}");
    }
    let (columns, rows) = screen_size();
    screen::in_place(text, columns, rows)
}

fn show(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Reports on stderr that reading takes long: on a terminal repeatedly on one line, elsewhere once.
#[derive(Debug, Default)]
struct Progress {
    has_said: bool,
}

impl Progress {
    fn say(&mut self, waited: Duration) {
        let mut stderr = io::stderr();
        let seconds = waited.as_secs();
        // A closed stderr is not an error.
        let _closed = if stderr.is_terminal() && !is_dumb() {
            write!(
                stderr,
                "\rReading the connection table: {seconds} s {CLEAR_LINE}"
            )
        } else if self.has_said {
            Ok(())
        } else {
            writeln!(
                stderr,
                "Reading the connection table, which takes long on this host"
            )
        };
        self.has_said = true;
    }

    fn end(&self) {
        let mut stderr = io::stderr();
        if self.has_said && stderr.is_terminal() && !is_dumb() {
            let _closed = write!(stderr, "\r{CLEAR_LINE}");
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::collector::Job;
    use crate::domain::collectors::CollectorId;
    use crate::domain::snapshot::Outcome;

    #[test]
    fn a_reading_that_takes_long_is_reported_while_it_lasts() {
        let (leave, may_leave) = mpsc::channel();
        let sockets = move |_| {
            may_leave.recv().unwrap();
            Some(Outcome {
                value: None,
                success: true,
                duration: Duration::ZERO,
            })
        };
        let job: Job = Box::new(sockets);
        let collector = Collector::start([(CollectorId::Sockets, job)]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut waits = Vec::new();
        // The dump does not end before the wait was reported.
        let snapshot = read(&collector, deadline, |waited| {
            waits.push(waited);
            leave.send(()).unwrap();
        });
        assert!(
            snapshot
                .unwrap()
                .own
                .outcome(CollectorId::Sockets)
                .unwrap()
                .success
        );
        assert!(waits.first().unwrap() >= &PATIENCE, "{waits:?}");
    }
}

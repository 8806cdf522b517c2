//! `report`: reads this host once or repeatedly, without a server.
//!
//! Reads through the same [`Collector`] as the server. Ends after one report; with `--watch` on a signal,
//! or when stdout is closed.

use std::io::{self, IsTerminal, Write as _};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;

use super::{Failure, cannot, warn_of_missing_capabilities};
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
pub fn run(mut config: CollectorConfig, options: ReportConfig) -> Result<u8, Failure> {
    config.census.whole_table = true;
    config.max_age = Duration::ZERO;
    warn_of_missing_capabilities(&config.namespaces);
    let finder = (!options.no_processes)
        .then(|| HolderFinder::new(config.procfs.clone(), config.source != SourceChoice::Procfs));
    let collector = Collector::open(config, Box::new(NetlinkConnect))
        .map_err(cannot("start the collector's threads"))?;
    let mut before = None;
    loop {
        let begin = Instant::now();
        let report = one(&collector, finder.as_ref(), options.timeout)?;
        let text = written(&report, before.as_ref(), options)?;
        let mut stdout = io::stdout();
        let shown = stdout.write_all(text.as_bytes());
        match shown.and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            shown => shown.map_err(cannot("write to stdout"))?,
        }
        let Some(every) = options.watch else {
            return Ok(u8::from(!report.is_complete()));
        };
        before = Some(report);
        #[expect(clippy::disallowed_methods, reason = "an interval is only time")]
        std::thread::sleep(every.saturating_sub(begin.elapsed()));
    }
}

fn one(
    collector: &Collector,
    finder: Option<&HolderFinder>,
    timeout: Duration,
) -> Result<Report, Failure> {
    let deadline = Instant::now() + timeout;
    let mut progress = Progress::default();
    let snapshot = read(collector, deadline, |waited| progress.say(waited))
        .map_err(cannot("start the runtime"))?;
    let mut report = Report::new(BUILD.version, host_name(), kernel_release(), snapshot);
    for namespace in &mut report.namespaces {
        let Some(finder) = finder else { break };
        let worst = worst_destinations(&namespace.snapshot);
        namespace.holders = match &namespace.identity {
            None => finder.find(&worst, deadline),
            // Only where there is an issue: on a host of many pods this would take long.
            Some(identity) if namespace.advice.severity >= Severity::Warning => {
                let found = inside(identity, || finder.find(&worst, deadline));
                found.ok().flatten()
            }
            Some(_) => None,
        };
    }
    progress.end();
    Ok(report)
}

/// Those among the fullest destinations with live sockets.
fn worst_destinations(snapshot: &Snapshot) -> Vec<Destination> {
    let known = snapshot.destinations().into_iter();
    let exported = known.flat_map(|known| &known.exported);
    let live = exported.filter(|usage| usage.in_use.established + usage.in_use.other > 0);
    let worst = live.take(HELD_DESTINATIONS);
    worst.map(|usage| usage.destination).collect()
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
) -> serde_json::Result<String> {
    Ok(match (options.output, options.watch) {
        (ReportFormat::Json, None) => serde_json::to_string_pretty(&json::document(report))? + "\n",
        (ReportFormat::Json, Some(_)) => serde_json::to_string(&json::document(report))? + "\n",
        (ReportFormat::Text, None) => text::render(report, false, None, style()),
        (ReportFormat::Text, Some(_)) => {
            let text = text::render(report, true, before, style());
            if takes_commands(&io::stdout()) {
                let (columns, rows) = screen_size();
                screen::in_place(&text, columns, rows)
            } else {
                format!("----\n{text}")
            }
        }
    })
}

/// How stdout wants it: colours on a terminal only, and not where `NO_COLOR` is set.
fn style() -> Style {
    let stdout = io::stdout();
    let refuses_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Style {
        color: takes_commands(&stdout) && !refuses_color,
        width: stdout.is_terminal().then(|| screen_size().0),
    }
}

/// Whether it is a terminal, and not a dumb one, where all that is written stays.
fn takes_commands(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Columns and rows of the terminal; one that does not say has 80 columns and any number of rows.
fn screen_size() -> (usize, Option<usize>) {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let length = |length: u16| Some(usize::from(length)).filter(|length| *length > 0);
    (
        size.and_then(|size| length(size.ws_col)).unwrap_or(80),
        size.and_then(|size| length(size.ws_row)),
    )
}

/// Reports on stderr that reading takes long: on a terminal repeatedly on one line, elsewhere once.
#[derive(Debug, Default)]
struct Progress {
    has_said: bool,
}

impl Progress {
    fn say(&mut self, waited: Duration) {
        let mut stderr = io::stderr();
        let text = if takes_commands(&stderr) {
            let seconds = waited.as_secs();
            format!("\rReading the connection table: {seconds} s {CLEAR_LINE}")
        } else if self.has_said {
            return;
        } else {
            "Reading the connection table, which takes long on this host\n".to_owned()
        };
        self.has_said = true;
        // A closed stderr is not an error.
        let _closed = stderr.write_all(text.as_bytes());
    }

    fn end(&self) {
        let mut stderr = io::stderr();
        if self.has_said && takes_commands(&stderr) {
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
    fn a_slow_read_is_reported_while_it_lasts() {
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

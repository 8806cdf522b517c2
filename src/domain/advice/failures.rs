//! connect() calls that failed within the last minutes, on the whole host.

use super::wording::{counted, when};
use super::{Finding, Id, Remedy, RemedyId, Severity, View};
use crate::domain::collectors::CollectorId;

pub(super) fn recent(view: &View<'_>) -> Option<Finding> {
    let count = |name| view.snapshot.count(CollectorId::Failures, name);
    let failures = count("recent_failures").filter(|failures| *failures > 0)?;
    let seconds = count("recent_seconds")?;
    let period = match seconds {
        0..120 => counted(seconds.max(1), "second", "seconds"),
        _ => counted(seconds / 60, "minute", "minutes"),
    };
    let is_explained = view.ports.is_some_and(|ports| ports.usable == 0)
        || view.destinations.iter().any(|usage| usage.headroom == 0);
    let burst = " No destination in this namespace is exhausted now: it was a burst, or the calls failed in another namespace.";
    let now = when(!is_explained, burst);
    let sentence = format!(
        "{} found no free port (EADDRNOTAVAIL) within {period}, in any network namespace of this host.{now}",
        counted(failures, "connect() call", "connect() calls")
    );
    let action = "Record which programs fail, and to which destination.";
    let watch = Remedy::new(RemedyId::FindHolders, action).command(
        "perf record -a -e sock:inet_sock_set_state --filter 'protocol==6 && oldstate==2 && newstate==7 && sport==0' \
         sleep 60 && perf script",
    );
    Finding::new(Id::ConnectFailures, Severity::Critical, sentence)
        .count("failures", failures)
        .count("seconds", seconds)
        .remedies([watch])
        .into()
}

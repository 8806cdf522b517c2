//! connect() calls that failed within the last minutes, on the whole host.

use super::View;
use super::finding::{Finding, Id, Severity};
use super::remedy::{Remedy, RemedyId};
use super::wording::counted;
use crate::domain::collectors::CollectorId;

pub(super) fn find(view: &View<'_>, findings: &mut Vec<Finding>) {
    let count = |name| view.snapshot.count(CollectorId::Failures, name);
    let (Some(failures @ 1..), Some(seconds)) = (count("recent_failures"), count("recent_seconds"))
    else {
        return;
    };
    let calls = counted(failures, "connect() call", "connect() calls");
    let period = match seconds {
        0..120 => counted(seconds.max(1), "second", "seconds"),
        _ => counted(seconds / 60, "minute", "minutes"),
    };
    let is_explained = findings
        .iter()
        .any(|finding| matches!(finding.id, Id::DestinationExhausted | Id::NoUsablePorts));
    let now = if is_explained {
        ""
    } else {
        " No destination here is exhausted now: it was a burst, or another network namespace."
    };
    let sentence = format!(
        "{calls} found no free port (EADDRNOTAVAIL) within {period}, in any network namespace of this host.{now}"
    );
    let watch = Remedy::new(
        RemedyId::FindHolders,
        "Record which programs fail, and to which destination.",
    );
    let watch = watch.command(
        "perf record -a -e sock:inet_sock_set_state --filter 'protocol==6 && oldstate==2 && newstate==7 && sport==0' \
         sleep 60 && perf script"
            .to_owned(),
    );
    findings.push(
        Finding::new(Id::ConnectFailures, Severity::Critical, sentence)
            .count("failures", failures)
            .count("seconds", seconds)
            .remedies([watch]),
    );
}

//! What has changed from one report to the next.

use crate::domain::advice::{Finding, wording};
use crate::domain::snapshot::{Destination, DestinationFigures};
use crate::report::NamespaceReport;

/// How many destinations' changes are told.
const MOST: usize = 8;

/// One sentence each: findings that came or went, then destinations that hold more or fewer ports,
/// those with the greatest change first.
pub(super) fn changes(before: &NamespaceReport, now: &NamespaceReport) -> Vec<String> {
    let (old, new) = (&before.advice.findings, &now.advice.findings);
    let came = new.iter().filter(|finding| !has(old, finding));
    let mut changes: Vec<String> = came
        .map(|finding| format!("New: {}", finding.sentence))
        .collect();
    let gone = old.iter().filter(|finding| !has(new, finding));
    changes.extend(gone.map(|finding| format!("Gone: {}", finding.sentence)));
    changes.extend(destinations(before, now));
    changes
}

fn has(findings: &[Finding], sought: &Finding) -> bool {
    findings.iter().any(|finding| {
        (finding.id, finding.severity, finding.destination)
            == (sought.id, sought.severity, sought.destination)
    })
}

fn told(namespace: &NamespaceReport) -> &[DestinationFigures] {
    let sockets = namespace.snapshot.sockets.as_ref();
    sockets
        .and_then(|outcome| outcome.value.as_ref())
        .and_then(|figures| figures.ports.as_ref())
        .and_then(|ports| ports.by_destination.as_ref())
        .map_or(&[], |breakdown| &breakdown.told)
}

fn destinations(before: &NamespaceReport, now: &NamespaceReport) -> Vec<String> {
    let (old, new) = (told(before), told(now));
    let held = |list: &[DestinationFigures], sought: Destination| {
        let found = list.iter().find(|figures| figures.destination == sought);
        found.map(|figures| figures.held.total())
    };
    // One that is told in one report only may merely have left the top: nothing is said of it.
    let both = new.iter().filter_map(|figures| {
        let was = held(old, figures.destination)?;
        let is = figures.held.total();
        (was != is).then_some((figures.destination, was, is))
    });
    let mut both: Vec<_> = both.collect();
    both.sort_by_key(|(_, was, is)| std::cmp::Reverse(was.abs_diff(*is)));
    let sentences = both.iter().take(MOST).map(|(destination, was, is)| {
        let sign = if is > was { '+' } else { '-' };
        format!(
            "{}: {} -> {} ports held ({sign}{})",
            wording::destination(destination),
            wording::count(*was),
            wording::count(*is),
            wording::count(was.abs_diff(*is))
        )
    });
    sentences.collect()
}

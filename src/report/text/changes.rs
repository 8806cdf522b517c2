//! What has changed from one report to the next.

use super::shortened;
use crate::domain::advice::explain::explain;
use crate::domain::advice::{Finding, Id, wording};
use crate::domain::snapshot::{Destination, DestinationUsage, PortUsage};
use crate::report::NamespaceReport;

/// How many destinations' changes are told.
const MOST: usize = 8;

/// So many characters of a setting's value are told.
const MOST_OF_VALUE: usize = 40;

/// One sentence each: findings that came, went or are of other figures, then settings, then destinations that
/// hold more or fewer ports, those with the greatest change first.
pub(super) fn changes(before: &NamespaceReport, now: &NamespaceReport) -> Vec<String> {
    let (old, new) = (&before.advice.findings, &now.advice.findings);
    let came = new.iter().filter(|finding| !has(old, finding));
    let mut changes: Vec<String> = came
        .map(|finding| format!("New: {}", finding.sentence))
        .collect();
    let gone = old.iter().filter(|finding| !has(new, finding));
    changes.extend(gone.map(|finding| format!("Gone: {}", finding.sentence)));
    let other = new.iter().filter(|finding| reads_otherwise(old, finding));
    changes.extend(other.map(|finding| format!("Now: {}", finding.sentence)));
    changes.extend(settings(before, now));
    changes.extend(destinations(before, now));
    changes
}

/// Whether a finding was there and said something else. What is said of a destination changes with every
/// connection: its ports are told below.
fn reads_otherwise(old: &[Finding], now: &Finding) -> bool {
    let same = |was: &&Finding| (was.id, was.severity) == (now.id, now.severity);
    now.destination.is_none()
        && now.id != Id::Plentiful
        && has(old, now)
        && old
            .iter()
            .filter(same)
            .all(|was| was.sentence != now.sentence)
}

fn settings(before: &NamespaceReport, now: &NamespaceReport) -> Vec<String> {
    let explained = |namespace: &NamespaceReport| {
        let settings = namespace.snapshot.settings();
        settings.map(explain).unwrap_or_default()
    };
    let (old, new) = (explained(before), explained(now));
    let changed = new.iter().filter_map(|setting| {
        let was = old.iter().find(|was| was.name == setting.name)?;
        let told = |value: &str| match value {
            "" => "(none)".to_owned(),
            value => shortened(value, MOST_OF_VALUE),
        };
        (was.value != setting.value).then(|| {
            let (was, is) = (told(&was.value), told(&setting.value));
            format!("{}: {was} -> {is}", setting.name)
        })
    });
    let usable = |namespace: &NamespaceReport| ports(namespace).map(|ports| ports.usable);
    let usable = usable(before)
        .zip(usable(now))
        .filter(|(was, is)| was != is);
    let usable = usable.map(|(was, is)| {
        format!(
            "Usable ports of each destination: {} -> {}",
            wording::count(was.into()),
            wording::count(is.into())
        )
    });
    changed.chain(usable).collect()
}

fn ports(namespace: &NamespaceReport) -> Option<&PortUsage> {
    namespace.snapshot.ports()
}

fn has(findings: &[Finding], sought: &Finding) -> bool {
    findings.iter().any(|finding| {
        (finding.id, finding.severity, finding.destination)
            == (sought.id, sought.severity, sought.destination)
    })
}

fn told(namespace: &NamespaceReport) -> &[DestinationUsage] {
    namespace
        .snapshot
        .destinations()
        .map_or(&[], |breakdown| &breakdown.exported)
}

fn destinations(before: &NamespaceReport, now: &NamespaceReport) -> Vec<String> {
    let (old, new) = (told(before), told(now));
    let held = |list: &[DestinationUsage], sought: Destination| {
        let found = list.iter().find(|figures| figures.destination == sought);
        found.map(|figures| figures.in_use.total())
    };
    // One that is told in one report only may merely have left the top: nothing is said of it.
    let both = new.iter().filter_map(|figures| {
        let was = held(old, figures.destination)?;
        let is = figures.in_use.total();
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

//! What has changed from one report to the next, except for the destinations.

use crate::domain::advice::explain::explain;
use crate::domain::advice::{Finding, wording};
use crate::report::NamespaceReport;

/// A longer value of a sysctl is cut.
const MAX_VALUE: usize = 40;

/// A line each: findings that are new or gone, then sysctls.
pub(super) fn changes(before: &NamespaceReport, now: &NamespaceReport) -> Vec<String> {
    let (old, new) = (&before.advice.findings, &now.advice.findings);
    let is_in = |list: &[Finding], sought: &Finding| {
        let key = |finding: &Finding| (finding.id, finding.severity, finding.destination);
        list.iter().any(|finding| key(finding) == key(sought))
    };
    let came = new.iter().filter(|finding| !is_in(old, finding));
    let came = came.map(|finding| format!("New: {}", finding.summary()));
    let gone = old.iter().filter(|finding| !is_in(new, finding));
    let gone = gone.map(|finding| format!("Gone: {}", finding.summary()));
    came.chain(gone).chain(sysctls(before, now)).collect()
}

fn sysctls(before: &NamespaceReport, now: &NamespaceReport) -> Vec<String> {
    let explained = |namespace: &NamespaceReport| {
        namespace
            .snapshot
            .settings()
            .map(explain)
            .unwrap_or_default()
    };
    let old = explained(before);
    let shown = |value: &str| match value.char_indices().nth(MAX_VALUE) {
        _ if value.is_empty() => "(none)".to_owned(),
        Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
        None => value.to_owned(),
    };
    let changed = explained(now).into_iter().filter_map(|setting| {
        let was = old.iter().find(|was| was.name == setting.name)?;
        (was.value != setting.value).then(|| {
            format!(
                "{}: {} -> {}",
                setting.short_name(),
                shown(&was.value),
                shown(&setting.value)
            )
        })
    });
    let mut changed: Vec<String> = changed.collect();
    let usable = |namespace: &NamespaceReport| namespace.snapshot.ports().map(|ports| ports.usable);
    if let (Some(was), Some(is)) = (usable(before), usable(now))
        && was != is
    {
        changed.push(format!(
            "Usable ports per destination: {} -> {}",
            wording::count(was.into()),
            wording::count(is.into())
        ));
    }
    changed
}

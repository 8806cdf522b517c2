//! What has changed from one report to the next, except for the destinations.

use crate::domain::advice::Finding;
use crate::domain::advice::explain::explain;
use crate::domain::advice::wording::count;
use crate::report::NamespaceReport;
use crate::report::wrap::shortened;

/// A longer value of a sysctl is cut.
const MAX_VALUE: usize = 41;

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
    let shown = |value: &str| match value {
        "" => "(none)".to_owned(),
        _ => shortened(value, MAX_VALUE),
    };
    let [old, new] = [before, now].map(|namespace| namespace.snapshot.settings().map(explain));
    let changed = new.into_iter().flatten().filter_map(|is| {
        let was = old.iter().flatten().find(|was| was.name == is.name)?;
        let values = format!("{} -> {}", shown(&was.value), shown(&is.value));
        (was.value != is.value).then(|| format!("{}: {values}", is.short_name()))
    });
    let ports = before.snapshot.ports().zip(now.snapshot.ports());
    let usable = ports.map(|(was, is)| [count(was.usable), count(is.usable)]);
    let usable = usable.filter(|[was, is]| was != is);
    let usable = usable.map(|[was, is]| format!("Usable ports per destination: {was} -> {is}"));
    changed.chain(usable).collect()
}

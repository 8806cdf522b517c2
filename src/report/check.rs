//! The line and the exit status of `check`, as monitoring plugins have them.

use std::fmt::Write as _;

use super::{NamespaceReport, Report, State, printable};
use crate::domain::advice::{Finding, Id, Severity, wording};
use crate::domain::collectors::CollectorId;
use crate::domain::snapshot::{DestinationUsage, PortUsage};

/// Exhaustion ratios of the fullest destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// WARNING at this and above.
    pub warning: f64,
    /// CRITICAL at this and above.
    pub critical: f64,
}

/// Findings about ports that the ratio does not show.
const COUNTED: [Id; 4] = [
    Id::RateTooHigh,
    Id::ConnectSlow,
    Id::BindPoolLow,
    Id::UdpPortsLow,
];

/// Performance data is for the exporter's namespace and this many others, the worst ones: monitoring
/// systems read a few KiB.
const MAX_PERFDATA: usize = 9;

/// The line without its end, and the state. If a requested namespace is unknown, OK becomes UNKNOWN.
pub fn line(report: &Report, thresholds: Thresholds) -> (State, String) {
    let mut worst = (State::Unknown, 0.0, "nothing was read".to_owned());
    let mut perfdata = String::new();
    let others = report.worst_first().into_iter();
    let others = others.filter(|namespace| namespace.identity.is_some());
    let others: Vec<_> = others.take(MAX_PERFDATA).collect();
    for (index, namespace) in report.namespaces.iter().enumerate() {
        let is_other = |other: &&NamespaceReport| std::ptr::eq(*other, namespace);
        if namespace.identity.is_none() || others.iter().any(is_other) {
            append_perfdata(&mut perfdata, namespace, thresholds);
        }
        let (state, ratio, text) = of_namespace(namespace, thresholds);
        if index == 0 || (state, ratio) > (worst.0, worst.1) {
            let name = namespace.name().map(|_| namespace.full_name() + ": ");
            worst = (state, ratio, name.unwrap_or_default() + &text);
        }
    }
    let (mut state, _, mut text) = worst;
    if report.is_incomplete()
        && let Some(missing) = report.missing_sentence()
    {
        state = state.max(State::Unknown);
        let _infallible = write!(text, ". {missing}");
    }
    // A bar separates the performance data.
    let text = text.replace('|', "/");
    let bar = if perfdata.is_empty() { "" } else { " |" };
    let line = format!("TIMEWAIT {} - {text}{bar}{perfdata}", state.as_str());
    (state, line)
}

fn of_namespace(namespace: &NamespaceReport, thresholds: Thresholds) -> (State, f64, String) {
    let Some(ports) = namespace.snapshot.ports() else {
        let unknown = match namespace.snapshot.outcome(CollectorId::Sockets) {
            None => "sockets are not read (--no-collector.sockets)",
            Some(_) => "the connection table or the port range could not be read",
        };
        return (State::Unknown, 0.0, unknown.to_owned());
    };
    let ratio = ports.worst_ratio.ipv4.max(ports.worst_ratio.ipv6);
    // Without a usable port nothing is in use, and connect() fails all the same.
    if ports.usable == 0 {
        let text = "the port range has no usable port, connect() fails for every destination";
        return (State::Critical, ratio, text.to_owned());
    }
    // Ports that may be reusable are no reason to be critical.
    let mut state = if ports.least_worst_ratio() >= thresholds.critical {
        State::Critical
    } else if ratio >= thresholds.warning {
        State::Warning
    } else {
        State::Ok
    };
    let mut text = sentence(ports, ratio);
    let counts = |one: &&Finding| one.severity >= Severity::Warning && COUNTED.contains(&one.id);
    if let Some(finding) = namespace.advice.findings.iter().find(counts) {
        let _infallible = write!(text, ". {}", finding.summary().trim_end_matches('.'));
        state = state.max(match finding.severity {
            Severity::Critical => State::Critical,
            _ => State::Warning,
        });
    }
    (state, ratio, text)
}

fn fullest(ports: &PortUsage) -> Option<&DestinationUsage> {
    ports.by_destination.as_ref()?.exported.first()
}

fn sentence(ports: &PortUsage, ratio: f64) -> String {
    let usable = wording::count(ports.usable);
    let least = ports.least_worst_ratio();
    let least = (least < ratio).then(|| format!("{} to ", wording::percent(least)));
    let ratio = format!("{}{}", least.unwrap_or_default(), wording::percent(ratio));
    match fullest(ports) {
        _ if ports.destinations == 0 => format!("no outgoing connection, {usable} ports usable"),
        Some(fullest) => format!(
            "{ratio} of {usable} ports in use, {} left to {}",
            wording::count(fullest.headroom),
            wording::destination(&fullest.destination)
        ),
        None => format!("{ratio} of {usable} ports in use"),
    }
}

/// `'label'=value[unit];[warn];[crit];[min];[max]`, a space before each.
fn append_perfdata(text: &mut String, namespace: &NamespaceReport, thresholds: Thresholds) {
    let prefix = namespace.name().map(|name| printable(name) + "_");
    // A quote in a label is doubled.
    let prefix = prefix.map(|name| name.replace('\'', "''").replace('=', "_"));
    let prefix = prefix.unwrap_or_default();
    let Thresholds { warning, critical } = thresholds;
    let mut add = |label: &str, rest: String| {
        let _infallible = write!(text, " '{prefix}{label}'={rest}");
    };
    if let Some(ports) = namespace.snapshot.ports() {
        let ratios = ports.worst_ratio;
        for (label, ratio) in [("ipv4_ratio", ratios.ipv4), ("ipv6_ratio", ratios.ipv6)] {
            add(label, format!("{ratio:.6};{warning};{critical};0;1"));
        }
        let (usable, size) = (ports.usable, ports.range.ports());
        if let Some(fullest) = fullest(ports) {
            add("headroom", format!("{};;;0;{usable}", fullest.headroom));
        }
        if let Some(breakdown) = &ports.by_destination {
            let searches = breakdown.exported.iter().map(|usage| usage.search_ports);
            let most = searches.max().unwrap_or(0);
            add("search", format!("{most};;;0;{usable}"));
        }
        add("usable", format!("{usable};;;0;{size}"));
        add("free", format!("{};;;0;{usable}", ports.free));
        add("destinations", format!("{};;;0;", ports.destinations));
    }
    if let Some(sockets) = namespace.snapshot.sockets() {
        let time_wait = sockets.time_wait.ipv4 + sockets.time_wait.ipv6;
        add("time_wait", format!("{time_wait};;;0;"));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::advice::thresholds::{RATIO_CRITICAL, RATIO_WARNING};
    use crate::domain::namespace::NamespaceIdentity;
    use crate::domain::snapshot::{PerFamily, Snapshot};
    use crate::report::testing::{report, snapshot};

    const DEFAULT: Thresholds = Thresholds {
        warning: RATIO_WARNING,
        critical: RATIO_CRITICAL,
    };

    fn named(label: &str) -> NamespaceIdentity {
        NamespaceIdentity {
            label: label.to_owned(),
            ..NamespaceIdentity::default()
        }
    }

    fn said(time_wait: u16) -> (State, String) {
        line(&report(time_wait), DEFAULT)
    }

    #[test]
    fn the_state_begins_at_the_threshold() {
        // 99 ports are usable.
        for (time_wait, state) in [
            (0, State::Ok),
            (74, State::Ok),
            (75, State::Warning),
            (89, State::Warning),
            (90, State::Critical),
            (99, State::Critical),
        ] {
            assert_eq!(said(time_wait).0, state, "{time_wait}");
        }
        let strict = Thresholds {
            warning: 0.0,
            critical: 1.0,
        };
        assert_eq!(line(&report(0), strict).0, State::Warning);
        assert_eq!(line(&report(99), strict).0, State::Critical);
    }

    #[test]
    fn a_range_without_a_usable_port_is_critical_even_if_nothing_is_in_use() {
        let mut report = report(0);
        let snapshot = &mut report.namespaces.first_mut().unwrap().snapshot;
        let ports = snapshot.sockets_mut().unwrap().ports.as_mut().unwrap();
        (ports.usable, ports.worst_ratio) = (0, PerFamily::default());
        let (state, line) = line(&report, DEFAULT);
        assert_eq!(state, State::Critical);
        assert!(line.contains("no usable port"), "{line}");
    }

    #[test]
    fn ports_that_may_be_reusable_do_not_cause_a_critical_state() {
        let mut report = report(80);
        let snapshot = &mut report.namespaces.first_mut().unwrap().snapshot;
        let ports = snapshot.sockets_mut().unwrap().ports.as_mut().unwrap();
        ports.worst_ratio.ipv4 = 0.95;
        ports.least_ratio = Some(PerFamily {
            ipv4: 0.5,
            ipv6: 0.1,
        });
        let (state, text) = line(&report, DEFAULT);
        assert_eq!(state, State::Warning);
        assert!(text.contains("WARNING - 50% to 95% of 99 ports"), "{text}");
        let snapshot = &mut report.namespaces.first_mut().unwrap().snapshot;
        let ports = snapshot.sockets_mut().unwrap().ports.as_mut().unwrap();
        ports.least_ratio = Some(ports.worst_ratio);
        assert_eq!(line(&report, DEFAULT).0, State::Critical);
    }

    #[test]
    fn the_line_is_that_of_monitoring_plugins() {
        let (_, line) = said(99);
        let (text, perfdata) = line.split_once(" | ").unwrap();
        assert_eq!(
            text,
            "TIMEWAIT CRITICAL - 100% of 99 ports in use, 0 left to 198.51.100.1 port 5432 from \
             192.0.2.1"
        );
        assert!(
            perfdata.starts_with("'ipv4_ratio'=1.000000;0.75;0.9;0;1 "),
            "{perfdata}"
        );
        for item in perfdata.split(' ') {
            let (label, rest) = item.split_once('=').unwrap();
            assert!(label.starts_with('\'') && label.ends_with('\''), "{item}");
            let fields: Vec<&str> = rest.split(';').collect();
            assert_eq!(fields.len(), 5, "{item}");
            assert!(fields.first().unwrap().parse::<f64>().is_ok(), "{item}");
        }
        assert!(!line.contains('\n'));
    }

    #[test]
    fn the_readme_names_the_findings_that_count() {
        let (_, section) = include_str!("README.md")
            .split_once("\n## check\n")
            .unwrap();
        for id in Id::ALL {
            let is_named = section.contains(&format!("`{}`", id.as_str()));
            assert_eq!(is_named, COUNTED.contains(id), "{id:?}");
        }
    }

    #[test]
    fn what_could_not_be_read_is_unknown() {
        let report = Report::new(
            "1",
            "h".to_owned(),
            "k".to_owned(),
            Snapshot::default().into(),
        );
        let (state, line) = line(&report, DEFAULT);
        assert_eq!((state, state.code()), (State::Unknown, 3));
        assert!(
            line.starts_with("TIMEWAIT UNKNOWN - ") && !line.contains('|'),
            "{line}"
        );
        assert!(line.contains("--no-collector.sockets"), "{line}");
    }

    #[test]
    fn of_several_namespaces_the_worst_is_shown() {
        let mut report = report(10);
        report
            .namespaces
            .push(NamespaceReport::new(Some(named("it's|a")), snapshot(99)));
        let unread = NamespaceReport::new(Some(named("z")), Snapshot::default());
        report.namespaces.push(unread);
        let (state, line) = line(&report, DEFAULT);
        assert_eq!(state, State::Critical);
        assert!(
            line.starts_with("TIMEWAIT CRITICAL - it's/a: 100%"),
            "{line}"
        );
        assert!(line.contains(" 'it''s|a_ipv4_ratio'=1.0"), "{line}");
    }
}

//! The one line of `check`, as monitoring plugins write it, and its exit status.

use std::fmt::Write as _;

use super::{NamespaceReport, Report, printable};
use crate::domain::advice::thresholds::{RATIO_CRITICAL, RATIO_WARNING};
use crate::domain::advice::wording;
use crate::domain::collectors::CollectorId;
use crate::domain::snapshot::{PortUsage, Snapshot};

/// From which exhaustion ratio on the state is what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// WARNING at this and above.
    pub warning: f64,
    /// CRITICAL at this and above.
    pub critical: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            warning: RATIO_WARNING,
            critical: RATIO_CRITICAL,
        }
    }
}

/// The states of monitoring plugins; their numbers are the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Below the thresholds.
    Ok,
    /// At the lower one.
    Warning,
    /// At the higher one.
    Critical,
    /// How full the range is could not be read, or the usage was wrong.
    Unknown,
}

impl State {
    /// As the line spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The exit status.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    /// Of several the one to tell: CRITICAL before WARNING before UNKNOWN before OK.
    const fn gravity(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Unknown => 1,
            Self::Warning => 2,
            Self::Critical => 3,
        }
    }
}

/// Of so many namespaces beside the own one the figures are told, those that are worst off: monitors
/// take a line of some KiB.
const MOST_FIGURES: usize = 9;

/// The line, without a line's end, and its state.
///
/// What could not be looked at though it was asked for makes an OK an UNKNOWN.
#[must_use]
pub fn line(report: &Report, thresholds: Thresholds) -> (State, String) {
    let mut worst = (State::Ok, 0.0, "nothing was looked at".to_owned());
    let mut perfdata = String::new();
    let mut figures_of = report.worst_first();
    figures_of.retain(|namespace| namespace.identity.is_some());
    figures_of.truncate(MOST_FIGURES);
    for (index, namespace) in report.namespaces.iter().enumerate() {
        let (state, ratio, mut text) = one(&namespace.snapshot, thresholds);
        let name = namespace.name().map(printable);
        let prefix = match &name {
            None => String::new(),
            Some(name) => {
                text.insert_str(0, &format!("{name}: "));
                format!("{name}_")
            }
        };
        let is_told = |told: &&NamespaceReport| std::ptr::eq(*told, namespace);
        if name.is_none() || figures_of.iter().any(is_told) {
            append_perfdata(&mut perfdata, &prefix, &namespace.snapshot, thresholds);
        }
        let is_worse = (state.gravity(), ratio) > (worst.0.gravity(), worst.1);
        if index == 0 || is_worse {
            worst = (state, ratio, text);
        }
    }
    let (mut state, _, mut text) = worst;
    let untold = report.untold.as_ref();
    if let Some(missing) = report.missing()
        && untold.is_some_and(|untold| untold.is_unknown())
    {
        if state == State::Ok {
            state = State::Unknown;
        }
        let _infallible = write!(text, ". {missing}");
    }
    // A bar would begin the figures.
    let text = text.replace('|', "/");
    let bar = if perfdata.is_empty() { "" } else { " |" };
    (
        state,
        format!("TIMEWAIT {} - {text}{bar}{perfdata}", state.as_str()),
    )
}

fn one(snapshot: &Snapshot, thresholds: Thresholds) -> (State, f64, String) {
    if snapshot.outcome(CollectorId::Sockets).is_none() {
        let unread = "sockets are not read (--no-collector.sockets)";
        return (State::Unknown, 0.0, unread.to_owned());
    }
    let Some(ports) = snapshot.ports() else {
        let unknown = "the connection table or the port range could not be read";
        return (State::Unknown, 0.0, unknown.to_owned());
    };
    let ratio = ports.worst_ratio.ipv4.max(ports.worst_ratio.ipv6);
    // Nothing is spent then, and connect() fails all the same.
    let state = if ports.usable == 0 || ratio >= thresholds.critical {
        State::Critical
    } else if ratio >= thresholds.warning {
        State::Warning
    } else {
        State::Ok
    };
    (state, ratio, sentence(ports, ratio))
}

fn sentence(ports: &PortUsage, ratio: f64) -> String {
    if ports.usable == 0 {
        return "the port range has no usable port, connect() fails whatever the destination"
            .to_owned();
    }
    let told = ports.by_destination.as_ref();
    let worst = told.and_then(|told| told.exported.first());
    let usable = wording::count(ports.usable.into());
    match worst {
        _ if ports.destinations == 0 => format!("no outgoing connection, {usable} ports usable"),
        Some(worst) => format!(
            "{} of {usable} ports spent, {} left to {}",
            wording::percent(ratio),
            wording::count(worst.headroom.into()),
            wording::destination(&worst.destination)
        ),
        None => format!("{} of {usable} ports spent", wording::percent(ratio)),
    }
}

/// `'label'=value[unit];[warn];[crit];[min];[max]`, a space before each.
fn append_perfdata(text: &mut String, prefix: &str, snapshot: &Snapshot, thresholds: Thresholds) {
    let Thresholds { warning, critical } = thresholds;
    let mut add = |label: &str, rest: String| {
        // A quote in a label is written twice.
        let label = format!("{prefix}{label}")
            .replace('\'', "''")
            .replace('=', "_");
        let _infallible = write!(text, " '{label}'={rest}");
    };
    if let Some(ports) = snapshot.ports() {
        for (label, ratio) in [
            ("ipv4_ratio", ports.worst_ratio.ipv4),
            ("ipv6_ratio", ports.worst_ratio.ipv6),
        ] {
            add(label, format!("{ratio:.6};{warning};{critical};0;1"));
        }
        let told = ports.by_destination.as_ref();
        if let Some(worst) = told.and_then(|told| told.exported.first()) {
            add(
                "headroom",
                format!("{};;;0;{}", worst.headroom, ports.usable),
            );
        }
        add(
            "usable",
            format!("{};;;0;{}", ports.usable, ports.range.ports()),
        );
        add("destinations", format!("{};;;0;", ports.destinations));
    }
    if let Some(sockets) = snapshot.sockets() {
        let waiting = sockets.time_wait.ipv4 + sockets.time_wait.ipv6;
        add("time_wait", format!("{waiting};;;0;"));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::namespace::NamespaceIdentity;
    use crate::domain::snapshot::PerFamily;
    use crate::report::testing::{report, snapshot};

    fn named(label: &str) -> NamespaceIdentity {
        NamespaceIdentity {
            label: label.to_owned(),
            ..NamespaceIdentity::default()
        }
    }

    fn said(time_wait: u16) -> (State, String) {
        line(&report(time_wait), Thresholds::default())
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
    fn a_range_without_a_usable_port_is_critical_though_nothing_is_spent() {
        let mut report = report(0);
        let snapshot = &mut report.namespaces.first_mut().unwrap().snapshot;
        let ports = snapshot.sockets_mut().unwrap().ports.as_mut().unwrap();
        (ports.usable, ports.worst_ratio) = (0, PerFamily::default());
        let (state, line) = line(&report, Thresholds::default());
        assert_eq!(state, State::Critical);
        assert!(line.contains("no usable port"), "{line}");
    }

    #[test]
    fn the_line_is_that_of_monitoring_plugins() {
        let (_, line) = said(99);
        let (text, perfdata) = line.split_once(" | ").unwrap();
        assert_eq!(
            text,
            "TIMEWAIT CRITICAL - 100% of 99 ports spent, 0 left to 198.51.100.1 port 5432 from \
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
    fn what_could_not_be_read_is_unknown() {
        let report = Report::new("1", "k".to_owned(), Snapshot::default().into());
        let (state, line) = line(&report, Thresholds::default());
        assert_eq!((state, state.code()), (State::Unknown, 3));
        assert!(
            line.starts_with("TIMEWAIT UNKNOWN - ") && !line.contains('|'),
            "{line}"
        );
        assert!(line.contains("--no-collector.sockets"), "{line}");
    }

    #[test]
    fn of_several_namespaces_the_worst_speaks() {
        let mut report = report(10);
        report
            .namespaces
            .push(NamespaceReport::new(Some(named("it's|a")), snapshot(99)));
        let unread = NamespaceReport::new(Some(named("z")), Snapshot::default());
        report.namespaces.push(unread);
        let (state, line) = line(&report, Thresholds::default());
        assert_eq!(state, State::Critical);
        assert!(
            line.starts_with("TIMEWAIT CRITICAL - it's/a: 100%"),
            "{line}"
        );
        assert!(line.contains(" 'it''s|a_ipv4_ratio'=1.0"), "{line}");
    }
}

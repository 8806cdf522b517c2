//! Destinations near their limit, what fills them, and what helps there.

use super::finding::{FigureValue, Finding, Id, Severity};
use super::help;
use super::thresholds::{RATIO_CRITICAL, RATIO_WARNING};
use super::whatif::Load;
use super::{View, wording};
use crate::domain::snapshot::{DestinationUsage, PortUsage};

/// So many destinations are told one by one.
const MOST: usize = 10;

/// Below this share of what is taken TIME-WAIT is not what fills a destination.
const NEGLIGIBLE: f64 = 0.1;

/// How grave a destination's ratio is.
pub(super) fn severity_of(ratio: f64) -> Severity {
    if ratio >= RATIO_CRITICAL {
        Severity::Critical
    } else if ratio >= RATIO_WARNING {
        Severity::Warning
    } else {
        Severity::Ok
    }
}

pub(super) fn load(figures: &DestinationUsage, ports: &PortUsage) -> Load {
    Load {
        taken: ports.usable.saturating_sub(figures.headroom),
        usable: ports.usable,
    }
}

pub(super) fn find(view: &View<'_>, findings: &mut Vec<Finding>) {
    let Some(ports) = view.ports else { return };
    // Every destination is at its limit then, and none of them is to blame.
    if ports.usable == 0 {
        return;
    }
    let low: Vec<_> = view
        .destinations()
        .iter()
        .filter(|figures| severity_of(figures.exhaustion_ratio) > Severity::Ok)
        .collect();
    for figures in low.iter().take(MOST) {
        findings.push(one(view, ports, figures));
    }
    if low.len() > MOST {
        // Where all that are told are low, those that are not told may be, too.
        let told = view.destinations().len();
        let is_all = low.len() < told || u64::try_from(told) == Ok(ports.destinations);
        findings.push(more(low.get(MOST..).unwrap_or_default(), is_all));
    }
    if low.is_empty() && severity_of(view.worst_ratio()) > Severity::Ok {
        findings.push(unnamed(view, ports));
    }
}

fn more(rest: &[&DestinationUsage], is_all: bool) -> Finding {
    let worst = rest.iter().map(|figures| figures.exhaustion_ratio);
    let severity = severity_of(worst.fold(0.0, f64::max));
    let count = u64::try_from(rest.len()).unwrap_or(u64::MAX);
    let sentence = format!(
        "{}{} {} used {} or more of their ports.",
        if is_all { "" } else { "At least " },
        wording::counted(count, "further destination", "further destinations"),
        if count == 1 { "has" } else { "have" },
        wording::percent(RATIO_WARNING),
    );
    Finding::new(Id::MoreDestinations, severity, sentence).count("destinations", count)
}

/// The worst destination, where destinations are not told.
fn unnamed(view: &View<'_>, ports: &PortUsage) -> Finding {
    let ratio = view.worst_ratio();
    let load = load_of_ratio(ratio, ports);
    let sentence = format!(
        "A destination has used {} of the {} usable ports; which one is not told \
         (--no-collector.by-destination).",
        wording::percent(ratio),
        wording::count(ports.usable.into()),
    );
    Finding::new(Id::DestinationLow, severity_of(ratio), sentence)
        .figure("exhaustion_ratio", FigureValue::Ratio(ratio))
        .count("usable_ports", ports.usable)
        .remedies(help::for_all(view, ports, load))
}

/// The load that a ratio was computed from.
pub(super) fn load_of_ratio(ratio: f64, ports: &PortUsage) -> Load {
    let usable = ports.usable;
    let is_below = |taken: &u32| f64::from(*taken) < ratio * f64::from(usable) - 0.5;
    // Bisection: a float does not turn into an integer without doubts about its bounds.
    let (mut low, mut high) = (0, usable);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_below(&middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Load { taken: low, usable }
}

/// What mostly fills a destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Filling {
    /// TIME-WAIT.
    TimeWait,
    /// Something else, but TIME-WAIT has a part.
    Mixed,
    /// Live connections.
    Established,
    /// Connections that are being made or ended.
    Other,
}

impl Filling {
    fn of(figures: &DestinationUsage) -> Self {
        let held = figures.in_use;
        let waiting = held.time_wait.saturating_sub(figures.reusable);
        let all = waiting + held.established + held.other;
        if waiting.saturating_mul(2) >= all {
            Self::TimeWait
        } else if to_f64(waiting) >= NEGLIGIBLE * to_f64(all) {
            Self::Mixed
        } else if held.established >= held.other {
            Self::Established
        } else {
            Self::Other
        }
    }

    fn clause(self, figures: &DestinationUsage) -> String {
        let held = figures.in_use;
        let (count, counted) = (wording::count, wording::counted);
        match self {
            Self::TimeWait => format!("{} in TIME-WAIT", counted(held.time_wait, "is", "are")),
            Self::Mixed => format!(
                "most are held by connections that are not in TIME-WAIT ({} established, {} in other \
                 states), so that settings for TIME-WAIT help only in part",
                count(held.established),
                count(held.other)
            ),
            Self::Established => format!(
                "{}, so that settings for TIME-WAIT will not help",
                counted(
                    held.established,
                    "is an established connection",
                    "are established connections"
                )
            ),
            Self::Other => format!(
                "{} held by connections that are being made or ended, so that settings for \
                 TIME-WAIT will not help",
                counted(held.other, "is", "are")
            ),
        }
    }
}

fn to_f64(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn one(view: &View<'_>, ports: &PortUsage, figures: &DestinationUsage) -> Finding {
    let load = load(figures, ports);
    let filling = Filling::of(figures);
    let id = if figures.headroom == 0 {
        Id::DestinationExhausted
    } else {
        Id::DestinationLow
    };
    let sentence = sentence(ports, figures, filling);
    let mut finding = Finding::new(id, severity_of(figures.exhaustion_ratio), sentence);
    finding.destination = Some(figures.destination);
    finding
        .figure(
            "exhaustion_ratio",
            FigureValue::Ratio(figures.exhaustion_ratio),
        )
        .count("headroom_ports", figures.headroom)
        .count("usable_ports", ports.usable)
        .count("time_wait", figures.in_use.time_wait)
        .count("established", figures.in_use.established)
        .count("other_states", figures.in_use.other)
        .count("reusable", figures.reusable)
        .figure("closes_per_second", FigureValue::Rate(figures.close_rate))
        .count("search_ports", figures.search_ports)
        .remedies(help::remedies(view, ports, figures, load, filling))
}

fn sentence(ports: &PortUsage, figures: &DestinationUsage, filling: Filling) -> String {
    let place = wording::destination(&figures.destination);
    let clause = filling.clause(figures);
    let usable = wording::counted(ports.usable.into(), "usable port", "usable ports");
    if figures.headroom == 0 {
        return format!(
            "connect() to {place} fails with EADDRNOTAVAIL: of the {usable} none is left; {clause}."
        );
    }
    let left = wording::counted(figures.headroom.into(), "port is", "ports are");
    let odd = if figures.headroom == 1 && !ports.range.ports().is_multiple_of(2) {
        " (which connect() may not find, the range having an odd number of ports)"
    } else {
        ""
    };
    format!(
        "{left} left{odd} to {place}, {} of the {usable} being spent; {clause}.",
        wording::percent(figures.exhaustion_ratio),
    )
}

/// That all is well, with the figure that says so.
pub(super) fn plentiful(view: &View<'_>) -> Finding {
    let worst = view
        .destinations()
        .iter()
        .find(|figures| figures.in_use.total() > 0);
    let sentence = match (worst, view.ports) {
        (Some(worst), Some(ports)) => format!(
            "Ephemeral ports are plentiful: the fullest destination, {}, has used {} of {}.",
            wording::destination(&worst.destination),
            wording::percent(worst.exhaustion_ratio),
            wording::count(ports.usable.into()),
        ),
        _ if view.worst_ratio() > 0.0 => format!(
            "Ephemeral ports are plentiful: the fullest destination has used {}.",
            wording::percent(view.worst_ratio())
        ),
        _ => "Ephemeral ports are plentiful: no outgoing connection holds any.".to_owned(),
    };
    Finding::new(Id::Plentiful, Severity::Ok, sentence)
        .figure("exhaustion_ratio", FigureValue::Ratio(view.worst_ratio()))
}

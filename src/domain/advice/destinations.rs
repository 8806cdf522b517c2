//! Destinations near their limit, what fills them, and what helps there.

use super::finding::{FigureValue, Finding, Id, Severity};
use super::remedy::{Effect, Remedy, RemedyId};
use super::thresholds::{RATIO_CRITICAL, RATIO_WARNING};
use super::whatif::{self, Load};
use super::{View, wording};
use crate::domain::snapshot::{DestinationFigures, PortFigures};

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

pub(super) fn load(figures: &DestinationFigures, ports: &PortFigures) -> Load {
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
        findings.push(more(low.get(MOST..).unwrap_or_default()));
    }
    if low.is_empty() && severity_of(view.worst_ratio()) > Severity::Ok {
        findings.push(unnamed(view, ports));
    }
}

fn more(rest: &[&DestinationFigures]) -> Finding {
    let worst = rest.iter().map(|figures| figures.exhaustion_ratio);
    let severity = severity_of(worst.fold(0.0, f64::max));
    let count = u64::try_from(rest.len()).unwrap_or(u64::MAX);
    let sentence = format!(
        "{} {} used {} or more of their ports.",
        wording::counted(count, "further destination", "further destinations"),
        if count == 1 { "has" } else { "have" },
        wording::percent(RATIO_WARNING),
    );
    Finding::new(Id::MoreDestinations, severity, sentence).count("destinations", count)
}

/// The worst destination, where destinations are not told.
fn unnamed(view: &View<'_>, ports: &PortFigures) -> Finding {
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
        .remedies(range_remedies(view, ports, load))
}

/// The load that a ratio was computed from.
pub(super) fn load_of_ratio(ratio: f64, ports: &PortFigures) -> Load {
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
enum Filling {
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
    fn of(figures: &DestinationFigures) -> Self {
        let held = figures.held;
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

    fn clause(self, figures: &DestinationFigures) -> String {
        let held = figures.held;
        let count = wording::count;
        match self {
            Self::TimeWait => format!("{} are in TIME-WAIT", count(held.time_wait)),
            Self::Mixed => format!(
                "most are held by connections that are not in TIME-WAIT ({} established, {} in other \
                 states), so that settings for TIME-WAIT help little",
                count(held.established),
                count(held.other)
            ),
            Self::Established => format!(
                "{} are established connections, so that settings for TIME-WAIT will not help",
                count(held.established)
            ),
            Self::Other => format!(
                "{} are held by connections that are being made or ended, so that settings for \
                 TIME-WAIT will not help",
                count(held.other)
            ),
        }
    }
}

fn to_f64(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn one(view: &View<'_>, ports: &PortFigures, figures: &DestinationFigures) -> Finding {
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
        .count("time_wait", figures.held.time_wait)
        .count("established", figures.held.established)
        .count("other_states", figures.held.other)
        .count("reusable", figures.reusable)
        .figure("closes_per_second", FigureValue::Rate(figures.close_rate))
        .count("search_ports", figures.search_ports)
        .remedies(remedies(view, ports, figures, load, filling))
}

fn sentence(ports: &PortFigures, figures: &DestinationFigures, filling: Filling) -> String {
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

fn remedies(
    view: &View<'_>,
    ports: &PortFigures,
    figures: &DestinationFigures,
    load: Load,
    filling: Filling,
) -> Vec<Remedy> {
    let waits = matches!(filling, Filling::TimeWait | Filling::Mixed);
    let mut remedies = Vec::new();
    if waits {
        remedies.extend(reuse(view, figures, load));
    }
    remedies.extend(range_remedies(view, ports, load));
    remedies.extend(elsewhere(figures, load));
    if filling == Filling::TimeWait {
        remedies.push(keep_alive(ports));
    } else {
        remedies.push(find_holders(figures));
    }
    remedies
}

/// What frees ports for every destination.
pub(super) fn range_remedies(view: &View<'_>, ports: &PortFigures, load: Load) -> Vec<Remedy> {
    let remedies = [
        widen(view, ports, load),
        release(ports, load),
        move_listeners(ports, load),
    ];
    remedies.into_iter().flatten().collect()
}

fn gain(remedy: Remedy, effect: Effect) -> Option<Remedy> {
    effect.is_gain().then(|| remedy.effect(effect))
}

/// `tcp_tw_reuse` = 1, with timestamps, where it is not so already.
fn reuse(view: &View<'_>, figures: &DestinationFigures, load: Load) -> Option<Remedy> {
    let timestamps = view.has_timestamps()?;
    let reuse = view.reuse()?;
    let destination = &figures.destination;
    let is_loopback = destination.src_addr.is_loopback() || destination.dst_addr.is_loopback();
    let is_allowed = reuse == 1 || reuse == 2 && is_loopback;
    if is_allowed && timestamps {
        return None;
    }
    let mut remedy = Remedy::new(
        if is_allowed {
            RemedyId::Timestamps
        } else {
            RemedyId::Reuse
        },
        "Let connect() take over TIME-WAIT sockets that are older than a second: safe for outgoing \
         connections where both ends send timestamps.",
    );
    if !timestamps {
        remedy = remedy.setting("tcp_timestamps", "1").caution(
            "Sockets that closed without timestamps stay as they are: it helps as new ones take their \
             place, within a minute.",
        );
    }
    if !is_allowed {
        remedy = remedy.setting("tcp_tw_reuse", "1");
    }
    if !timestamps {
        return Some(remedy);
    }
    let after = Load {
        taken: load.taken.saturating_sub(figures.reuse_gain),
        ..load
    };
    remedy = remedy.caution(
        "Only where the server sends timestamps too. Sockets in FIN-WAIT-2 and younger TIME-WAIT stay \
         as they are.",
    );
    gain(remedy, load.effect(after))
}

/// The least bold range that leads out of the danger, or else the widest.
fn widen(view: &View<'_>, ports: &PortFigures, load: Load) -> Option<Remedy> {
    let mut best = None;
    for plan in whatif::wider(ports, view.settings) {
        let effect = load.effect(plan.load(load));
        if !effect.is_gain() {
            continue;
        }
        let is_enough = effect.after.ratio < RATIO_WARNING;
        best = Some((plan, effect));
        if is_enough {
            break;
        }
    }
    let (plan, effect) = best?;
    let (min, max) = (plan.range.min(), plan.range.max());
    let mut remedy = Remedy::new(
        RemedyId::WidenRange,
        format!(
            "Widen the range to {min}-{max}{}.",
            if plan.settings(ports).len() > 1 {
                ", and reserve the ports in it that services listen on"
            } else {
                ""
            }
        ),
    );
    remedy.settings = plan.settings(ports);
    if min < ports.range.min() {
        let below = ports.range.min() - 1;
        remedy = remedy.caution(format!(
            "Also reserve ports from {min} to {below} of services that are not running now (on \
             Kubernetes nodes 30000-32767): a connection can hold them when such a service starts.",
        ));
    }
    gain(remedy, effect)
}

/// Widening where nothing is near its limit: what it gives the worst destination.
pub(super) fn widen_for_all(view: &View<'_>, ports: &PortFigures) -> Option<Remedy> {
    widen(view, ports, load_of_ratio(view.worst_ratio(), ports))
}

fn release(ports: &PortFigures, load: Load) -> Option<Remedy> {
    let (plan, freed) = whatif::released(ports)?;
    let mut remedy = Remedy::new(
        RemedyId::ReleaseReserved,
        format!(
            "Release the {} inside the range that nothing listens on: {freed}.",
            wording::counted(freed.len().into(), "reserved port", "reserved ports")
        ),
    )
    .caution("Not those that a service needs when it starts again.");
    remedy.settings = plan.settings(ports);
    gain(remedy, load.effect(plan.load(load)))
}

fn move_listeners(ports: &PortFigures, load: Load) -> Option<Remedy> {
    let (plan, moved) = whatif::without_listeners(ports)?;
    let remedy = Remedy::new(
        RemedyId::MoveListeners,
        format!(
            "Have the services that listen on {moved} listen outside {}-{}: a listener takes its port \
             from every destination.",
            ports.range.min(),
            ports.range.max()
        ),
    );
    gain(remedy, load.effect(plan.load(load)))
}

/// More destinations: the kernel spends a whole range on each.
fn elsewhere(figures: &DestinationFigures, load: Load) -> Vec<Remedy> {
    let effect = load.spread(further(figures, load));
    let n = further(figures, load);
    let each = wording::count(load.usable.into());
    let destination = &figures.destination;
    let server = Remedy::new(
        RemedyId::MoreServerPorts,
        format!(
            "Reach the service under {} besides {} port {}, and spread the connections: each gives \
             {each} ports more.",
            wording::counted(
                n.into(),
                "further port or address",
                "further ports or addresses"
            ),
            destination.dst_addr,
            destination.dst_port,
        ),
    );
    let client = Remedy::new(
        RemedyId::MoreClientAddresses,
        format!(
            "Connect from {} besides {}, and spread the connections: each gives {each} ports more.",
            wording::counted(n.into(), "further address", "further addresses"),
            destination.src_addr,
        ),
    )
    .caution(
        "Programs must set IP_BIND_ADDRESS_NO_PORT before bind() to the address: without it the port is \
         taken for all destinations.",
    );
    [server, client]
        .into_iter()
        .filter_map(|remedy| gain(remedy, effect))
        .collect()
}

/// How many ranges more keep the load, and what the present rate of closing adds up to in a minute,
/// below the warning.
fn further(figures: &DestinationFigures, load: Load) -> u32 {
    let needed = f64::from(load.taken).max(figures.close_rate * 60.0);
    let enough = |n: &u32| needed < RATIO_WARNING * f64::from(load.usable) * f64::from(n + 1);
    (1..=100).find(enough).unwrap_or(100)
}

fn keep_alive(ports: &PortFigures) -> Remedy {
    Remedy::new(
        RemedyId::ReuseConnections,
        format!(
            "Keep connections open and use them again (keep-alive, a pool), or let the server close \
             first: {} usable ports keep up no more than {} new connections a second to one destination, \
             for each port waits 60 s.",
            wording::count(ports.usable.into()),
            wording::count((ports.usable / 60).into()),
        ),
    )
}

fn find_holders(figures: &DestinationFigures) -> Remedy {
    let destination = &figures.destination;
    let mut remedy = Remedy::new(
        RemedyId::FindHolders,
        "Find the program that holds the connections, and have it use fewer: a pool with a limit, idle \
         connections closed, several requests on one connection.",
    );
    let source = if destination.src_addr.is_wildcard() {
        String::new()
    } else {
        format!(" src {}", bracketed(&destination.src_addr.to_string()))
    };
    remedy.command = Some(format!(
        "ss -tanp{source} dst {}:{}",
        bracketed(&destination.dst_addr.to_string()),
        destination.dst_port
    ));
    remedy
}

fn bracketed(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}

/// That all is well, with the figure that says so.
pub(super) fn plentiful(view: &View<'_>) -> Finding {
    let worst = view
        .destinations()
        .iter()
        .find(|figures| figures.held.total() > 0);
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

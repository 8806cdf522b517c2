//! What helps a destination that is near its limit, and what each remedy gives it.

use std::time::Duration;

use super::destinations::{Filling, load_of_ratio};
use super::remedy::{Effect, Remedy, RemedyId};
use super::thresholds::RATIO_WARNING;
use super::whatif::{self, Load, Plan};
use super::{View, wording};
use crate::domain::snapshot::{DestinationUsage, PortUsage};

pub(super) fn remedies(
    view: &View<'_>,
    ports: &PortUsage,
    figures: &DestinationUsage,
    load: Load,
    filling: Filling,
) -> Vec<Remedy> {
    let waits = matches!(filling, Filling::TimeWait | Filling::Mixed);
    let mut remedies = Vec::new();
    if waits {
        remedies.extend(reuse(view, figures, load));
    }
    remedies.extend(for_all(view, ports, load));
    let hold_seconds = hold_seconds(view, is_loopback(figures));
    remedies.extend(elsewhere(figures, load, hold_seconds));
    if filling == Filling::TimeWait {
        remedies.push(keep_alive(ports, hold_seconds));
    } else {
        remedies.push(find_holders(figures));
    }
    remedies
}

/// Two remedies that set `ip_local_reserved_ports` are computed from the same state each.
pub(super) const LIST_REPLACES: &str = "The list replaces the one in force: after another remedy that \
                                        sets it, look again before this one.";

/// What frees ports for every destination.
pub(super) fn for_all(view: &View<'_>, ports: &PortUsage, load: Load) -> Vec<Remedy> {
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
pub(super) fn reuse(view: &View<'_>, figures: &DestinationUsage, load: Load) -> Option<Remedy> {
    let timestamps = view.has_timestamps()?;
    let reuse = view.reuse()?;
    let is_allowed = reuse == 1 || reuse == 2 && is_loopback(figures);
    if is_allowed && timestamps {
        return None;
    }
    let mut remedy = Remedy::new(
        if is_allowed {
            RemedyId::Timestamps
        } else {
            RemedyId::Reuse
        },
        format!(
            "Let connect() take over TIME-WAIT sockets that are older than {}: safe for outgoing \
             connections where both ends send timestamps.",
            reuse_delay(view)
        ),
    );
    if !timestamps {
        remedy = remedy.setting("tcp_timestamps", "1").mind(
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
    remedy = remedy.mind(
        "Only where the server sends timestamps too. Sockets in FIN-WAIT-2 and younger TIME-WAIT stay \
         as they are.",
    );
    gain(remedy, load.effect(after))
}

pub(super) fn is_loopback(figures: &DestinationUsage) -> bool {
    let destination = &figures.destination;
    destination.src_addr.is_loopback() || destination.dst_addr.is_loopback()
}

/// Where the kernel has no such setting it is the second that is built in.
fn reuse_delay_ms(view: &View<'_>) -> i64 {
    let settings = view.settings;
    settings
        .and_then(|settings| settings.tcp_tw_reuse_delay_ms)
        .unwrap_or(1_000)
}

fn reuse_delay(view: &View<'_>) -> String {
    match reuse_delay_ms(view) {
        1_000 => "a second".to_owned(),
        delay => format!("{delay} ms (tcp_tw_reuse_delay)"),
    }
}

/// How long the port of a closed connection waits until the next one can have it.
pub(super) fn hold_seconds(view: &View<'_>, is_loopback: bool) -> f64 {
    let is_allowed = match view.reuse() {
        Some(1) => true,
        Some(2) => is_loopback,
        _ => false,
    };
    if is_allowed && view.has_timestamps() == Some(true) {
        let delay = u32::try_from(reuse_delay_ms(view)).unwrap_or_default();
        f64::from(delay.clamp(1, 60_000)) / 1_000.0
    } else {
        60.0
    }
}

/// The least bold range that leads out of the danger, or else the widest.
fn widen(view: &View<'_>, ports: &PortUsage, load: Load) -> Option<Remedy> {
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
    gain(widening(ports, &plan), effect)
}

/// A wider range, and what to mind.
pub(super) fn widening(ports: &PortUsage, plan: &Plan) -> Remedy {
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
        remedy = remedy.mind(format!(
            "Also reserve ports from {min} to {below} of services that are not running now (on \
             Kubernetes nodes 30000-32767): a connection can hold them when such a service starts.",
        ));
    }
    if !ports.sets.elsewhere_is_whole {
        remedy = remedy.mind(
            "Ports outside the range that live sockets hold were not read for this and are not counted: \
             `timewait_exporter report` does.",
        );
    }
    at_least(remedy, plan.holds_some())
}

/// Says of an effect that it may be more.
pub(super) fn at_least(remedy: Remedy, is_least: bool) -> Remedy {
    if is_least {
        remedy.mind(
            "It gives at least that much: ports gained that any socket holds already are counted as lost, \
             though connect() can have some of them.",
        )
    } else {
        remedy
    }
}

/// Widening where nothing is near its limit: what it gives the worst destination.
pub(super) fn widen_for_all(view: &View<'_>, ports: &PortUsage) -> Option<Remedy> {
    widen(view, ports, load_of_ratio(view.worst_ratio(), ports))
}

fn release(ports: &PortUsage, load: Load) -> Option<Remedy> {
    let (plan, freed) = whatif::released(ports)?;
    let mut remedy = Remedy::new(
        RemedyId::ReleaseReserved,
        format!(
            "Release the {} inside the range that nothing listens on: {freed}.",
            wording::counted(freed.len().into(), "reserved port", "reserved ports")
        ),
    )
    .mind(format!(
        "Not those that a service needs when it starts again. {LIST_REPLACES}"
    ));
    remedy.settings = plan.settings(ports);
    let remedy = at_least(remedy, plan.holds_some());
    gain(remedy, load.effect(plan.load(load)))
}

fn move_listeners(ports: &PortUsage, load: Load) -> Option<Remedy> {
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
fn elsewhere(figures: &DestinationUsage, load: Load, hold_seconds: f64) -> Vec<Remedy> {
    let n = further(figures, load, hold_seconds);
    let effect = load.spread(n);
    let each = wording::counted(load.usable.into(), "port", "ports");
    let destination = &figures.destination;
    let server = Remedy::new(
        RemedyId::MoreServerPorts,
        format!(
            "Reach the service under {} besides {} port {}, and spread the connections: each gives \
             {each} more.",
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
            "Connect from {} besides {}, and spread the connections: each gives {each} more.",
            wording::counted(n.into(), "further address", "further addresses"),
            destination.src_addr,
        ),
    )
    .mind(
        "Programs must set IP_BIND_ADDRESS_NO_PORT before bind() to the address: without it the port is \
         taken for all destinations.",
    );
    [server, client]
        .into_iter()
        .filter_map(|remedy| gain(remedy, effect))
        .collect()
}

/// How many ranges more keep the load, and what the present rate of closing adds up to while a port waits,
/// below the warning.
fn further(figures: &DestinationUsage, load: Load, hold_seconds: f64) -> u32 {
    let needed = f64::from(load.taken).max(figures.close_rate * hold_seconds);
    let enough = |n: &u32| needed < RATIO_WARNING * f64::from(load.usable) * f64::from(n + 1);
    (1..=100).find(enough).unwrap_or(100)
}

fn keep_alive(ports: &PortUsage, hold_seconds: f64) -> Remedy {
    Remedy::new(
        RemedyId::ReuseConnections,
        format!(
            "Keep connections open and use them again (keep-alive, a pool), or let the server close \
             first: with {} {} a second to one destination can be kept up, for each port waits {}.",
            wording::counted(ports.usable.into(), "usable port", "usable ports"),
            new_connections(ports, hold_seconds),
            wait(hold_seconds),
        ),
    )
}

/// How many a second a destination can have, each port being held for so long.
pub(super) fn new_connections(ports: &PortUsage, hold_seconds: f64) -> String {
    let milliseconds = Duration::from_secs_f64(hold_seconds).as_millis().max(1);
    let rate = u128::from(ports.usable) * 1_000 / milliseconds;
    let Ok(rate @ 1..) = u64::try_from(rate) else {
        return "less than one new connection".to_owned();
    };
    let rate = wording::counted(rate, "new connection", "new connections");
    format!("no more than {rate}")
}

/// The same time in words.
pub(super) fn wait(hold_seconds: f64) -> String {
    if hold_seconds >= 60.0 {
        "60 s".to_owned()
    } else {
        format!("{hold_seconds} s even with tcp_tw_reuse")
    }
}

fn find_holders(figures: &DestinationUsage) -> Remedy {
    let destination = &figures.destination;
    let mut remedy = Remedy::new(
        RemedyId::FindHolders,
        "Find the program that holds the connections, and have it use fewer: a pool with a limit, idle \
         connections closed, several requests on one connection.",
    );
    let source = if destination.src_addr.is_wildcard() {
        String::new()
    } else {
        format!(
            " src {}",
            quoted(&bracketed(&destination.src_addr.to_string()))
        )
    };
    remedy.command = Some(format!(
        "ss -tanp{source} dst {}",
        quoted(&format!(
            "{}:{}",
            bracketed(&destination.dst_addr.to_string()),
            destination.dst_port
        ))
    ));
    remedy
}

/// Brackets are a pattern to a shell: of names of files, and an error to some where none fits.
fn quoted(word: &str) -> String {
    if word.contains('[') {
        format!("'{word}'")
    } else {
        word.to_owned()
    }
}

fn bracketed(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}

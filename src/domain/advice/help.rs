//! What helps a destination, and the effect of each remedy on it.

use std::time::Duration;

use super::destinations::{Case, load, load_of_ratio};
use super::remedy::{Remedy, RemedyId};
use super::thresholds::RATIO_WARNING;
use super::whatif::{self, Load, Plan};
use super::wording::{count, counted};
use super::{View, wording};
use crate::domain::snapshot::{DestinationUsage, PeerTimestamps, PortUsage};

/// How long a socket in TIME-WAIT lasts: `TCP_TIMEWAIT_LEN`.
const TIME_WAIT_SECONDS: f64 = 60.0;

/// What `tcp_fin_timeout` is lowered to, in seconds.
const FIN_TIMEOUT_SECONDS: i64 = 10;

impl Case<'_> {
    /// What helps, so that the ratio stays below the target.
    pub(super) fn remedies(&self, target: f64) -> Vec<Remedy> {
        let (view, usage, states) = (self.view, self.usage, &self.states);
        let load = load(usage, self.ports);
        let of_states = [
            states.are_mostly_closed().then(|| self.reuse_connections()),
            states
                .matters(states.close_wait)
                .then(|| self.close_sockets()),
            (states.matters(states.established) || states.matters(states.rest))
                .then(|| self.find_holders()),
            states.matters(states.syn_sent).then(syn_retries),
            fin_timeout(view).filter(|_| states.matters(states.orphans)),
            reuse(view, usage, load).filter(|_| states.matters(states.waiting)),
        ];
        let mut remedies: Vec<Remedy> = of_states.into_iter().flatten().collect();
        remedies.extend(more_ports(view, self.ports, load, target));
        let widen = |remedy: &&mut Remedy| remedy.id == RemedyId::WidenRange && self.is_slow;
        for remedy in remedies.iter_mut().filter(widen) {
            remedy.notes.push(
                "connect() gets slow when half of the range is in use: a wider range moves that point, once the sockets \
                 that are in use now have gone."
                    .to_owned(),
            );
        }
        remedies.extend(self.elsewhere(load, target));
        remedies
    }

    fn reuse_connections(&self) -> Remedy {
        let seconds = port_seconds(self.view, self.usage);
        Remedy::new(
            RemedyId::ReuseConnections,
            format!(
                "Keep connections open and reuse them (keep-alive, a connection pool), or let the server close first. \
                 {} sustain {} new connections per second to one destination, since each port stays in use for {}.",
                counted(self.ports.usable.into(), "usable port", "usable ports"),
                sustainable(self.ports, seconds),
                duration(seconds),
            ),
        )
    }

    fn close_sockets(&self) -> Remedy {
        Remedy::new(
            RemedyId::CloseSockets,
            "Restart the program that owns the sockets in CLOSE-WAIT, which frees their ports at once, and fix it: it \
             must close() a socket when the peer has closed.",
        )
        .command(self.ss("state close-wait"))
    }

    fn find_holders(&self) -> Remedy {
        Remedy::new(
            RemedyId::FindHolders,
            "Find the program that owns the connections, and let it use fewer: a pool with a limit, idle connections \
             closed, several requests on one connection.",
        )
        .command(self.ss("state connected"))
    }

    fn ss(&self, filter: &str) -> String {
        let destination = &self.usage.destination;
        let host = |address: String| {
            if address.contains(':') {
                format!("[{address}]")
            } else {
                address
            }
        };
        // To a shell brackets are a pattern of file names.
        let quoted = |word: String| {
            if word.contains('[') {
                format!("'{word}'")
            } else {
                word
            }
        };
        let source = if destination.src_addr.is_wildcard() {
            String::new()
        } else {
            format!(" src {}", quoted(host(destination.src_addr.to_string())))
        };
        let target = format!(
            "{}:{}",
            host(destination.dst_addr.to_string()),
            destination.dst_port
        );
        format!("ss -tnp {filter}{source} dst {}", quoted(target))
    }

    /// More destinations, each of which has the whole range.
    fn elsewhere(&self, load: Load, target: f64) -> Vec<Remedy> {
        let Load { taken, usable } = load;
        let closed = self.usage.close_rate * port_seconds(self.view, self.usage);
        let needed = f64::from(taken).max(closed);
        let is_enough = |n: &u32| needed < target * f64::from(usable) * f64::from(n + 1);
        let n = (1..=100).find(is_enough).unwrap_or(100);
        let effect = load.spread(n, 0);
        let each = counted(usable.into(), "port", "ports");
        let destination = &self.usage.destination;
        let server = Remedy::new(
            RemedyId::MoreServerPorts,
            format!(
                "Offer the service under {} in addition to {} port {}, and spread the connections: each has {each}.",
                counted(
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
                "Connect from {} in addition to {}, and spread the connections: each has {each}.",
                counted(n.into(), "further local address", "further local addresses"),
                destination.src_addr,
            ),
        )
        .note(
            "Programs must set IP_BIND_ADDRESS_NO_PORT before they bind() to the address; otherwise the port is lost \
             to all other destinations.",
        );
        let remedies = [server, client].into_iter();
        remedies.filter_map(|remedy| remedy.gain(effect)).collect()
    }
}

fn syn_retries() -> Remedy {
    Remedy::new(
        RemedyId::SynRetries,
        "Find out why the peer does not answer: it is down, a firewall drops packets, or its accept queue is full. \
         Set a timeout for connect() in the program, or give up after 3 retries: an unanswered connect() then uses \
         its port for 4 to 15 s instead of 2 minutes.",
    )
    .setting("tcp_syn_retries", "3")
    .note("Applies to every connect() of this host, also to slow peers.")
}

fn fin_timeout(view: &View<'_>) -> Option<Remedy> {
    let now = view.sysctl(|settings| settings.tcp_fin_timeout_seconds)?;
    (now > FIN_TIMEOUT_SECONDS).then(|| {
        Remedy::new(
            RemedyId::FinTimeout,
            format!(
                "Lower tcp_fin_timeout from {now} to {FIN_TIMEOUT_SECONDS} s: after that time the kernel frees a socket \
                 in FIN-WAIT-2 that no process owns.",
            ),
        )
        .setting("tcp_fin_timeout", FIN_TIMEOUT_SECONDS.to_string())
        .note(format!(
            "Sockets that are in FIN-WAIT-2 now keep the old time. A peer that still sends {FIN_TIMEOUT_SECONDS} s after \
             this host has closed gets a reset."
        ))
    })
}

/// Two remedies that set `ip_local_reserved_ports` are computed from the same state.
pub(super) const LIST_REPLACES: &str = "The list replaces the present one: after another remedy that sets it, run the \
                                        report again first.";

/// What gives every destination more ports.
pub(super) fn more_ports(
    view: &View<'_>,
    ports: &PortUsage,
    load: Load,
    target: f64,
) -> Vec<Remedy> {
    let remedies = [
        widen(view, ports, load, target),
        release(ports, load),
        move_listeners(ports, load),
    ];
    remedies.into_iter().flatten().collect()
}

/// `tcp_tw_reuse` = 1, with timestamps, unless it is so already.
pub(super) fn reuse(view: &View<'_>, usage: &DestinationUsage, load: Load) -> Option<Remedy> {
    let timestamps = view.has_timestamps()?;
    let is_allowed = allows_reuse(view.reuse()?, usage);
    let is_of_no_use = usage.peer_timestamps == PeerTimestamps::Absent;
    if is_of_no_use || is_allowed && timestamps {
        return None;
    }
    let id = if is_allowed {
        RemedyId::Timestamps
    } else {
        RemedyId::Reuse
    };
    let mut remedy = Remedy::new(
        id,
        format!(
            "Let connect() reuse TIME-WAIT sockets that are older than {}. This is safe for outgoing connections if both \
             ends send timestamps.",
            duration(reuse_delay_seconds(view))
        ),
    );
    if !timestamps {
        remedy = remedy.setting("tcp_timestamps", "1").note(
            "Sockets that were closed without timestamps are not reused: it helps within a minute, when new ones have \
             taken their place.",
        );
    }
    if !is_allowed {
        remedy = remedy.setting("tcp_tw_reuse", "1");
    }
    if !timestamps {
        return Some(remedy);
    }
    let after = Load {
        taken: load.taken.saturating_sub(usage.reuse_gain),
        ..load
    };
    let note = "Only if the server sends timestamps too. Younger sockets and those in FIN-WAIT-2 are not reused.";
    remedy.note(note).gain(load.effect(after))
}

pub(super) fn is_loopback(usage: &DestinationUsage) -> bool {
    usage.destination.src_addr.is_loopback() || usage.destination.dst_addr.is_loopback()
}

fn allows_reuse(reuse: i64, usage: &DestinationUsage) -> bool {
    reuse == 1 || reuse == 2 && is_loopback(usage)
}

/// A kernel without the sysctl has the second built in.
fn reuse_delay_seconds(view: &View<'_>) -> f64 {
    let delay = view.sysctl(|settings| settings.tcp_tw_reuse_delay_ms);
    let delay = u32::try_from(delay.unwrap_or(1_000)).unwrap_or_default();
    f64::from(delay.clamp(1, 60_000)) / 1_000.0
}

/// How long the port of a connection that was closed here stays in use.
pub(super) fn port_seconds(view: &View<'_>, usage: &DestinationUsage) -> f64 {
    let is_allowed = view.reuse().is_some_and(|reuse| allows_reuse(reuse, usage));
    port_seconds_if(view, is_allowed)
}

/// The same to most destinations: those of other hosts.
pub(super) fn port_seconds_elsewhere(view: &View<'_>) -> f64 {
    port_seconds_if(view, view.reuse() == Some(1))
}

fn port_seconds_if(view: &View<'_>, is_allowed: bool) -> f64 {
    if is_allowed && view.has_timestamps() == Some(true) {
        return reuse_delay_seconds(view);
    }
    let timeout = view.sysctl(|settings| settings.tcp_tw_timeout_seconds);
    let timeout = timeout.and_then(|seconds| u32::try_from(seconds).ok());
    timeout.map_or(TIME_WAIT_SECONDS, |seconds| f64::from(seconds.max(1)))
}

pub(super) fn duration(seconds: f64) -> String {
    format!("{seconds} s")
}

/// New connections per second to one destination, each of which uses its port for so long.
pub(super) fn sustainable(ports: &PortUsage, seconds: f64) -> String {
    let rate = f64::from(ports.usable) / seconds;
    if rate < 10.0 {
        return format!("{rate:.1}");
    }
    let rate = Duration::try_from_secs_f64(rate).unwrap_or_default();
    count(rate.as_secs())
}

/// The smallest step that brings the ratio below the target, or the widest range.
fn widen(view: &View<'_>, ports: &PortUsage, load: Load, target: f64) -> Option<Remedy> {
    let mut best = None;
    for plan in whatif::wider(ports, view.settings) {
        let effect = load.effect(plan.load(load));
        if effect.is_gain() {
            let is_enough = effect.after.ratio < target;
            best = Some(widening(ports, &plan).effect(effect));
            if is_enough {
                break;
            }
        }
    }
    best
}

/// Widening where nothing is near its limit: the effect on the fullest destination.
pub(super) fn widen_for_all(view: &View<'_>, ports: &PortUsage) -> Option<Remedy> {
    let load = load_of_ratio(view.worst_ratio(), ports);
    widen(view, ports, load, RATIO_WARNING)
}

/// A wider range, and what to know before.
pub(super) fn widening(ports: &PortUsage, plan: &Plan) -> Remedy {
    let (min, max) = (plan.range.min(), plan.range.max());
    let settings = plan.settings(ports);
    let reserving = if settings.len() > 1 {
        ", and reserve the ports in it that services listen on"
    } else {
        ""
    };
    let action = format!("Widen the port range to {min}-{max}{reserving}.");
    let mut remedy = Remedy::new(RemedyId::WidenRange, action).settings(settings);
    if min < ports.range.min() {
        remedy = remedy.note(format!(
            "Also reserve the ports from {min} to {} of services that are not running now (on Kubernetes nodes \
             30000-32767): a connection may use them when such a service starts.",
            ports.range.min() - 1
        ));
    }
    if !ports.sets.elsewhere_is_whole {
        remedy = remedy.note(
            "Ports outside the range that live sockets use are not counted here: `timewait_exporter report` does.",
        );
    }
    at_least(remedy, plan.gains_ports_in_use())
}

/// Says that the effect may be larger.
pub(super) fn at_least(remedy: Remedy, is_least: bool) -> Remedy {
    if is_least {
        remedy.note(
            "The effect is at least this large: gained ports that a socket uses already count as lost, though connect() \
             can use some of them.",
        )
    } else {
        remedy
    }
}

fn release(ports: &PortUsage, load: Load) -> Option<Remedy> {
    let (plan, freed) = whatif::released(ports)?;
    let remedy = Remedy::new(
        RemedyId::ReleaseReserved,
        format!(
            "Release {} inside the range on which nothing listens: {}.",
            counted(freed.len().into(), "reserved port", "reserved ports"),
            wording::ports(&freed),
        ),
    )
    .settings(plan.settings(ports))
    .note(format!(
        "Not those that a service needs when it starts. {LIST_REPLACES}"
    ));
    at_least(remedy, plan.gains_ports_in_use()).gain(load.effect(plan.load(load)))
}

fn move_listeners(ports: &PortUsage, load: Load) -> Option<Remedy> {
    let (plan, moved) = whatif::without_listeners(ports)?;
    let action = format!(
        "Let the services on {} listen outside {}-{}: a listener takes its port from every destination.",
        wording::ports(&moved),
        ports.range.min(),
        ports.range.max()
    );
    Remedy::new(RemedyId::MoveListeners, action).gain(load.effect(plan.load(load)))
}

//! What helps a destination, and the effect of each remedy on it.

use super::destinations::Case;
use super::whatif::{self, Load, Plan};
use super::wording::{count, counted, when};
use super::{Effect, Remedy, RemedyId, View, wording};
use crate::domain::address::Address;
use crate::domain::age::time_wait_ms;
use crate::domain::snapshot::{DestinationUsage, PeerTimestamps, PortUsage};

/// What `tcp_fin_timeout` is lowered to, in seconds.
const FIN_TIMEOUT_SECONDS: i64 = 10;

impl Case<'_> {
    /// What helps, so that the ratio stays below the target.
    pub(super) fn remedies(&self, target: f64) -> [Option<Remedy>; 11] {
        let (view, usage, other) = (self.view, self.usage, self.usage.other_states);
        let load = Load::of(usage, self.ports);
        let closed = self.waiting + u64::from(other.fin_wait2_orphans);
        let has_live = self.matters(usage.in_use.established) || self.matters(self.rest);
        let later = "connect() becomes slow when half of the range is in use. A wider range raises that limit once the \
                     sockets that exist now are gone.";
        let [wider, released, moved] = more_ports(view, load, target);
        let [servers, clients] = self.elsewhere(load, target);
        [
            self.is_half(closed).then(|| self.reuse_connections()),
            self.matters(other.close_wait).then(|| self.close_sockets()),
            has_live.then(|| self.find_holders()),
            self.matters(other.syn_sent).then(syn_retries),
            fin_timeout(view).filter(|_| self.matters(other.fin_wait2_orphans)),
            reuse(view, usage, load).filter(|_| self.matters(self.waiting)),
            wider.map(|wider| wider.note_if(self.is_slow, later)),
            released,
            moved,
            servers,
            clients,
        ]
    }

    fn reuse_connections(&self) -> Remedy {
        let action = format!(
            "Keep connections open and reuse them (keep-alive, a connection pool), or let the server close first. {} {}",
            counted(self.ports.usable, "usable port", "usable ports"),
            sustain(self.ports, self.port_seconds),
        );
        Remedy::new(RemedyId::ReuseConnections, action)
    }

    fn close_sockets(&self) -> Remedy {
        let action = "Restart the program that owns the sockets in CLOSE-WAIT, which frees their ports at once, and fix \
                      it: it must close() a socket when the peer has closed.";
        Remedy::new(RemedyId::CloseSockets, action).command(self.ss("close-wait"))
    }

    fn find_holders(&self) -> Remedy {
        let action = "Find the program that owns the connections and let it use fewer: limit its connection pool, close \
                      idle connections, send several requests over one connection.";
        Remedy::new(RemedyId::FindHolders, action).command(self.ss("connected"))
    }

    fn ss(&self, state: &str) -> String {
        // To a shell brackets are a pattern of file names.
        let host = |address: Address, port: String| match address.to_string() {
            ipv6 if ipv6.contains(':') => format!("'[{ipv6}]{port}'"),
            ipv4 => format!("{ipv4}{port}"),
        };
        let to = &self.usage.destination;
        let target = host(to.dst_addr, format!(":{}", to.dst_port));
        let source = format!(" src {}", host(to.src_addr, String::new()));
        let source = when(!to.src_addr.is_wildcard(), &source);
        format!("ss -tnp state {state}{source} dst {target}")
    }

    /// More destinations, each of which has the whole range.
    fn elsewhere(&self, load: Load, target: f64) -> [Option<Remedy>; 2] {
        let closed = self.usage.close_rate * self.port_seconds;
        let needed = f64::from(load.taken).max(closed);
        let is_enough = |n: &u32| needed < target * f64::from(load.usable) * f64::from(n + 1);
        let n = (1..=100).find(is_enough).unwrap_or(100);
        let each = counted(load.usable, "port", "ports");
        let to = &self.usage.destination;
        let (src_addr, dst_addr, dst_port) = (to.src_addr, to.dst_addr, to.dst_port);
        let servers = counted(n, "further port or address", "further ports or addresses");
        let server = format!(
            "Offer the service under {servers} in addition to {dst_addr} port {dst_port}, and spread the connections: each has \
             {each}."
        );
        let clients = counted(n, "further local address", "further local addresses");
        let client = format!(
            "Connect from {clients} in addition to {src_addr}, and spread the connections: each has {each}."
        );
        let note = "Programs must set IP_BIND_ADDRESS_NO_PORT before they bind() to the address; otherwise the port is \
                    unavailable to all other destinations.";
        let remedies = [
            Remedy::new(RemedyId::MoreServerPorts, server),
            Remedy::new(RemedyId::MoreClientAddresses, client).note(note),
        ];
        let effect = load.spread(n, 0);
        remedies.map(|remedy| remedy.gain(effect))
    }
}

fn syn_retries() -> Remedy {
    let action = "Find out why the peer does not answer: it is down, a firewall drops packets, or its accept queue is \
                  full. Set a timeout for connect() in the program, or give up after 3 retries: an unanswered connect() \
                  then uses its port for 4 to 15 s instead of 2 minutes.";
    Remedy::new(RemedyId::SynRetries, action)
        .setting("tcp_syn_retries", "3")
        .note("Applies to every connect() of this host, also to slow peers.")
}

fn fin_timeout(view: &View<'_>) -> Option<Remedy> {
    let now = view.settings.tcp_fin_timeout_seconds;
    let now = now.filter(|now| *now > FIN_TIMEOUT_SECONDS)?;
    let action = format!(
        "Lower tcp_fin_timeout from {now} to {FIN_TIMEOUT_SECONDS} s: after that time the kernel frees a socket in \
         FIN-WAIT-2 that no process owns.",
    );
    let note = format!(
        "Sockets that are in FIN-WAIT-2 now keep the old time. A peer that still sends {FIN_TIMEOUT_SECONDS} s after this \
         host has closed gets a reset."
    );
    let value = FIN_TIMEOUT_SECONDS.to_string();
    let remedy = Remedy::new(RemedyId::FinTimeout, action);
    Some(remedy.setting("tcp_fin_timeout", value).note(&note))
}

/// Two remedies that set `ip_local_reserved_ports` are computed from the same state.
pub(super) const LIST_REPLACES: &str = "This list replaces the present one. After another remedy that sets it, run the \
                                        report again first.";

const AT_LEAST: &str = "The effect is a lower bound: added ports that a socket already uses count as unavailable, though \
                        connect() can use some of them.";

/// What gives every destination more ports.
pub(super) fn more_ports(view: &View<'_>, load: Load, target: f64) -> [Option<Remedy>; 3] {
    [
        widen_for(view, load, target),
        release(view, load),
        move_listeners(view, load),
    ]
}

/// `tcp_tw_reuse` = 1, with timestamps, unless it is so already.
pub(super) fn reuse(view: &View<'_>, usage: &DestinationUsage, load: Load) -> Option<Remedy> {
    let timestamps = view.has_timestamps?;
    let is_allowed = allows_reuse(view.settings.tcp_tw_reuse?, Some(usage));
    if usage.peer_timestamps == PeerTimestamps::Absent || is_allowed && timestamps {
        return None;
    }
    let id = if is_allowed {
        RemedyId::Timestamps
    } else {
        RemedyId::Reuse
    };
    let action = format!(
        "Let connect() reuse TIME-WAIT sockets that are older than {} s. This is safe for outgoing connections if both \
         ends send timestamps.",
        reuse_delay_seconds(view)
    );
    let remedy = Remedy::new(id, action)
        .setting_if(!timestamps, "tcp_timestamps", "1")
        .setting_if(!is_allowed, "tcp_tw_reuse", "1");
    if !timestamps {
        let note = "Sockets that were closed without timestamps are not reused: the full effect comes within a minute, \
                    when they have expired.";
        return Some(remedy.note(note));
    }
    let after = Load::new(load.taken.saturating_sub(usage.reuse_gain), load.usable);
    let note = "The server must send timestamps too. Younger sockets and those in FIN-WAIT-2 are not reused.";
    remedy.note(note).gain(load.effect(after))
}

pub(super) fn is_loopback(usage: &DestinationUsage) -> bool {
    usage.destination.src_addr.is_loopback() || usage.destination.dst_addr.is_loopback()
}

/// Without a destination: to most of them, which are those of other hosts.
fn allows_reuse(reuse: i64, to: Option<&DestinationUsage>) -> bool {
    reuse == 1 || reuse == 2 && to.is_some_and(is_loopback)
}

/// A kernel without the sysctl has the second built in.
fn reuse_delay_seconds(view: &View<'_>) -> f64 {
    let delay = view.settings.tcp_tw_reuse_delay_ms.unwrap_or(1_000);
    let delay = u32::try_from(delay).unwrap_or_default();
    f64::from(delay.clamp(1, 60_000)) / 1_000.0
}

/// How long the port of a connection that was closed here stays in use; without a destination, as to most.
pub(super) fn port_seconds(view: &View<'_>, to: Option<&DestinationUsage>) -> f64 {
    let reuse = view.settings.tcp_tw_reuse;
    let is_allowed = reuse.is_some_and(|reuse| allows_reuse(reuse, to));
    let is_possible = to.is_none_or(|to| to.peer_timestamps != PeerTimestamps::Absent);
    if is_allowed && is_possible && view.has_timestamps == Some(true) {
        return reuse_delay_seconds(view);
    }
    f64::from(time_wait_ms(view.settings).max(1_000)) / 1_000.0
}

/// New connections per second to one destination, each of which uses its port for so long.
pub(super) fn sustainable(ports: &PortUsage, seconds: f64) -> String {
    let rate = f64::from(ports.usable) / seconds;
    if rate < 10.0 {
        return format!("{rate:.1}");
    }
    let whole = format!("{:.0}", rate.floor());
    whole.parse::<u64>().map_or(whole, count)
}

/// What the usable ports do, in a sentence.
pub(super) fn sustain(ports: &PortUsage, seconds: f64) -> String {
    let rate = sustainable(ports, seconds);
    format!(
        "sustain {rate} new connections per second to one destination, since each port stays in use for {seconds} s."
    )
}

/// The smallest step that brings the ratio of a load below the target, or the widest range.
pub(super) fn widen_for(view: &View<'_>, load: Load, target: f64) -> Option<Remedy> {
    widen(view, target, |plan| {
        (plan.effect(load), plan.gained_in_use > 0)
    })
}

/// The same with an effect that may be larger than computed, which is then said.
pub(super) fn widen(
    view: &View<'_>,
    target: f64,
    effect_of: impl Fn(&Plan) -> (Effect, bool),
) -> Option<Remedy> {
    let ports = view.ports?;
    let mut best = None;
    for plan in whatif::wider(ports, view.settings) {
        let (effect, is_least) = effect_of(&plan);
        best = widening(ports, plan, is_least).gain(effect).or(best);
        if best.is_some() && effect.after.ratio < target {
            break;
        }
    }
    best
}

/// A wider range, and what to know before.
fn widening(ports: &PortUsage, plan: Plan, is_least: bool) -> Remedy {
    let (min, max, now) = (plan.range.min(), plan.range.max(), ports.range.min());
    let reserving = ", and reserve the ports in it that services listen on";
    let reserving = when(plan.settings.len() > 1, reserving);
    let action = format!("Widen the port range to {min}-{max}{reserving}.");
    let services = format!(
        "Also reserve the ports from {min} to {} of services that are not running now (on Kubernetes nodes 30000-32767): \
         otherwise a connection may use the port when such a service starts.",
        now.saturating_sub(1)
    );
    let elsewhere = "Ports outside the range that live sockets use are not counted here; `timewait_exporter report` counts \
                     them.";
    Remedy::new(RemedyId::WidenRange, action)
        .settings(plan.settings)
        .note_if(min < now, &services)
        .note_if(!ports.sets.elsewhere_is_whole, elsewhere)
        .note_if(is_least, AT_LEAST)
}

fn release(view: &View<'_>, load: Load) -> Option<Remedy> {
    let (plan, freed) = whatif::released(view.ports?)?;
    let action = format!(
        "Release {} inside the range on which nothing listens: {}.",
        counted(freed.len(), "reserved port", "reserved ports"),
        wording::ports(&freed),
    );
    let effect = plan.effect(load);
    let remedy = Remedy::new(RemedyId::ReleaseReserved, action)
        .settings(plan.settings)
        .note("Keep ports reserved that a service needs when it starts.")
        .note(LIST_REPLACES)
        .note_if(plan.gained_in_use > 0, AT_LEAST);
    remedy.gain(effect)
}

fn move_listeners(view: &View<'_>, load: Load) -> Option<Remedy> {
    let ports = view.ports?;
    let (plan, moved) = whatif::without_listeners(ports)?;
    let action = format!(
        "Let the services on {} listen outside {}: connect() cannot use a listener's port for any destination.",
        wording::ports(&moved),
        wording::range(ports.range),
    );
    Remedy::new(RemedyId::MoveListeners, action).gain(plan.effect(load))
}

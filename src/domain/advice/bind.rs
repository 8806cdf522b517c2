//! The ports that bind() without a port can still choose on a local address.

use super::help::widen;
use super::range::are_many;
use super::thresholds::POOL_WARNING;
use super::whatif::{Load, Plan, both, either, without};
use super::wording::{count, counted, when};
use super::{Effect, Finding, Id, Remedy, RemedyId, Severity, Value, View, wording};
use crate::domain::address::Address;
use crate::domain::ports::PortSet;
use crate::domain::snapshot::{DestinationUsage, PortUsage, SourceUsage};

pub(super) fn owned(view: &View<'_>) -> Option<Finding> {
    let ports = view.ports?;
    let owned = ports.bind_owned.filter(|owned| are_many(*owned, ports))?;
    let sentence = format!(
        "{} in use were chosen by bind(). connect() cannot use them for any destination.",
        counted(owned, "port", "ports")
    );
    let finding = Finding::new(Id::BindOwned, Severity::Info, sentence);
    let finding = finding.count("bind_owned_ports", owned);
    Some(finding.remedies([bind_no_port()]))
}

pub(super) fn bind_no_port() -> Remedy {
    let action = "Let programs that bind() to an address before connect() set IP_BIND_ADDRESS_NO_PORT (nginx and HAProxy \
                  do): then connect() chooses the port, and it is in use for one destination only.";
    Remedy::new(RemedyId::BindNoPort, action)
}

/// Whether the ports of the pool are those that one destination uses, but for those of listeners.
fn explains(usage: &DestinationUsage, pool: &SourceUsage) -> bool {
    let is_its_address = pool.src_addr.is_wildcard() || usage.destination.src_addr == pool.src_addr;
    let connected = f64::from(pool.ports.saturating_sub(pool.listened));
    let used = u32::try_from(usage.in_use.total()).unwrap_or(u32::MAX);
    is_its_address && f64::from(used) >= POOL_WARNING * connected && used > 0
}

pub(super) fn low_pools(view: &View<'_>) -> Option<Finding> {
    let ports = view.ports?;
    let size = pool_size(ports);
    let pools = ports.by_source.iter().flatten();
    let mut low: Vec<&SourceUsage> = pools
        .filter(|pool| size > 0 && pool.exhaustion_ratio >= POOL_WARNING)
        .collect();
    // The ports of a wildcard are those of the other addresses: it matters only where none of these is low.
    if low.iter().any(|pool| !pool.src_addr.is_wildcard()) {
        low.retain(|pool| !pool.src_addr.is_wildcard());
    }
    // Where one destination uses them, its own finding says what to do.
    let is_explained = |pool: &SourceUsage| {
        let mut destinations = view.destinations.iter();
        destinations.any(|usage| explains(usage, pool))
    };
    let are_explained = low.iter().all(|pool| is_explained(pool));
    let mut severity = Severity::Info;
    let mut reason = "One destination uses them; its own finding has the remedies.";
    if !are_explained {
        low.retain(|pool| !is_explained(pool));
        severity = Severity::Warning;
        reason = "Ports that bind() chose are closed to connect() too, for every destination.";
    }
    let worst = *low.iter().max_by_key(|pool| pool.ports)?;
    let shared = " (unless all sockets have SO_REUSEADDR: ip_autobind_reuse is 1)";
    let shared = when(view.settings.ip_autobind_reuse == Some(1), shared);
    let names = names(low.iter().map(|pool| pool.src_addr));
    let all = count(size);
    let state = match size.saturating_sub(worst.ports) {
        0 => format!("fails with EADDRINUSE{shared}: all {all} ports are in use there"),
        left => left_of(left, size),
    };
    let wider = widen(view, f64::INFINITY, |plan| widened(ports, plan, worst));
    let sentence = format!("bind() without a port on {names} {state}. {reason}");
    Finding::new(Id::BindPoolLow, severity, sentence)
        .count("pool_ports", size)
        .count("taken_ports", worst.ports)
        .value("exhaustion_ratio", Value::Ratio(worst.exhaustion_ratio))
        .value("addresses", Value::Text(names))
        .remedies([bind_no_port()])
        .remedies(wider)
        .remedies(further_address(worst, size))
        .into()
}

/// The ports that bind() without a port can choose from.
pub(super) fn pool_size(ports: &PortUsage) -> u32 {
    ports.range.ports().saturating_sub(ports.reserved)
}

pub(super) fn names(addresses: impl Iterator<Item = Address>) -> String {
    let names: Vec<String> = addresses.map(|address| address.to_string()).collect();
    wording::some_of(&names, 3)
}

pub(super) fn left_of(left: u32, size: u32) -> String {
    let left = counted(left, "port", "ports");
    format!("has {left} left of {}", count(size))
}

fn further_address(worst: &SourceUsage, size: u32) -> Option<Remedy> {
    if worst.src_addr.is_wildcard() {
        return None;
    }
    let load = Load::new(worst.ports, size);
    let its = counted(size.saturating_sub(worst.on_wildcards), "port", "ports");
    let action = format!("Connect from a further local address, which has {its} of its own.");
    let remedy = Remedy::new(RemedyId::MoreClientAddresses, action);
    remedy.gain(load.spread(1, worst.on_wildcards))
}

/// The effect of a wider range on a pool, and whether it may be larger: ports that anything owns on any address
/// count as in use.
fn widened(ports: &PortUsage, plan: &Plan, pool: &SourceUsage) -> (Effect, bool) {
    let added = without(&plan.available, &PortSet::of_range(ports.range));
    let owned = either(&ports.sets.bound, &ports.sets.listening);
    let taken = both(&added, &either(&owned, &ports.sets.elsewhere)).len();
    let usable = plan.available.len();
    let before = Load::new(pool.ports, pool_size(ports));
    // The plan reserves the ports of listeners inside the present range: they leave the pool.
    let still_taken = pool.ports.saturating_sub(pool.listened);
    let after = Load::new(still_taken.saturating_add(taken).min(usable), usable);
    (before.effect(after), taken > 0)
}

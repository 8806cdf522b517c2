//! The ports that bind() without a port can still choose on a local address.

use super::finding::{Finding, Id, Severity, Value};
use super::help::{at_least, widening};
use super::remedy::{Effect, Remedy, RemedyId};
use super::thresholds::POOL_WARNING;
use super::whatif::{self, Load};
use super::wording::{count, counted};
use super::{View, wording};
use crate::domain::snapshot::{DestinationUsage, PortUsage, SourceUsage};

/// Fewer ports that bind() chose are not worth a finding.
const MANY_OWNED: u32 = 16;

pub(super) fn find(view: &View<'_>, findings: &mut Vec<Finding>) {
    let Some(ports) = view.ports else { return };
    findings.extend(owned(ports));
    let size = ports.range.ports().saturating_sub(ports.reserved);
    let pools = ports.by_source.as_deref().unwrap_or_default();
    let low = pools
        .iter()
        .filter(|pool| pool.exhaustion_ratio >= POOL_WARNING);
    let mut low: Vec<&SourceUsage> = low.collect();
    // The ports of a wildcard are those of the other addresses: it matters only where none of these is low.
    if low.iter().any(|pool| !pool.src_addr.is_wildcard()) {
        low.retain(|pool| !pool.src_addr.is_wildcard());
    }
    // Where one destination uses them, its own finding says what to do.
    let is_explained = |pool: &SourceUsage| {
        let mut destinations = view.destinations().iter();
        destinations.any(|usage| explains(usage, pool))
    };
    let mut severity = Severity::Info;
    if low.iter().any(|pool| !is_explained(pool)) {
        low.retain(|pool| !is_explained(pool));
        severity = Severity::Warning;
    }
    if size > 0 && !low.is_empty() {
        findings.push(low_pools(view, ports, &low, size, severity));
    }
}

fn owned(ports: &PortUsage) -> Option<Finding> {
    let owned = ports.bind_owned?;
    if owned < MANY_OWNED || owned < ports.range.ports() / 100 {
        return None;
    }
    let sentence = format!(
        "{} in use were chosen by bind(). connect() cannot use them, whatever the destination.",
        counted(owned.into(), "port", "ports")
    );
    let finding = Finding::new(Id::BindOwned, Severity::Info, sentence);
    Some(
        finding
            .count("bind_owned_ports", owned)
            .remedies([bind_no_port()]),
    )
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

fn low_pools(
    view: &View<'_>,
    ports: &PortUsage,
    low: &[&SourceUsage],
    size: u32,
    severity: Severity,
) -> Finding {
    let names: Vec<String> = low.iter().map(|pool| pool.src_addr.to_string()).collect();
    let names = wording::some_of(&names, 3);
    let taken = low.iter().map(|pool| pool.ports).max().unwrap_or(0);
    let shared = if view.sysctl(|settings| settings.ip_autobind_reuse) == Some(1) {
        " (unless all sockets have SO_REUSEADDR: ip_autobind_reuse is 1)"
    } else {
        ""
    };
    let state = if taken >= size {
        format!(
            "fails with EADDRINUSE{shared}: all {} ports are in use there",
            count(size.into())
        )
    } else {
        let left = counted((size - taken).into(), "port", "ports");
        format!("has {left} left of {}", count(size.into()))
    };
    let reason = if severity == Severity::Info {
        "One destination uses them; its own finding has the remedies."
    } else {
        "A port that bind() chose is lost to connect() as well, whatever the destination."
    };
    let sentence = format!("bind() without a port on {names} {state}. {reason}");
    let ratio = low
        .iter()
        .map(|pool| pool.exhaustion_ratio)
        .fold(0.0, f64::max);
    let worst = low.iter().max_by_key(|pool| pool.ports);
    let sized = worst.and_then(|worst| {
        let mut plans = whatif::wider(ports, view.settings);
        plans.find_map(|plan| {
            let (effect, is_least) = widened(ports, &plan, worst)?;
            // The note of a plan about ports in use is about destinations.
            let is_least = is_least && !plan.gains_ports_in_use();
            Some(at_least(widening(ports, &plan).effect(effect), is_least))
        })
    });
    let address = worst.filter(|worst| !worst.src_addr.is_wildcard());
    let address = address.and_then(|worst| {
        let load = Load {
            taken: worst.ports,
            usable: size,
        };
        let other = counted(
            (size - worst.on_wildcards.min(size)).into(),
            "port",
            "ports",
        );
        let action = format!("Connect from a further local address, which has {other} of its own.");
        Remedy::new(RemedyId::MoreClientAddresses, action).gain(load.spread(1, worst.on_wildcards))
    });
    Finding::new(Id::BindPoolLow, severity, sentence)
        .count("pool_ports", size)
        .count("taken_ports", taken)
        .ratio("exhaustion_ratio", ratio)
        .value("addresses", Value::Text(names))
        .remedies([Some(bind_no_port()), sized, address].into_iter().flatten())
}

/// The effect of a wider range on a pool, if it is a gain, and whether it may be larger: ports that anything
/// owns on any address count as in use.
fn widened(ports: &PortUsage, plan: &whatif::Plan, pool: &SourceUsage) -> Option<(Effect, bool)> {
    let mut drawable = whatif::inside(&(1..=u16::MAX).collect(), plan.range);
    drawable.subtract(&plan.reserved);
    let mut added = drawable.clone();
    for port in ports.range.min()..=ports.range.max() {
        added.remove(port);
    }
    let mut taken = ports.sets.bound.clone();
    taken.union_with(&ports.sets.elsewhere);
    taken.union_with(&ports.sets.listening);
    taken.intersect_with(&added);
    let before = Load {
        taken: pool.ports,
        usable: ports.range.ports().saturating_sub(ports.reserved),
    };
    // The plan reserves the ports of listeners inside the present range: they leave the pool.
    let still_taken = pool.ports.saturating_sub(pool.listened);
    let effect = before.effect(Load {
        taken: still_taken.saturating_add(taken.len()).min(drawable.len()),
        usable: drawable.len(),
    });
    effect.is_gain().then_some((effect, !taken.is_empty()))
}

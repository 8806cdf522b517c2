//! The range itself, who sits inside it, and the pools of bind().

use super::destinations::load_of_ratio;
use super::finding::{FigureValue, Finding, Id, Severity};
use super::help::{
    LIST_REPLACES, at_least, for_all, hold_seconds, new_connections, wait, widen_for_all, widening,
};
use super::remedy::{Effect, Remedy, RemedyId};
use super::thresholds::{NARROW_RANGE_PORTS, POOL_WARNING};
use super::whatif::{self, Load};
use super::{View, wording};
use crate::domain::snapshot::{PortUsage, SourceUsage};

pub(super) fn find(view: &View<'_>, findings: &mut Vec<Finding>) {
    if let Some(ports) = view.ports {
        let found = [
            no_usable_ports(view, ports),
            narrow(view, ports),
            parity(view, ports),
            listeners(ports),
            bound(ports),
            bind_pools(view, ports),
        ];
        findings.extend(found.into_iter().flatten());
    }
}

fn range_text(ports: &PortUsage) -> String {
    format!("{}-{}", ports.range.min(), ports.range.max())
}

fn no_usable_ports(view: &View<'_>, ports: &PortUsage) -> Option<Finding> {
    if ports.usable > 0 {
        return None;
    }
    let sentence = format!(
        "connect() fails whatever the destination: of the ports {} all are reserved or owned by a \
         listening or bound socket.",
        range_text(ports)
    );
    let load = Load {
        taken: 0,
        usable: 0,
    };
    Some(
        Finding::new(Id::NoUsablePorts, Severity::Critical, sentence)
            .count("range_ports", ports.range.ports())
            .count("reserved_ports", ports.reserved)
            .count("blocked_ports", ports.blocked)
            .remedies(for_all(view, ports, load)),
    )
}

fn narrow(view: &View<'_>, ports: &PortUsage) -> Option<Finding> {
    if ports.usable == 0 || ports.usable >= NARROW_RANGE_PORTS {
        return None;
    }
    // Of another host: what is said is of most destinations.
    let hold_seconds = hold_seconds(view, false);
    let sentence = format!(
        "The range {} has {}: {} a second to one destination can be kept up, for each port waits {}.",
        range_text(ports),
        wording::counted(ports.usable.into(), "usable port", "usable ports"),
        new_connections(ports, hold_seconds),
        wait(hold_seconds),
    );
    Some(
        Finding::new(Id::NarrowRange, Severity::Info, sentence)
            .count("usable_ports", ports.usable)
            .count("range_ports", ports.range.ports())
            .count("reserved_ports", ports.reserved)
            .remedy(widen_for_all(view, ports)),
    )
}

fn parity(view: &View<'_>, ports: &PortUsage) -> Option<Finding> {
    if ports.range.ports().is_multiple_of(2) {
        return None;
    }
    let sentence = format!(
        "The first and the last port of the range {} have the same parity; the kernel wants one even \
         and one odd, and may not find the last free port.",
        range_text(ports)
    );
    let remedy = whatif::even_range(ports, view.settings).and_then(|plan| {
        let load = load_of_ratio(view.worst_ratio(), ports);
        let mut remedy = Remedy::new(
            RemedyId::EvenRange,
            format!(
                "Make the range {}-{}, one port more.",
                plan.range.min(),
                plan.range.max()
            ),
        );
        remedy.settings = plan.settings(ports);
        let effect = load.effect(plan.load(load));
        let is_worse = effect.after.headroom < effect.before.headroom
            || effect.after.ratio > effect.before.ratio;
        (!is_worse).then(|| remedy.effect(effect))
    });
    Some(
        Finding::new(Id::RangeParity, Severity::Info, sentence)
            .figure("first_port", FigureValue::Port(ports.range.min()))
            .figure("last_port", FigureValue::Port(ports.range.max()))
            .remedy(remedy),
    )
}

fn listeners(ports: &PortUsage) -> Option<Finding> {
    let inside = whatif::listeners_inside(ports);
    if inside.is_empty() {
        return None;
    }
    let sentence = format!(
        "Services listen inside the ephemeral range, on {inside}: while one is down an outgoing \
         connection can take its port, and its start then fails with EADDRINUSE."
    );
    let remedy = ports.sets.reserved.as_ref().map(|reserved| {
        let mut reserved = reserved.clone();
        reserved.union_with(&inside);
        let mut remedy = Remedy::new(
            RemedyId::ReserveListeners,
            "Reserve these ports; what is reserved already stays so. A listener's port is lost to \
             connect() anyway, so it costs nothing.",
        )
        .mind(LIST_REPLACES);
        remedy.settings = vec![whatif::reserved_setting(&reserved)];
        remedy
    });
    Some(
        Finding::new(Id::ListenersInRange, Severity::Info, sentence)
            .count("listeners", inside.len())
            .figure("ports", FigureValue::Text(inside.to_string()))
            .remedy(remedy),
    )
}

/// Ports that are merely bound: a few are a program on its way to connect() or listen().
fn bound(ports: &PortUsage) -> Option<Finding> {
    let bound = ports.blocked.saturating_sub(ports.listeners);
    if bound < 16 || bound < ports.range.ports() / 100 {
        return None;
    }
    let sentence = format!(
        "{} of the range are bound by sockets that neither listen nor connect: no connection can have \
         them.",
        wording::counted(bound.into(), "port", "ports")
    );
    let mut remedy = Remedy::new(
        RemedyId::FindHolders,
        "Find the program, and have it connect or close such sockets, or set IP_BIND_ADDRESS_NO_PORT \
         before bind().",
    );
    remedy.command = Some("ss -tanpB".to_owned());
    let remedy = remedy.mind("ss has -B from iproute2 6.8 on.");
    Some(
        Finding::new(Id::BoundInRange, Severity::Info, sentence)
            .count("bound_ports", bound)
            .remedy(Some(remedy)),
    )
}

fn bind_pools(view: &View<'_>, ports: &PortUsage) -> Option<Finding> {
    let pools = ports.by_source.as_ref()?;
    let is_low = |pool: &&SourceUsage| pool.exhaustion_ratio >= POOL_WARNING;
    // The pool of a wildcard is the sum of others: it is told only where none of those is low.
    let specific = pools.iter().filter(|pool| !pool.src_addr.is_wildcard());
    let mut low: Vec<_> = specific.filter(is_low).collect();
    if low.is_empty() {
        low = pools.iter().filter(is_low).collect();
    }
    let worst = *low.first()?;
    let size = ports.range.ports().saturating_sub(ports.reserved);
    if size == 0 {
        return None;
    }
    let names: Vec<String> = low.iter().map(|pool| pool.src_addr.to_string()).collect();
    let names = wording::some_of(&names, 3);
    let state = if worst.exhaustion_ratio >= 1.0 {
        "fails with EADDRINUSE, none being left".to_owned()
    } else {
        format!(
            "has {} left",
            wording::counted(size.saturating_sub(worst.ports).into(), "port", "ports")
        )
    };
    let sentence = format!(
        "bind() without a port on {names} {state} of {}; a port that came from bind() is closed to \
         connect() as well, whatever the destination (which ones did cannot be told).",
        wording::count(size.into())
    );
    let bind_no_port = Remedy::new(
        RemedyId::BindNoPort,
        "Have programs that bind() to an address before connect() set IP_BIND_ADDRESS_NO_PORT (nginx and \
         HAProxy do): then the port is taken for one destination only.",
    );
    let load = Load {
        taken: worst.ports,
        usable: size,
    };
    let widen = whatif::wider(ports, view.settings)
        .find_map(|plan| pool_after(ports, &plan, worst).map(|after| (plan, after)))
        .map(|(plan, (effect, is_least))| {
            // The destinations' own remark on held ports says nothing of a pool.
            let is_least = is_least && !plan.holds_some();
            at_least(widening(ports, &plan).effect(effect), is_least)
        });
    let another = load.spread(1);
    let address = Remedy::new(
        RemedyId::MoreClientAddresses,
        "Connect from a further address: each has a pool of its own.",
    );
    Some(
        Finding::new(Id::BindPoolLow, Severity::Warning, sentence)
            .count("pool_ports", size)
            .count("taken_ports", worst.ports)
            .figure(
                "exhaustion_ratio",
                FigureValue::Ratio(worst.exhaustion_ratio),
            )
            .figure("addresses", FigureValue::Text(names))
            .remedy(Some(bind_no_port))
            .remedy(widen)
            .remedy((!worst.src_addr.is_wildcard()).then(|| address.effect(another))),
    )
}

/// What a wider range does to a pool, where it helps, and whether that is the least: ports that anything owns
/// on any address are counted as taken.
fn pool_after(
    ports: &PortUsage,
    plan: &whatif::Plan,
    pool: &SourceUsage,
) -> Option<(Effect, bool)> {
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
    // Listeners inside the present range are reserved then: their ports are none to be had or taken.
    let still_taken = pool.ports.saturating_sub(pool.listened);
    let effect = before.effect(Load {
        taken: still_taken.saturating_add(taken.len()).min(drawable.len()),
        usable: drawable.len(),
    });
    effect.is_gain().then_some((effect, !taken.is_empty()))
}

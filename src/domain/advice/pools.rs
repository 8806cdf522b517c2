//! The range itself, who sits inside it, the pools of bind(), and the time-wait buckets.

use super::destinations::{load_of_ratio, range_remedies, widen_for_all};
use super::finding::{FigureValue, Finding, Id, Severity};
use super::remedy::{Effect, Remedy, RemedyId, Room};
use super::thresholds::{
    BUCKETS_WARNING, MANY_SERVER_SIDE, NARROW_RANGE_PORTS, POOL_WARNING, RATIO_WARNING,
};
use super::whatif::{self, Load};
use super::{View, wording};
use crate::domain::snapshot::{PortFigures, SourceFigures};

/// What the kernel takes for one time-wait bucket, in bytes: `sizeof(struct tcp_timewait_sock)`.
const BUCKET_BYTES: u64 = 256;

/// A limit that is lower than this is raised to it.
const LEAST_BUCKETS: u64 = 16_384;

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
    findings.extend(buckets(view));
    findings.extend(server_side(view));
}

fn range_text(ports: &PortFigures) -> String {
    format!("{}-{}", ports.range.min(), ports.range.max())
}

fn no_usable_ports(view: &View<'_>, ports: &PortFigures) -> Option<Finding> {
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
            .remedies(range_remedies(view, ports, load)),
    )
}

fn narrow(view: &View<'_>, ports: &PortFigures) -> Option<Finding> {
    if ports.usable == 0 || ports.usable >= NARROW_RANGE_PORTS {
        return None;
    }
    let sentence = format!(
        "The range {} has {}: no more than {} new connections a second to one destination can be kept \
         up.",
        range_text(ports),
        wording::counted(ports.usable.into(), "usable port", "usable ports"),
        wording::count((ports.usable / 60).into()),
    );
    Some(
        Finding::new(Id::NarrowRange, Severity::Info, sentence)
            .count("usable_ports", ports.usable)
            .count("range_ports", ports.range.ports())
            .count("reserved_ports", ports.reserved)
            .remedy(widen_for_all(view, ports)),
    )
}

fn parity(view: &View<'_>, ports: &PortFigures) -> Option<Finding> {
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
            .count("first_port", ports.range.min())
            .count("last_port", ports.range.max())
            .remedy(remedy),
    )
}

fn listeners(ports: &PortFigures) -> Option<Finding> {
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
        );
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
fn bound(ports: &PortFigures) -> Option<Finding> {
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
    Some(
        Finding::new(Id::BoundInRange, Severity::Info, sentence)
            .count("bound_ports", bound)
            .remedy(Some(remedy)),
    )
}

fn bind_pools(view: &View<'_>, ports: &PortFigures) -> Option<Finding> {
    let pools = ports.by_source.as_ref()?;
    let is_low = |pool: &&SourceFigures| pool.exhaustion_ratio >= POOL_WARNING;
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
        "fails with EADDRINUSE".to_owned()
    } else {
        format!(
            "has {} left",
            wording::counted(size.saturating_sub(worst.ports).into(), "port", "ports")
        )
    };
    let sentence = format!(
        "bind() without a port on {names} {state} of {}; programs that leave the choice to connect() do \
         not feel it.",
        wording::count(size.into())
    );
    let bind_no_port = Remedy::new(
        RemedyId::BindNoPort,
        "Have programs that bind() to an address before connect() set IP_BIND_ADDRESS_NO_PORT (in nginx, \
         HAProxy and Envoy it is so already): then the port is taken for one destination only.",
    );
    let load = Load {
        taken: worst.ports,
        usable: size,
    };
    let widen = whatif::wider(ports, view.settings)
        .find_map(|plan| pool_after(ports, &plan, load).map(|effect| (plan, effect)))
        .map(|(plan, effect)| {
            let mut remedy = Remedy::new(
                RemedyId::WidenRange,
                format!(
                    "Widen the range to {}-{}.",
                    plan.range.min(),
                    plan.range.max()
                ),
            );
            remedy.settings = plan.settings(ports);
            remedy.effect(effect)
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

/// What a wider range does to a pool, where it helps: ports that anything owns on any address are
/// counted as taken.
fn pool_after(ports: &PortFigures, plan: &whatif::Plan, load: Load) -> Option<Effect> {
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
    // Listeners inside the present range were taken and are reserved then: neither counts.
    let effect = load.effect(Load {
        taken: load.taken.saturating_add(taken.len()).min(drawable.len()),
        usable: drawable.len(),
    });
    effect.is_gain().then_some(effect)
}

fn buckets(view: &View<'_>) -> Option<Finding> {
    let statistics = view.snapshot.sockstat.as_ref()?.value.as_ref();
    let used = statistics.and_then(|statistics| statistics.time_wait_buckets);
    let limit = view
        .settings
        .and_then(|settings| settings.tcp_max_tw_buckets);
    let limit = limit.and_then(|limit| u64::try_from(limit).ok());
    let counters = view.snapshot.netstat.as_ref();
    let overflows = counters
        .and_then(|outcome| outcome.value.as_ref())
        .and_then(|counters| counters.overflows);
    let (used, limit) = (used?, limit?);
    let ratio = ratio(used, limit);
    if ratio >= BUCKETS_WARNING {
        return Some(buckets_near_limit(view, used, limit, overflows));
    }
    let overflows = overflows.filter(|overflows| *overflows > 0)?;
    let sentence = format!(
        "The kernel has closed {} without TIME-WAIT since it started, for tcp_max_tw_buckets was reached; \
         now it is not near.",
        wording::counted(overflows, "socket", "sockets")
    );
    Some(
        Finding::new(Id::BucketOverflows, Severity::Info, sentence)
            .count("overflows", overflows)
            .count("buckets", used)
            .count("buckets_limit", limit),
    )
}

fn ratio(part: u64, whole: u64) -> f64 {
    let narrow = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    if whole == 0 {
        1.0
    } else {
        narrow(part) / narrow(whole)
    }
}

fn buckets_near_limit(view: &View<'_>, used: u64, limit: u64, overflows: Option<u64>) -> Finding {
    let sentence = format!(
        "{} of the {} time-wait buckets are in use: at the limit the kernel closes sockets without \
         TIME-WAIT, and late segments of an old connection can reach a new one.",
        wording::count(used),
        wording::count(limit)
    );
    let higher = limit.saturating_mul(2).max(LEAST_BUCKETS);
    let mut remedy = Remedy::new(
        RemedyId::MoreBuckets,
        format!(
            "Raise tcp_max_tw_buckets to {}; full, they take {} of memory.",
            wording::count(higher),
            wording::bytes(higher.saturating_mul(BUCKET_BYTES))
        ),
    )
    .setting("tcp_max_tw_buckets", higher.to_string());
    let room = |limit: u64| Room {
        headroom: limit.saturating_sub(used),
        ratio: ratio(used, limit).min(1.0),
    };
    remedy.effect = Some(Effect {
        before: room(limit),
        after: room(higher),
    });
    // More sockets would then stay in TIME-WAIT, and hold ports where there are few.
    let is_harmless = view.worst_ratio() < RATIO_WARNING;
    let finding = Finding::new(Id::BucketsNearLimit, Severity::Warning, sentence)
        .count("buckets", used)
        .count("buckets_limit", limit);
    let finding = match overflows {
        Some(overflows) => finding.count("overflows", overflows),
        None => finding,
    };
    finding.remedy((is_harmless && i32::try_from(higher).is_ok()).then_some(remedy))
}

fn server_side(view: &View<'_>) -> Option<Finding> {
    let (all, server_side) = view.time_wait()?;
    if server_side < MANY_SERVER_SIDE || server_side.saturating_mul(2) < all {
        return None;
    }
    let slab = view.snapshot.slabinfo.as_ref();
    let slab = slab
        .and_then(|outcome| outcome.value.as_ref())
        .and_then(|memory| memory.time_wait_bytes);
    let (bytes, how) = match slab {
        Some(bytes) => (bytes, "all of them take"),
        None => (all.saturating_mul(BUCKET_BYTES), "all of them take about"),
    };
    let sentence = format!(
        "{} of {} TIME-WAIT sockets are on the server's side: they hold no ephemeral port of this host \
         and are harmless; {how} {} of memory, and there is nothing to do.",
        wording::count(server_side),
        wording::count(all),
        wording::bytes(bytes)
    );
    Some(
        Finding::new(Id::ServerSide, Severity::Ok, sentence)
            .count("server_side", server_side)
            .count("time_wait", all)
            .figure("memory", FigureValue::Bytes(bytes)),
    )
}

//! Sysctls that do harm, or that do not do what they were set for.

use super::View;
use super::destinations::{load, severity_of};
use super::finding::{Finding, Id, Severity};
use super::help::{is_loopback, reuse};
use super::remedy::{Remedy, RemedyId};
use super::wording::count;
use crate::domain::collectors::CollectorId;
use crate::domain::snapshot::DestinationUsage;

/// `TCP_FIN_TIMEOUT` in include/net/tcp.h, in seconds.
const DEFAULT_FIN_TIMEOUT_SECONDS: i64 = 60;

pub(super) fn find(view: &View<'_>, findings: &mut Vec<Finding>) {
    let found = [
        recycle(view),
        recycle_and_reuse(view),
        reuse_without_timestamps(view),
        reuse_loopback_only(view),
        fin_timeout(view),
    ];
    findings.extend(found.into_iter().flatten());
}

fn is_recycling(view: &View<'_>) -> bool {
    let recycle = view.sysctl(|settings| settings.tcp_tw_recycle);
    recycle.is_some_and(|value| value != 0)
}

fn recycle_off() -> Remedy {
    let action = "Turn it off. It was never safe; Linux 4.12 removed it.";
    Remedy::new(RemedyId::RecycleOff, action).setting("tcp_tw_recycle", "0")
}

fn recycle(view: &View<'_>) -> Option<Finding> {
    if !is_recycling(view) {
        return None;
    }
    let rejects = view.snapshot.count(CollectorId::Netstat, "PAWSPassive");
    let so_far = match rejects {
        Some(rejects @ 1..) => format!(
            " Since boot, it has dropped {} SYNs because of their timestamps (PAWSPassive).",
            count(rejects)
        ),
        _ => String::new(),
    };
    let inert = if view.has_timestamps() == Some(false) {
        " (in effect as soon as tcp_timestamps is on)"
    } else {
        ""
    };
    let sentence = format!(
        "tcp_tw_recycle is on{inert}. If several clients are behind one NAT address, the kernel silently drops SYNs of \
         those whose timestamps are behind.{so_far}"
    );
    let finding = Finding::new(Id::Recycle, Severity::Warning, sentence).remedies([recycle_off()]);
    Some(match rejects {
        Some(rejects) => finding.count("paws_passive", rejects),
        None => finding,
    })
}

fn recycle_and_reuse(view: &View<'_>) -> Option<Finding> {
    if !is_recycling(view) || !matches!(view.reuse(), Some(1 | 2)) {
        return None;
    }
    let sentence = "tcp_tw_recycle and tcp_tw_reuse are both on. For outgoing connections tcp_tw_reuse is enough; \
                    recycling only harms incoming ones.";
    Some(Finding::new(Id::RecycleAndReuse, Severity::Info, sentence).remedies([recycle_off()]))
}

fn reuse_without_timestamps(view: &View<'_>) -> Option<Finding> {
    let reuse = view.reuse()?;
    if view.has_timestamps()? {
        return None;
    }
    // 2 is the default and about loopback only: it misleads only where something waits there.
    let waits = |usage: &DestinationUsage| is_loopback(usage) && usage.in_use.time_wait > 0;
    let is_meant = match reuse {
        1 => true,
        2 => view.destinations().iter().any(waits),
        _ => false,
    };
    if !is_meant {
        return None;
    }
    let sentence = format!(
        "tcp_tw_reuse is {reuse} but has no effect, because tcp_timestamps is 0: the kernel reuses a TIME-WAIT socket \
         only if both ends send timestamps."
    );
    let action = "Turn timestamps on. Connections that are made from then on can be reused after they are closed.";
    let remedy = Remedy::new(RemedyId::Timestamps, action).setting("tcp_timestamps", "1");
    Some(Finding::new(Id::ReuseWithoutTimestamps, Severity::Info, sentence).remedies([remedy]))
}

fn reuse_loopback_only(view: &View<'_>) -> Option<Finding> {
    if view.reuse()? != 2 {
        return None;
    }
    let mut low = view.destinations().iter().filter(|usage| {
        let is_low = severity_of(usage.exhaustion_ratio) > Severity::Ok;
        is_low && !is_loopback(usage) && usage.in_use.time_wait > 0
    });
    let worst = low.next()?;
    let sentence = format!(
        "tcp_tw_reuse is 2, which is for loopback only. TIME-WAIT sockets to {} and other hosts are not reused; that \
         needs 1.",
        worst.destination.dst_addr
    );
    let action = "Set it to 1 if the servers send timestamps too.";
    let mut remedy = Remedy::new(RemedyId::Reuse, action);
    if view.has_timestamps() == Some(false) {
        remedy = remedy.setting("tcp_timestamps", "1");
    }
    let same = view
        .ports
        .and_then(|ports| reuse(view, worst, load(worst, ports)));
    if let Some(effect) = same.and_then(|same| same.effect) {
        remedy = remedy.effect(effect);
    }
    Some(
        Finding::new(Id::ReuseLoopbackOnly, Severity::Info, sentence)
            .count("could_be_taken_over", worst.reuse_gain)
            .remedies([remedy.setting("tcp_tw_reuse", "1")]),
    )
}

fn fin_timeout(view: &View<'_>) -> Option<Finding> {
    let seconds = view.sysctl(|settings| settings.tcp_fin_timeout_seconds)?;
    if seconds >= DEFAULT_FIN_TIMEOUT_SECONDS {
        return None;
    }
    let sentence = format!(
        "tcp_fin_timeout is {seconds} s, which does not shorten TIME-WAIT. It is only the time that a closed socket waits \
         for the peer's FIN (FIN-WAIT-2)."
    );
    Some(
        Finding::new(Id::FinTimeout, Severity::Info, sentence)
            .count("tcp_fin_timeout_seconds", seconds.unsigned_abs()),
    )
}

//! Sysctls that do harm, or that do not do what they were set for.

use super::destinations::severity_of;
use super::help::{is_loopback, reuse};
use super::whatif::Load;
use super::wording::{count, when};
use super::{Finding, Id, Remedy, RemedyId, Severity, Value, View};
use crate::domain::collectors::CollectorId;
use crate::domain::snapshot::DestinationUsage;

/// `TCP_FIN_TIMEOUT` in include/net/tcp.h, in seconds.
const DEFAULT_FIN_TIMEOUT_SECONDS: i64 = 60;

fn recycle_off() -> Remedy {
    let action = "Turn tcp_tw_recycle off. It was never safe; Linux 4.12 removed it.";
    Remedy::new(RemedyId::RecycleOff, action).setting("tcp_tw_recycle", "0")
}

pub(super) fn recycle(view: &View<'_>) -> Option<Finding> {
    view.settings.tcp_tw_recycle.filter(|value| *value != 0)?;
    let rejects = view.snapshot.count(CollectorId::Netstat, "PAWSPassive");
    let dropped = count(rejects.unwrap_or(0));
    let so_far = format!(
        " Since boot, it has dropped {dropped} SYNs because of their timestamps (PAWSPassive)."
    );
    let so_far = when(rejects > Some(0), &so_far);
    let inert = " (in effect as soon as tcp_timestamps is on)";
    let inert = when(view.has_timestamps == Some(false), inert);
    let sentence = format!(
        "tcp_tw_recycle is on{inert}. If several clients share one NAT address, the kernel silently drops SYNs of clients \
         whose timestamps are lower.{so_far}"
    );
    Finding::new(Id::Recycle, Severity::Warning, sentence)
        .value("paws_passive", rejects.map(Value::Count))
        .remedies([recycle_off()])
        .into()
}

pub(super) fn recycle_and_reuse(view: &View<'_>) -> Option<Finding> {
    view.settings.tcp_tw_recycle.filter(|value| *value != 0)?;
    let reuse = view.settings.tcp_tw_reuse;
    reuse.filter(|value| matches!(value, 1 | 2))?;
    let sentence = "tcp_tw_recycle and tcp_tw_reuse are both on. For outgoing connections tcp_tw_reuse is enough; \
                    recycling only harms incoming ones.";
    Some(Finding::new(Id::RecycleAndReuse, Severity::Info, sentence).remedies([recycle_off()]))
}

pub(super) fn reuse_without_timestamps(view: &View<'_>) -> Option<Finding> {
    let reuse = view.settings.tcp_tw_reuse?;
    // 2 is the default and about loopback only: it misleads only where something waits there.
    let misleads = |usage: &DestinationUsage| usage.in_use.time_wait > 0 && is_loopback(usage);
    let is_meant = reuse == 1 || reuse == 2 && view.destinations.iter().any(misleads);
    if view.has_timestamps? || !is_meant {
        return None;
    }
    let sentence = format!(
        "tcp_tw_reuse is {reuse} but has no effect, because tcp_timestamps is 0: the kernel reuses a TIME-WAIT socket \
         only if both ends send timestamps."
    );
    let action =
        "Turn timestamps on. Ports of connections that are opened from then on can be reused.";
    let remedy = Remedy::new(RemedyId::Timestamps, action).setting("tcp_timestamps", "1");
    Some(Finding::new(Id::ReuseWithoutTimestamps, Severity::Info, sentence).remedies([remedy]))
}

pub(super) fn reuse_loopback_only(view: &View<'_>) -> Option<Finding> {
    let ports = view.ports?;
    view.settings.tcp_tw_reuse.filter(|value| *value == 2)?;
    let worst = view.destinations.iter().find(|usage| {
        let is_low = severity_of(usage.exhaustion_ratio) > Severity::Ok;
        is_low && !is_loopback(usage) && usage.in_use.time_wait > 0
    })?;
    let sentence = format!(
        "tcp_tw_reuse is 2, which is for loopback only. TIME-WAIT sockets to {} and other hosts are reused only if it \
         is 1.",
        worst.destination.dst_addr
    );
    let action = "Set tcp_tw_reuse to 1 if the servers send timestamps too.";
    let effect = reuse(view, worst, Load::of(worst, ports)).and_then(|same| same.effect);
    let remedy = Remedy::new(RemedyId::Reuse, action)
        .setting_if(view.has_timestamps == Some(false), "tcp_timestamps", "1")
        .setting("tcp_tw_reuse", "1");
    Finding::new(Id::ReuseLoopbackOnly, Severity::Info, sentence)
        .count("could_be_taken_over", worst.reuse_gain)
        .remedies([Remedy { effect, ..remedy }])
        .into()
}

pub(super) fn fin_timeout(view: &View<'_>) -> Option<Finding> {
    let seconds = view.settings.tcp_fin_timeout_seconds;
    let seconds = seconds.filter(|seconds| *seconds < DEFAULT_FIN_TIMEOUT_SECONDS)?;
    let sentence = format!(
        "tcp_fin_timeout is {seconds} s, which does not shorten TIME-WAIT. It is only the time that a closed socket waits \
         for the peer's FIN (FIN-WAIT-2)."
    );
    let finding = Finding::new(Id::FinTimeout, Severity::Info, sentence);
    Some(finding.count("tcp_fin_timeout_seconds", seconds.unsigned_abs()))
}

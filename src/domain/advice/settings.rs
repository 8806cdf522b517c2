//! Kernel settings that do harm, or do not do what they were set for.

use super::destinations::{load, severity_of};
use super::finding::{Finding, Id, Severity};
use super::help::{is_loopback, reuse};
use super::remedy::{Remedy, RemedyId};
use super::{View, wording};
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
    let settings = view.settings;
    settings
        .and_then(|settings| settings.tcp_tw_recycle)
        .is_some_and(|value| value != 0)
}

fn recycle_off() -> Remedy {
    Remedy::new(
        RemedyId::RecycleOff,
        "Turn it off: it was never safe, and Linux 4.12 took it out.",
    )
    .setting("tcp_tw_recycle", "0")
}

fn recycle(view: &View<'_>) -> Option<Finding> {
    if !is_recycling(view) {
        return None;
    }
    let rejects = view.snapshot.count(CollectorId::Netstat, "PAWSPassive");
    let so_far = match rejects {
        Some(count) if count > 0 => format!(
            "; since the kernel started it has dropped {} for their timestamps (PAWSPassive)",
            wording::count(count)
        ),
        _ => String::new(),
    };
    let inert = if view.has_timestamps() == Some(false) {
        " (as soon as tcp_timestamps is on, too)"
    } else {
        ""
    };
    let sentence = format!(
        "tcp_tw_recycle is on{inert}: of several clients behind one NAT address the kernel silently drops \
         the SYNs of those whose timestamps are behind{so_far}."
    );
    let finding = Finding::new(Id::Recycle, Severity::Warning, sentence);
    let finding = match rejects {
        Some(count) => finding.count("paws_passive", count),
        None => finding,
    };
    Some(finding.remedy(Some(recycle_off())))
}

fn recycle_and_reuse(view: &View<'_>) -> Option<Finding> {
    if !is_recycling(view) || !matches!(view.reuse(), Some(1 | 2)) {
        return None;
    }
    let sentence = "tcp_tw_recycle and tcp_tw_reuse are both on: for outgoing connections \
                    tcp_tw_reuse is enough, and recycling only adds its harm to incoming ones.";
    Some(Finding::new(Id::RecycleAndReuse, Severity::Info, sentence).remedy(Some(recycle_off())))
}

fn reuse_without_timestamps(view: &View<'_>) -> Option<Finding> {
    let reuse = view.reuse()?;
    if view.has_timestamps()? {
        return None;
    }
    // 2 is the default and about loopback only: no one is misled unless something waits there.
    let waits = |figures: &DestinationUsage| is_loopback(figures) && figures.in_use.time_wait > 0;
    let is_meant = match reuse {
        1 => true,
        2 => view.destinations().iter().any(waits),
        _ => false,
    };
    if !is_meant {
        return None;
    }
    let sentence = format!(
        "tcp_tw_reuse is {reuse} but does nothing, for tcp_timestamps is 0: the kernel takes over a \
         TIME-WAIT socket only where both ends send timestamps."
    );
    let remedy = Remedy::new(
        RemedyId::Timestamps,
        "Turn timestamps on; connections made from then on can be taken over after they closed.",
    )
    .setting("tcp_timestamps", "1");
    Some(Finding::new(Id::ReuseWithoutTimestamps, Severity::Info, sentence).remedy(Some(remedy)))
}

fn reuse_loopback_only(view: &View<'_>) -> Option<Finding> {
    if view.reuse()? != 2 {
        return None;
    }
    let mut low = view.destinations().iter().filter(|figures| {
        let is_low = severity_of(figures.exhaustion_ratio) > Severity::Ok;
        is_low && !is_loopback(figures) && figures.in_use.time_wait > 0
    });
    let worst = low.next()?;
    let sentence = format!(
        "tcp_tw_reuse is 2, which is for loopback only: TIME-WAIT sockets to {} and other hosts are not \
         taken over; that would need 1.",
        worst.destination.dst_addr
    );
    let mut remedy = Remedy::new(
        RemedyId::Reuse,
        "Set it to 1, where the servers send timestamps too.",
    );
    if view.has_timestamps() == Some(false) {
        remedy = remedy.setting("tcp_timestamps", "1");
    }
    let given = view
        .ports
        .and_then(|ports| reuse(view, worst, load(worst, ports)));
    if let Some(effect) = given.and_then(|same| same.effect) {
        remedy = remedy.effect(effect);
    }
    Some(
        Finding::new(Id::ReuseLoopbackOnly, Severity::Info, sentence)
            .count("could_be_taken_over", worst.reuse_gain)
            .remedy(Some(remedy.setting("tcp_tw_reuse", "1"))),
    )
}

fn fin_timeout(view: &View<'_>) -> Option<Finding> {
    let seconds = view.settings?.tcp_fin_timeout_seconds?;
    if seconds >= DEFAULT_FIN_TIMEOUT_SECONDS {
        return None;
    }
    let sentence = format!(
        "tcp_fin_timeout was lowered to {seconds} s, which does not shorten TIME-WAIT: that is always \
         60 s. It only shortens the wait for the other end's FIN (FIN-WAIT-2)."
    );
    Some(
        Finding::new(Id::FinTimeout, Severity::Info, sentence)
            .count("tcp_fin_timeout_seconds", seconds.unsigned_abs()),
    )
}

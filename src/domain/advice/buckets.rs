//! The limit of TIME-WAIT sockets, and those that are harmless.

use super::thresholds::{BUCKETS_WARNING, MANY_SERVER_SIDE, RATIO_WARNING};
use super::whatif::Load;
use super::wording::{bytes, count, counted};
use super::{Finding, Id, Remedy, RemedyId, Severity, Value, View};
use crate::domain::collectors::CollectorId;

/// Memory of one TIME-WAIT socket: `sizeof(struct tcp_timewait_sock)`.
const BUCKET_BYTES: u64 = 256;

/// A lower limit is raised to this one.
const MIN_BUCKETS: u32 = 16_384;

/// Near the limit, or past it since boot.
pub(super) fn limit(view: &View<'_>) -> Option<Finding> {
    let used = view.snapshot.time_wait_buckets()?;
    let usable = u32::try_from(view.settings.tcp_max_tw_buckets?).ok()?;
    let load = Load::new(u32::try_from(used).unwrap_or(u32::MAX), usable);
    let snapshot = view.snapshot;
    let overflows = snapshot.count(CollectorId::Netstat, "TCPTimeWaitOverflow");
    let finding = if load.room().ratio >= BUCKETS_WARNING {
        near_limit(view, load)
    } else {
        let overflows = overflows.filter(|overflows| *overflows > 0)?;
        let sentence = format!(
            "Since boot, the kernel has closed {} without TIME-WAIT because tcp_max_tw_buckets was reached or memory \
             was short. The limit is not near now.",
            counted(overflows, "socket", "sockets")
        );
        Finding::new(Id::BucketOverflows, Severity::Info, sentence)
    };
    let finding = finding.count("buckets", used);
    let finding = finding.count("buckets_limit", usable);
    Some(finding.value("overflows", overflows.map(Value::Count)))
}

fn near_limit(view: &View<'_>, load: Load) -> Finding {
    let (used, limit) = (count(load.taken), count(load.usable));
    let now = counted(load.taken, "socket is", "sockets are");
    let state = match load.usable {
        0 => format!("tcp_max_tw_buckets is 0, {now} in TIME-WAIT now."),
        _ => format!("{used} sockets are in TIME-WAIT, tcp_max_tw_buckets is {limit}."),
    };
    let sentence = format!(
        "{state} At the limit, the kernel closes sockets without TIME-WAIT, and late segments of an old connection can \
         reach a new one."
    );
    let higher = load.usable.saturating_mul(2).max(MIN_BUCKETS);
    let action = format!(
        "Raise tcp_max_tw_buckets to {}. That many sockets take {} of memory.",
        count(higher),
        bytes(u64::from(higher).saturating_mul(BUCKET_BYTES))
    );
    let note = "More sockets then stay in TIME-WAIT and use ports. A destination has few ports left: fix that first.";
    let after = Load::new(load.taken, higher);
    let remedy = Remedy::new(RemedyId::MoreBuckets, action)
        .setting("tcp_max_tw_buckets", higher.to_string())
        .effect(load.effect(after))
        .note_if(view.worst_ratio >= RATIO_WARNING, note);
    let is_valid = i32::try_from(higher).is_ok();
    let finding = Finding::new(Id::BucketsNearLimit, Severity::Warning, sentence);
    finding.remedies(is_valid.then_some(remedy))
}

pub(super) fn server_side(view: &View<'_>) -> Option<Finding> {
    let sockets = view.snapshot.sockets()?;
    let all = sockets.time_wait.ipv4 + sockets.time_wait.ipv6;
    let outgoing = match (view.snapshot.destinations(), &sockets.by_src_port) {
        (Some(breakdown), _) => {
            let exported = breakdown.exported.iter();
            let exported = exported.map(|usage| usage.in_use.time_wait);
            exported.sum::<u64>() + breakdown.other.time_wait
        }
        (None, Some(by_port)) => by_port.ephemeral,
        (None, None) => return None,
    };
    let server_side = all.saturating_sub(outgoing);
    if server_side < MANY_SERVER_SIDE || server_side.saturating_mul(2) < all {
        return None;
    }
    let memory = all.saturating_mul(BUCKET_BYTES);
    let sentence = format!(
        "{} of {} TIME-WAIT sockets are on the server's side. They use no ephemeral port of this host and are harmless. \
         All TIME-WAIT sockets take about {} of memory.",
        count(server_side),
        count(all),
        bytes(memory)
    );
    // All network namespaces share the slabs, which keep memory that sockets have freed.
    let slabs = view.snapshot.count(CollectorId::Slabinfo, "bytes");
    Finding::new(Id::ServerSide, Severity::Ok, sentence)
        .count("server_side", server_side)
        .count("time_wait", all)
        .value("memory", Value::Bytes(memory))
        .value("slabs_of_whole_host", slabs.map(Value::Bytes))
        .into()
}

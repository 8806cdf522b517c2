//! The limit of TIME-WAIT sockets, and those that are harmless.

use super::View;
use super::finding::{Finding, Id, Severity, Value};
use super::remedy::{Effect, Remedy, RemedyId, Room};
use super::thresholds::{BUCKETS_WARNING, MANY_SERVER_SIDE, RATIO_WARNING};
use super::wording::{bytes, count, counted};
use crate::domain::collectors::CollectorId;

/// Memory of one TIME-WAIT socket: `sizeof(struct tcp_timewait_sock)`.
const BUCKET_BYTES: u64 = 256;

/// A lower limit is raised to this one.
const MIN_BUCKETS: u64 = 16_384;

pub(super) fn find(view: &View<'_>, findings: &mut Vec<Finding>) {
    findings.extend(buckets(view));
    findings.extend(server_side(view));
}

fn buckets(view: &View<'_>) -> Option<Finding> {
    let used = view.snapshot.time_wait_buckets()?;
    let limit = view.sysctl(|settings| settings.tcp_max_tw_buckets)?;
    let limit = u64::try_from(limit).ok()?;
    let overflows = view
        .snapshot
        .count(CollectorId::Netstat, "TCPTimeWaitOverflow");
    if ratio(used, limit) >= BUCKETS_WARNING {
        return Some(near_limit(view, used, limit, overflows));
    }
    let overflows = overflows.filter(|overflows| *overflows > 0)?;
    let sentence = format!(
        "Since boot, the kernel has closed {} without TIME-WAIT, because tcp_max_tw_buckets was reached. Now it is not \
         near.",
        counted(overflows, "socket", "sockets")
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

fn near_limit(view: &View<'_>, used: u64, limit: u64, overflows: Option<u64>) -> Finding {
    let state = if limit == 0 {
        format!(
            "tcp_max_tw_buckets is 0, {} in TIME-WAIT now.",
            counted(used, "socket is", "sockets are")
        )
    } else {
        format!(
            "{} sockets are in TIME-WAIT, tcp_max_tw_buckets is {}.",
            count(used),
            count(limit)
        )
    };
    let sentence = format!(
        "{state} At the limit, the kernel closes sockets without TIME-WAIT, and late segments of an old connection can \
         reach a new one."
    );
    let higher = limit.saturating_mul(2).max(MIN_BUCKETS);
    let room = |limit: u64| Room {
        headroom: limit.saturating_sub(used),
        ratio: ratio(used, limit).min(1.0),
    };
    let action = format!(
        "Raise tcp_max_tw_buckets to {}. That many sockets take {} of memory.",
        count(higher),
        bytes(higher.saturating_mul(BUCKET_BYTES))
    );
    let mut remedy = Remedy::new(RemedyId::MoreBuckets, action)
        .setting("tcp_max_tw_buckets", higher.to_string())
        .effect(Effect {
            before: room(limit),
            after: room(higher),
        });
    if view.worst_ratio() >= RATIO_WARNING {
        remedy = remedy.note(
            "More sockets then stay in TIME-WAIT and use ports, and a destination has few left: fix that first.",
        );
    }
    let finding = Finding::new(Id::BucketsNearLimit, Severity::Warning, sentence)
        .count("buckets", used)
        .count("buckets_limit", limit);
    let finding = match overflows {
        Some(overflows) => finding.count("overflows", overflows),
        None => finding,
    };
    finding.remedies(i32::try_from(higher).is_ok().then_some(remedy))
}

fn server_side(view: &View<'_>) -> Option<Finding> {
    let (all, server_side) = view.time_wait()?;
    if server_side < MANY_SERVER_SIDE || server_side.saturating_mul(2) < all {
        return None;
    }
    let slabs = view.snapshot.count(CollectorId::Slabinfo, "bytes");
    let memory = all.saturating_mul(BUCKET_BYTES);
    let sentence = format!(
        "{} of {} TIME-WAIT sockets are on the server's side. They use no ephemeral port of this host and are harmless. \
         All TIME-WAIT sockets take about {} of memory.",
        count(server_side),
        count(all),
        bytes(memory)
    );
    let finding = Finding::new(Id::ServerSide, Severity::Ok, sentence)
        .count("server_side", server_side)
        .count("time_wait", all)
        .value("memory", Value::Bytes(memory));
    // All network namespaces share the slabs, which keep memory that sockets have freed.
    Some(match slabs {
        Some(slabs) => finding.value("slabs_of_whole_host", Value::Bytes(slabs)),
        None => finding,
    })
}

//! How many sockets may be in TIME-WAIT, and those that are of no concern.

use super::finding::{FigureValue, Finding, Id, Severity};
use super::remedy::{Effect, Remedy, RemedyId, Room};
use super::thresholds::{BUCKETS_WARNING, MANY_SERVER_SIDE, RATIO_WARNING};
use super::{View, wording};
use crate::domain::collectors::CollectorId;

/// What the kernel takes for one time-wait bucket, in bytes: `sizeof(struct tcp_timewait_sock)`.
const BUCKET_BYTES: u64 = 256;

/// A limit that is lower than this is raised to it.
const LEAST_BUCKETS: u64 = 16_384;

pub(super) fn find(view: &View<'_>, findings: &mut Vec<Finding>) {
    findings.extend(buckets(view));
    findings.extend(server_side(view));
}

fn buckets(view: &View<'_>) -> Option<Finding> {
    let used = view.snapshot.time_wait_buckets();
    let limit = view
        .settings
        .and_then(|settings| settings.tcp_max_tw_buckets);
    let limit = limit.and_then(|limit| u64::try_from(limit).ok());
    let overflows = view
        .snapshot
        .count(CollectorId::Netstat, "TCPTimeWaitOverflow");
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
    let state = if limit == 0 {
        format!(
            "No time-wait bucket is allowed (tcp_max_tw_buckets is 0; {} in use still)",
            wording::counted(used, "is", "are")
        )
    } else {
        format!(
            "{} of the {} time-wait buckets are in use",
            wording::count(used),
            wording::count(limit)
        )
    };
    let sentence = format!(
        "{state}: at the limit the kernel closes sockets without TIME-WAIT, and late segments of an old \
         connection can reach a new one."
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
    if view.worst_ratio() >= RATIO_WARNING {
        remedy = remedy.mind(
            "More sockets then stay in TIME-WAIT and hold ports, of which a destination has few left: see to \
             that first.",
        );
    }
    let finding = Finding::new(Id::BucketsNearLimit, Severity::Warning, sentence)
        .count("buckets", used)
        .count("buckets_limit", limit);
    let finding = match overflows {
        Some(overflows) => finding.count("overflows", overflows),
        None => finding,
    };
    finding.remedy(i32::try_from(higher).is_ok().then_some(remedy))
}

fn server_side(view: &View<'_>) -> Option<Finding> {
    let (all, server_side) = view.time_wait()?;
    if server_side < MANY_SERVER_SIDE || server_side.saturating_mul(2) < all {
        return None;
    }
    let slab = view.snapshot.count(CollectorId::Slabinfo, "bytes");
    let bytes = all.saturating_mul(BUCKET_BYTES);
    let sentence = format!(
        "{} of {} TIME-WAIT sockets are on the server's side: they hold no ephemeral port of this host \
         and are harmless; all of them take about {} of memory, and there is nothing to do.",
        wording::count(server_side),
        wording::count(all),
        wording::bytes(bytes)
    );
    let finding = Finding::new(Id::ServerSide, Severity::Ok, sentence)
        .count("server_side", server_side)
        .count("time_wait", all)
        .figure("memory", FigureValue::Bytes(bytes));
    // Slabs are shared by all network namespaces, and keep memory that sockets have left.
    Some(match slab {
        Some(slab) => finding.figure("slabs_of_whole_host", FigureValue::Bytes(slab)),
        None => finding,
    })
}

//! When the ports in use are probed for those that are closed to connect().
//!
//! A probe takes 1.2 us a port, up to 34 ms for the whole default range. How much it can change is known
//! without it: no ratio can exceed the share of the usable ports that any socket uses. Up to a tenth it
//! is not worth while; from the warning threshold on every port counts, and each scrape probes. In between
//! an answer serves for a minute, except where a probe is quick anyway.

use std::time::{Duration, Instant};

use tracing::warn;

use super::sockets::Given;
use crate::domain::advice::thresholds::RATIO_WARNING;
use crate::domain::census::Census;
use crate::domain::ports::PortSet;
use crate::domain::snapshot::Probe;
use crate::kernel::port_probe::{PortProbe, ProbeError};
use crate::kernel::procfs::ProcRoot;

/// Up to this share of the usable ports in use, nothing is probed, unless the range is a small one.
const QUIET_SHARE: f64 = 0.1;

/// Up to this many ports are probed in 1.2 ms.
const QUICK_PORTS: u32 = 1_024;

/// How long an answer serves where neither holds.
const SERVES_FOR: Duration = Duration::from_secs(60);

/// What was probed in one network namespace last.
#[derive(Debug, Default)]
pub(super) struct ProbeMemory {
    last: Option<(Instant, PortSet)>,
    /// What went wrong last, so that it is logged once.
    failure: Option<String>,
}

impl ProbeMemory {
    /// Closes the ports of the census that turn out to be closed to connect(), in the network namespace that the
    /// calling thread is in. `lists_bound`: whether bound, unconnected sockets are known.
    pub(super) fn probe(
        &mut self,
        census: &mut Census,
        procfs: &ProcRoot,
        given: Given<'_>,
        lists_bound: bool,
    ) -> Probe {
        let begin = Instant::now();
        let Some(usable) = census.usable_ports() else {
            return Probe::NotNeeded;
        };
        let count = |name| given.statistics.and_then(|counts| counts.get(name));
        let unlisted = match (count("used"), count("inuse")) {
            (Some(used), in_use) if !lists_bound => used.saturating_sub(in_use.unwrap_or(0)),
            _ => 0,
        };
        let unlisted = u32::try_from(unlisted).unwrap_or(u32::MAX);
        let Some(serves_for) = serves_for(usable.in_use.len(), usable.free.len(), unlisted) else {
            return Probe::NotNeeded;
        };
        let mut candidates = usable.in_use;
        if unlisted > 0 {
            candidates.union_with(&usable.free);
        }
        let serves = |(probed, _): &(Instant, PortSet)| begin.duration_since(*probed) < serves_for;
        if !self.last.as_ref().is_some_and(serves) {
            match probe(procfs, given, &candidates) {
                Ok(closed) => self.last = Some((begin, closed)),
                Err(error) => return self.failed(&error, begin),
            }
        }
        self.failure = None;
        let mut closed = candidates;
        if let Some((_, last)) = &self.last {
            closed.intersect_with(last);
        }
        census.close_ports(&closed);
        let duration = begin.elapsed();
        Probe::Done { duration }
    }

    fn failed(&mut self, error: &ProbeError, begin: Instant) -> Probe {
        let reason = error.to_string();
        if matches!(error, ProbeError::Unavailable(_)) {
            return Probe::Unavailable { reason };
        }
        if self.failure.as_ref() != Some(&reason) {
            warn!(err = reason, "ports could not be probed");
            self.failure = Some(reason.clone());
        }
        Probe::Failed {
            reason,
            duration: begin.elapsed(),
        }
    }
}

fn probe(procfs: &ProcRoot, given: Given<'_>, ports: &PortSet) -> Result<PortSet, ProbeError> {
    let closed = PortProbe::open(procfs)?.closed_to_connect(ports, given.deadline)?;
    // A port outside the range is any port, one that is reserved now looks closed.
    let (now, _) = procfs.read_settings();
    let is_same = now.port_range == given.settings.port_range
        && now.reserved_ports == given.settings.reserved_ports;
    is_same.then_some(closed).ok_or(ProbeError::RangeChanged)
}

/// How long an answer is valid with these numbers of usable ports in use and free, and of sockets that may be bound without
/// being listed; `None` where nothing is worth probing.
fn serves_for(in_use: u32, free: u32, unlisted: u32) -> Option<Duration> {
    let usable = in_use + free;
    let candidates = if unlisted > 0 { usable } else { in_use };
    let in_use = in_use.saturating_add(unlisted);
    let share = f64::from(in_use) / f64::from(usable.max(1));
    if in_use == 0 || (share < QUIET_SHARE && usable > QUICK_PORTS) {
        None
    } else if share >= RATIO_WARNING || candidates <= QUICK_PORTS {
        Some(Duration::ZERO)
    } else {
        Some(SERVES_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Option<Duration> = None;
    const NOW: Option<Duration> = Some(Duration::ZERO);
    const RECENT: Option<Duration> = Some(SERVES_FOR);

    fn decide(in_use: u32, usable: u32, unlisted: u32) -> Option<Duration> {
        serves_for(in_use, usable - in_use, unlisted)
    }

    #[test]
    fn a_quiet_host_is_never_probed_and_one_near_the_limit_always() {
        assert_eq!(decide(0, 28_232, 0), NOTHING);
        assert_eq!(decide(2_823, 28_232, 0), NOTHING);
        assert_eq!(decide(2_824, 28_232, 0), RECENT);
        assert_eq!(decide(21_173, 28_232, 0), RECENT);
        assert_eq!(decide(21_174, 28_232, 0), NOW);
        assert_eq!(decide(28_232, 28_232, 0), NOW);
    }

    #[test]
    fn a_fast_probe_runs_every_time() {
        assert_eq!(decide(1_000, 10_000, 0), NOW);
        assert_eq!(decide(1, 1_024, 0), NOW);
        assert_eq!(decide(0, 1_024, 0), NOTHING);
        assert_eq!(decide(0, 0, 0), NOTHING);
    }

    #[test]
    fn where_bound_sockets_are_not_listed_their_number_counts_as_ports_in_use() {
        assert_eq!(decide(0, 28_232, 2_824), RECENT);
        assert_eq!(decide(0, 28_232, 200), NOTHING);
        assert_eq!(decide(100, 28_232, u32::MAX), NOW);
    }
}

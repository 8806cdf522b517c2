//! Metrics of the scrape itself: how each collector fared and what the pass over the sockets read.
//!
//! Does not tell of HTTP: see `process`.

use std::time::Duration;

use super::Teller::{Host, Series as Many, Value};
use super::{MetricDescription, Series, float, sockets_of};
use crate::domain::namespace::HostSnapshot;
use crate::domain::snapshot::{Outcome, Snapshot};

pub(super) const METRICS: &[MetricDescription] = &[
    MetricDescription::gauge(
        "timewait_scrape_collector_success",
        &["collector"],
        "Whether the collector read everything it looks for, 1 yes, 0 no: it failed, or was not done \
         at the deadline. A collector that is switched off is absent. netns is the look into other \
         network namespaces: 0 also if any of them was not reached in time.",
        Host(|host, series| each(host, series, |fared| f64::from(u8::from(fared.success)))),
    ),
    MetricDescription::gauge(
        "timewait_scrape_collector_duration_seconds",
        &["collector"],
        "Seconds that the collector took, up to its end, its failure or the deadline. Scrapes that \
         share one pass tell the same figure.",
        Host(|host, series| each(host, series, |fared| fared.duration.as_secs_f64())),
    ),
    MetricDescription::gauge(
        "timewait_scrape_dump_messages",
        &[],
        "Socket records that were read in this scrape's pass over the connection table, listening and \
         bound sockets included: what its cost depends on.",
        Value(|snapshot| Some(float(sockets_of(snapshot)?.messages))),
    ),
    MetricDescription::gauge(
        "timewait_scrape_source",
        &["source"],
        "1 for the source that the sockets were read from: netlink (sock_diag) or procfs \
         (/proc/net/tcp and tcp6). Only the one in use is told.",
        Many(|snapshot, series| {
            if let Some(source) = sockets_of(snapshot).and_then(|found| found.source) {
                series.tell(&[&source.as_str()], 1.0);
            }
        }),
    ),
];

/// What these metrics want to know of an [`Outcome`], whatever it found.
#[derive(Clone, Copy)]
struct Fared {
    success: bool,
    duration: Duration,
}

impl Fared {
    fn from<T>(outcome: Option<&Outcome<T>>) -> Option<Self> {
        outcome.map(|outcome| Self {
            success: outcome.success,
            duration: outcome.duration,
        })
    }
}

/// One figure for each collector that is switched on, in each namespace.
fn each(host: &HostSnapshot, series: &mut Series, figure: fn(Fared) -> f64) {
    if let Some(fared) = Fared::from(host.namespaces.as_deref()) {
        series.tell(&[&"netns"], figure(fared));
    }
    series.of_each(host, |snapshot, series| {
        of_namespace(snapshot, series, figure);
    });
}

fn of_namespace(snapshot: &Snapshot, series: &mut Series, figure: fn(Fared) -> f64) {
    let collectors = [
        ("sockets", Fared::from(snapshot.sockets.as_ref())),
        ("sysctl", Fared::from(snapshot.sysctl.as_ref())),
        ("netstat", Fared::from(snapshot.netstat.as_ref())),
        ("sockstat", Fared::from(snapshot.sockstat.as_ref())),
        ("slabinfo", Fared::from(snapshot.slabinfo.as_ref())),
    ];
    for (collector, fared) in collectors {
        if let Some(fared) = fared {
            series.tell(&[&collector], figure(fared));
        }
    }
}

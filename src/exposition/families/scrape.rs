//! Metrics of the scrape itself: how each collector fared and what the dump of the sockets read.
//!
//! Those of HTTP are in `exporter`.

use std::time::Duration;

use super::Values::{Host, Series as Many, Value};
use super::{MetricDescription, Series, float, labelled, single};
use crate::domain::namespace::HostSnapshot;

pub(super) const METRICS: &[MetricDescription] = &[
    labelled(
        "timewait_scrape_collector_success",
        &["collector"],
        "Whether the collector succeeded: 1 if it read everything, 0 if it failed or exceeded the deadline. Absent \
         if the collector is disabled, or its kernel feature or privilege is missing. netns reads other network \
         namespaces: also 0 if one of them was not read in time.",
        Host(|host, series| {
            each(host, series, |success, _| f64::from(u8::from(success)));
            Some(())
        }),
    ),
    labelled(
        "timewait_scrape_collector_duration_seconds",
        &["collector"],
        "Duration of the collector in seconds, up to its end, its failure or the deadline. Scrapes that share a \
         reading have the same value.",
        Host(|host, series| {
            each(host, series, |_, duration| duration.as_secs_f64());
            Some(())
        }),
    ),
    single(
        "timewait_scrape_dump_messages",
        "Socket records in this scrape's dump of the connection table, including listening and bound sockets. The \
         cost of the scrape depends on it.",
        Value(|snapshot| Some(float(snapshot.sockets()?.messages))),
    ),
    labelled(
        "timewait_scrape_source",
        &["source"],
        "Always 1; the source that the sockets were read from: netlink (sock_diag) or procfs (/proc/net/tcp and \
         tcp6). Only the one in use is exported.",
        Many(|snapshot, series| {
            series.push(&[&snapshot.sockets()?.source?.as_str()], 1.0);
            Some(())
        }),
    ),
];

/// One value for each collector that is switched on, in each namespace.
fn each(host: &HostSnapshot, series: &mut Series, value: fn(bool, Duration) -> f64) {
    if let Some(outcome) = &host.namespaces {
        series.push(&[&"netns"], value(outcome.success, outcome.duration));
    }
    series.of_each(host, |snapshot, series| {
        for (id, outcome) in snapshot.outcomes() {
            series.push(&[&id.name()], value(outcome.success, outcome.duration));
        }
        Some(())
    });
}

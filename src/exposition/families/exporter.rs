//! The exporter itself: its build, its process and the metrics handler.
//!
//! Names and help texts of the latter two are those of the Go client library (its process collector and
//! promhttp), so that dashboards and habits made for other exporters work. The caller brings all values.

use super::Values::Own;
use super::{MetricDescription, float, labelled, single};
use crate::domain::process::ProcessUsage;

/// Everything exported about the exporter itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ExporterMetrics {
    /// Which build this is. Always exported.
    pub build: BuildInfo,
    /// `None` with `--web.disable-exporter-metrics`, and where `/proc/self` could not be read.
    pub process: Option<ProcessUsage>,
    /// The handler of the metrics path; `None` with `--web.disable-exporter-metrics`.
    pub handler: Option<HandlerMetrics>,
}

/// Which build is running. A value that was not known at build time is `"unknown"`, not empty: to
/// Prometheus an empty label is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// The package's version.
    pub version: &'static str,
    /// The source revision.
    pub revision: &'static str,
    /// The version of the Rust compiler.
    pub rustversion: &'static str,
    /// The target triple it was built for.
    pub target: &'static str,
}

/// What the handler of the metrics path has done since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandlerMetrics {
    /// Scrapes being served now, this one included.
    pub in_flight: u64,
    /// Scrapes answered so far, by HTTP status: 200, 500 and 503, each once.
    pub requests_by_code: [(u16, u64); 3],
    /// Scrapes that failed while the answer was being written.
    pub encoding_errors: u64,
}

pub(super) const METRICS: &[MetricDescription] = &[
    labelled(
        "timewait_exporter_build_info",
        &["version", "revision", "rustversion", "target"],
        "Always 1; the labels are the version and revision of timewait_exporter, the version of the Rust compiler, \
         and the target.",
        Own(|own, series| {
            let BuildInfo {
                version,
                revision,
                rustversion,
                target,
            } = own.build;
            series.push(&[&version, &revision, &rustversion, &target], 1.0);
            Some(())
        }),
    ),
    single(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        Own(|own, series| series.number(Some(own.process?.cpu_seconds))),
    ),
    single(
        "process_open_fds",
        "Number of open file descriptors.",
        Own(|own, series| series.number(Some(float(own.process?.open_fds)))),
    ),
    single(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        Own(|own, series| series.number(own.process?.max_fds.map(float))),
    ),
    single(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        Own(|own, series| series.number(Some(float(own.process?.virtual_memory_bytes)))),
    ),
    single(
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
        Own(|own, series| series.number(own.process?.virtual_memory_max_bytes.map(float))),
    ),
    single(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        Own(|own, series| series.number(Some(float(own.process?.resident_memory_bytes)))),
    ),
    single(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        Own(|own, series| series.number(Some(own.process?.start_time_seconds))),
    ),
    single(
        "promhttp_metric_handler_requests_in_flight",
        "Current number of scrapes being served.",
        Own(|own, series| series.number(Some(float(own.handler?.in_flight)))),
    ),
    labelled(
        "promhttp_metric_handler_requests_total",
        &["code"],
        "Total number of scrapes by HTTP status code.",
        Own(|own, series| {
            for (code, requests) in own.handler?.requests_by_code {
                series.push(&[&code], float(requests));
            }
            Some(())
        }),
    ),
    labelled(
        "promhttp_metric_handler_errors_total",
        &["cause"],
        "Total number of internal errors encountered by the promhttp metric handler.",
        Own(|own, series| {
            series.push(&[&"encoding"], float(own.handler?.encoding_errors));
            // A collector's failure is exported as its success 0 and fails no scrape.
            series.push(&[&"gathering"], 0.0);
            Some(())
        }),
    ),
];

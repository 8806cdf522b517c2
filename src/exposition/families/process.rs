//! The process and the metrics handler, under the names that every Go exporter uses.
//!
//! Names and help texts here are those of the Go client library (its process collector and
//! promhttp), so that dashboards and habits made for other exporters work.

use super::Values::{OwnSeries, OwnValue};
use super::{ExporterFigures, MetricDescription, Series, float};
use crate::domain::process::ProcessUsage;

/// What the handler of the metrics path has done since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandlerFigures {
    /// Scrapes being served now, this one included.
    pub in_flight: u64,
    /// Scrapes answered so far, by HTTP status: 200, 500 and 503, each once.
    pub requests_by_code: [(u16, u64); 3],
    /// Scrapes that failed inside the exporter, by cause.
    pub errors: HandlerErrors,
}

/// Scrapes that failed inside the exporter, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandlerErrors {
    /// While the answer was being written.
    pub encoding: u64,
    /// While the values were being collected.
    pub(crate) gathering: u64,
}

pub(super) const METRICS: &[MetricDescription] = &[
    MetricDescription::counter(
        "process_cpu_seconds_total",
        &[],
        "Total user and system CPU time spent in seconds.",
        OwnValue(|exporter| Some(process_of(exporter)?.cpu_seconds)),
    ),
    MetricDescription::gauge(
        "process_open_fds",
        &[],
        "Number of open file descriptors.",
        OwnValue(|exporter| Some(float(process_of(exporter)?.open_fds))),
    ),
    MetricDescription::gauge(
        "process_max_fds",
        &[],
        "Maximum number of open file descriptors.",
        OwnValue(|exporter| process_of(exporter)?.max_fds.map(float)),
    ),
    MetricDescription::gauge(
        "process_virtual_memory_bytes",
        &[],
        "Virtual memory size in bytes.",
        OwnValue(|exporter| Some(float(process_of(exporter)?.virtual_memory_bytes))),
    ),
    MetricDescription::gauge(
        "process_virtual_memory_max_bytes",
        &[],
        "Maximum amount of virtual memory available in bytes.",
        OwnValue(|exporter| process_of(exporter)?.virtual_memory_max_bytes.map(float)),
    ),
    MetricDescription::gauge(
        "process_resident_memory_bytes",
        &[],
        "Resident memory size in bytes.",
        OwnValue(|exporter| Some(float(process_of(exporter)?.resident_memory_bytes))),
    ),
    MetricDescription::gauge(
        "process_start_time_seconds",
        &[],
        "Start time of the process since unix epoch in seconds.",
        OwnValue(|exporter| Some(process_of(exporter)?.start_time_seconds)),
    ),
    MetricDescription::gauge(
        "promhttp_metric_handler_requests_in_flight",
        &[],
        "Current number of scrapes being served.",
        OwnValue(|exporter| Some(float(handler_of(exporter)?.in_flight))),
    ),
    MetricDescription::counter(
        "promhttp_metric_handler_requests_total",
        &["code"],
        "Total number of scrapes by HTTP status code.",
        OwnSeries(requests_by_code),
    ),
    MetricDescription::counter(
        "promhttp_metric_handler_errors_total",
        &["cause"],
        "Total number of internal errors encountered by the promhttp metric handler.",
        OwnSeries(errors_by_cause),
    ),
];

fn process_of(exporter: &ExporterFigures) -> Option<&ProcessUsage> {
    exporter.self_figures.as_ref()?.process.as_ref()
}

fn handler_of(exporter: &ExporterFigures) -> Option<&HandlerFigures> {
    Some(&exporter.self_figures.as_ref()?.http)
}

fn requests_by_code(exporter: &ExporterFigures, series: &mut Series) {
    let handler = handler_of(exporter);
    for (code, requests) in handler.into_iter().flat_map(|http| http.requests_by_code) {
        series.push(&[&code], float(requests));
    }
}

fn errors_by_cause(exporter: &ExporterFigures, series: &mut Series) {
    if let Some(http) = handler_of(exporter) {
        series.push(&[&"encoding"], float(http.errors.encoding));
        series.push(&[&"gathering"], float(http.errors.gathering));
    }
}

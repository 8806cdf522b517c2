//! The exporter's build, and the values that the other tables about the
//! exporter read.
//!
//! The caller brings all of them.

use super::MetricDescription;
use super::Values::OwnSeries;
use super::process::HandlerFigures;
use crate::domain::process::ProcessUsage;

/// Everything exported about the exporter itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ExporterFigures {
    /// Which build this is. Always exported.
    pub build: BuildInfo,
    /// `None` with `--web.disable-exporter-metrics`.
    pub self_figures: Option<SelfFigures>,
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

/// What the process and its HTTP handler are doing.
#[derive(Clone, Debug, PartialEq)]
pub struct SelfFigures {
    /// `None` where `/proc/self` could not be read.
    pub process: Option<ProcessUsage>,
    /// The handler of the metrics path.
    pub http: HandlerFigures,
}

pub(super) const METRICS: &[MetricDescription] = &[MetricDescription::gauge(
    "timewait_exporter_build_info",
    &["version", "revision", "rustversion", "target"],
    "Always 1; the labels have the version and revision from which timewait_exporter was built, the \
     Rust compiler's version and the target.",
    OwnSeries(|exporter, series| {
        let build = &exporter.build;
        series.push(
            &[
                &build.version,
                &build.revision,
                &build.rustversion,
                &build.target,
            ],
            1.0,
        );
    }),
)];

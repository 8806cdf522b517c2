//! From a snapshot to metric families: the table of everything that is exported.
//!
//! Each metric is one entry of [`METRICS`]: its name, type, labels and help text, and the function
//! that finds its series in a [`HostSnapshot`] or in [`ExporterMetrics`]. [`families`] iterates over that table,
//! so a family that is not in it cannot be exported, and the order of the table is the order of the
//! output: sockets, port range, destinations, sources, settings, kernel counters, connection tracking, namespaces, the scrape, the build, the
//! process, the HTTP handler.
//!
//! To add a metric, add an entry to the table of its subject; nothing else names it. A metric of each network
//! namespace is an entry that reads a snapshot ([`Values::Value`], [`Values::Series`], …); series of other namespaces
//! than the exporter's have the label `netns` too, which one place adds, [`Series::push`].
//!
//! **Invariant:** what is unknown has no series. Nothing in here puts a 0 where a value is missing.
//!
//! Does not count, rank or divide anything: all values are final in the snapshot. Does not know how
//! families are written.

mod counters;
mod destinations;
mod exporter;
mod namespaces;
mod ports;
mod scrape;
mod sockets;
mod sources;

use std::fmt;
use std::sync::LazyLock;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

pub use exporter::{BuildInfo, ExporterMetrics, HandlerMetrics};

use crate::domain::collectors::CollectorId;
use crate::domain::namespace::HostSnapshot;
use crate::domain::settings::{SYSCTLS, Sysctl};
use crate::domain::snapshot::{PerFamily, Snapshot};

/// The label value for everything outside the top N.
const OTHER: &str = "other";

/// The label that every series of another namespace has, after the metric's own.
const NETNS: &str = "netns";

/// One metric: all that is said of it apart from its values.
#[derive(Clone, Copy, Debug)]
pub struct MetricDescription {
    /// The full name, a counter's with `_total`.
    pub name: &'static str,
    /// The names of its labels, in the order in which they are exported.
    pub labels: &'static [&'static str],
    /// The meaning, in one line, with units.
    pub help: &'static str,
    values: Values,
}

/// Where a metric's series come from. What is unknown has none.
#[derive(Clone, Copy, Debug)]
enum Values {
    /// One number of a namespace, without labels of its own.
    Value(fn(&Snapshot) -> Option<f64>),
    /// One number that a collector read, by the kernel's name for it.
    Count(CollectorId, &'static str),
    /// A kernel setting.
    Sysctl(&'static Sysctl),
    /// Any number of series of a namespace; `None` where they are unknown.
    Series(fn(&Snapshot, &mut Series) -> Option<()>),
    /// Any number of series of the host, namespaces included.
    Host(fn(&HostSnapshot, &mut Series) -> Option<()>),
    /// Any number of series of the exporter itself.
    Own(fn(&ExporterMetrics, &mut Series) -> Option<()>),
}

/// A metric without labels of its own.
const fn single(name: &'static str, help: &'static str, values: Values) -> MetricDescription {
    labelled(name, &[], help, values)
}

const fn labelled(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    values: Values,
) -> MetricDescription {
    MetricDescription {
        name,
        labels,
        help,
        values,
    }
}

impl MetricDescription {
    /// A counter only grows, or starts again at 0. Everything else is a gauge.
    pub fn is_counter(&self) -> bool {
        self.name.ends_with("_total")
    }

    /// The family with all its series, or nothing if it has none: the encoders refuse an empty one.
    fn family(&self, host: &HostSnapshot, exporter: &ExporterMetrics) -> Option<MetricFamily> {
        let mut series = Series {
            is_counter: self.is_counter(),
            labels: self.labels,
            netns: None,
            metrics: Vec::new(),
        };
        match self.values {
            Values::Value(find) => {
                series.of_each(host, |snapshot, series| series.number(find(snapshot)));
            }
            Values::Count(id, name) => series.of_each(host, |snapshot, series| {
                series.number(snapshot.count(id, name).map(float))
            }),
            Values::Sysctl(sysctl) => series.of_each(host, |snapshot, series| {
                series.number((sysctl.get)(snapshot.settings()?).map(signed_float))
            }),
            Values::Series(find) => series.of_each(host, find),
            Values::Host(find) => find(host, &mut series).unwrap_or_default(),
            Values::Own(find) => find(exporter, &mut series).unwrap_or_default(),
        }
        if series.metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(if self.is_counter() {
            MetricType::COUNTER
        } else {
            MetricType::GAUGE
        });
        family.set_metric(series.metrics);
        Some(family)
    }
}

/// The series of one family while they are being found.
struct Series {
    is_counter: bool,
    labels: &'static [&'static str],
    /// The namespace that they are of; `None` is the exporter's.
    netns: Option<String>,
    metrics: Vec<Metric>,
}

impl Series {
    /// Adds the series of the exporter's namespace, and then of each other one.
    fn of_each(&mut self, host: &HostSnapshot, find: impl Fn(&Snapshot, &mut Self) -> Option<()>) {
        find(&host.own, self);
        // Most namespaces have about as many series as the exporter's, or fewer.
        self.metrics
            .reserve(self.metrics.len() * host.others().count());
        for namespace in host.others() {
            self.netns = Some(namespace.identity.label.clone());
            find(&namespace.snapshot, self);
        }
        self.netns = None;
    }

    /// Adds one series. The values belong to the metric's labels in the table's order.
    fn push(&mut self, label_values: &[&dyn fmt::Display], value: f64) {
        debug_assert_eq!(label_values.len(), self.labels.len(), "one value a label");
        let mut labels = Vec::with_capacity(label_values.len() + 1);
        for (name, value) in self.labels.iter().zip(label_values) {
            labels.push(label_pair(name, value.to_string()));
        }
        if let Some(netns) = &self.netns {
            labels.push(label_pair(NETNS, netns.clone()));
        }
        let mut metric = Metric::from_label(labels);
        if self.is_counter {
            metric.counter.mut_or_insert_default().set_value(value);
        } else {
            metric.gauge.mut_or_insert_default().set_value(value);
        }
        self.metrics.push(metric);
    }

    /// Adds one series for each IP version.
    fn by_family<T>(&mut self, values: Option<PerFamily<T>>, value: fn(T) -> f64) -> Option<()> {
        let PerFamily { ipv4, ipv6 } = values?;
        self.push(&[&"ipv4"], value(ipv4));
        self.push(&[&"ipv6"], value(ipv6));
        Some(())
    }

    /// Adds the one series of a metric without labels.
    fn number(&mut self, value: Option<f64>) -> Option<()> {
        self.push(&[], value?);
        Some(())
    }
}

fn label_pair(name: &str, value: String) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value);
    pair
}

/// Every metric that the program can export, in the order in which it exports them.
pub static METRICS: LazyLock<Vec<MetricDescription>> = LazyLock::new(|| {
    let sysctls: Vec<MetricDescription> = SYSCTLS.iter().map(sysctl).collect();
    [
        sockets::METRICS,
        ports::METRICS,
        destinations::METRICS,
        sources::METRICS,
        &sysctls,
        counters::METRICS,
        namespaces::METRICS,
        scrape::METRICS,
        exporter::METRICS,
    ]
    .concat()
});

/// A kernel setting, raw as `/proc/sys` has it.
fn sysctl(sysctl: &'static Sysctl) -> MetricDescription {
    let name = format!("timewait_sysctl_{}", sysctl.short_name().replace('.', "_"));
    let help = format!("{}: {}", sysctl.name, sysctl.help);
    // Made once in the life of the program, as the others are in the compiler.
    single(name.leak(), help.leak(), Values::Sysctl(sysctl))
}

/// All families that have at least one series, in the order of [`METRICS`].
///
/// **Invariant:** as long as no breakdown has a value twice and no two namespaces have one label, no series (name and
/// label set) is exported twice.
pub fn families(
    host: &HostSnapshot,
    exporter: &ExporterMetrics,
) -> impl Iterator<Item = MetricFamily> {
    METRICS
        .iter()
        .filter_map(move |metric| metric.family(host, exporter))
}

/// A whole number as the floating-point number that every exposition format carries.
#[expect(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "exact up to 2^53, the limit of the formats themselves; `From` does not exist"
)]
const fn float(number: u64) -> f64 {
    number as f64
}

/// A whole number with a sign, likewise.
fn signed_float(number: i64) -> f64 {
    let magnitude = float(number.unsigned_abs());
    if number < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests;

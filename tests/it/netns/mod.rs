//! Other network namespaces: real ones, with and without names and processes, that come and go.
//!
//! - [`discovery`]: which ones are found;
//! - [`metrics`]: what is exported of each;
//! - [`limits`]: too many namespaces, or too little time;
//! - [`age`]: which dumps are exported again, and that none is where ports run out;
//! - [`oracle`]: the same for several at random, compared with connect();
//! - [`changes`]: namespaces and processes that come, go and move;
//! - [`privileges`]: which capabilities are needed;
//! - [`report`]: what `report`, `check` and the page show.

mod age;
mod changes;
mod discovery;
mod limits;
mod metrics;
mod oracle;
pub mod place;
mod privileges;
mod report;

use std::collections::BTreeMap;

use crate::support::exposition::Metrics;
use crate::support::program::Program;
use place::Names;

/// Dumps every namespace in each scrape.
fn start(names: &Names, flags: &[&str]) -> Program {
    let flags = [flags, &["--collector.netns-max-age=0"]].concat();
    start_by_age(names, &flags)
}

fn start_by_age(names: &Names, flags: &[&str]) -> Program {
    let path = names.flag();
    let all: Vec<&str> = flags.iter().copied().chain([&*path]).collect();
    Program::start(&all)
}

/// The values of one metric with one label set, by namespace; "" is the exporter's.
fn by_netns(metrics: &Metrics, metric: &str, labels: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for (series, value) in metrics.of(metric) {
        let inner = series
            .split_once('{')
            .map_or("", |(_, rest)| rest.strip_suffix('}').unwrap());
        let (own, netns) = match inner.split_once("netns=\"") {
            Some((own, rest)) => (own.trim_end_matches(','), rest.trim_end_matches('"')),
            None => (inner, ""),
        };
        if own == labels {
            assert_eq!(found.insert(netns.to_owned(), value), None, "{series}");
        }
    }
    found
}

fn exported(metrics: &Metrics) -> Vec<String> {
    let all = by_netns(
        metrics,
        "timewait_scrape_collector_success",
        "collector=\"sockstat\"",
    );
    all.into_keys().filter(|name| !name.is_empty()).collect()
}

fn expect(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect()
}

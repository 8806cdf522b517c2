//! The metrics of one scrape, in the text format.

use std::collections::BTreeMap;

/// The value of each series, by its text.
#[derive(Clone, Debug)]
pub struct Metrics {
    series: BTreeMap<String, f64>,
}

impl Metrics {
    /// Fails if a series appears twice.
    pub fn parse(text: &str) -> Self {
        let mut series = BTreeMap::new();
        for line in text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
        {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let before = series.insert(name.to_owned(), value.parse().unwrap());
            assert!(before.is_none(), "{name} appears twice");
        }
        Self { series }
    }

    /// The value of one series, if it exists.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The value of a series that must exist.
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        self.get(series)
            .unwrap_or_else(|| panic!("{series} is missing: {self:#?}"))
    }

    /// Whether a collector succeeded.
    #[track_caller]
    pub fn success(&self, collector: &str) -> bool {
        self.value(&format!(
            "timewait_scrape_collector_success{{collector=\"{collector}\"}}"
        )) == 1.0
    }

    /// The sum of all series of a metric.
    pub fn sum(&self, metric: &str) -> f64 {
        self.of(metric).values().sum()
    }

    /// The series of a metric.
    pub fn of(&self, metric: &str) -> BTreeMap<&str, f64> {
        let is_of = |series: &str| series.split('{').next() == Some(metric);
        self.series
            .iter()
            .filter(|(series, _)| is_of(series))
            .map(|(series, value)| (series.as_str(), *value))
            .collect()
    }

    /// The names of all metrics.
    pub fn names(&self) -> Vec<&str> {
        let names = self
            .series
            .keys()
            .filter_map(|series| series.split('{').next());
        let mut names: Vec<&str> = names.collect();
        names.dedup();
        names
    }

    /// The number of TIME-WAIT sockets: asserts that the six sums are equal.
    pub fn time_wait(&self) -> f64 {
        let total = self.sum("timewait_sockets");
        for breakdown in ["src_addr", "src_port", "dst_addr", "dst_port", "age"] {
            let sum = self.sum(&format!("timewait_sockets_by_{breakdown}"));
            assert!(
                (sum - total).abs() < 0.5,
                "by {breakdown}: {sum}, in all: {total}"
            );
        }
        total
    }
}

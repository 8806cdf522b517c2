//! The same thresholds everywhere: those of alert rules and dashboards must equal the program's.

use std::fs;
use std::path::Path;

use serde_json::Value;
use timewait_exporter::domain::advice::thresholds::{
    BUCKETS_WARNING, NARROW_RANGE_PORTS, POOL_WARNING, RATIO_CRITICAL, RATIO_WARNING,
};

/// The program's threshold of this name is private.
const SLOW_SEARCH_PORTS: u32 = 5_000;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Expressions, in one line, and severities of the rules with this name, in order.
fn rules(name: &str) -> Vec<(String, String)> {
    let alerts = read("deploy/prometheus/alerts.yml");
    let of_name = alerts.split("- alert: ").skip(1);
    let of_name = of_name.filter(|rule| rule.lines().next() == Some(name));
    let between = |rule: &str, begin: &str, end: &str| {
        let (_, rest) = rule.split_once(begin).expect(begin);
        let (found, _) = rest.split_once(end).expect(end);
        let words = found.trim_start_matches(" |2-").split_whitespace();
        words.collect::<Vec<_>>().join(" ")
    };
    let rules: Vec<_> = of_name
        .map(|rule| {
            let expression = between(rule, "expr:", " for:");
            (expression, between(rule, "severity:", "annotations:"))
        })
        .collect();
    assert!(!rules.is_empty(), "there is no alert {name}");
    rules
}

#[test]
fn the_alert_rules_have_the_programs_thresholds() {
    let ratio = "timewait_port_range_exhaustion_ratio";
    let expected = [(RATIO_WARNING, "warning"), (RATIO_CRITICAL, "critical")];
    let found = rules("TimewaitPortsLow");
    assert_eq!(found.len(), expected.len());
    for ((expression, severity), (threshold, wanted)) in found.iter().zip(expected) {
        assert_eq!(severity, wanted);
        let condition = format!(
            "quantile_over_time(0.8, {ratio}[10m]) >= {threshold} and max_over_time({ratio}[4m]) >= {threshold} "
        );
        assert!(expression.starts_with(&condition), "{expression}");
    }
    for (name, condition) in [
        (
            "TimewaitBindPoolLow",
            format!("(timewait_source_exhaustion_ratio) >= {POOL_WARNING} "),
        ),
        (
            "TimewaitBucketsNearLimit",
            format!("timewait_buckets / timewait_buckets_limit >= {BUCKETS_WARNING}"),
        ),
        (
            "TimewaitPortRangeNarrow",
            format!("timewait_port_range_usable_ports < {NARROW_RANGE_PORTS}"),
        ),
        (
            "TimewaitConnectSlow",
            format!(
                "(quantile_over_time(0.5, timewait_destination_search_ports[2m])) >= {SLOW_SEARCH_PORTS} "
            ),
        ),
    ] {
        let found = rules(name);
        assert_eq!(found.len(), 1, "{name}");
        assert!(found[0].0.contains(&condition), "{name}: {}", found[0].0);
    }
}

/// The thresholds below 1 that lines with a metric contain: `>= 0.9`.
fn shares(path: &str, metric: &str) -> Vec<f64> {
    let text = read(path);
    let lines = text.lines().filter(|line| line.contains(metric));
    let numbers = lines.flat_map(|line| line.split(">= ").skip(1));
    let numbers = numbers.filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        rest[..end.unwrap_or(rest.len())].parse::<f64>().ok()
    });
    // From 1 on it is not a ratio threshold: a prediction, or a number of samples.
    numbers.filter(|number| *number < 1.0).collect()
}

#[test]
fn fleet_rules_and_queries_in_documents_have_the_programs_thresholds() {
    /// The ratio from which a destination counts as exhausted.
    const EXHAUSTED: f64 = 0.999;
    for (path, least) in [
        ("deploy/prometheus/alerts.yml", 5),
        ("deploy/prometheus/recording.yml", 3),
        ("dashboards/README.md", 2),
    ] {
        let found = shares(path, "timewait_port_range_exhaustion_ratio");
        assert!(found.len() >= least, "{path}: {found:?}");
        for number in found {
            let known = [RATIO_WARNING, RATIO_CRITICAL, EXHAUSTED];
            assert!(known.contains(&number), "{path}: {number}");
        }
    }
    let of_queries = |metric| shares("dashboards/README.md", metric);
    assert_eq!(
        of_queries("timewait_source_exhaustion_ratio"),
        [POOL_WARNING]
    );
    assert_eq!(of_queries("timewait_buckets_limit"), [BUCKETS_WARNING]);
}

/// Every list of threshold steps in a dashboard that has one at all, with its panel's title.
fn steps(panels: &Value, found: &mut Vec<(String, Vec<f64>)>) {
    for panel in panels.as_array().into_iter().flatten() {
        steps(&panel["panels"], found);
        let expressions = panel["targets"].as_array().into_iter().flatten();
        let is_ratio = |metric: &str| {
            let mut asked = expressions
                .clone()
                .filter_map(|target| target["expr"].as_str());
            asked.any(|expression| expression.contains(metric) && !expression.starts_with("count("))
        };
        let title = panel["title"].as_str().unwrap_or_default();
        let kind = if is_ratio("timewait_source_exhaustion_ratio") {
            "pool"
        } else if is_ratio("exhaustion_ratio") {
            "ratio"
        } else {
            continue;
        };
        let config = &panel["fieldConfig"];
        let overrides = config["overrides"].as_array().into_iter().flatten();
        // Other columns of a table have their own thresholds.
        let overrides = overrides.filter(|rule| rule["matcher"]["options"] == "Ratio");
        let properties =
            overrides.flat_map(|rule| rule["properties"].as_array().into_iter().flatten());
        let thresholds = properties
            .filter(|property| property["id"] == "thresholds")
            .map(|property| &property["value"]);
        for thresholds in thresholds.chain([&config["defaults"]["thresholds"]]) {
            let values = thresholds["steps"].as_array().into_iter().flatten();
            let values: Vec<f64> = values.filter_map(|step| step["value"].as_f64()).collect();
            if !values.is_empty() {
                found.push((format!("{kind}: {title}"), values));
            }
        }
    }
}

#[test]
fn the_dashboards_have_the_programs_thresholds() {
    for dashboard in ["fleet", "host"] {
        let text = read(&format!("dashboards/timewait-{dashboard}.json"));
        let document: Value = serde_json::from_str(&text).unwrap();
        let mut found = Vec::new();
        steps(&document["panels"], &mut found);
        assert!(found.len() >= 3, "{found:?}");
        for (title, values) in found {
            if title.starts_with("pool") {
                assert_eq!(values, [POOL_WARNING], "{dashboard}, {title}");
            } else {
                assert_eq!(
                    values[..2],
                    [RATIO_WARNING, RATIO_CRITICAL],
                    "{dashboard}, {title}"
                );
            }
        }
    }
}

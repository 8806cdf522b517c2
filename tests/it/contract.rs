//! The metrics as an interface: a change of a name, a type or a label is seen, and is in the changelog.
//!
//! Two lists under `tests/fixtures/contract`, one line a metric: `NAME TYPE LABEL,LABEL`. Of a label that has a fixed
//! set of values the list has them, `family=ipv4|ipv6`; `*` among them means values that are not fixed, addresses
//! and ports. `netns?` is the label that only the series of other namespaces have.
//! - `metrics.txt`: what the program exports now.
//! - `released.txt`: what the last release exported; its first line is the version. It changes only
//!   when a release is made.
//!
//! Every difference between the two must be named in the section Unreleased of `CHANGELOG.md`, with its
//! labels: `` `timewait_sockets{family}` ``. Removed metrics are named without labels; metrics added and removed
//! between two releases are not named. A type cannot change alone: a counter's name ends in `_total`.
//!
//! After an intended change, run `TIMEWAIT_UPDATE_GOLDEN=1 cargo test --test it contract` and name
//! in the changelog what the next run asks for. When a release is made, set `TIMEWAIT_UPDATE_RELEASED=1`.
//! Help texts and the order of metrics are not covered.
//!
//! Values and `netns?` are taken from the series of four hosts (an old kernel, a vendor's kernel and two new
//! ones), each with a second namespace that has the same sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use prometheus::proto::Metric;
use timewait_exporter::build_info::BUILD;
use timewait_exporter::collector::{Collector, CollectorConfig, SourceChoice};
use timewait_exporter::domain::collectors::CollectorId;
use timewait_exporter::domain::namespace::{
    HostSnapshot, NamespaceIdentity, NamespaceSnapshot, Namespaces,
};
use timewait_exporter::domain::process::ProcessUsage;
use timewait_exporter::domain::settings::SYSCTLS;
use timewait_exporter::domain::snapshot::{Counts, Outcome, Probe, Source};
use timewait_exporter::exposition::{ExporterMetrics, HandlerMetrics, METRICS, families};

use crate::support::fake_kernel::FakeKernel;
use crate::support::server::config;

/// Labels whose values are a fixed set.
const FIXED: [&str; 7] = [
    "age_seconds",
    "cause",
    "collector",
    "counter",
    "family",
    "source",
    "state",
];

/// Labels whose values are addresses and ports, and fixed words for the aggregated ones.
const FOLDED: [&str; 4] = ["src_addr", "src_port", "dst_addr", "dst_port"];

/// Labels without a fixed set of values; those of `code` are HTTP status codes.
const OPEN: [&str; 11] = [
    "code",
    "comm",
    "container_id",
    "inode",
    "netns",
    "pid",
    "pod_uid",
    "revision",
    "rustversion",
    "target",
    "version",
];

/// Type and labels by name; a label with its values, as the lists have it.
type Metrics = BTreeMap<String, (String, Vec<String>)>;

/// What `released.txt` begins with before there is a release.
const NO_RELEASE: &str = "none";

const UNRELEASED: &str = "Unreleased";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn list(name: &str) -> PathBuf {
    root().join("tests/fixtures/contract").join(name)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The values of every label of every exported series, by metric.
type Values = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn exported() -> Metrics {
    let values = exported_values();
    METRICS
        .iter()
        .map(|metric| {
            let values = values
                .get(metric.name)
                .unwrap_or_else(|| panic!("{} has no series here", metric.name));
            let labels = metric
                .labels
                .iter()
                .map(|label| spelt(label, &values[*label]));
            let more = values
                .keys()
                .filter(|label| !metric.labels.contains(&label.as_str()));
            let labels = labels.chain(more.map(|label| format!("{label}?")));
            let kind = if metric.is_counter() {
                "counter"
            } else {
                "gauge"
            }
            .to_owned();
            (metric.name.to_owned(), (kind, labels.collect()))
        })
        .collect()
}

/// A label as the lists have it.
fn spelt(label: &str, values: &BTreeSet<String>) -> String {
    let all = values.iter().map(String::as_str);
    let listed: Vec<&str> = if FIXED.contains(&label) {
        all.collect()
    } else if FOLDED.contains(&label) {
        let mut words: Vec<&str> = all.filter(|value| !is_address_or_port(value)).collect();
        if words.is_empty() {
            return label.to_owned();
        }
        words.push("*");
        words
    } else {
        assert!(
            OPEN.contains(&label),
            "is what {label} can be a fixed set? Say so here"
        );
        return label.to_owned();
    };
    format!("{label}={}", listed.join("|"))
}

fn is_address_or_port(value: &str) -> bool {
    value.parse::<std::net::IpAddr>().is_ok() || value.parse::<u16>().is_ok()
}

fn exported_values() -> Values {
    let mut values = Values::new();
    for (tree, source) in [
        ("linux-3.10", Source::Procfs),
        ("alinux-5.10", Source::Procfs),
        ("linux-6.18", Source::Netlink),
        ("linux-7.2", Source::Netlink),
    ] {
        for family in families(&host(tree, source), &exporter()) {
            let labels = values.entry(family.name().to_owned()).or_default();
            for pair in family.get_metric().iter().flat_map(Metric::get_label) {
                let values: &mut BTreeSet<String> =
                    labels.entry(pair.name().to_owned()).or_default();
                values.insert(pair.value().to_owned());
            }
        }
    }
    values
}

/// A tree of `tests/fixtures/procfs`, as the exporter's namespace and as another one.
fn host(tree: &str, source: Source) -> HostSnapshot {
    let config = CollectorConfig {
        source: SourceChoice::Procfs,
        procfs: root().join("tests/fixtures/procfs").join(tree),
        ..config(&[]).collector
    };
    let collector = Collector::open(config, Box::new(FakeKernel::new([]))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut own = runtime.block_on(collector.scrape(deadline)).own;
    let mut sockets = own.sockets().cloned().unwrap();
    sockets.source = Some(source);
    // A tree cannot be probed, and lacks what only some kernels have.
    let ports = sockets.ports.as_mut().unwrap();
    ports.bind_owned = Some(0);
    ports.probe = Probe::NotNeeded;
    own.set(
        CollectorId::Sockets,
        Some(Outcome::whole(Some(sockets), Duration::ZERO)),
    );
    let mut settings = own.settings().cloned().unwrap();
    for sysctl in SYSCTLS {
        let value = (sysctl.get)(&settings).or(Some(0));
        (sysctl.set)(&mut settings, value);
    }
    // Also where this machine does not have it.
    let failures = Counts::from_iter([("failures", 1)]);
    let own = own
        .with(CollectorId::Sysctl, settings)
        .with(CollectorId::Failures, failures);
    let other = NamespaceSnapshot {
        identity: NamespaceIdentity {
            label: "blue".to_owned(),
            ..NamespaceIdentity::default()
        },
        // These are metrics of the whole host.
        snapshot: own
            .clone()
            .without(CollectorId::Slabinfo)
            .without(CollectorId::Failures),
        age: Some(Duration::from_millis(12_500)),
    };
    let namespaces = Namespaces {
        exported: vec![other],
        ..Namespaces::default()
    };
    HostSnapshot {
        own,
        namespaces: Some(Arc::new(Outcome {
            value: Some(namespaces),
            success: true,
            duration: Duration::ZERO,
        })),
    }
}

/// An exporter with all metrics about itself.
fn exporter() -> ExporterMetrics {
    ExporterMetrics {
        build: BUILD,
        process: Some(ProcessUsage {
            cpu_seconds: 0.0,
            open_fds: 1,
            max_fds: Some(1),
            virtual_memory_bytes: 1,
            resident_memory_bytes: 1,
            virtual_memory_max_bytes: Some(1),
            start_time_seconds: 0.0,
        }),
        handler: Some(HandlerMetrics {
            in_flight: 1,
            requests_by_code: [(200, 1), (500, 0), (503, 0)],
            encoding_errors: 0,
        }),
    }
}

fn written(metrics: &Metrics) -> String {
    let line = |(name, (kind, labels)): (&String, &(String, Vec<String>))| {
        let line = format!("{name} {kind} {}", labels.join(","));
        format!("{}\n", line.trim_end())
    };
    metrics.iter().map(line).collect()
}

fn parsed(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ').map(str::to_owned);
        let name = words.next().unwrap();
        let kind = words.next().unwrap_or_else(|| panic!("no type: {line}"));
        let labels = words.next().unwrap_or_default();
        let labels = labels.split(',').filter(|label| !label.is_empty());
        let labels = labels.map(str::to_owned).collect();
        assert!(words.next().is_none(), "more than three words: {line}");
        let again = metrics.insert(name, (kind, labels));
        assert!(again.is_none(), "listed twice: {line}");
    }
    metrics
}

/// As the changelog spells a metric: its name, and the names of its labels in braces if it has any.
fn signature(name: &str, labels: &[String]) -> String {
    let own = labels.iter().filter(|label| !label.ends_with('?'));
    let labels: Vec<&str> = own
        .map(|label| label.split('=').next().unwrap_or(label))
        .collect();
    if labels.is_empty() {
        format!("`{name}`")
    } else {
        format!("`{name}{{{}}}`", labels.join(","))
    }
}

/// How the changelog must name what differs between two lists.
fn changes(released: &Metrics, now: &Metrics) -> Vec<String> {
    let gone = released.keys().filter(|name| !now.contains_key(*name));
    let changed = now
        .iter()
        .filter(|(name, metric)| released.get(*name) != Some(*metric));
    gone.map(|name| signature(name, &[]))
        .chain(changed.map(|(name, (_, labels))| signature(name, labels)))
        .collect()
}

/// The sections of a changelog from the newest on: title ("Unreleased", "0.1.0") and text.
fn sections(changelog: &str) -> Vec<(&str, &str)> {
    let section = |text| {
        let (title, text) = str::split_once(text, ']').unwrap();
        (title, text)
    };
    changelog.split("\n## [").skip(1).map(section).collect()
}

/// What of it the changelog's section on what is not released does not name.
fn unnamed(changelog: &str, changes: &[String]) -> Vec<String> {
    let text = unreleased(changelog);
    let unnamed = changes.iter().filter(|change| !text.contains(*change));
    unnamed.cloned().collect()
}

fn unreleased(changelog: &str) -> &str {
    let sections = sections(changelog);
    let text = sections.iter().find(|(title, _)| *title == UNRELEASED);
    text.map_or("", |(_, text)| *text)
}

/// What that section names as a metric, or as one with such labels, and neither of two lists has.
fn unknown(changelog: &str, released: &Metrics, now: &Metrics) -> Vec<String> {
    let is_known = |word: &str| {
        let name = word.split('{').next().unwrap_or(word);
        [released, now].iter().any(|metrics| {
            metrics.get(name).is_some_and(|(_, labels)| {
                word == name || format!("`{word}`") == signature(name, labels)
            })
        })
    };
    let is_metric = |word: &&str| {
        let prefixes = ["timewait_", "process_", "promhttp_"];
        prefixes.iter().any(|prefix| word.starts_with(prefix)) && *word != "timewait_exporter"
    };
    // Every second piece is between two backticks.
    let words = unreleased(changelog).split('`').skip(1).step_by(2);
    let unknown = words.filter(is_metric).filter(|word| !is_known(word));
    unknown.map(str::to_owned).collect()
}

fn newest_release(changelog: &str) -> &str {
    let mut titles = sections(changelog).into_iter().map(|(title, _)| title);
    let newest = titles.find(|title| *title != UNRELEASED);
    newest.unwrap_or(NO_RELEASE)
}

#[test]
fn the_metrics_are_those_of_the_list() {
    let path = list("metrics.txt");
    let exported = written(&exported());
    if env::var_os("TIMEWAIT_UPDATE_GOLDEN").is_some() {
        fs::write(&path, &exported).unwrap();
    }
    assert_eq!(
        written(&parsed(&read(&path))),
        exported,
        "a metric's name, type or labels, or a label's fixed values, changed, which is an interface: if that is meant, update {} \
         with TIMEWAIT_UPDATE_GOLDEN=1 and name the metric in CHANGELOG.md",
        path.display()
    );
}

#[test]
fn what_changed_since_the_last_release_is_named_in_the_changelog() {
    let changelog = read(&root().join("CHANGELOG.md"));
    let path = list("released.txt");
    let newest = newest_release(&changelog);
    if env::var_os("TIMEWAIT_UPDATE_RELEASED").is_some() {
        fs::write(&path, format!("# {newest}\n{}", written(&exported()))).unwrap();
    }
    let released = read(&path);
    assert_eq!(
        released.lines().next(),
        Some(format!("# {newest}").as_str()),
        "{} is not of the changelog's newest release: TIMEWAIT_UPDATE_RELEASED=1 makes it so",
        path.display()
    );
    let unknown = unknown(&changelog, &parsed(&released), &exported());
    assert!(
        unknown.is_empty(),
        "under Unreleased in CHANGELOG.md, but exported neither now nor by {newest}: {}",
        unknown.join(", ")
    );
    let unnamed = unnamed(&changelog, &changes(&parsed(&released), &exported()));
    assert!(
        unnamed.is_empty(),
        "changed since {newest}, and not named like this under Unreleased in CHANGELOG.md: {}",
        unnamed.join(", ")
    );
}

#[test]
fn every_kind_of_change_to_a_metric_must_be_named() {
    let released = parsed("# 1.0.0\nkept gauge a,b\ngone gauge a\nlabels gauge a\ntype gauge\n");
    let now = parsed("kept gauge a,b\nlabels gauge a,b\nnew_total counter\ntype counter\n");
    let expected = ["`gone`", "`labels{a,b}`", "`new_total`", "`type`"];
    assert_eq!(changes(&released, &now), expected);
    assert!(changes(&now, &now).is_empty());
    let order = parsed("labels gauge b,a\n");
    assert_eq!(changes(&parsed("labels gauge a,b\n"), &order).len(), 1);
}

#[test]
fn changes_of_label_values_and_of_the_netns_label_must_be_named_too() {
    let released = parsed("a gauge state=x|y,netns?\nb gauge state=x|y,netns?\nc gauge netns?\n");
    let now = parsed("a gauge state=x|z,netns?\nb gauge state=x|y\nc gauge namespace?\n");
    assert_eq!(
        changes(&released, &now),
        ["`a{state}`", "`b{state}`", "`c`"]
    );
}

#[test]
fn only_the_complete_name_under_unreleased_counts() {
    let log = |unreleased: &str| {
        format!(
            "# Changelog\n\n## [Unreleased]\n\n- {unreleased}\n\n## [1.0.0] - 2027-01-01\n\n- `older`\n"
        )
    };
    let asked = |name: &str| vec![name.to_owned()];
    assert!(unnamed(&log("`new{a}`: text"), &asked("`new{a}`")).is_empty());
    for (noted, needed) in [
        ("`new_total`", "`new`"),
        ("`new`", "`new{a}`"),
        ("`new{a}`", "`new{a,b}`"),
        ("nothing of note", "`older`"),
    ] {
        assert_eq!(unnamed(&log(noted), &asked(needed)), [needed], "{noted}");
    }
    assert_eq!(unnamed("# Changelog\n", &asked("`new`")), ["`new`"]);
}

#[test]
fn what_came_and_went_between_two_releases_is_not_named_in_the_changelog() {
    let log = |words: &str| {
        format!("# Changelog\n\n## [Unreleased]\n\n- {words}\n\n## [1.0.0]\n\n- `timewait_b`\n")
    };
    let released = parsed("timewait_gone gauge a\ntimewait_labels gauge a\n");
    let now = parsed("timewait_labels gauge a,b\ntimewait_new gauge\n");
    let unknown = |words: &str| unknown(&log(words), &released, &now);
    let known = "`timewait_gone`, `timewait_labels{a,b}` was `timewait_labels{a}`, `timewait_new`; `timewait_exporter`";
    assert!(unknown(known).is_empty());
    for word in ["timewait_never", "timewait_new{a}", "process_never{}"] {
        assert_eq!(unknown(&format!("`report`, `{word}`")), [word]);
    }
}

#[test]
fn the_newest_release_is_the_first_section_with_a_number() {
    assert_eq!(
        newest_release("# C\n\n## [Unreleased]\n\n- text\n"),
        NO_RELEASE
    );
    let log = "# C\n\n## [Unreleased]\n\n## [1.1.0] - day\n\n## [1.0.0] - day\n";
    assert_eq!(newest_release(log), "1.1.0");
}

//! What the README says, held against the program.

use std::fs;
use std::path::Path;

use timewait_exporter::exposition::METRICS;

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The rows of the table of metrics: name and labels.
fn table() -> Vec<(String, String)> {
    let is_row = |line: &&str| {
        line.starts_with("| `timewait_")
            || line.starts_with("| `process_")
            || line.starts_with("| `promhttp_")
    };
    let cell = |text: &str| text.trim().replace('`', "");
    readme()
        .lines()
        .filter(is_row)
        .map(|line| {
            let mut cells = line.split('|').skip(1);
            (cell(cells.next().unwrap()), cell(cells.next().unwrap()))
        })
        .collect()
}

#[test]
fn the_table_of_metrics_has_every_metric_with_its_labels_and_no_other() {
    let told: Vec<(String, String)> = METRICS
        .iter()
        .map(|metric| (metric.name.to_owned(), metric.labels.join(", ")))
        .collect();
    assert_eq!(table(), told);
}

#[test]
fn every_flag_is_named() {
    let readme = readme();
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_timewait_exporter"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let flags = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"));
    for flag in flags.map(|flag| flag.trim_end_matches(|c: char| !c.is_alphanumeric())) {
        let in_groups = ["--collector.by-", "--no-collector"];
        if !in_groups.iter().any(|group| flag.starts_with(group)) {
            assert!(readme.contains(flag), "{flag} is not in the README");
        }
    }
}

/// The names in Cargo.toml's table of what the program is built from.
fn dependencies() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (_, table) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (table, _) = table.split_once("\n[").unwrap();
    let names = table.lines().filter_map(|line| line.split_once(" = "));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn the_table_of_dependencies_has_every_crate_and_no_other() {
    let readme = readme();
    let (_, table) = readme.split_once("\n| crate | for |\n|---|---|\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let mut told: Vec<String> = rows
        .flat_map(|row| row.split('|').nth(1).unwrap().split(','))
        .map(|name| name.trim().replace('`', ""))
        .collect();
    told.sort_unstable();
    let mut known = dependencies();
    known.sort_unstable();
    assert_eq!(told, known);
}

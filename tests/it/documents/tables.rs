//! Tables that are written by hand, for their wording or their selection.

use std::fs;

use clap::Command;
use timewait_exporter::cli;
use timewait_exporter::exposition::METRICS;

use super::{read, root, table_after};

#[test]
fn the_readme_has_at_most_2600_words() {
    let words = read("README.md").split_whitespace().count();
    assert!(words <= 2600, "{words}");
}

#[test]
fn the_key_metrics_have_the_labels_that_they_are_exported_with() {
    let rows = table_after(&read("README.md"), "\n## Metrics\n");
    assert_eq!(rows.len(), 10);
    for row in rows {
        let metric = METRICS.iter().find(|metric| metric.name == row[0]);
        let metric = metric.unwrap_or_else(|| panic!("no metric {}", row[0]));
        assert_eq!(row[1], metric.labels.join(", "), "{}", row[0]);
    }
}

#[test]
fn the_flags_of_the_readme_have_the_defaults_of_the_program() {
    let rows = table_after(&read("README.md"), "\n## Configuration\n");
    let command: Command = cli::command();
    assert!(rows.len() > 5);
    for row in rows {
        let mut arguments = command.get_arguments();
        let known =
            arguments.find(|arg| arg.get_long().is_some_and(|it| row[0] == format!("--{it}")));
        let known = known.unwrap_or_else(|| panic!("no flag {}", row[0]));
        let defaults = known.get_default_values().iter();
        let defaults: Vec<String> = defaults
            .map(|it| it.to_string_lossy().into_owned())
            .collect();
        assert_eq!(row[1], defaults.join(" "), "{}", row[0]);
    }
}

#[test]
fn the_exit_codes_of_check_are_those_of_the_help() {
    let help = cli::command().get_after_help().unwrap().to_string();
    let (_, codes) = help.split_once("check: ").expect("the help has them");
    let codes: Vec<String> = codes
        .split([',', '.'])
        .map(|code| {
            code.split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .filter(|code| !code.is_empty())
        .collect();
    let rows = table_after(&read("src/report/README.md"), "\n## check\n");
    let rows: Vec<String> = rows.iter().map(|row| row[..2].join(" ")).collect();
    assert_eq!(rows, codes);
    let readme = read("README.md");
    for code in codes {
        let (number, name) = code.split_once(' ').unwrap();
        let shown = format!("{number} ({name})");
        assert!(readme.contains(&shown), "{shown} is not in the README");
    }
}

#[test]
fn the_table_of_dependencies_has_every_crate_and_no_other() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, table) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (table, _) = table.split_once("\n[").unwrap();
    let names = table.lines().filter_map(|line| line.split_once(" = "));
    let mut known: Vec<String> = names.map(|(name, _)| name.to_owned()).collect();
    let rows = table_after(&read("CONTRIBUTING.md"), "\n## Dependencies\n");
    let crates = rows.iter().flat_map(|row| row[0].split(", "));
    let mut listed: Vec<String> = crates.map(str::to_owned).collect();
    known.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, known);
}

#[test]
fn the_rust_version_of_the_documents_is_that_of_the_manifest() {
    let manifest = read("Cargo.toml");
    let (_, version) = manifest.split_once("\nrust-version = \"").unwrap();
    let (version, _) = version.split_once('"').unwrap();
    for path in ["README.md", "CONTRIBUTING.md"] {
        let text = read(path);
        let shown = format!("(https://rustup.rs) {version} or later");
        assert!(text.contains(&shown), "{path}: {shown}");
    }
}

#[test]
fn the_performance_of_the_readme_is_that_of_the_benchmarks_table() {
    let benchmark = read("tests/bench/README.md");
    let rows = table_after(&read("README.md"), "<!-- generated: performance -->");
    assert!(rows.len() >= 3, "{rows:?}");
    for row in rows {
        let cell = format!("| {} |", row[1]);
        assert!(benchmark.contains(&cell), "{row:?}");
    }
}

//! Every name in the documents exists in the program.

use std::collections::BTreeSet;

use clap::Command;
use timewait_exporter::cli;
use timewait_exporter::exposition::METRICS;

use super::{documents, read};

/// Every word of a text that begins with `prefix` and continues with characters that `is_part` accepts.
fn words<'a>(text: &'a str, prefix: &str, is_part: fn(char) -> bool) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| is_part(c) || c == '.' || c == '/') {
            continue;
        }
        let length = text[at..].find(|c| !is_part(c)).unwrap_or(text.len() - at);
        found.push(&text[at..at + length]);
    }
    found
}

/// Documents about the current version, so not the changelog.
fn current_documents() -> Vec<String> {
    let mut all = documents();
    all.retain(|path| path != "CHANGELOG.md");
    all
}

/// Names that follow `key` in rule files.
fn names_in(paths: &[&str], key: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in paths {
        let text = read(path);
        let lines = text.lines().filter_map(|line| {
            let line = line.trim_start().trim_start_matches("- ");
            line.strip_prefix(key)?.strip_prefix(": ")
        });
        names.extend(lines.map(|name| name.trim().to_owned()));
    }
    names
}

const RULES: [&str; 3] = [
    "deploy/prometheus/alerts.yml",
    "deploy/prometheus/recording.yml",
    "deploy/scale/fleet.yml",
];

#[test]
fn every_metric_of_a_document_exists() {
    let known: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    // Not metrics: the program, and label values and files with its name.
    let others = ["timewait_exporter"];
    for path in current_documents() {
        let text = read(&path);
        for name in words(&text, "timewait_", |c| {
            c.is_ascii_alphanumeric() || c == '_'
        }) {
            // `timewait_sysctl_*`, and the beginning of a grep pattern.
            let is_family = known.iter().any(|it| {
                it.strip_prefix(name)
                    .is_some_and(|rest| name.ends_with('_') || rest.starts_with('_'))
            });
            let is_other = others.iter().any(|it| name.starts_with(it));
            let is_known = known.contains(name) || is_family || is_other;
            // Part of a recording rule's name: `instance:timewait_…:max`.
            let is_recorded = text.contains(&format!(":{name}"));
            assert!(is_known || is_recorded, "{path}: no metric {name}");
        }
    }
}

#[test]
fn every_flag_of_a_document_exists() {
    let mut command: Command = cli::command();
    command.build();
    let flags = |command: &Command| -> BTreeSet<String> {
        let arguments = command.get_arguments();
        let flags = arguments.filter_map(|arg| arg.get_long());
        flags.map(str::to_owned).collect()
    };
    let mut known = flags(&command);
    for subcommand in command.get_subcommands() {
        known.extend(flags(subcommand));
    }
    let is_ours = |flag: &str| {
        let flag = flag.strip_prefix("no-").unwrap_or(flag);
        ["web.", "collector.", "path.", "log."]
            .iter()
            .any(|group| flag.starts_with(group))
    };
    for path in current_documents() {
        let text = read(&path);
        let is_part =
            |c: char| c.is_ascii_lowercase() || c == '-' || c == '.' || c.is_ascii_digit();
        for word in words(&text, "--", is_part) {
            let flag = word.trim_start_matches('-').trim_end_matches('.');
            // "`--collector.`" is a group of flags, "--no-collector.NAME" any of them.
            let is_group = word.ends_with('.') || flag == "no-collector";
            if is_ours(flag) && !is_group {
                assert!(known.contains(flag), "{path}: no flag --{flag}");
            }
        }
    }
}

/// The environment variables of a command's flags.
fn variables(command: &Command, prefix: &str) -> BTreeSet<String> {
    let flags = command.get_arguments().filter_map(|arg| arg.get_long());
    flags
        .map(|flag| cli::variable_of(&format!("{prefix}{flag}")))
        .collect()
}

#[test]
fn every_environment_variable_of_a_document_exists() {
    let mut command: Command = cli::command();
    command.build();
    let mut known = variables(&command, "");
    for subcommand in command.get_subcommands() {
        known.extend(variables(
            subcommand,
            &format!("{}.", subcommand.get_name()),
        ));
    }
    for path in current_documents() {
        let text = read(&path);
        let is_part = |c: char| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit();
        for name in words(&text, "TIMEWAIT_EXPORTER_", is_part) {
            let is_prefix = name == "TIMEWAIT_EXPORTER_";
            assert!(
                is_prefix || known.contains(name),
                "{path}: no variable {name}"
            );
        }
    }
}

#[test]
fn every_alert_of_a_document_exists_and_has_a_runbook() {
    let alerts = names_in(&RULES, "alert");
    assert!(alerts.len() > 10);
    for path in current_documents() {
        let text = read(&path);
        for name in words(&text, "Timewait", |c| c.is_ascii_alphanumeric()) {
            assert!(alerts.contains(name), "{path}: no alert {name}");
        }
    }
    let runbooks = read("deploy/prometheus/runbooks.md");
    for alert in alerts {
        assert!(runbooks.contains(&format!("\n## {alert}\n")), "{alert}");
    }
}

#[test]
fn every_recording_rule_of_a_document_exists() {
    let rules = names_in(&RULES, "record");
    assert!(rules.len() > 5);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    for path in current_documents() {
        let text = read(&path);
        for level in [
            "job:timewait",
            "instance:timewait",
            "netns:timewait",
            "job_dst:timewait",
            "job_state:timewait",
        ] {
            for name in words(&text, level, is_part) {
                // A pattern or a heading of several: `instance:timewait_.+`.
                let is_whole = name.matches(':').count() == 2;
                assert!(!is_whole || rules.contains(name), "{path}: no rule {name}");
            }
        }
    }
}

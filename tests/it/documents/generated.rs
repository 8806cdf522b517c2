//! Tables and texts in documents that are generated from the program.

use std::fmt::Write as _;
use std::fs;
use std::sync::{Mutex, PoisonError};

use clap::Arg;
use timewait_exporter::cli;
use timewait_exporter::exposition::METRICS;

use super::{is_update, read, root};

const END: &str = "<!-- end generated -->";

/// Locked by the test that rewrites a document.
static WRITER: Mutex<()> = Mutex::new(());

/// Compares the generated part of a document with what the program prints, or replaces it.
fn assert_generated(path: &str, name: &str, expected: &str) {
    let begin = format!("<!-- generated: {name} -->\n");
    let _writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    let text = read(path);
    let (before, rest) = text
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{path} has no {begin}"));
    let (part, after) = rest.split_once(END).unwrap();
    if is_update() {
        let updated = format!("{before}{begin}{expected}{END}{after}");
        fs::write(root().join(path), updated).unwrap();
        return;
    }
    for (line, wanted) in part.lines().zip(expected.lines()) {
        assert_eq!(line, wanted, "{path}: see tests/it/documents/mod.rs");
    }
    assert_eq!(part, expected, "{path}: see tests/it/documents/mod.rs");
}

/// The text of a cell: no line break, no column separator, flags and names as code.
fn cell(text: &str) -> String {
    let words = text.replace('|', "\\|");
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_reference_has_every_metric_with_its_type_its_labels_and_its_help() {
    let mut table = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    let is_ours = |name: &str| name.starts_with("timewait_");
    for metric in METRICS.iter().filter(|metric| is_ours(metric.name)) {
        let labels: Vec<String> = metric.labels.iter().map(|it| format!("`{it}`")).collect();
        writeln!(
            table,
            "| `{}` | {} | {} | {} |",
            metric.name,
            if metric.is_counter() {
                "counter"
            } else {
                "gauge"
            },
            labels.join(", "),
            cell(metric.help),
        )
        .unwrap();
    }
    for prefix in ["process_", "promhttp_metric_handler_"] {
        let names = METRICS.iter().map(|metric| metric.name);
        let names: Vec<&str> = names.filter_map(|name| name.strip_prefix(prefix)).collect();
        assert!(!names.is_empty());
        writeln!(table, "| `{prefix}*` |  |  | `{}`. |", names.join("`, `")).unwrap();
    }
    assert_generated("src/exposition/README.md", "metrics", &table);
}

/// The row of a flag in the table.
fn row(arg: &Arg) -> Option<String> {
    let long = arg.get_long()?;
    if arg.is_hide_set() || ["help", "version"].contains(&long) {
        return None;
    }
    let takes_value = arg.get_action().takes_values();
    let value = arg.get_value_names().and_then(|names| names.first());
    let value = value.filter(|_| takes_value);
    let shown = value.map_or_else(String::new, |name| format!(" <{name}>"));
    let defaults = arg.get_default_values().iter();
    let defaults: Vec<String> = defaults
        .filter(|_| takes_value)
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|_| takes_value)
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let values = if values.is_empty() {
        String::new()
    } else {
        format!(" One of {}.", values.join(", "))
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.trim_end_matches('.');
    Some(format!(
        "| `--{long}{shown}` | {} | {}.{values} |\n",
        defaults.join(" "),
        cell(&help.replace('<', "\\<")),
    ))
}

#[test]
fn the_list_of_flags_has_every_flag_with_its_default() {
    let mut command = cli::command();
    command.build();
    let mut text = String::new();
    let parts = std::iter::once(&command).chain(command.get_subcommands());
    for part in parts {
        let own = part.get_arguments().filter(|arg| {
            // Flags that a command shares with the server are in the server's table.
            part.get_name() == command.get_name() || !arg.is_global_set()
        });
        let rows: String = own.filter_map(row).collect();
        if rows.is_empty() {
            continue;
        }
        if part.get_name() != command.get_name() {
            write!(text, "\n### {}\n\n", part.get_name()).unwrap();
        }
        text.push_str("| flag | default | meaning |\n|---|---|---|\n");
        text.push_str(&rows);
    }
    assert_generated("src/cli/README.md", "flags", &text);
}

#[test]
fn the_exit_codes_and_the_rules_for_variables_are_those_of_the_help() {
    let command = cli::command();
    let text = command.get_after_help().unwrap().to_string();
    let text = format!("```text\n{}\n```\n", text.trim_end());
    assert_generated("src/cli/README.md", "after-help", &text);
}

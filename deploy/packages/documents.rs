//! Writes the documents that packages contain, under flat names and with links that work there: to each other, and
//! to the project's page for everything else.
//!
//! `cargo run --example documents -- DIRECTORY`, in the root of the repository.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "it reads and writes files, and is no part of the exporter"
)]

use std::env;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

/// Each document and its name in a package.
const DOCUMENTS: [(&str, &str); 12] = [
    ("README.md", "README.md"),
    (".github/SECURITY.md", "security.md"),
    ("dashboards/README.md", "dashboards.md"),
    ("deploy/prometheus/README.md", "prometheus.md"),
    ("deploy/prometheus/runbooks.md", "runbooks.md"),
    ("deploy/systemd/README.md", "systemd.md"),
    ("src/cli/README.md", "flags.md"),
    ("src/collector/README.md", "collectors.md"),
    ("src/domain/README.md", "accuracy.md"),
    ("src/exposition/README.md", "metrics.md"),
    ("src/report/README.md", "report.md"),
    ("src/web/README.md", "web.md"),
];

/// Documents that stand elsewhere too, alone: all of their links lead to the project's page.
const ALONE: [(&str, &str); 1] = [("deploy/prometheus/runbooks.md", "prometheus/runbooks.md")];

/// What else a package has beside them.
const FILES: [(&str, &str); 1] = [("CHANGELOG.md", "changelog.gz")];

const PAGE: &str = "https://github.com/timewait-exporter/timewait_exporter/blob/main/";

fn main() -> ExitCode {
    let Some(directory) = env::args_os().nth(1) else {
        eprintln!("usage: documents DIRECTORY");
        return ExitCode::from(2);
    };
    let directory = PathBuf::from(directory);
    let beside = [&DOCUMENTS[..], &FILES[..]].concat();
    let together = DOCUMENTS.iter().map(|names| (names, &beside[..]));
    let alone = ALONE.iter().map(|names| (names, &[][..]));
    for ((source, name), beside) in together.chain(alone) {
        if let Err(reason) = write(source, &directory.join(name), beside) {
            eprintln!("documents: {reason}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Names in the repository and in the package.
type Names = (&'static str, &'static str);

/// Writes a document for a place that has `beside` it what is named there.
fn write(source: &str, path: &Path, beside: &[Names]) -> Result<(), String> {
    let text = fs::read_to_string(source).map_err(|error| format!("{source}: {error}"))?;
    let text = with_links(source, &text, beside)?;
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// The text of a document with the links of a package.
fn with_links(document: &str, text: &str, beside: &[Names]) -> Result<String, String> {
    let mut is_code = false;
    let mut written = String::new();
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        if is_code {
            written.push_str(line);
        } else {
            // `[text](target)`: a target begins after each "](".
            let mut parts = line.split("](");
            written.push_str(parts.next().unwrap_or_default());
            for part in parts {
                let (target, rest) = part
                    .split_once(')')
                    .ok_or_else(|| format!("{document}: a link goes over two lines: {line}"))?;
                written.extend(["](", &packaged(document, target, beside)?, ")", rest]);
            }
        }
        written.push('\n');
    }
    Ok(written)
}

/// Where a link of a document leads in a package.
fn packaged(document: &str, target: &str, beside: &[Names]) -> Result<String, String> {
    if target.starts_with('#') || target.contains("://") {
        return Ok(target.to_owned());
    }
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, format!("#{anchor}")),
        None => (target, String::new()),
    };
    let mut resolved = PathBuf::from(document);
    resolved.pop();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => drop(resolved.pop()),
            part => resolved.push(part),
        }
    }
    let path = resolved.display().to_string();
    match beside.iter().find(|(source, _)| *source == path) {
        Some((_, name)) => Ok(format!("{name}{anchor}")),
        None if resolved.exists() => Ok(format!("{PAGE}{path}{anchor}")),
        None => Err(format!("{document}: {path} is missing")),
    }
}

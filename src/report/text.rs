//! The report for people at a terminal: plain text, the worst first.

mod changes;

use std::collections::HashSet;

use super::table::Table;
use super::wrap::wrap;
use super::{NamespaceReport, Report, printable, tables};
use crate::domain::advice::{Finding, OF_FILES, Persistent, Remedy};

/// How the text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether to use the terminal's colours.
    pub(crate) color: bool,
    /// The number of columns; `None` where it does not matter, as in a file.
    pub width: Option<usize>,
}

/// Prose is not made wider than this, however wide the terminal.
const PROSE_WIDTH: usize = 100;
const MIN_WIDTH: usize = 20;

/// Maximum number of destinations.
const ROWS: usize = 20;
/// The same while watching: the findings have to fit below them.
const WATCHED_ROWS: usize = 6;

/// The report. While watching the destinations come first, with what has changed since the last one.
pub(crate) fn render(report: &Report, watch: bool, last: Option<&Report>, style: Style) -> String {
    let mut text = Text {
        out: String::new(),
        shown: HashSet::new(),
        style,
        is_watching: watch,
    };
    let place = format!("{}  {}", printable(&report.host), report.made_text());
    let state = text.colored(report.state().as_str());
    text.line(&format!("{state}  {place}"));
    text.prose(&report.headline(), 0);
    if report.missing.is_some() {
        text.tables([tables::namespaces(report)]);
    }
    for namespace in report.detailed() {
        if report.missing.is_some() {
            text.name(namespace);
        }
        let same = |other: &&NamespaceReport| other.name() == namespace.name();
        let before = last.and_then(|last| last.namespaces.iter().find(same));
        text.namespace(namespace, before);
    }
    text.line("");
    let (version, kernel) = (report.version, &report.kernel);
    text.line(&format!("timewait_exporter {version}, Linux {kernel}"));
    text.out
}

struct Text {
    out: String,
    /// Commands that are in it already: the same remedy often helps several findings.
    shown: HashSet<String>,
    style: Style,
    is_watching: bool,
}

impl Text {
    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn prose(&mut self, prose: &str, indent: usize) {
        let width = self.style.width.unwrap_or(PROSE_WIDTH);
        let width = width.clamp(MIN_WIDTH, PROSE_WIDTH);
        self.out.push_str(&wrap(prose, width, indent));
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.style.color && !code.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn bold(&self, text: &str) -> String {
        self.paint(text, "1")
    }

    /// A severity or a state, in its colour.
    fn colored(&self, word: &str) -> String {
        let code = match word {
            "OK" => "32",
            "INFO" => "36",
            "CRITICAL" => "1;31",
            _ => "33",
        };
        self.paint(word, code)
    }

    fn title(&mut self, title: &str) {
        let title = self.bold(&title.to_uppercase());
        self.line(&format!("\n{title}"));
    }

    fn tables(&mut self, tables: impl IntoIterator<Item = Table>) {
        for table in tables.into_iter().filter(|table| !table.rows.is_empty()) {
            self.title(table.title);
            if !self.is_watching {
                self.prose(&format!("{}.", table.caption.trim_end_matches('.')), 2);
            }
            for (index, line) in table.lines(self.style.width).iter().enumerate() {
                let code = if index == 0 { "2" } else { "" };
                self.line(&self.paint(line, code));
            }
            if let Some(note) = &table.note {
                self.prose(note, 2);
            }
        }
    }

    /// Which namespace it is, among several, and how it is.
    fn name(&mut self, namespace: &NamespaceReport) {
        let name = match namespace.identity {
            Some(_) => namespace.full_name(),
            None => "of the exporter".to_owned(),
        };
        self.line("");
        self.prose(&format!("{} {name}", self.bold("NETWORK NAMESPACE")), 0);
        self.line(&self.colored(namespace.state().as_str()));
        self.prose(&namespace.advice.headline, 0);
    }

    fn namespace(&mut self, namespace: &NamespaceReport, before: Option<&NamespaceReport>) {
        let rows = if self.is_watching { WATCHED_ROWS } else { ROWS };
        let destinations = tables::destinations(namespace, before, rows);
        let changes = before.map_or_else(Vec::new, |before| changes::changes(before, namespace));
        if !self.is_watching {
            self.findings(&namespace.problems());
        }
        self.tables(destinations);
        if !changes.is_empty() {
            self.title("Changes");
        }
        for change in changes {
            self.prose(&change, 2);
        }
        if self.is_watching {
            self.findings(&namespace.problems());
        }
        if let Some(range) = tables::range(namespace) {
            self.line("");
            self.prose(&range, 2);
        }
        self.tables(tables::ages(namespace));
        self.tables(tables::rest(namespace));
    }

    fn findings(&mut self, findings: &[&Finding]) {
        if findings.is_empty() {
            return;
        }
        self.title("Findings");
        for (index, finding) in findings.iter().enumerate() {
            if index > 0 {
                self.line("");
            }
            self.finding(finding);
        }
        let mut remedies = findings.iter().flat_map(|finding| &finding.remedies);
        if remedies.any(|remedy| !remedy.persistent.is_empty()) {
            self.line("");
            self.prose(OF_FILES, 2);
        }
    }

    fn finding(&mut self, finding: &Finding) {
        let (id, title) = (finding.id.as_str(), finding.title);
        let word = finding.severity.as_str().to_uppercase();
        let severity = self.colored(&word);
        let length = format!("  {word} ({id}) {title}").len();
        if self.style.width.is_some_and(|width| length > width) {
            self.line(&format!("  {severity} ({id})"));
            self.prose(title, 4);
        } else {
            self.line(&format!("  {severity} ({id}) {}", self.bold(title)));
        }
        self.prose(&finding.sentence, 4);
        for remedy in &finding.remedies {
            let start = self.out.len();
            self.prose(&remedy.action, 6);
            self.out.replace_range(start..start + 6, "    * ");
            self.commands(remedy);
            if let Some(effect) = remedy.effect {
                self.prose(&format!("Effect: {effect}."), 6);
            }
            if let Some(caution) = &remedy.caution {
                self.prose(&format!("Note: {caution}"), 6);
            }
        }
    }

    /// Never broken, so that they can be copied.
    fn commands(&mut self, remedy: &Remedy) {
        let commands = remedy.commands.iter();
        let commands = commands.map(|command| self.bold(command));
        let lines = commands.chain(remedy.persistent.iter().map(Persistent::command));
        let lines = lines.map(|line| "        ".to_owned() + &line + "\n");
        let lines: String = lines.collect();
        if lines.is_empty() || self.shown.insert(lines.clone()) {
            self.out.push_str(&lines);
        } else {
            self.line("        (same commands as above)");
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "tests"
)]
mod tests;

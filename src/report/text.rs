//! The report for people at a terminal: plain text, the worst first.

mod changes;

use std::collections::HashSet;
use std::fmt::Write as _;

use super::table::Table;
use super::wrap::wrap;
use super::{NamespaceReport, Report, State, printable, tables};
use crate::domain::advice::{Finding, OF_FILES, Remedy};

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

/// The report. `watch` is the previous one while watching: then the destinations come first, with what has
/// changed.
#[must_use]
#[expect(
    clippy::option_option,
    reason = "the first report while watching has none before"
)]
pub(crate) fn render(report: &Report, watch: Option<Option<&Report>>, style: Style) -> String {
    let mut text = Text {
        out: String::new(),
        shown: HashSet::new(),
        style,
        is_watching: watch.is_some(),
    };
    text.header(report);
    for namespace in report.detailed() {
        let same = |other: &&NamespaceReport| other.name() == namespace.name();
        let before = watch.flatten();
        let before = before.and_then(|before| before.namespaces.iter().find(same));
        text.namespace(namespace, before, report.missing.is_some());
    }
    text.line("");
    text.line(&format!(
        "timewait_exporter {}, Linux {}",
        report.version, report.kernel
    ));
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
        if self.style.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
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
        let title = self.paint(&title.to_uppercase(), "1");
        self.line(&format!("\n{title}"));
    }

    fn table(&mut self, table: &Table) {
        if table.rows.is_empty() {
            return;
        }
        self.title(table.title);
        if !table.caption.is_empty() && !self.is_watching {
            self.prose(&format!("{}.", table.caption.trim_end_matches('.')), 2);
        }
        for (index, line) in table.lines(self.style.width).iter().enumerate() {
            let line = if index == 0 {
                self.paint(line, "2")
            } else {
                line.clone()
            };
            self.line(&line);
        }
        if let Some(note) = &table.note {
            self.prose(note, 2);
        }
    }

    fn state(&mut self, state: State, details: &str) {
        let state = self.colored(state.as_str());
        self.line(&format!("{state}{details}"));
    }

    /// Where, when and how it is, and all namespaces if others were requested.
    fn header(&mut self, report: &Report) {
        let place = format!("  {}  {}", printable(&report.host), report.made_text());
        self.state(report.state(), &place);
        self.prose(&report.headline(), 0);
        if report.missing.is_some() {
            self.table(&tables::namespaces(report));
        }
    }

    fn namespace(
        &mut self,
        namespace: &NamespaceReport,
        before: Option<&NamespaceReport>,
        is_one_of_several: bool,
    ) {
        if is_one_of_several {
            let name = match namespace.identity {
                Some(_) => namespace.full_name(),
                None => "of the exporter".to_owned(),
            };
            let title = self.paint("NETWORK NAMESPACE", "1");
            self.line("");
            self.prose(&format!("{title} {name}"), 0);
            self.state(namespace.state(), "");
            self.prose(&namespace.advice.headline, 0);
        }
        if self.is_watching {
            self.destinations(namespace, before, WATCHED_ROWS);
            self.changes(namespace, before);
            self.findings(&namespace.problems());
        } else {
            self.findings(&namespace.problems());
            self.destinations(namespace, None, ROWS);
        }
        if let Some(range) = tables::range(namespace) {
            self.line("");
            self.prose(&range, 2);
        }
        if let Some(ages) = tables::ages(namespace) {
            self.table(&ages);
        }
        for table in tables::rest(namespace) {
            self.table(&table);
        }
    }

    fn destinations(
        &mut self,
        namespace: &NamespaceReport,
        before: Option<&NamespaceReport>,
        rows: usize,
    ) {
        if let Some(table) = tables::destinations(namespace, before, rows) {
            self.table(&table);
        }
    }

    fn changes(&mut self, now: &NamespaceReport, before: Option<&NamespaceReport>) {
        let changes = before.map_or_else(Vec::new, |before| changes::changes(before, now));
        if !changes.is_empty() {
            self.title("Changes");
        }
        for change in changes {
            self.prose(&change, 2);
        }
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
            let (id, title) = (finding.id.as_str(), finding.id.title());
            let word = finding.severity.as_str().to_uppercase();
            let length = format!("  {word} ({id}) {title}").len();
            let severity = self.colored(&word);
            if self.style.width.is_some_and(|width| length > width) {
                self.line(&format!("  {severity} ({id})"));
                self.prose(title, 4);
            } else {
                let title = self.paint(title, "1");
                self.line(&format!("  {severity} ({id}) {title}"));
            }
            self.prose(&finding.sentence, 4);
            for remedy in &finding.remedies {
                self.remedy(remedy);
            }
        }
        let mut remedies = findings.iter().flat_map(|finding| &finding.remedies);
        if remedies.any(|remedy| !remedy.persistent().is_empty()) {
            self.line("");
            self.prose(OF_FILES, 2);
        }
    }

    fn remedy(&mut self, remedy: &Remedy) {
        let start = self.out.len();
        self.prose(&remedy.action, 6);
        self.out.replace_range(start..start + 6, "    * ");
        self.commands(remedy);
        if let Some(effect) = remedy.effect {
            self.prose(&format!("Effect: {effect}."), 6);
        }
        if let Some(caution) = remedy.caution() {
            self.prose(&format!("Note: {caution}"), 6);
        }
    }

    /// Never broken, so that they can be copied.
    fn commands(&mut self, remedy: &Remedy) {
        let mut lines = String::new();
        for command in remedy.commands() {
            let command = self.paint(&command, "1");
            let _infallible = writeln!(lines, "        {command}");
        }
        for persistent in remedy.persistent() {
            let _infallible = writeln!(lines, "        {}", persistent.command());
        }
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

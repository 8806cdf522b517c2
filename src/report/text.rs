//! The report for people at a terminal: plain text, aligned, the worst first.

mod changes;

use std::collections::HashSet;

use super::table::{Table, left, right};
use super::wrap::wrap;
use super::{NamespaceReport, Report, collectors, printable, source};
use crate::domain::advice::explain::explain;
use crate::domain::advice::{Finding, OF_FILES, Remedy, Severity, wording};
use crate::domain::age::BANDS;
use crate::domain::snapshot::{DestinationUsage, PortUsage, Snapshot, SocketSummary};

/// How text is to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether to use the terminal's colours.
    pub color: bool,
    /// How many columns there are; `None` where that is nobody's matter, as in a file.
    pub width: Option<usize>,
}

/// Prose is not made wider than this, however wide the terminal.
const PROSE_WIDTH: usize = 100;
const LEAST_WIDTH: usize = 20;

/// How many destinations, sources and the like are shown.
const ROWS: usize = 20;

/// The report; with an earlier one also what has changed since.
#[must_use]
pub fn render(report: &Report, before: Option<&Report>, style: Style) -> String {
    let mut text = Text {
        out: String::new(),
        told: HashSet::new(),
        style,
    };
    let kernel = &report.kernel;
    text.line(&format!(
        "timewait_exporter {}, Linux {kernel}",
        report.version
    ));
    text.overview(report);
    for namespace in report.in_whole() {
        let same = |other: &&NamespaceReport| other.name() == namespace.name();
        let before = before.and_then(|before| before.namespaces.iter().find(same));
        text.namespace(namespace, before, report.untold.is_some());
    }
    text.out
}

struct Text {
    out: String,
    /// Commands that stand in it already: the same remedy often helps several findings.
    told: HashSet<String>,
    style: Style,
}

impl Text {
    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn prose(&mut self, prose: &str, indent: usize) {
        let width = self.style.width.unwrap_or(PROSE_WIDTH);
        let width = width.clamp(LEAST_WIDTH, PROSE_WIDTH);
        self.out.push_str(&wrap(prose, width, indent));
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.style.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn severity(&self, severity: Severity) -> String {
        let code = match severity {
            Severity::Ok => "32",
            Severity::Info => "36",
            Severity::Warning => "33",
            Severity::Critical => "1;31",
        };
        self.paint(&severity.as_str().to_uppercase(), code)
    }

    fn title(&mut self, title: &str) {
        let title = self.paint(title, "1");
        self.line(&format!("\n{title}"));
    }

    fn table(&mut self, table: Table) {
        for (index, line) in table.lines(self.style.width).iter().enumerate() {
            let line = if index == 0 {
                self.paint(line, "2")
            } else {
                line.clone()
            };
            self.line(&line);
        }
    }

    /// All namespaces, a line each, where there is more than one to tell.
    fn overview(&mut self, report: &Report) {
        if report.untold.is_none() {
            return;
        }
        let severity = self.severity(report.severity().state());
        self.line("");
        self.line(&severity);
        self.prose(&report.headline(), 0);
        self.title("NETWORK NAMESPACES, the worst off first");
        let mut table = Table::new(&[
            left("STATE", 0),
            right("SPENT", 0),
            right("TIME-WAIT", 1),
            right("DESTINATIONS", 3),
            left("NAMESPACE", 0),
            left("WHO", 2),
        ]);
        for namespace in report.worst_first() {
            table.row(namespace_row(namespace));
        }
        self.table(table);
        let told_by_line = report.namespaces.len() - report.in_whole().len();
        if let more @ 1.. = u64::try_from(told_by_line).unwrap_or(u64::MAX) {
            let subject = wording::counted(more, "namespace is", "namespaces are");
            self.prose(
                &format!(
                    "{subject} told by their lines alone, with nothing to see to: \
                     --collector.netns=NAME and --format json tell more."
                ),
                2,
            );
        }
        if let Some(missing) = report.missing() {
            self.prose(&missing, 2);
        }
    }

    fn namespace(
        &mut self,
        namespace: &NamespaceReport,
        before: Option<&NamespaceReport>,
        is_one_of_several: bool,
    ) {
        if let Some(identity) = &namespace.identity {
            let label = printable(&identity.label);
            self.title(&format!("NETWORK NAMESPACE {label}"));
            let resident = printable(&identity.resident());
            if !resident.is_empty() {
                self.prose(&format!("{resident}."), 0);
            }
        } else if is_one_of_several {
            self.title("THE EXPORTER'S OWN NETWORK NAMESPACE");
        }
        let severity = self.severity(namespace.advice.severity.state());
        self.line("");
        self.line(&severity);
        self.prose(&namespace.advice.headline, 0);
        if let Some(before) = before {
            self.changes(before, namespace);
        }
        self.findings(&namespace.advice.findings);
        self.figures(namespace);
        self.holders(namespace);
        self.settings(&namespace.snapshot);
        self.collectors(&namespace.snapshot);
    }

    fn changes(&mut self, before: &NamespaceReport, now: &NamespaceReport) {
        let changes = changes::changes(before, now);
        self.title("CHANGED");
        if changes.is_empty() {
            self.line("  Nothing.");
        }
        for change in changes {
            self.prose(&change, 2);
        }
    }

    fn findings(&mut self, findings: &[Finding]) {
        self.title("FINDINGS");
        for finding in findings {
            let severity = self.severity(finding.severity);
            self.line(&format!("  {severity} ({})", finding.id.as_str()));
            self.prose(&finding.sentence, 4);
            for remedy in &finding.remedies {
                self.remedy(remedy);
            }
        }
        let mut remedies = findings.iter().flat_map(|finding| &finding.remedies);
        if remedies.any(|remedy| !remedy.persistent().is_empty()) {
            self.prose(OF_FILES, 2);
        }
    }

    fn remedy(&mut self, remedy: &Remedy) {
        self.out.push_str("    * ");
        let start = self.out.len();
        self.prose(&remedy.action, 6);
        // The first line stands behind the bullet.
        self.out.replace_range(start..start + 6, "");
        self.commands(remedy);
        if let Some(effect) = remedy.effect {
            let (before, after) = (effect.before, effect.after);
            self.prose(
                &format!(
                    "Gives: headroom {} -> {}, ratio {} -> {}.",
                    wording::count(before.headroom),
                    wording::count(after.headroom),
                    wording::percent(before.ratio),
                    wording::percent(after.ratio)
                ),
                6,
            );
        }
        if let Some(caution) = remedy.caution() {
            self.prose(&format!("Mind: {caution}"), 6);
        }
    }

    /// Never broken, so that they can be copied.
    fn commands(&mut self, remedy: &Remedy) {
        let commands = remedy.commands();
        let all = commands.join("\n");
        if !commands.is_empty() && !self.told.insert(all) {
            self.line("        (the commands stand above)");
            return;
        }
        for command in commands {
            let command = self.paint(&command, "1");
            self.line(&format!("        {command}"));
        }
        for persistent in remedy.persistent() {
            let command = persistent.command();
            self.line(&format!("        {command}"));
        }
    }

    fn figures(&mut self, namespace: &NamespaceReport) {
        let Some(sockets) = namespace.snapshot.sockets() else {
            return;
        };
        if let Some(ports) = &sockets.ports {
            self.range(ports);
            self.destinations(ports);
            self.sources(ports);
        }
        self.time_wait(sockets);
    }

    fn range(&mut self, ports: &PortUsage) {
        self.title("PORT RANGE");
        let count = |number: u32| wording::count(number.into());
        self.prose(
            &format!(
                "{}-{}: {} ports, {} reserved, {} blocked, {} usable for each destination; {}.",
                ports.range.min(),
                ports.range.max(),
                count(ports.range.ports()),
                count(ports.reserved),
                count(ports.blocked),
                count(ports.usable),
                wording::counted(ports.destinations, "destination", "destinations")
            ),
            2,
        );
    }

    fn destinations(&mut self, ports: &PortUsage) {
        let Some(breakdown) = &ports.by_destination else {
            return;
        };
        if breakdown.exported.is_empty() {
            return;
        }
        self.title("DESTINATIONS, the fullest first");
        let mut table = Table::new(&[
            right("SPENT", 0),
            right("LEFT", 0),
            right("TIME-WAIT", 3),
            right("ESTABLISHED", 4),
            right("OTHER", 5),
            right("REUSABLE", 6),
            right("CLOSES/S", 7),
            left("FROM", 2),
            left("TO", 0),
        ]);
        for figures in breakdown.exported.iter().take(ROWS) {
            table.row(destination_row(figures));
        }
        self.table(table);
        let shown = ports
            .destinations
            .min(u64::try_from(ROWS).unwrap_or(u64::MAX));
        let shown = shown.min(u64::try_from(breakdown.exported.len()).unwrap_or(u64::MAX));
        if let more @ 1.. = ports.destinations.saturating_sub(shown) {
            let more = wording::counted(more, "destination is", "destinations are");
            self.prose(&format!("{more} no fuller."), 2);
        }
    }

    fn sources(&mut self, ports: &PortUsage) {
        let Some(sources) = ports
            .by_source
            .as_ref()
            .filter(|sources| !sources.is_empty())
        else {
            return;
        };
        self.title("LOCAL ADDRESSES, the pools of bind()");
        let mut table = Table::new(&[right("SPENT", 0), right("PORTS", 1), left("ADDRESS", 0)]);
        for source in sources.iter().take(ROWS) {
            table.row(vec![
                wording::percent(source.exhaustion_ratio),
                wording::count(source.ports.into()),
                source.src_addr.to_string(),
            ]);
        }
        self.table(table);
    }

    fn time_wait(&mut self, sockets: &SocketSummary) {
        let (v4, v6) = (sockets.time_wait.ipv4, sockets.time_wait.ipv6);
        self.title("TIME-WAIT");
        self.line(&format!(
            "  {} over IPv4, {} over IPv6",
            wording::counted(v4, "socket", "sockets"),
            wording::count(v6)
        ));
        let Some(ages) = sockets.by_age.filter(|_| v4 + v6 > 0) else {
            return;
        };
        let mut table = Table::new(&[left("AGE", 0), right("SOCKETS", 0)]);
        for (band, count) in BANDS.iter().zip(ages) {
            table.row(vec![format!("{} s", band.name), wording::count(count)]);
        }
        self.table(table);
    }

    fn holders(&mut self, namespace: &NamespaceReport) {
        let Some(holders) = &namespace.holders else {
            return;
        };
        self.title("PROCESSES with live sockets");
        for one in holders {
            let place = wording::destination(&one.destination);
            self.prose(
                &format!(
                    "{place}: {}",
                    wording::counted(one.live_sockets, "live socket", "live sockets")
                ),
                2,
            );
            for process in &one.processes {
                self.line(&format!(
                    "    {:>8}  {} (pid {})",
                    wording::count(process.sockets),
                    printable(&process.name),
                    process.pid
                ));
            }
            if one.unnamed_sockets > 0 {
                self.line(&format!(
                    "    {:>8}  of unknown processes",
                    wording::count(one.unnamed_sockets)
                ));
            }
        }
        self.prose(
            "To the fullest destinations that have any. Root can look into all processes. Sockets in TIME-WAIT \
             belong to no process any more: for them nobody can be named. One that several processes share is counted \
             for the first that was found.",
            2,
        );
    }

    fn settings(&mut self, snapshot: &Snapshot) {
        let Some(settings) = snapshot.settings() else {
            return;
        };
        self.title("SETTINGS, net.ipv4");
        let mut table = Table::new(&[left("NAME", 0), left("VALUE", 0), left("MEANING", 1)]);
        for one in explain(settings) {
            let value = if one.value.is_empty() {
                "(none)".to_owned()
            } else {
                shortened(&one.value, 24)
            };
            table.row(vec![one.short_name().to_owned(), value, one.meaning]);
        }
        self.table(table);
    }

    fn collectors(&mut self, snapshot: &Snapshot) {
        self.title("READ");
        let mut table = Table::new(&[left("WHAT", 0), left("RESULT", 0), right("SECONDS", 0)]);
        for (name, success, seconds) in collectors(snapshot) {
            let result = match (success, source(snapshot)) {
                (false, _) => "FAILED".to_owned(),
                (true, Some(source)) if name == "sockets" => format!("ok, {}", source.as_str()),
                (true, _) => "ok".to_owned(),
            };
            table.row(vec![name.to_owned(), result, format!("{seconds:.3}")]);
        }
        self.table(table);
    }
}

fn namespace_row(namespace: &NamespaceReport) -> Vec<String> {
    let sockets = namespace.snapshot.sockets();
    let ports = namespace.snapshot.ports();
    let unknown = || "?".to_owned();
    let time_wait = sockets.map(|sockets| sockets.time_wait.ipv4 + sockets.time_wait.ipv6);
    let identity = namespace.identity.as_ref();
    vec![
        namespace.advice.severity.state().as_str().to_uppercase(),
        namespace
            .snapshot
            .worst_ratio()
            .map_or_else(unknown, wording::percent),
        time_wait.map_or_else(unknown, wording::count),
        ports.map_or_else(unknown, |ports| wording::count(ports.destinations)),
        identity.map_or_else(|| "(own)".to_owned(), |one| printable(&one.label)),
        identity.map_or_else(String::new, |one| printable(&one.resident())),
    ]
}

fn destination_row(figures: &DestinationUsage) -> Vec<String> {
    let destination = &figures.destination;
    vec![
        wording::percent(figures.exhaustion_ratio),
        wording::count(figures.headroom.into()),
        wording::count(figures.in_use.time_wait),
        wording::count(figures.in_use.established),
        wording::count(figures.in_use.other),
        wording::count(figures.reusable),
        format!("{:.1}", figures.close_rate),
        destination.src_addr.to_string(),
        format!("{} port {}", destination.dst_addr, destination.dst_port),
    ]
}

/// At most so many characters.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;

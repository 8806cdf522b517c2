//! What the tables of a report contain: the same in the terminal and on the page.

use std::cmp::Ordering;

use super::table::Kind::{self, Code, Number, Prose, State, Text};
use super::table::{Cell, Table, TableOf};
use super::{NamespaceReport, Report, printable};
use crate::domain::advice::explain::{Explained, explain};
use crate::domain::advice::thresholds::{POOL_WARNING, RATIO_CRITICAL, RATIO_WARNING};
use crate::domain::advice::wording::{self, count, counted, percent};
use crate::domain::age::BANDS;
use crate::domain::collectors::CollectorId;
use crate::domain::snapshot::{Destination, DestinationUsage, Outcome, SourceUsage};

const RATIO: Kind = Kind::Ratio(RATIO_WARNING, RATIO_CRITICAL);
const POOL_RATIO: Kind = Kind::Ratio(POOL_WARNING, 1.0);

fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "?".to_owned())
}

fn ratio(ratio: impl Into<Option<f64>>) -> Cell {
    let ratio = ratio.into();
    Cell {
        ratio,
        ..or_unknown(ratio.map(percent)).into()
    }
}

/// All namespaces of which there is a report.
pub(crate) fn namespaces(report: &Report) -> Table {
    let detailed = report.detailed();
    let name = |namespace: &&NamespaceReport| Cell {
        section: detailed
            .iter()
            .position(|one| std::ptr::eq(*one, *namespace)),
        ..namespace.title().into()
    };
    let time_wait = |namespace: &&NamespaceReport| {
        let sockets = namespace.snapshot.sockets();
        or_unknown(sockets.map(|sockets| count(sockets.time_wait.ipv4 + sockets.time_wait.ipv6)))
    };
    let destinations = |namespace: &&NamespaceReport| {
        let ports = namespace.snapshot.ports();
        or_unknown(ports.map(|ports| count(ports.destinations)))
    };
    let caption = "Worst first; In use is the ratio of the fullest destination";
    let mut table = TableOf::new("Network namespaces", caption, report.worst_first())
        .column(Text, "Namespace", 0, name)
        .column(State, "State", 0, |one| one.state().as_str())
        .column(RATIO, "In use", 0, |one| ratio(one.snapshot.worst_ratio()))
        .column(Number, "TIME-WAIT", 1, time_wait)
        .column(Number, "Destinations", 3, destinations)
        .column(Text, "Owner", 2, |one| one.owner())
        .table;
    let brief = u64::try_from(report.namespaces.len() - detailed.len()).unwrap_or(u64::MAX);
    let brief = (brief > 0).then(|| {
        let subject = counted(brief, "namespace has", "namespaces have");
        format!("{subject} no findings and only a row here: see --collector.netns=NAME or --format=json.")
    });
    let notes = brief.into_iter().chain(report.missing_sentence());
    table.note = notes.reduce(|a, b| format!("{a} {b}"));
    table
}

/// The destinations; with an earlier report also how their ports in use have changed.
pub(crate) fn destinations(
    namespace: &NamespaceReport,
    before: Option<&NamespaceReport>,
    rows: usize,
) -> Option<Table> {
    let ports = namespace.snapshot.ports()?;
    let exported = &ports.by_destination.as_ref()?.exported;
    let target = |to: &Destination| format!("{} port {}", to.dst_addr, to.dst_port);
    let caption = "Ports in use per destination, fullest first";
    let mut table = TableOf::new("Destinations", caption, exported.iter().take(rows))
        .column(Text, "Destination", 0, |to| target(&to.destination))
        .column(RATIO, "In use", 0, |to| ratio(to.exhaustion_ratio));
    if let Some(before) = before {
        table = table.column(Number, "Change", 1, |to| change(before, to));
    }
    let mut table = table
        .column(Number, "Left", 0, |to| count(to.headroom))
        .column(Number, "TIME-WAIT", 3, |to| count(to.in_use.time_wait))
        .column(Number, "Established", 4, |to| count(to.in_use.established))
        .column(Number, "Other", 6, |to| count(to.in_use.other))
        .column(Number, "Reusable", 7, |to| count(to.reusable))
        .column(Number, "Closes/s", 5, |to| format!("{:.1}", to.close_rate))
        .column(Number, "Search", 8, |to| count(to.search_ports))
        .column(Text, "From", 2, |to| to.destination.src_addr.to_string())
        .table;
    let shown = u64::try_from(table.rows.len()).unwrap_or(u64::MAX);
    let more = ports.destinations.saturating_sub(shown);
    table.note = (more > 0).then(|| {
        counted(more, "further destination is", "further destinations are") + " not fuller."
    });
    Some(table)
}

fn change(before: &NamespaceReport, now: &DestinationUsage) -> String {
    let old = before.snapshot.destinations();
    let mut old = old.into_iter().flat_map(|breakdown| &breakdown.exported);
    // One that is new here may only have entered the top.
    let Some(old) = old.find(|usage| usage.destination == now.destination) else {
        return "new".to_owned();
    };
    let (old, now) = (old.in_use.total(), now.in_use.total());
    let change = count(now.abs_diff(old));
    match now.cmp(&old) {
        Ordering::Less => format!("-{change}"),
        Ordering::Equal => change,
        Ordering::Greater => format!("+{change}"),
    }
}

/// The port range in a sentence.
pub(crate) fn range(namespace: &NamespaceReport) -> Option<String> {
    let ports = namespace.snapshot.ports()?;
    let range = wording::range(ports.range);
    let all = [
        ports.range.ports(),
        ports.reserved,
        ports.blocked,
        ports.usable,
        ports.free,
    ];
    let [size, reserved, blocked, usable, free] = all.map(count);
    let owned = ports.bind_owned.filter(|owned| *owned > 0);
    let owned = owned.map(|owned| format!("{} chosen by bind(), ", count(owned)));
    let owned = owned.unwrap_or_default();
    Some(format!(
        "Port range {range}: {size} ports, {reserved} reserved, {blocked} blocked by listening or bound sockets, \
         {owned}{usable} usable for each destination, {free} without any socket."
    ))
}

fn addresses(namespace: &NamespaceReport) -> Option<Table> {
    let sources = namespace.snapshot.sources()?.iter().collect();
    let caption = "Ports in use for bind() without a port";
    Some(by_address("Local addresses", caption, sources))
}

fn udp(namespace: &NamespaceReport) -> Option<Table> {
    let sources = namespace.snapshot.udp()?.by_source.iter();
    let sources = sources.filter(|source| source.ports > 0).collect();
    Some(by_address("UDP", "Ports in use by UDP sockets", sources))
}

fn by_address(title: &'static str, caption: &str, sources: Vec<&SourceUsage>) -> Table {
    TableOf::new(title, caption, sources)
        .column(Text, "Address", 0, |from| from.src_addr.to_string())
        .column(POOL_RATIO, "In use", 0, |from| ratio(from.exhaustion_ratio))
        .column(Number, "Ports", 1, |from| count(from.ports))
        .table
}

/// TIME-WAIT sockets by family in a sentence.
pub(crate) fn time_wait(namespace: &NamespaceReport) -> Option<String> {
    let sockets = namespace.snapshot.sockets()?.time_wait;
    let ipv4 = counted(sockets.ipv4, "socket", "sockets");
    let ipv6 = count(sockets.ipv6);
    let sentence = format!("{ipv4} in TIME-WAIT over IPv4, {ipv6} over IPv6.");
    (sockets.ipv4 + sockets.ipv6 > 0).then_some(sentence)
}

/// TIME-WAIT sockets by age.
pub(crate) fn ages(namespace: &NamespaceReport) -> Option<Table> {
    let caption = time_wait(namespace)?;
    let ages = BANDS.iter().zip(namespace.snapshot.sockets()?.by_age?);
    let table = TableOf::new("TIME-WAIT", caption, ages)
        .column(Text, "Age", 0, |((band, _), _)| format!("{band} s"))
        .column(Number, "Sockets", 0, |(_, sockets)| count(*sockets));
    Some(table.table)
}

fn processes(namespace: &NamespaceReport) -> Option<Table> {
    let rows = namespace.holders.as_ref()?.iter().flat_map(|holders| {
        let to = &holders.destination;
        let named = holders.processes.iter().map(move |process| {
            let name = format!("{} (pid {})", printable(&process.name), process.pid);
            (process.sockets, name, to)
        });
        named.chain([(holders.unnamed_sockets, "unknown".to_owned(), to)])
    });
    let rows = rows.filter(|(sockets, ..)| *sockets > 0);
    let caption = "Owners of live sockets to the fullest destinations";
    let mut table = TableOf::new("Processes", caption, rows)
        .column(Number, "Sockets", 0, |(sockets, ..)| count(*sockets))
        .column(Text, "Process", 0, |(_, name, _)| name.clone())
        .column(Prose, "Destination", 1, |(.., to)| wording::destination(to))
        .table;
    let note = "Only root sees all processes. TIME-WAIT sockets belong to no process. A socket that several processes share \
                counts for one of them.";
    table.note = Some(note.to_owned());
    Some(table)
}

fn sysctls(namespace: &NamespaceReport) -> Option<Table> {
    let sysctls = explain(namespace.snapshot.settings()?);
    let table = TableOf::new("Kernel settings", "sysctls under net.ipv4", sysctls)
        .column(Code, "Name", 0, Explained::short_name)
        .column(Code, "Value", 0, |sysctl| sysctl.value.clone())
        .column(Prose, "Meaning", 1, |sysctl| sysctl.meaning.clone());
    Some(table.table)
}

fn collected(namespace: &NamespaceReport) -> Table {
    let snapshot = &namespace.snapshot;
    let source = snapshot.sockets().and_then(|sockets| sockets.source);
    let result = |(id, outcome): &(CollectorId, &Outcome)| match source {
        _ if !outcome.success => "FAILED".to_owned(),
        Some(source) if *id == CollectorId::Sockets => format!("ok, {}", source.as_str()),
        _ => "ok".to_owned(),
    };
    let seconds = |outcome: &Outcome| format!("{:.3}", outcome.duration.as_secs_f64());
    let caption = "What was read for this report; the log has the reasons of failures";
    TableOf::new("Collectors", caption, snapshot.outcomes())
        .column(Text, "Collector", 0, |(id, _)| id.name())
        .column(Text, "Result", 0, result)
        .column(Number, "Seconds", 0, |(_, outcome)| seconds(outcome))
        .table
}

/// The tables that come after the destinations and the ages, without empty ones.
pub(crate) fn rest(namespace: &NamespaceReport) -> Vec<Table> {
    let tables = [
        addresses(namespace),
        udp(namespace),
        processes(namespace),
        sysctls(namespace),
        Some(collected(namespace)),
    ];
    let tables = tables.into_iter().flatten();
    tables.filter(|table| !table.rows.is_empty()).collect()
}

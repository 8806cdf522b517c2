//! What the tables of a report contain: the same in the terminal and on the page.

use std::cmp::Ordering;

use super::table::{Cell, Kind, Table, column};
use super::{NamespaceReport, Report, printable};
use crate::domain::advice::explain::explain;
use crate::domain::advice::thresholds::{POOL_WARNING, RATIO_CRITICAL, RATIO_WARNING};
use crate::domain::advice::wording::{self, count, counted, percent};
use crate::domain::age::BANDS;
use crate::domain::collectors::CollectorId;
use crate::domain::snapshot::{DestinationUsage, SourceUsage};

const RATIO: Kind = Kind::Ratio(RATIO_WARNING, RATIO_CRITICAL);
const POOL_RATIO: Kind = Kind::Ratio(POOL_WARNING, 1.0);

fn ratio(ratio: f64) -> Cell {
    Cell {
        ratio: Some(ratio),
        ..percent(ratio).into()
    }
}

/// All namespaces of which there is a report.
pub(crate) fn namespaces(report: &Report) -> Table {
    let columns = [
        column("Namespace", Kind::Text, 0),
        column("State", Kind::State, 0),
        column("In use", RATIO, 0),
        column("TIME-WAIT", Kind::Number, 1),
        column("Destinations", Kind::Number, 3),
        column("Owner", Kind::Text, 2),
    ];
    let detailed = report.detailed();
    let rows = report.worst_first().into_iter().map(|namespace| {
        let unknown = || Cell::from("?");
        let snapshot = &namespace.snapshot;
        let time_wait = snapshot.sockets().map(|sockets| sockets.time_wait);
        let destinations = snapshot.ports().map(|ports| ports.destinations);
        let mut sections = detailed.iter();
        [
            Cell {
                section: sections.position(|one| std::ptr::eq(*one, namespace)),
                ..namespace.title().into()
            },
            namespace.state().as_str().into(),
            snapshot.worst_ratio().map_or_else(unknown, ratio),
            time_wait.map_or_else(unknown, |by| count(by.ipv4 + by.ipv6).into()),
            destinations.map_or_else(unknown, |number| count(number).into()),
            namespace.owner().into(),
        ]
    });
    let caption = "Worst first; In use is the ratio of the fullest destination";
    let table = Table::new("Network namespaces", caption, columns, rows);
    let brief = u64::try_from(report.namespaces.len() - detailed.len()).unwrap_or(u64::MAX);
    let brief = (brief > 0).then(|| {
        let subject = counted(brief, "namespace has", "namespaces have");
        format!("{subject} no findings and only a row here: see --collector.netns=NAME or --format=json.")
    });
    let notes = brief.into_iter().chain(report.missing_sentence());
    Table {
        note: notes.reduce(|a, b| format!("{a} {b}")),
        ..table
    }
}

/// The destinations; with an earlier report also how their ports in use have changed.
pub(crate) fn destinations(
    namespace: &NamespaceReport,
    before: Option<&NamespaceReport>,
    rows: usize,
) -> Option<Table> {
    let ports = namespace.snapshot.ports()?;
    let exported = &ports.by_destination.as_ref()?.exported;
    let columns = [
        column("Destination", Kind::Text, 0),
        column("In use", RATIO, 0),
        column("Left", Kind::Number, 0),
        column("TIME-WAIT", Kind::Number, 3),
        column("Established", Kind::Number, 4),
        column("Other", Kind::Number, 6),
        column("Reusable", Kind::Number, 7),
        column("Closes/s", Kind::Number, 5),
        column("Search", Kind::Number, 8),
        column("From", Kind::Text, 2),
    ];
    let shown = exported.iter().take(rows);
    let caption = "Ports in use per destination, fullest first";
    let cells = shown.clone().map(destination);
    let mut table = Table::new("Destinations", caption, columns, cells);
    if let Some(before) = before {
        table.columns.insert(2, column("Change", Kind::Number, 1));
        for (row, usage) in table.rows.iter_mut().zip(shown) {
            row.insert(2, change(before, usage).into());
        }
    }
    let shown = u64::try_from(table.rows.len()).unwrap_or(u64::MAX);
    let more = ports.destinations.saturating_sub(shown);
    table.note = (more > 0).then(|| {
        counted(more, "further destination is", "further destinations are") + " not fuller."
    });
    Some(table)
}

fn destination(usage: &DestinationUsage) -> [Cell; 10] {
    let destination = &usage.destination;
    [
        format!("{} port {}", destination.dst_addr, destination.dst_port).into(),
        ratio(usage.exhaustion_ratio),
        count(usage.headroom).into(),
        count(usage.in_use.time_wait).into(),
        count(usage.in_use.established).into(),
        count(usage.in_use.other).into(),
        count(usage.reusable).into(),
        format!("{:.1}", usage.close_rate).into(),
        count(usage.search_ports).into(),
        destination.src_addr.to_string().into(),
    ]
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
    let sources = namespace.snapshot.ports()?.by_source.iter().flatten();
    let caption = "Ports in use for bind() without a port";
    Some(by_address("Local addresses", caption, sources))
}

fn udp(namespace: &NamespaceReport) -> Option<Table> {
    let sources = namespace.snapshot.udp()?.by_source.iter();
    let sources = sources.filter(|source| source.ports > 0);
    Some(by_address("UDP", "Ports in use by UDP sockets", sources))
}

fn by_address<'a>(
    title: &'static str,
    caption: &str,
    sources: impl Iterator<Item = &'a SourceUsage>,
) -> Table {
    let columns = [
        column("Address", Kind::Text, 0),
        column("In use", POOL_RATIO, 0),
        column("Ports", Kind::Number, 1),
    ];
    let rows = sources.map(|source| {
        let address = source.src_addr.to_string().into();
        let ports = count(source.ports).into();
        [address, ratio(source.exhaustion_ratio), ports]
    });
    Table::new(title, caption, columns, rows)
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
    let columns = [
        column("Age", Kind::Text, 0),
        column("Sockets", Kind::Number, 0),
    ];
    let caption = time_wait(namespace)?;
    let ages = BANDS.iter().zip(namespace.snapshot.sockets()?.by_age?);
    let rows = ages.map(|((band, _), sockets)| [format!("{band} s").into(), count(sockets).into()]);
    Some(Table::new("TIME-WAIT", caption, columns, rows))
}

fn processes(namespace: &NamespaceReport) -> Option<Table> {
    let columns = [
        column("Sockets", Kind::Number, 0),
        column("Process", Kind::Text, 0),
        column("Destination", Kind::Prose, 1),
    ];
    let rows = namespace.holders.as_ref()?.iter().flat_map(|holders| {
        let place = wording::destination(&holders.destination);
        let named = holders.processes.iter().map(|process| {
            let name = format!("{} (pid {})", printable(&process.name), process.pid);
            (process.sockets, name)
        });
        let unnamed = (holders.unnamed_sockets, "unknown".to_owned());
        let all = named.chain([unnamed]).filter(|(sockets, _)| *sockets > 0);
        all.map(move |(sockets, name)| [count(sockets).into(), name.into(), place.as_str().into()])
    });
    let caption = "Owners of live sockets to the fullest destinations";
    let note = "Only root sees all processes. TIME-WAIT sockets belong to no process. A socket that several processes share \
                counts for one of them.";
    Some(Table {
        note: Some(note.to_owned()),
        ..Table::new("Processes", caption, columns, rows)
    })
}

fn sysctls(namespace: &NamespaceReport) -> Option<Table> {
    let columns = [
        column("Name", Kind::Code, 0),
        column("Value", Kind::Code, 0),
        column("Meaning", Kind::Prose, 1),
    ];
    let rows = explain(namespace.snapshot.settings()?).into_iter();
    let rows = rows.map(|one| {
        [
            one.short_name().into(),
            one.value.into(),
            one.meaning.into(),
        ]
    });
    Some(Table::new(
        "Kernel settings",
        "sysctls under net.ipv4",
        columns,
        rows,
    ))
}

fn collected(namespace: &NamespaceReport) -> Table {
    let columns = [
        column("Collector", Kind::Text, 0),
        column("Result", Kind::Text, 0),
        column("Seconds", Kind::Number, 0),
    ];
    let source = namespace
        .snapshot
        .sockets()
        .and_then(|sockets| sockets.source);
    let rows = namespace.snapshot.outcomes().map(|(id, outcome)| {
        let result = match source.filter(|_| id == CollectorId::Sockets) {
            _ if !outcome.success => "FAILED".to_owned(),
            Some(source) => format!("ok, {}", source.as_str()),
            None => "ok".to_owned(),
        };
        let seconds = format!("{:.3}", outcome.duration.as_secs_f64());
        [id.name().into(), result.into(), seconds.into()]
    });
    let caption = "What was read for this report; the log has the reasons of failures";
    Table::new("Collectors", caption, columns, rows)
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

//! What the tables of a report contain: the same in the terminal and on the page.

use super::table::{Cell, Column, Kind, Table, column};
use super::{NamespaceReport, Report, collectors, printable};
use crate::domain::address::Address;
use crate::domain::advice::explain::explain;
use crate::domain::advice::thresholds::{POOL_WARNING, RATIO_CRITICAL, RATIO_WARNING};
use crate::domain::advice::wording::{self, count, counted, percent};
use crate::domain::age::BANDS;
use crate::domain::snapshot::DestinationUsage;

const RATIO: Kind = Kind::Ratio {
    warning: RATIO_WARNING,
    critical: RATIO_CRITICAL,
};
const POOL_RATIO: Kind = Kind::Ratio {
    warning: POOL_WARNING,
    critical: 1.0,
};

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
    let caption = "Worst first; In use is the ratio of the fullest destination";
    let mut table = Table::new("Network namespaces", caption, &columns);
    let detailed = report.detailed();
    for namespace in report.worst_first() {
        let unknown = || Cell::from("?");
        let sockets = namespace.snapshot.sockets();
        let time_wait = sockets.map(|sockets| sockets.time_wait.ipv4 + sockets.time_wait.ipv6);
        let ports = namespace.snapshot.ports();
        let mut sections = detailed.iter();
        let identity = namespace.identity.as_ref();
        table.row([
            Cell {
                section: sections.position(|one| std::ptr::eq(*one, namespace)),
                ..namespace.title().into()
            },
            namespace.state().as_str().into(),
            namespace.snapshot.worst_ratio().map_or_else(unknown, ratio),
            time_wait.map_or_else(unknown, |number| count(number).into()),
            ports.map_or_else(unknown, |ports| count(ports.destinations).into()),
            identity
                .map_or_else(String::new, |one| printable(&one.resident()))
                .into(),
        ]);
    }
    let brief = u64::try_from(report.namespaces.len() - detailed.len()).unwrap_or(u64::MAX);
    let brief = (brief > 0).then(|| {
        let subject = counted(brief, "namespace has", "namespaces have");
        format!("{subject} no findings and only a row here: see --collector.netns=NAME or --format=json.")
    });
    table.note = [brief, report.missing_sentence()]
        .into_iter()
        .flatten()
        .reduce(|a, b| format!("{a} {b}"));
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
    let mut columns = vec![
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
    if before.is_some() {
        columns.insert(2, column("Change", Kind::Number, 1));
    }
    let mut table = Table::new(
        "Destinations",
        "Ports in use per destination, fullest first",
        &columns,
    );
    for usage in exported.iter().take(rows) {
        let mut row = destination(usage);
        if let Some(before) = before {
            row.insert(2, change(before, usage).into());
        }
        table.row(row);
    }
    let shown = u64::try_from(table.rows.len()).unwrap_or(u64::MAX);
    let more = ports.destinations.saturating_sub(shown);
    table.note = (more > 0).then(|| {
        let subject = counted(more, "further destination is", "further destinations are");
        format!("{subject} not fuller.")
    });
    Some(table)
}

fn destination(usage: &DestinationUsage) -> Vec<Cell> {
    let destination = &usage.destination;
    vec![
        format!("{} port {}", destination.dst_addr, destination.dst_port).into(),
        ratio(usage.exhaustion_ratio),
        count(usage.headroom.into()).into(),
        count(usage.in_use.time_wait).into(),
        count(usage.in_use.established).into(),
        count(usage.in_use.other).into(),
        count(usage.reusable).into(),
        format!("{:.1}", usage.close_rate).into(),
        count(usage.search_ports.into()).into(),
        destination.src_addr.to_string().into(),
    ]
}

fn change(before: &NamespaceReport, now: &DestinationUsage) -> String {
    let breakdown = before.snapshot.destinations();
    let mut old = breakdown
        .into_iter()
        .flat_map(|breakdown| &breakdown.exported);
    // One that is new here may only have entered the top.
    let Some(old) = old.find(|usage| usage.destination == now.destination) else {
        return "new".to_owned();
    };
    let (old, now) = (old.in_use.total(), now.in_use.total());
    let sign = match now.cmp(&old) {
        std::cmp::Ordering::Less => "-",
        std::cmp::Ordering::Equal => "",
        std::cmp::Ordering::Greater => "+",
    };
    format!("{sign}{}", count(now.abs_diff(old)))
}

/// The port range in a sentence.
pub(crate) fn range(namespace: &NamespaceReport) -> Option<String> {
    let ports = namespace.snapshot.ports()?;
    let count = |number: u32| wording::count(number.into());
    let owned = ports.bind_owned.filter(|owned| *owned > 0);
    let owned = owned.map_or_else(String::new, |owned| {
        format!("{} chosen by bind(), ", count(owned))
    });
    Some(format!(
        "Port range {}-{}: {} ports, {} reserved, {} blocked by listening or bound sockets, {owned}{} usable for each \
         destination, {} without any socket.",
        ports.range.min(),
        ports.range.max(),
        count(ports.range.ports()),
        count(ports.reserved),
        count(ports.blocked),
        count(ports.usable),
        count(ports.free),
    ))
}

fn addresses(namespace: &NamespaceReport) -> Option<Table> {
    let sources = namespace.snapshot.ports()?.by_source.as_ref()?;
    let rows = sources
        .iter()
        .map(|source| (source.src_addr, source.exhaustion_ratio, source.ports));
    let caption = "Ports in use for bind() without a port";
    Some(by_address("Local addresses", caption, rows))
}

fn udp(namespace: &NamespaceReport) -> Option<Table> {
    let in_use = namespace.snapshot.udp()?.by_source.iter();
    let in_use = in_use.filter(|source| source.ports > 0);
    let rows = in_use.map(|source| (source.src_addr, source.exhaustion_ratio, source.ports));
    Some(by_address("UDP", "Ports in use by UDP sockets", rows))
}

fn by_address(
    title: &'static str,
    caption: &str,
    rows: impl Iterator<Item = (Address, f64, u32)>,
) -> Table {
    let columns = [
        column("Address", Kind::Text, 0),
        column("In use", POOL_RATIO, 0),
        column("Ports", Kind::Number, 1),
    ];
    let mut table = Table::new(title, caption, &columns);
    for (address, in_use, ports) in rows {
        table.row([
            address.to_string().into(),
            ratio(in_use),
            count(ports.into()).into(),
        ]);
    }
    table
}

/// TIME-WAIT sockets by family in a sentence.
pub(crate) fn time_wait(namespace: &NamespaceReport) -> Option<String> {
    let sockets = namespace.snapshot.sockets()?.time_wait;
    (sockets.ipv4 + sockets.ipv6 > 0).then(|| {
        format!(
            "{} in TIME-WAIT over IPv4, {} over IPv6.",
            counted(sockets.ipv4, "socket", "sockets"),
            count(sockets.ipv6)
        )
    })
}

/// TIME-WAIT sockets by age.
pub(crate) fn ages(namespace: &NamespaceReport) -> Option<Table> {
    let columns = [
        column("Age", Kind::Text, 0),
        column("Sockets", Kind::Number, 0),
    ];
    let mut table = Table::new("TIME-WAIT", time_wait(namespace)?, &columns);
    for (band, sockets) in BANDS.iter().zip(namespace.snapshot.sockets()?.by_age?) {
        table.row([format!("{} s", band.name).into(), count(sockets).into()]);
    }
    Some(table)
}

fn processes(namespace: &NamespaceReport) -> Option<Table> {
    let columns = [
        column("Sockets", Kind::Number, 0),
        column("Process", Kind::Text, 0),
        column("Destination", Kind::Prose, 1),
    ];
    let mut table = Table::new(
        "Processes",
        "Owners of live sockets to the fullest destinations",
        &columns,
    );
    for holders in namespace.holders.as_ref()? {
        let place = wording::destination(&holders.destination);
        let named = holders.processes.iter().map(|process| {
            let name = format!("{} (pid {})", printable(&process.name), process.pid);
            (process.sockets, name)
        });
        let unnamed = (holders.unnamed_sockets, "unknown".to_owned());
        for (sockets, name) in named.chain([unnamed]).filter(|(sockets, _)| *sockets > 0) {
            table.row([count(sockets).into(), name.into(), place.as_str().into()]);
        }
    }
    table.note = Some(
        "Only root sees all processes. TIME-WAIT sockets belong to no process. A socket that several processes share \
         counts for one of them."
            .to_owned(),
    );
    Some(table)
}

fn sysctls(namespace: &NamespaceReport) -> Option<Table> {
    let columns = [
        column("Name", Kind::Code, 0),
        column("Value", Kind::Code, 0),
        column("Meaning", Kind::Prose, 1),
    ];
    let mut table = Table::new("Kernel settings", "sysctls under net.ipv4", &columns);
    for one in explain(namespace.snapshot.settings()?) {
        table.row([
            one.short_name().into(),
            one.value.into(),
            one.meaning.into(),
        ]);
    }
    Some(table)
}

fn collected(namespace: &NamespaceReport) -> Table {
    let columns: [Column; 3] = [
        column("Collector", Kind::Text, 0),
        column("Result", Kind::Text, 0),
        column("Seconds", Kind::Number, 0),
    ];
    let source = super::source(&namespace.snapshot);
    let mut table = Table::new(
        "Collectors",
        "What was read for this report; the log has the reasons of failures",
        &columns,
    );
    for (name, success, seconds) in collectors(&namespace.snapshot) {
        let result = match (success, source) {
            (false, _) => "FAILED".to_owned(),
            (true, Some(source)) if name == "sockets" => format!("ok, {}", source.as_str()),
            (true, _) => "ok".to_owned(),
        };
        table.row([name.into(), result.into(), format!("{seconds:.3}").into()]);
    }
    table
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

//! From the report to the shapes that are written.

use std::time::UNIX_EPOCH;

use super::{
    AgeOut, BucketsOut, CollectorOut, DestinationKey, DestinationOut, Document, EffectOut,
    FindingOut, HeldOut, HoldersOut, Namespace, PersistentOut, PortRangeOut, ProcessOut, RemedyOut,
    Report, RoomOut, SCHEMA_VERSION, SettingOut, SourceOut, TimeWaitOut, ValueOut,
};
use crate::domain::advice::explain::explain;
use crate::domain::advice::{Effect, FigureValue, Finding, Remedy, Room};
use crate::domain::age::BANDS;
use crate::domain::holders::Holders;
use crate::domain::snapshot::{
    Destination, DestinationUsage, PortUsage, PortsInUse, SocketSummary, Source,
};
use crate::report::{NamespaceReport, collectors, source};

impl<'a> From<&'a Report> for Document<'a> {
    fn from(report: &'a Report) -> Self {
        let made = report.made.duration_since(UNIX_EPOCH);
        Self {
            schema_version: SCHEMA_VERSION,
            exporter_version: report.version,
            kernel: &report.kernel,
            generated_at_seconds: made.map_or(0.0, |made| made.as_secs_f64()),
            severity: report.severity().as_str(),
            headline: report.headline(),
            namespaces: report.namespaces.iter().map(Namespace::from).collect(),
            namespaces_unreadable: report.untold.and_then(|untold| untold.unreadable),
            namespaces_left_out: report.untold.map(|untold| untold.left_out),
        }
    }
}

impl<'a> From<&'a NamespaceReport> for Namespace<'a> {
    fn from(namespace: &'a NamespaceReport) -> Self {
        let NamespaceReport {
            identity,
            snapshot,
            advice,
            holders,
        } = namespace;
        let identity = identity.as_ref();
        let container = identity.map(|identity| &identity.container);
        let sockets = snapshot.sockets.as_ref().and_then(|o| o.value.as_ref());
        let ports = sockets.and_then(|sockets| sockets.ports.as_ref());
        let by_destination = ports.and_then(|ports| ports.by_destination.as_ref());
        let settings = snapshot.sysctl.as_ref().and_then(|o| o.value.as_ref());
        let sockstat = snapshot.sockstat.as_ref().and_then(|o| o.value.as_ref());
        let in_use = sockstat.and_then(|sockstat| sockstat.time_wait_buckets);
        Self {
            netns: namespace.name(),
            inode: identity.map(|identity| identity.inode),
            pid: identity.and_then(|identity| identity.pid),
            comm: identity.and_then(|identity| identity.comm.as_deref()),
            container_id: container.and_then(|container| container.container_id.as_deref()),
            pod_uid: container.and_then(|container| container.pod_uid.as_deref()),
            severity: advice.severity.as_str(),
            headline: &advice.headline,
            findings: advice.findings.iter().map(FindingOut::from).collect(),
            port_range: ports.map(PortRangeOut::from),
            destinations: by_destination.map(|breakdown| {
                breakdown
                    .exported
                    .iter()
                    .map(DestinationOut::from)
                    .collect()
            }),
            other_destinations: by_destination.map(|breakdown| breakdown.other.into()),
            sources: ports.and_then(sources),
            time_wait: sockets.map(TimeWaitOut::from),
            buckets: in_use.map(|in_use| BucketsOut {
                in_use,
                limit: settings.and_then(|settings| settings.tcp_max_tw_buckets),
            }),
            settings: settings
                .map(explain)
                .unwrap_or_default()
                .into_iter()
                .map(|one| SettingOut {
                    name: format!("net.ipv4.{}", one.name),
                    value: one.value,
                    meaning: one.meaning,
                })
                .collect(),
            source: source(snapshot).map(Source::as_str),
            collectors: collectors(snapshot)
                .into_iter()
                .map(|(name, success, duration_seconds)| CollectorOut {
                    name,
                    success,
                    duration_seconds,
                })
                .collect(),
            holders: holders
                .as_ref()
                .map(|holders| holders.iter().map(HoldersOut::from).collect()),
        }
    }
}

fn sources(ports: &PortUsage) -> Option<Vec<SourceOut>> {
    let sources = ports.by_source.as_ref()?;
    let sources = sources.iter().map(|source| SourceOut {
        src_addr: source.src_addr.to_string(),
        ports: source.ports,
        exhaustion_ratio: source.exhaustion_ratio,
    });
    Some(sources.collect())
}

impl<'a> From<&'a Finding> for FindingOut<'a> {
    fn from(finding: &'a Finding) -> Self {
        let figures = finding.figures.iter().map(|(name, value)| {
            let value = match value {
                FigureValue::Count(count) | FigureValue::Bytes(count) => ValueOut::Count(*count),
                FigureValue::Port(port) => ValueOut::Count((*port).into()),
                FigureValue::Ratio(fraction) | FigureValue::Rate(fraction) => {
                    ValueOut::Fraction(*fraction)
                }
                FigureValue::Text(text) => ValueOut::Text(text),
            };
            (*name, value)
        });
        Self {
            id: finding.id.as_str(),
            severity: finding.severity.as_str(),
            sentence: &finding.sentence,
            destination: finding.destination.map(DestinationKey::from),
            figures: figures.collect(),
            remedies: finding.remedies.iter().map(RemedyOut::from).collect(),
        }
    }
}

impl<'a> From<&'a Remedy> for RemedyOut<'a> {
    fn from(remedy: &'a Remedy) -> Self {
        let persistent = remedy.persistent().into_iter();
        let persistent = persistent.map(|persistent| PersistentOut {
            path: persistent.path,
            line: persistent.line,
        });
        Self {
            id: remedy.id.as_str(),
            action: &remedy.action,
            commands: remedy.commands(),
            persistent: persistent.collect(),
            caution: remedy.caution(),
            effect: remedy.effect.map(|Effect { before, after }| EffectOut {
                before: before.into(),
                after: after.into(),
            }),
        }
    }
}

impl From<Room> for RoomOut {
    fn from(room: Room) -> Self {
        Self {
            headroom: room.headroom,
            ratio: room.ratio,
        }
    }
}

impl From<Destination> for DestinationKey {
    fn from(destination: Destination) -> Self {
        Self {
            src_addr: destination.src_addr.to_string(),
            dst_addr: destination.dst_addr.to_string(),
            dst_port: destination.dst_port,
        }
    }
}

impl From<PortsInUse> for HeldOut {
    fn from(held: PortsInUse) -> Self {
        Self {
            time_wait: held.time_wait,
            established: held.established,
            other: held.other,
        }
    }
}

impl From<&DestinationUsage> for DestinationOut {
    fn from(figures: &DestinationUsage) -> Self {
        Self {
            destination: figures.destination.into(),
            held: figures.in_use.into(),
            reusable: figures.reusable,
            headroom: figures.headroom,
            exhaustion_ratio: figures.exhaustion_ratio,
            closes_per_second: figures.close_rate,
            search_ports: figures.search_ports,
        }
    }
}

impl From<&PortUsage> for PortRangeOut {
    fn from(ports: &PortUsage) -> Self {
        Self {
            min: ports.range.min(),
            max: ports.range.max(),
            ports: ports.range.ports(),
            reserved: ports.reserved,
            blocked: ports.blocked,
            listeners: ports.listeners,
            usable: ports.usable,
            free: ports.free,
            exhaustion_ratio_ipv4: ports.worst_ratio.ipv4,
            exhaustion_ratio_ipv6: ports.worst_ratio.ipv6,
            destinations: ports.destinations,
        }
    }
}

impl From<&SocketSummary> for TimeWaitOut {
    fn from(sockets: &SocketSummary) -> Self {
        let by_age = sockets.by_age.map(|ages| {
            let bands = BANDS.iter().zip(ages);
            let bands = bands.map(|(band, sockets)| AgeOut {
                age_seconds: band.name,
                sockets,
            });
            bands.collect()
        });
        Self {
            ipv4: sockets.time_wait.ipv4,
            ipv6: sockets.time_wait.ipv6,
            by_age,
        }
    }
}

impl<'a> From<&'a Holders> for HoldersOut<'a> {
    fn from(holders: &'a Holders) -> Self {
        let processes = holders.processes.iter().map(|process| ProcessOut {
            pid: process.pid,
            name: &process.name,
            sockets: process.sockets,
        });
        Self {
            destination: holders.destination.into(),
            live_sockets: holders.live_sockets,
            unnamed_sockets: holders.unnamed_sockets,
            processes: processes.collect(),
        }
    }
}

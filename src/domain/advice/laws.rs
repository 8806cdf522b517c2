//! Laws: the predicted effect of a remedy is what counting the same sockets again finds once it is applied.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::domain::address::Address;
use crate::domain::census::{Census, Moment};
use crate::domain::collectors::CollectorId;
use crate::domain::options::{CensusOptions, PinnedDestination};
use crate::domain::ports::{PortRange, PortSet};
use crate::domain::snapshot::{Destination, Source};
use crate::domain::socket::{PortOwner, Socket, TcpState};

/// A host in whole: settings, owners of ports, sockets.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) settings: Settings,
    pub(super) owners: Vec<PortOwner>,
    pub(super) sockets: Vec<Socket>,
    pub(super) options: CensusOptions,
}

pub(super) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

impl Host {
    pub(super) fn new(min: u16, max: u16) -> Self {
        Self {
            settings: Settings {
                port_range: PortRange::new(min, max),
                reserved_ports: Some(PortSet::new()),
                tcp_tw_reuse: Some(0),
                tcp_timestamps: Some(1),
                ..Settings::default()
            },
            owners: Vec::new(),
            sockets: Vec::new(),
            options: CensusOptions::default(),
        }
    }

    pub(super) fn listen(&mut self, port: u16) {
        self.own(port, true);
    }

    pub(super) fn own(&mut self, port: u16, listening: bool) {
        self.owners.push(PortOwner {
            addr: Address::ANY_V4,
            port,
            listening,
            v6_only: false,
        });
    }

    /// Outgoing sockets of one state on these ports, to one server.
    pub(super) fn open(
        &mut self,
        server: &str,
        ports: impl IntoIterator<Item = u16>,
        state: TcpState,
    ) {
        self.sockets
            .extend(ports.into_iter().map(|src_port| Socket {
                src_addr: address("192.0.2.1"),
                dst_addr: address(server),
                src_port,
                dst_port: 443,
                state,
                remaining_ms: 30_000,
                is_on_loopback_device: false,
            }));
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut census = Census::new(
            self.options.clone(),
            &self.settings,
            Moment::default(),
            &self.owners,
        );
        for socket in &self.sockets {
            census.add(socket);
        }
        Snapshot::default()
            .with(CollectorId::Sockets, census.finish(Source::Netlink, 0))
            .with(CollectorId::Sysctl, self.settings.clone())
    }

    pub(super) fn advice(&self) -> Advice {
        advise(&self.snapshot())
    }

    fn apply(&mut self, settings: &[Setting]) {
        for Setting { name, value } in settings {
            let number = || Some(value.parse().unwrap());
            match *name {
                "ip_local_port_range" => {
                    let (min, max) = value.split_once(' ').unwrap();
                    let range = PortRange::new(min.parse().unwrap(), max.parse().unwrap());
                    self.settings.port_range = Some(range.unwrap());
                }
                "ip_local_reserved_ports" => self.settings.reserved_ports = Some(ports(value)),
                "tcp_tw_reuse" => self.settings.tcp_tw_reuse = number(),
                "tcp_timestamps" => self.settings.tcp_timestamps = number(),
                other => panic!("a remedy sets {other}"),
            }
        }
    }

    /// The headroom and the ratio of a destination.
    fn room(&self, destination: Destination) -> Room {
        let mut host = self.clone();
        host.options.pinned_destinations = vec![PinnedDestination {
            src_addr: Some(destination.src_addr),
            dst_addr: destination.dst_addr,
            dst_port: destination.dst_port,
        }];
        let snapshot = host.snapshot();
        let exported = &snapshot.destinations().unwrap().exported;
        let usage = exported
            .iter()
            .find(|usage| usage.destination == destination)
            .unwrap();
        Room {
            headroom: usage.headroom.into(),
            ratio: usage.exhaustion_ratio,
        }
    }

    /// Whether a socket that is not outgoing uses a port: then effects are lower bounds.
    fn uses_elsewhere(&self) -> bool {
        let snapshot = self.snapshot();
        !snapshot.ports().unwrap().sets.elsewhere.is_empty()
    }
}

fn ports(text: &str) -> PortSet {
    let mut set = PortSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        for port in first.parse::<u16>().unwrap()..=last.parse().unwrap() {
            set.insert(port);
        }
    }
    set
}

/// Ports about the range that the hosts below have.
fn some_ports(most: usize) -> impl Strategy<Value = BTreeSet<u16>> {
    let port =
        prop_oneof![4 => 40_000_u16..40_060, 1 => 16_380_u16..16_390, 1 => 1_020_u16..65_535];
    prop::collection::btree_set(port, 0..most)
}

/// Nearly all ports about the range, so that it is often a tight one.
fn most_ports() -> impl Strategy<Value = BTreeSet<u16>> {
    let free = prop::collection::btree_set(40_000_u16..40_060, 0..12);
    free.prop_map(|free| {
        (40_000..40_060)
            .filter(|port| !free.contains(port))
            .collect()
    })
}

prop_compose! {
    fn hosts()(
        min in 40_000_u16..40_010,
        size in 1_u16..50,
        reserved in some_ports(30),
        owned in some_ports(8),
        bound in some_ports(4),
        in_use in prop::collection::vec(prop_oneof![some_ports(60), most_ports()], 1..4),
        states in prop::collection::vec((0_u8..4, 0_u32..60_001), 60),
        reuse in 0_i64..4,
        timestamps in 0_i64..2,
        unprivileged in prop_oneof![Just(None), Just(Some(1024)), Just(Some(0)), (1_i64..40_000).prop_map(Some)],
        loopback: bool,
        is_clean: bool,
    ) -> Host {
        let mut host = Host::new(min, min + size);
        host.settings.reserved_ports = Some(reserved.into_iter().collect());
        host.settings.tcp_tw_reuse = Some(reuse);
        host.settings.tcp_timestamps = Some(timestamps);
        host.settings.ip_unprivileged_port_start = unprivileged;
        for port in owned {
            host.own(port, true);
        }
        for port in bound {
            host.own(port, false);
        }
        let src = if loopback { "127.0.0.1" } else { "192.0.2.1" };
        let reserved = host.settings.reserved_ports.clone().unwrap();
        let could_be_given = |port: &u16| {
            host.settings.port_range.unwrap().contains(*port)
                && !reserved.contains(*port)
                && !host.owners.iter().any(|owner| owner.port == *port)
        };
        let in_use: Vec<BTreeSet<u16>> = if is_clean {
            let only = |set: BTreeSet<u16>| set.into_iter().filter(could_be_given).collect();
            in_use.into_iter().map(only).collect()
        } else {
            in_use
        };
        for (index, ports) in in_use.into_iter().enumerate() {
            for (port, (state, remaining_ms)) in ports.into_iter().zip(&states) {
                let state = [TcpState::TimeWait, TcpState::TimeWait, TcpState::Established,
                    TcpState::FinWait2][usize::from(*state)];
                host.sockets.push(Socket {
                    src_addr: address(src),
                    dst_addr: address(&format!("198.51.100.{index}")),
                    src_port: port,
                    dst_port: 443,
                    state,
                    remaining_ms: *remaining_ms,
                    is_on_loopback_device: false,
                });
            }
        }
        host
    }
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9
}

/// The host with the remedy applied, where it is one for the kernel.
fn remedied(host: &Host, remedy: &Remedy) -> Option<Host> {
    let mut after = host.clone();
    match remedy.id {
        RemedyId::MoveListeners => {
            let range = host.settings.port_range?;
            let reserved = host.settings.reserved_ports.clone()?;
            after.owners.retain(|owner| {
                !owner.listening || !range.contains(owner.port) || reserved.contains(owner.port)
            });
        }
        _ if remedy.settings.is_empty() => return None,
        _ => after.apply(&remedy.settings),
    }
    Some(after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_remedy_has_the_predicted_effect(host in hosts()) {
        let advice = host.advice();
        for finding in &advice.findings {
            let Some(destination) = finding.destination else { continue };
            let before = host.room(destination);
            for remedy in &finding.remedies {
                let Some(effect) = remedy.effect else { continue };
                prop_assert_eq!(effect.before, before);
                prop_assert!(effect.is_gain(), "{:?}", remedy);
                let Some(after) = remedied(&host, remedy) else { continue };
                let found = after.room(destination);
                prop_assert!(found.headroom >= effect.after.headroom, "{remedy:?}: {found:?}");
                if !host.uses_elsewhere() || remedy.id == RemedyId::Reuse {
                    prop_assert_eq!(found.headroom, effect.after.headroom, "{:?}", remedy);
                    prop_assert!(close(found.ratio, effect.after.ratio), "{remedy:?}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn additional_destinations_have_the_whole_range_each(host in hosts()) {
        let snapshot = host.snapshot();
        let usable = snapshot.ports().unwrap().usable;
        for finding in advise(&snapshot).findings {
            let Some(destination) = finding.destination else { continue };
            let elsewhere = Destination { dst_port: 444, ..destination };
            prop_assert_eq!(host.room(elsewhere).headroom, u64::from(usable));
            for remedy in finding.remedies {
                if matches!(remedy.id, RemedyId::MoreServerPorts | RemedyId::MoreClientAddresses) {
                    let effect = remedy.effect.unwrap();
                    let more = effect.after.headroom - effect.before.headroom;
                    prop_assert!(more >= u64::from(usable) && more % u64::from(usable) == 0);
                    prop_assert!(effect.after.ratio < thresholds::RATIO_WARNING);
                }
            }
        }
    }

    #[test]
    fn no_remedy_with_an_effect_makes_anything_worse(host in hosts()) {
        let advice = host.advice();
        prop_assert!(!advice.headline.is_empty());
        prop_assert!(advice.findings.iter().all(|finding| finding.severity <= advice.severity));
        for remedy in advice.findings.iter().flat_map(|finding| &finding.remedies) {
            if let Some(Effect { before, after }) = remedy.effect {
                prop_assert!(after.headroom >= before.headroom, "{remedy:?}");
                prop_assert!(after.ratio <= before.ratio, "{remedy:?}");
            }
            // Whatever the setting, the host stays one that the kernel accepts.
            let Some(after) = remedied(&host, remedy) else { continue };
            let range = after.settings.port_range.unwrap();
            if range != host.settings.port_range.unwrap() {
                let start = host.settings.ip_unprivileged_port_start.unwrap_or(1024);
                prop_assert!(i64::from(range.min()) >= start);
                prop_assert!(range.ports() % 2 == 0);
            }
            // Services keep their protection.
            if remedy.id != RemedyId::MoveListeners {
                for owner in host.owners.iter().filter(|owner| owner.listening) {
                    let was = host.settings.reserved_ports.as_ref().unwrap().contains(owner.port);
                    let is = after.settings.reserved_ports.as_ref().unwrap().contains(owner.port);
                    prop_assert!(is || !was, "{} lost its reservation: {remedy:?}", owner.port);
                }
            }
        }
    }

    #[test]
    fn whatever_is_missing_there_is_advice_and_no_panic(host in hosts(), missing: u16) {
        let mut host = host;
        let has = |bit: u16| missing & (1 << bit) == 0;
        host.options.by_destination = has(0);
        host.options.by_source = has(1);
        host.options.by_src_port = has(2);
        if !has(3) { host.settings.port_range = None; }
        if !has(4) { host.settings.reserved_ports = None; }
        if !has(5) { host.settings.tcp_tw_reuse = None; }
        if !has(6) { host.settings.tcp_timestamps = None; }
        let mut snapshot = host.snapshot();
        if !has(7) { snapshot.set(CollectorId::Sysctl, None); }
        if !has(8) { snapshot.set(CollectorId::Sockets, None); }
        let advice = advise(&snapshot);
        let gravest = advice.findings.iter().map(|finding| finding.severity).max();
        prop_assert_eq!(gravest.unwrap_or(Severity::Ok), advice.severity);
        if !has(4) {
            let remedies = advice.findings.iter().flat_map(|finding| &finding.remedies);
            let mut settings = remedies.flat_map(|remedy| &remedy.settings);
            prop_assert!(settings.all(|setting| setting.name != "ip_local_reserved_ports"));
        }
    }
}

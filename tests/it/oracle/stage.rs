//! Sets a situation up in the calling thread's namespace, and scrapes it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpTransparent;
use rustix::io::Errno;
use rustix::net::listen;
use timewait_exporter::domain::snapshot::{Destination, PortUsage};

use super::situation::{ADDRESSES, Group, PortTaken, Route, Situation, State};
use crate::conntrack::nft;
use crate::support::eventually;
use crate::support::features::Feature;
use crate::support::namespace::{enter_new_namespace, set_sysctl, set_sysctl_if_any};
use crate::support::scraper::Scraper;
use crate::support::skip::has_or_skips;
use crate::support::sockets::{
    Connection, Sharing, accepted, at, bound_with, connect_bound, connect_from, connect_sharing,
    connecting, listening_with, repaired, settle, source_towards, tcp_socket,
};

/// The precision of an age: the kernel reports it by a timer that counts in ticks (4 or 10 ms).
const AGE_TOLERANCE: Duration = Duration::from_millis(25);

/// Linux >= 6.14.
const REUSE_DELAY: &str = "tcp_tw_reuse_delay";

/// A situation that is set up.
pub struct Stage {
    pub situation: Situation,
    /// `None` once closed.
    listeners: Vec<Option<OwnedFd>>,
    /// All other sockets. None is closed before the end.
    kept: Vec<OwnedFd>,
    last_old: Option<Instant>,
    first_young: Option<Instant>,
    scraper: Scraper,
}

impl Stage {
    /// Sets it up in a new namespace of the calling thread's own.
    pub fn set(situation: &Situation) -> Self {
        let situation = &possible_here(situation);
        enter_new_namespace(&ADDRESSES);
        set_sysctls(situation);
        eventually("every address can be used", || {
            let mut addresses = ADDRESSES
                .iter()
                .filter_map(|address| address.split('/').next());
            addresses.all(|address| source_towards(at(address, 9)).is_ok())
        });
        let mut stage = Self {
            situation: situation.clone(),
            listeners: Vec::new(),
            kept: Vec::new(),
            last_old: None,
            first_young: None,
            scraper: Scraper::open_with(situation.probe, situation.routes.iter().map(destination)),
        };
        stage.add_servers();
        stage.add_owners(false);
        stage.add_tproxied();
        stage.add_groups(true);
        if situation.waits() {
            let delay = Duration::from_millis(situation.tw_reuse_delay_ms.into());
            thread::sleep(delay + 2 * AGE_TOLERANCE);
        }
        stage.add_groups(false);
        stage.close_servers();
        stage.add_owners(true);
        settle();
        stage
    }

    fn add_servers(&mut self) {
        for (index, server) in self.situation.servers.iter().enumerate() {
            let backlog = if server.silent { 0 } else { 4_096 };
            let listener = listening_with(server.bind, backlog, server.v6_only);
            if server.silent {
                // A backlog of 0 has room for one connection.
                let to = reachable(server.bind);
                // Outside of every range.
                let port = 500 + u16::try_from(index).expect("few servers");
                let local = SocketAddr::new(to.ip(), port);
                let socket = connect_bound(local, to).unwrap();
                self.kept.push(socket);
            }
            self.listeners.push(Some(listener));
        }
    }

    fn add_owners(&mut self, late: bool) {
        for owner in self
            .situation
            .owners
            .iter()
            .filter(|owner| owner.late == late)
        {
            let Ok(socket) = bound_with(owner.bind, owner.reuse_addr, owner.v6_only) else {
                continue;
            };
            if !owner.listens || listen(&socket, 16).is_ok() {
                self.kept.push(socket);
            }
        }
    }

    /// Connections to foreign ports inside the range, half of them in TIME-WAIT by now. Other foreign ports are
    /// outside of every range.
    fn add_tproxied(&mut self) {
        let ports = self.situation.tproxied.clone();
        let proxy = at("0.0.0.0", 600);
        if ports.is_empty() || !redirects_to(proxy.port()) {
            return;
        }
        let listener = transparent(proxy);
        for (client, port) in (610..).zip(ports) {
            let client = connect_bound(at("127.0.0.1", client), at(PROXIED, port)).unwrap();
            let connection = accepted(client, &listener);
            if port % 2 == 0 {
                connection.close_server_first();
            } else {
                self.kept.extend([connection.client, connection.server]);
            }
        }
        self.kept.push(listener);
    }

    fn add_groups(&mut self, old: bool) {
        for group in self.situation.groups.clone() {
            if group.old == old {
                self.add_group(&group);
            }
        }
    }

    fn add_group(&mut self, group: &Group) {
        let route = self.situation.routes[group.route].clone();
        let is_young = !(group.old && self.situation.waits());
        for index in 0..group.count {
            if is_young {
                self.first_young.get_or_insert_with(Instant::now);
            }
            let client = match self.open(group, &route, index) {
                Ok(client) => client,
                Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL)
                    if matches!(group.port, PortTaken::ByConnect | PortTaken::ByBind) =>
                {
                    break;
                }
                // The port of the next one may be free.
                Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) => continue,
                Err(error) => panic!("{route:?}: {error}"),
            };
            if group.state == State::SynSent || group.port == PortTaken::ByRepair {
                self.kept.push(client);
            } else {
                let listener = self.listeners[route.server].as_ref();
                let connection = accepted(client, listener.expect("not closed yet"));
                self.kept.extend(brought_to(group.state, connection));
            }
        }
        if !is_young {
            self.last_old = Some(Instant::now());
        }
    }

    fn open(&self, group: &Group, route: &Route, index: u16) -> Result<OwnedFd, Errno> {
        let local = |port| {
            let source = route
                .source
                .unwrap_or_else(|| source_towards(route.to).unwrap());
            SocketAddr::new(source, port)
        };
        let Situation { min, max, .. } = self.situation;
        let asked = || local(min + index % (max - min + 1));
        match group.port {
            PortTaken::ByConnect if group.state == State::SynSent => {
                connecting(route.source, route.to)
            }
            PortTaken::ByConnect => connect_from(route.source, route.to),
            PortTaken::ByBind => connect_bound(local(0), route.to),
            PortTaken::AsAsked => connect_bound(asked(), route.to),
            PortTaken::WithReuseAddr => connect_sharing(Sharing::ReuseAddr, asked(), route.to),
            PortTaken::WithReusePort => connect_sharing(Sharing::ReusePort, asked(), route.to),
            PortTaken::ByRepair => repaired(asked(), route.to),
        }
    }

    fn close_servers(&mut self) {
        for (server, listener) in self.situation.servers.iter().zip(&mut self.listeners) {
            if server.closes {
                *listener = None;
            }
        }
    }

    /// The program's values for the range now.
    pub fn scrape(&self) -> PortUsage {
        self.scraper.ports()
    }

    /// One more connect(), and whether it got a port.
    pub fn connects(&mut self, route: &Route) -> bool {
        let result = if self.situation.servers[route.server].silent {
            connecting(route.source, route.to)
        } else {
            connect_from(route.source, route.to)
        };
        match result {
            Ok(socket) => {
                self.kept.push(socket);
                true
            }
            Err(Errno::ADDRNOTAVAIL) => false,
            Err(error) => panic!("{route:?}: {error}"),
        }
    }

    /// How many more connect() calls succeed, up to `most`.
    pub fn connects_up_to(&mut self, route: &Route, most: u32) -> u32 {
        let mut count = 0;
        while count < most && self.connects(route) {
            count += 1;
        }
        count
    }

    /// Whether every old TIME-WAIT socket was reusable at the scrape that began then.
    pub fn old_were_old(&self, scraped: Instant) -> bool {
        let delay = Duration::from_millis(self.situation.tw_reuse_delay_ms.into());
        !self.situation.age_matters()
            || self
                .last_old
                .is_none_or(|last| scraped.duration_since(last) > delay + AGE_TOLERANCE)
    }

    /// Whether no young TIME-WAIT socket is reusable even now.
    pub fn young_are_young(&self) -> bool {
        let delay = Duration::from_millis(self.situation.tw_reuse_delay_ms.into());
        !self.situation.age_matters()
            || self
                .first_young
                .is_none_or(|first| first.elapsed() + AGE_TOLERANCE < delay)
    }
}

/// Brings the connection into this state, and returns the sockets to keep open.
fn brought_to(state: State, connection: Connection) -> Vec<OwnedFd> {
    match state {
        State::Established | State::SynSent => {}
        State::TimeWait => {
            connection.close_client_first();
            return Vec::new();
        }
        State::ServerTimeWait => {
            connection.close_server_first();
            return Vec::new();
        }
        State::FinWait2 => connection.half_close_client(),
        State::OrphanedFinWait2 => return vec![connection.orphan_client()],
        State::CloseWait => connection.half_close_server(),
    }
    vec![connection.client, connection.server]
}

/// No situation uses this address otherwise.
const PROXIED: &str = "127.0.0.9";

/// Redirects connections to [`PROXIED`] to a transparent listener; false where the kernel cannot.
pub fn redirects_to(proxy: u16) -> bool {
    let rule = format!("ip daddr {PROXIED} meta l4proto tcp tproxy to :{proxy} accept");
    let chain = format!("chain in {{ type filter hook prerouting priority mangle; {rule}; }}");
    has_or_skips("nft") && nft(&format!("table ip proxy {{ {chain}; }}\n")).is_some()
}

fn transparent(address: SocketAddr) -> OwnedFd {
    let socket = tcp_socket(address);
    setsockopt(&socket, IpTransparent, &true).unwrap();
    rustix::net::bind(&socket, &address).unwrap();
    listen(&socket, 16).unwrap();
    socket
}

/// The destination of a route.
pub fn destination(route: &Route) -> Destination {
    let source = route
        .source
        .unwrap_or_else(|| source_towards(route.to).unwrap());
    Destination {
        src_addr: source.into(),
        dst_addr: route.to.ip().into(),
        dst_port: route.to.port(),
    }
}

fn reachable(bound: SocketAddr) -> SocketAddr {
    let wildcard = bound.ip().is_unspecified();
    match bound {
        SocketAddr::V4(_) if wildcard => at("127.0.0.1", bound.port()),
        SocketAddr::V6(_) if wildcard => at("::1", bound.port()),
        _ => bound,
    }
}

fn set_sysctls(situation: &Situation) {
    let reserved: Vec<String> = situation.reserved.iter().map(u16::to_string).collect();
    let settings = [
        ("ip_unprivileged_port_start", "0".to_owned()),
        (
            "ip_local_port_range",
            format!("{} {}", situation.min, situation.max),
        ),
        ("ip_local_reserved_ports", reserved.join(",")),
        ("tcp_tw_reuse", situation.tw_reuse.to_string()),
        ("tcp_timestamps", situation.timestamps.to_string()),
        ("tcp_fin_timeout", situation.fin_timeout_seconds.to_string()),
    ];
    for (name, value) in &settings {
        set_sysctl(name, value);
    }
    let bit = |on: bool| if on { "1" } else { "0" };
    set_sysctl_if_any("ip_autobind_reuse", bit(situation.autobind_reuse));
    set_sysctl("../ipv6/bindv6only", bit(situation.bind_v6_only));
    set_sysctl_if_any(REUSE_DELAY, &situation.tw_reuse_delay_ms.to_string());
}

/// Adapts a situation to what this kernel supports and shows.
fn possible_here(situation: &Situation) -> Situation {
    let mut possible = situation.clone();
    if !Feature::ReuseDelay.is_here_or_skips() {
        // The delay is built in, and counted in whole seconds (see super::reuse_delay): all are made older than that.
        possible.tw_reuse_delay_ms = 1_000;
        for group in &mut possible.groups {
            group.old = true;
        }
    }
    // See super::orphans.
    if !Feature::OrphansKeepPorts.is_here_or_skips() {
        for group in &mut possible.groups {
            if group.state == State::OrphanedFinWait2 {
                group.state = State::FinWait2;
            }
        }
    }
    if !Feature::BoundSockets.is_here_or_skips() {
        possible.owners.retain(|owner| owner.listens);
    }
    possible
}

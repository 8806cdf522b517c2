//! A situation: what is set up in a namespace before the scrape. Plain data, made from a seed.

use std::net::{IpAddr, SocketAddr};

use super::random::Random;
use crate::support::sockets::{at, is_mapped, mapped};

/// How many ports a range may have: enough for every state, few enough to be quick.
const MOST_PORTS: u16 = 60;

/// The longest `tcp_tw_reuse_delay` that the kernel accepts. No situation waits so long.
const LONGEST_DELAY_MS: u32 = 60_000;

/// On lo in every situation, beside 127.0.0.0/8 and ::1.
pub const ADDRESSES: [&str; 3] = ["192.0.2.1/24", "2001:db8::1/128", "2001:db8::2/128"];

const V4: [&str; 5] = [
    "127.0.0.1",
    "127.0.0.2",
    "127.1.2.3",
    "192.0.2.1",
    "192.0.2.7",
];
const V6: [&str; 3] = ["::1", "2001:db8::1", "2001:db8::2"];

#[derive(Clone, Debug)]
pub struct Situation {
    pub seed: u64,
    pub min: u16,
    pub max: u16,
    pub reserved: Vec<u16>,
    pub tw_reuse: u8,
    pub tw_reuse_delay_ms: u32,
    pub timestamps: u8,
    pub fin_timeout_seconds: u16,
    pub bind_v6_only: bool,
    pub autobind_reuse: bool,
    pub servers: Vec<Server>,
    pub owners: Vec<Owner>,
    pub routes: Vec<Route>,
    pub groups: Vec<Group>,
    /// Ports whose connections a transparent listener on another port has accepted (TPROXY).
    pub tproxied: Vec<u16>,
    /// Whether the collector `probe` is on.
    pub probe: bool,
}

/// A listener to connect to. Its port may be inside the range, even reserved.
#[derive(Clone, Debug)]
pub struct Server {
    pub bind: SocketAddr,
    pub v6_only: bool,
    /// Its backlog is full, so that it does not answer.
    pub silent: bool,
    /// It is closed before the scrape; its connections are not.
    pub closes: bool,
}

/// A socket inside the range that listens or is bound and unconnected. Omitted where it cannot be bound.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent of each other")]
pub struct Owner {
    pub bind: SocketAddr,
    pub v6_only: bool,
    pub listens: bool,
    /// Whether it has SO_REUSEADDR.
    pub reuse_addr: bool,
    /// Whether it is bound after the connections are made.
    pub late: bool,
}

/// A source and a server: a destination, once the kernel has chosen the source where none is given.
#[derive(Clone, Debug)]
pub struct Route {
    pub server: usize,
    pub source: Option<IpAddr>,
    /// IPv4 may be mapped.
    pub to: SocketAddr,
}

/// Connections of one route in the same state.
#[derive(Clone, Debug)]
pub struct Group {
    pub route: usize,
    pub state: State,
    /// The maximum number: a full destination accepts no more.
    pub count: u16,
    /// Made early enough to be reusable, if anything is.
    pub old: bool,
    pub port: PortTaken,
}

/// How the client's end got its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortTaken {
    /// connect() chose it.
    ByConnect,
    /// bind(address, 0) chose it.
    ByBind,
    /// The client requested it in bind().
    AsAsked,
    /// The client requested it with SO_REUSEADDR.
    WithReuseAddr,
    /// With SO_REUSEPORT.
    WithReusePort,
    /// Its socket was restored with TCP_REPAIR.
    ByRepair,
}

/// The state of the client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Established,
    TimeWait,
    /// The server closed first: the client's end is closed completely.
    ServerTimeWait,
    FinWait2,
    /// The client has closed but the server has not.
    OrphanedFinWait2,
    CloseWait,
    SynSent,
}

impl Situation {
    pub fn from_seed(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let (min, max) = range(random);
        let inside = |random: &mut Random| random.between(min, max);
        let ports = max - min + 1;
        let reserved = (0..random.pick(&[0, 0, 0, 1, 2, ports / 4, ports / 2]))
            .map(|_| inside(random))
            .collect();
        let tw_reuse = random.pick(&[0, 1, 1, 1, 2, 2, 2]);
        let timestamps = random.pick(&[0, 1, 1, 1, 1, 2]);
        let tw_reuse_delay_ms = match random.between(0, 3) {
            0 => random.pick(&[1_000, LONGEST_DELAY_MS]),
            _ => u32::from(random.between(50, 300)),
        };
        let mut situation = Self {
            seed,
            min,
            max,
            reserved,
            tw_reuse,
            tw_reuse_delay_ms,
            timestamps,
            fin_timeout_seconds: random.pick(&[60, 60, 30, 120]),
            bind_v6_only: random.percent(20),
            autobind_reuse: random.percent(20),
            servers: Vec::new(),
            owners: Vec::new(),
            routes: Vec::new(),
            groups: Vec::new(),
            tproxied: Vec::new(),
            probe: true,
        };
        for _ in 0..random.pick(&[0, 0, 1, 2, 4, ports / 3]).min(8) {
            situation.owners.push(owner(random, min, max));
        }
        for _ in 0..random.between(1, 3) {
            let server = situation.server(random);
            situation.servers.push(server);
        }
        for _ in 0..random.between(1, 4) {
            let route = situation.route(random);
            situation.routes.push(route);
        }
        for route in 0..situation.routes.len() {
            for _ in 0..random.between(0, 4) {
                let group = situation.group(random, route);
                situation.groups.push(group);
            }
        }
        situation
    }

    /// A situation in which some ports belong to bind() although their sockets are connected, which a dump
    /// does not show.
    pub fn with_blind_spot(seed: u64) -> Self {
        let mut situation = Self::from_seed(seed);
        let random = &mut Random::new(!seed);
        if random.percent(30) {
            let inside = |_| random.between(situation.min, situation.max);
            situation.tproxied = (0..5).map(inside).collect();
        }
        for server in &mut situation.servers {
            server.closes = random.percent(40) && !server.silent;
        }
        for route in 0..situation.routes.len() {
            for _ in 0..random.between(0, 2) {
                let mut group = situation.group(random, route);
                if group.state != State::SynSent {
                    group.port = random.pick(&[
                        PortTaken::ByBind,
                        PortTaken::ByBind,
                        PortTaken::AsAsked,
                        PortTaken::WithReuseAddr,
                        PortTaken::WithReusePort,
                        PortTaken::ByRepair,
                    ]);
                    if group.port == PortTaken::ByRepair {
                        group.state = State::Established;
                        // It has no timestamps here, unlike what CRIU restores: it would look like a
                        // peer without them.
                        situation.tw_reuse = 0;
                    }
                    situation.groups.push(group);
                }
            }
        }
        situation
    }

    /// The same for a program that does not probe ports.
    pub fn with_blind_spot_unprobed(seed: u64) -> Self {
        Self {
            probe: false,
            ..Self::with_blind_spot(seed)
        }
    }

    pub fn ports(&self) -> u32 {
        u32::from(self.max - self.min) + 1
    }

    /// With an odd number of ports the kernel's search skips one end of the range. A single port is always
    /// tried.
    pub fn may_miss_one(&self) -> bool {
        self.ports() % 2 == 1 && self.ports() > 1
    }

    /// Whether the age of TIME-WAIT sockets matters.
    pub fn age_matters(&self) -> bool {
        let is_time_wait = |group: &Group| group.state == State::TimeWait;
        self.tw_reuse != 0 && self.timestamps != 0 && self.groups.iter().any(is_time_wait)
    }

    /// Whether to wait until the old TIME-WAIT sockets are reusable.
    pub fn waits(&self) -> bool {
        self.age_matters()
            && self.tw_reuse_delay_ms < LONGEST_DELAY_MS
            && self.groups.iter().any(|group| group.old)
    }

    /// The same with more time, for a machine that is slow at the moment.
    pub fn slower(&self) -> Self {
        Self {
            tw_reuse_delay_ms: (self.tw_reuse_delay_ms * 4).min(LONGEST_DELAY_MS),
            ..self.clone()
        }
    }

    fn is_inside(&self, port: u16) -> bool {
        (self.min..=self.max).contains(&port)
    }

    fn server(&self, random: &mut Random) -> Server {
        let taken = |port: u16| {
            self.servers.iter().any(|server| server.bind.port() == port)
                || self.owners.iter().any(|owner| owner.bind.port() == port)
        };
        let inside = random.between(self.min, self.max);
        let port = if random.percent(20) && !taken(inside) {
            inside
        } else {
            let mut outside = (80..).filter(|port| !self.is_inside(*port) && !taken(*port));
            outside.next().expect("the range is small")
        };
        let (address, v6_only) = owner_address(random);
        Server {
            bind: at(address, port),
            v6_only,
            silent: random.percent(15),
            closes: false,
        }
    }

    fn route(&self, random: &mut Random) -> Route {
        let index = random.between(0, u16::try_from(self.servers.len() - 1).expect("few"));
        let server = &self.servers[usize::from(index)];
        let port = server.bind.port();
        let to = match server.bind.ip() {
            IpAddr::V6(v6) if v6.is_unspecified() => {
                let choice = if server.v6_only || random.percent(50) {
                    &V6[..]
                } else {
                    &V4[..]
                };
                at(random.pick(choice), port)
            }
            IpAddr::V4(v4) if v4.is_unspecified() => at(random.pick(&V4), port),
            _ => server.bind,
        };
        let is_v4 = to.is_ipv4() || is_mapped(to);
        let source = random.percent(50).then(|| {
            let from = if is_v4 {
                random.pick(&V4)
            } else {
                random.pick(&V6)
            };
            at(from, 0)
        });
        let map = to.is_ipv4() && random.percent(30);
        let as_asked = |address: SocketAddr| {
            if address.is_ipv4() && (map || to.is_ipv6()) {
                mapped(address)
            } else {
                address
            }
        };
        Route {
            server: usize::from(index),
            source: source.map(|address| as_asked(address).ip()),
            to: as_asked(to),
        }
    }

    fn group(&self, random: &mut Random, route: usize) -> Group {
        use State::{
            CloseWait, Established, FinWait2, OrphanedFinWait2, ServerTimeWait, SynSent, TimeWait,
        };
        let state = if self.servers[self.routes[route].server].silent {
            SynSent
        } else {
            random.pick(&[
                TimeWait,
                TimeWait,
                TimeWait,
                TimeWait,
                Established,
                ServerTimeWait,
                FinWait2,
                OrphanedFinWait2,
                CloseWait,
            ])
        };
        let ports = self.max - self.min + 1;
        // A part of the range, or all that is left of it.
        let most = random.pick(&[ports.div_ceil(4), ports.div_ceil(2), 2 * ports]);
        Group {
            route,
            state,
            count: random.between(1, most),
            old: random.percent(50),
            port: PortTaken::ByConnect,
        }
    }
}

fn range(random: &mut Random) -> (u16, u16) {
    let ports = match random.between(0, 9) {
        0 => 1,
        1 | 2 => random.between(2, 6),
        3..=6 => 2 * random.between(3, MOST_PORTS / 2),
        _ => random.between(7, MOST_PORTS),
    };
    let last_min = u16::MAX - (ports - 1);
    let min = match random.between(0, 9) {
        0 => last_min,
        1 => 1,
        _ => random.between(1_024, last_min),
    };
    (min, min + (ports - 1))
}

fn owner(random: &mut Random, min: u16, max: u16) -> Owner {
    let (address, v6_only) = owner_address(random);
    Owner {
        bind: at(address, random.between(min, max)),
        v6_only,
        listens: random.percent(50),
        reuse_addr: random.percent(30),
        late: random.percent(50),
    }
}

/// Any address to bind to, and whether to set IPV6_V6ONLY.
fn owner_address(random: &mut Random) -> (&'static str, bool) {
    match random.between(0, 9) {
        0 => ("0.0.0.0", false),
        1 => ("::", false),
        2 => ("::", true),
        3 => (
            random.pick(&["::ffff:127.0.0.1", "::ffff:192.0.2.1"]),
            false,
        ),
        4..=6 => (random.pick(&V4), false),
        _ => (random.pick(&V6), false),
    }
}

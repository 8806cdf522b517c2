//! The ports in use by UDP sockets, compared with bind(addr, 0), connect() and sendto() until they fail.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SendFlags, SocketType, bind, connect, sendto, socket};
use timewait_exporter::domain::address::{Address, Family};
use timewait_exporter::domain::ports::{PortRange, PortSet};
use timewait_exporter::domain::snapshot::SourceUsage;
use timewait_exporter::domain::udp::UdpCensus;
use timewait_exporter::kernel::sock_diag::{Dumper, NetlinkConnect};

use super::random::Random;
use super::setting;
use crate::support::namespace::{enter_new_namespace, in_namespace, set_sysctl};
use crate::support::sockets::{at, is_mapped, mapped};

const ADDRESSES: [&str; 2] = ["fd00::1/128", "fd00::2/128"];
const V4: [&str; 4] = ["0.0.0.0", "127.0.0.1", "127.0.0.2", "127.0.0.3"];
const V6: [&str; 4] = ["::", "::1", "fd00::1", "fd00::2"];

#[test]
fn udp_source_ports_are_those_that_bind_connect_and_sendto_cannot_get() {
    in_namespace(|| {
        let first = setting("TIMEWAIT_ORACLE_SEED").unwrap_or_else(|| {
            let since_epoch = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
            u64::from(since_epoch.subsec_nanos()) * 1_000
        });
        let count = setting("TIMEWAIT_ORACLE_SITUATIONS").unwrap_or(60);
        println!("udp: {count} situations from TIMEWAIT_ORACLE_SEED={first}");
        let mut calls = 0;
        for seed in first..first + count {
            // A thread of its own, for the namespace is the thread's.
            let judged = thread::scope(|scope| scope.spawn(|| judge(seed)).join());
            calls += judged.unwrap_or_else(|_| {
                panic!("udp: replay with TIMEWAIT_ORACLE_SEED={seed} TIMEWAIT_ORACLE_SITUATIONS=1")
            });
        }
        println!("udp: {count} situations judged, {calls} calls as reported");
    });
}

/// How a random socket got its port.
#[derive(Debug)]
struct Plan {
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    v6_only: Option<bool>,
    reuse_addr: bool,
    reuse_port: bool,
}

fn judge(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    enter_new_namespace(&ADDRESSES);
    let min = random.between(1_024, 60_000);
    let max = min + random.between(0, 50);
    let range = PortRange::new(min, max).expect("in order");
    let reserved: PortSet = (min..=max).filter(|_| random.percent(10)).collect();
    let v6_only = random.percent(30);
    set_sysctl("ip_local_port_range", &format!("{min} {max}"));
    set_sysctl("ip_local_reserved_ports", &reserved.to_string());
    std::fs::write(
        "/proc/sys/net/ipv6/bindv6only",
        if v6_only { "1" } else { "0" },
    )
    .expect("this kernel has IPv6");

    let plans: Vec<Plan> = (0..random.below(60))
        .map(|_| plan(&mut random, range))
        .collect();
    let mut kept = Vec::new();
    let mut doubt = Doubt::default();
    for plan in &plans {
        if let Ok(socket) = carry_out(plan) {
            kept.push(socket);
            doubt.add(plan, v6_only);
        }
    }

    let available = range.ports() - reserved.len();
    let mut calls = 0;
    for usage in census(range, &reserved, v6_only) {
        let addr = SocketAddr::new(usage.src_addr.into(), 0);
        for way in ways(addr, v6_only) {
            let granted = granted(way);
            let reported = available - usage.ports;
            let is_right = if usage.src_addr == Address::ANY_V4 {
                doubt.allows(reported, granted)
            } else {
                granted == reported
            };
            let is_full = usage.exhaustion_ratio >= 1.0;
            assert!(
                is_right && is_full == (reported == 0),
                "{way:?} got {granted} of {available} ports; reported: {usage:?}, bindv6only {v6_only}, \
                 range {min}-{max}, reserved {reserved}, sockets {plans:#?}"
            );
            calls += u64::from(granted) + 1;
        }
    }
    calls
}

/// On 0.0.0.0 the kernel counts a connected IPv6 socket unless it has `IPV6_V6ONLY`, which it does not report for
/// connected sockets, and which bind() to an IPv6 address sets.
#[derive(Default)]
struct Doubt {
    /// The maximum number of sockets that are counted and have the option.
    too_many: u32,
    /// The maximum number of sockets that are not counted and do not have it.
    too_few: u32,
}

impl Doubt {
    fn add(&mut self, plan: &Plan, default: bool) {
        let is_v6 = |address: SocketAddr| address.is_ipv6() && !is_mapped(address);
        if !plan.remote.is_some_and(is_v6) {
            return;
        }
        let is_bound = plan.local.is_some_and(|local| !local.ip().is_unspecified());
        match is_bound || plan.v6_only.unwrap_or(default) {
            true if !default => self.too_many += 1,
            false if default => self.too_few += 1,
            _ => {}
        }
    }

    fn allows(&self, reported: u32, granted: u32) -> bool {
        granted + self.too_few >= reported && granted <= reported + self.too_many
    }
}

fn plan(random: &mut Random, range: PortRange) -> Plan {
    let is_v6 = random.percent(60);
    let is_mapped = is_v6 && random.percent(30);
    let addresses = if is_v6 && !is_mapped { V6 } else { V4 };
    let port = if random.percent(50) {
        0
    } else {
        random.between(range.min() - 2, range.max().saturating_add(2))
    };
    let place = |address: &str, port| {
        let plain = at(address, port);
        if is_mapped && !plain.ip().is_unspecified() {
            mapped(plain)
        } else {
            plain
        }
    };
    let local = random.percent(75).then(|| random.pick(&addresses));
    let remote = random.percent(40).then(|| random.pick(&addresses[1..]));
    // bind() does not accept a mapped form of the IPv4 wildcard.
    let local = local.filter(|local| !(is_mapped && *local == "0.0.0.0"));
    Plan {
        local: local.map(|local| place(local, port)),
        remote: remote
            .or_else(|| local.is_none().then_some(addresses[1]))
            .map(|remote| place(remote, 9)),
        v6_only: (is_v6 && random.percent(40)).then(|| random.percent(50)),
        reuse_addr: random.percent(25),
        reuse_port: random.percent(25),
    }
}

fn carry_out(plan: &Plan) -> Result<OwnedFd, Errno> {
    let either = plan.local.or(plan.remote).expect("a socket has a place");
    let socket = udp_socket(either)?;
    if let Some(v6_only) = plan.v6_only {
        set_ipv6_v6only(&socket, v6_only)?;
    }
    set_socket_reuseaddr(&socket, plan.reuse_addr)?;
    set_socket_reuseport(&socket, plan.reuse_port)?;
    if let Some(local) = plan.local {
        bind(&socket, &local)?;
    }
    if let Some(remote) = plan.remote {
        connect(&socket, &remote)?;
    }
    Ok(socket)
}

fn udp_socket(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    socket(family, SocketType::DGRAM, None)
}

fn census(range: PortRange, reserved: &PortSet, v6_only: bool) -> Vec<SourceUsage> {
    let mut census = UdpCensus::new(range, reserved, v6_only);
    let mut dumper = Dumper::new(Box::new(NetlinkConnect));
    let mut dump = dumper
        .open(Instant::now() + Duration::from_secs(10))
        .unwrap();
    dump.udp_sockets(|socket| census.add(&socket)).unwrap();
    census.finish(100).by_source
}

/// A way of getting a port on an address.
#[derive(Clone, Copy, Debug)]
enum Way {
    Bind(SocketAddr),
    Connect(SocketAddr),
    SendTo(SocketAddr),
}

fn ways(addr: SocketAddr, v6_only: bool) -> Vec<Way> {
    let address = Address::from(addr.ip());
    let is_v4 = address.family() == Family::Ipv4;
    let mut ways = vec![Way::Bind(addr)];
    if address.is_wildcard() {
        let remote = at(if is_v4 { "127.0.0.1" } else { "::1" }, 9);
        ways.extend([Way::Connect(remote), Way::SendTo(remote)]);
    } else if is_v4 && !v6_only {
        ways.push(Way::Bind(mapped(addr)));
    }
    ways
}

/// How many times it works, until it fails as it does without a free port.
fn granted(way: Way) -> u32 {
    let mut kept = Vec::new();
    loop {
        let (address, exhausted) = match way {
            Way::Bind(address) => (address, Errno::ADDRINUSE),
            Way::Connect(address) | Way::SendTo(address) => (address, Errno::AGAIN),
        };
        let socket = udp_socket(address).unwrap();
        let result = match way {
            Way::Bind(address) => bind(&socket, &address),
            Way::Connect(address) => connect(&socket, &address),
            Way::SendTo(address) => sendto(&socket, b"x", SendFlags::empty(), &address).map(drop),
        };
        match result {
            Ok(()) => kept.push(socket),
            Err(error) if error == exhausted => break,
            Err(error) => panic!("{way:?}: {error}"),
        }
    }
    u32::try_from(kept.len()).expect("a small range")
}

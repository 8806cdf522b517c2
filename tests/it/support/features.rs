//! Features of the running kernel, found by trying them and not by its version: distributions backport changes.

use std::net::IpAddr;
use std::sync::{Once, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use timewait_exporter::kernel::sock_diag::{Dumper, NetlinkConnect};

use super::namespace::{enter_new_namespace, has_sysctl, set_sysctl};
use super::sockets::{at, bound, bound_with, connect_from, connected, listening, tcp_socket};
use super::{PATIENCE, skip};

/// A feature that not every kernel has, and the version of Linux that introduced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Sockets that are bound and neither listen nor are connected are in the dump.
    BoundSockets,
    /// A socket can have a port range of its own, which is what the probe of ports needs.
    SocketPortRange,
    /// The age from which a TIME-WAIT socket is reused can be set, and is counted in milliseconds.
    ReuseDelay,
    /// An orphan in FIN-WAIT-2 keeps its port whatever `tcp_tw_reuse` is.
    OrphansKeepPorts,
    /// A port in use by connect() is open to others again once a socket that was bound to it has gone.
    PortsComeBack,
    /// The counter of sockets that entered TIME-WAIT counts them when they do, not when they leave it.
    CountedOnEntry,
    /// connect() may search for a port in random steps.
    StepWidth,
}

impl Feature {
    pub const ALL: [Self; 7] = [
        Self::BoundSockets,
        Self::SocketPortRange,
        Self::ReuseDelay,
        Self::OrphansKeepPorts,
        Self::PortsComeBack,
        Self::CountedOnEntry,
        Self::StepWidth,
    ];

    /// Whether this kernel has it. Must be called inside a namespace of the test's own, by root there.
    pub fn is_here(self) -> bool {
        static FOUND: [OnceLock<bool>; Feature::ALL.len()] =
            [const { OnceLock::new() }; Feature::ALL.len()];
        *FOUND[self as usize].get_or_init(|| self.is_found())
    }

    fn is_found(self) -> bool {
        match self {
            Self::BoundSockets => elsewhere(bound_sockets),
            Self::SocketPortRange => {
                probe_options::set_local_port(tcp_socket(at("127.0.0.1", 0)), 40_000).is_ok()
            }
            Self::ReuseDelay => has_sysctl("tcp_tw_reuse_delay"),
            Self::OrphansKeepPorts => elsewhere(orphans_keep_ports),
            Self::PortsComeBack => elsewhere(ports_come_back),
            Self::CountedOnEntry => elsewhere(counted_on_entry),
            Self::StepWidth => has_sysctl("ip_local_port_step_width"),
        }
    }

    /// The same; if not, prints once per test that a part of it is skipped.
    pub fn is_here_or_skips(self) -> bool {
        static SKIPPED: [Once; Feature::ALL.len()] = [const { Once::new() }; Feature::ALL.len()];
        let is_here = self.is_here();
        if !is_here {
            SKIPPED[self as usize].call_once(|| skip::lacks(&self.to_string()));
        }
        is_here
    }
}

impl std::fmt::Display for Feature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BoundSockets => "bound sockets in dumps (Linux 6.8)",
            Self::SocketPortRange => "IP_LOCAL_PORT_RANGE (Linux 6.3)",
            Self::ReuseDelay => "tcp_tw_reuse_delay (Linux 6.14)",
            Self::OrphansKeepPorts => "FIN-WAIT-2 orphans that keep their ports (Linux 6.12)",
            Self::PortsComeBack => "ports that come back when bound sockets go (Linux 6.18)",
            Self::CountedOnEntry => "timewait_entered_total on entry (Linux 5.x)",
            Self::StepWidth => "ip_local_port_step_width (Linux 7.2)",
        })
    }
}

/// Runs it in a new namespace whose range is one port.
fn elsewhere(probe: fn() -> bool) -> bool {
    let probe = move || {
        enter_new_namespace(&[]);
        set_sysctl("ip_local_port_range", "40000 40000");
        probe()
    };
    thread::spawn(probe).join().unwrap()
}

fn bound_sockets() -> bool {
    let _socket = bound(at("127.0.0.1", 40_000)).unwrap();
    let mut dumper = Dumper::new(Box::new(NetlinkConnect));
    let mut dump = dumper.open(Instant::now() + PATIENCE).unwrap();
    let mut found = false;
    dump.owners(|owner| found |= owner.port == 40_000).unwrap();
    found
}

fn orphans_keep_ports() -> bool {
    set_sysctl("tcp_tw_reuse", "1");
    let to = at("127.0.0.1", 80);
    let listener = listening(to);
    let _server = connected(None, &listener, to).orphan_client();
    // Where no delay can be set, it is reusable once the second in which it was closed has passed.
    thread::sleep(Duration::from_millis(1_100));
    connect_from(None, to).is_err()
}

fn ports_come_back() -> bool {
    let source: IpAddr = at("127.0.0.1", 0).ip();
    let (one, other) = (at("127.0.0.2", 80), at("127.0.0.3", 80));
    let (listener, _other_listener) = (listening(one), listening(other));
    let _connection = connected(Some(source), &listener, one);
    drop(bound_with(at("127.0.0.9", 40_000), false, false).unwrap());
    connect_from(Some(source), other).is_ok()
}

fn counted_on_entry() -> bool {
    let to = at("127.0.0.1", 80);
    connected(None, &listening(to), to).close_client_first();
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut columns = names.split(' ').zip(values.split(' '));
    columns.any(|column| column == ("TW", "1"))
}

//! Connection tracking where NAT runs out of ports: a client, a router (this test's namespace), and a server.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::netns::place::Place;
use crate::support::eventually;
use crate::support::namespace::{in_namespace, ip};
use crate::support::program::Program;
use crate::support::skip::{has_or_skips, skip};
use crate::support::sockets::{at, connecting, listening_with};

/// Ports that the router may translate to.
const POOL: usize = 200;

/// The output of nft(8) for a script; `None` where this kernel does not support it.
pub fn nft(script: &str) -> Option<String> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(script.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    if error.contains("not supported") || error.contains("No such file") {
        return None;
    }
    assert!(output.status.success(), "nft: {error}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A table that counts incoming SYN segments.
fn counting_syns(hook: &str) -> String {
    format!(
        "table ip count {{ counter syns {{ }}\n chain seen {{ type filter hook {hook} priority -400;\n \
         tcp flags & (syn | ack) == syn tcp dport 80 counter name syns; }}; }}\n"
    )
}

fn counted() -> u64 {
    let text = nft("list counter ip count syns\n").unwrap();
    let (_, rest) = text.split_once("packets ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// A namespace with a link to the calling thread's.
fn linked(name: &str, net: &str) -> Place {
    let place = Place::new();
    let pid = std::process::id().to_string();
    let (peer, near, far) = (
        name.to_owned(),
        format!("{net}.1/24"),
        format!("{net}.2/24"),
    );
    let gateway = format!("{net}.1");
    let (link, address) = (peer.clone(), near);
    place.run(move || {
        let veth = ["link", "add", "eth0", "type", "veth", "peer", "name"];
        ip(&[&veth[..], &[&peer, "netns", &pid]].concat());
        ip(&["address", "add", &far, "dev", "eth0"]);
        ip(&["link", "set", "eth0", "up"]);
    });
    ip(&["address", "add", &address, "dev", &link]);
    ip(&["link", "set", &link, "up"]);
    place.run(move || ip(&["route", "add", "default", "via", &gateway]));
    place
}

#[test]
fn a_masquerade_pool_grants_each_port_and_then_counts_every_lost_syn() {
    in_namespace(|| {
        if !has_or_skips("nft") {
            return;
        }
        let (client, server) = (linked("toclient", "10.0.1"), linked("toserver", "10.0.2"));
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let mut script = counting_syns("prerouting");
        let _infallible = writeln!(
            script,
            "table ip nat {{ chain post {{ type nat hook postrouting priority 100;\n oifname \"toserver\" \
             ip protocol tcp masquerade to :20000-{}; }}; }}",
            20_000 + POOL - 1
        );
        if nft(&script).is_none() {
            return skip("this kernel has no nftables or no NAT");
        }
        server.run(|| nft(&counting_syns("prerouting")));
        let to = at("10.0.2.2", 80);
        let listener = server.run(move || listening_with(to, 1_000, false));
        let program = Program::start(&[]);
        let mut scraper = program.scraper();
        let before = scraper.metrics();
        let failed = "timewait_conntrack_insert_failed_total";
        let dropped = "timewait_conntrack_drops_total";
        assert_eq!(before.value(failed), 0.0);
        // Fifty more than there are ports.
        let connect = move || connecting(None, to).unwrap();
        let calls = move || (0..POOL + 50).map(|_| connect()).collect();
        let sockets: Vec<OwnedFd> = client.run(calls);
        let granted = || {
            let peers = sockets.iter().flat_map(rustix::net::getpeername);
            peers.count()
        };
        eventually("each port of the pool is granted", || granted() == POOL);
        // Lost SYNs are sent again, so that the counters go on.
        eventually("the counters are those of the lost SYNs", || {
            let seen = counted();
            let metrics = scraper.metrics();
            let passed = server.run(counted);
            if counted() != seen {
                return false;
            }
            let lost = seen - passed;
            assert!(lost >= 50);
            metrics.value(failed) == lost as f64 && metrics.value(dropped) == lost as f64
        });
        assert_eq!(granted(), POOL);
        let metrics = scraper.metrics();
        assert!(metrics.value("timewait_conntrack_entries") >= POOL as f64);
        let limit = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").unwrap();
        let limit: f64 = limit.trim().parse().unwrap();
        assert_eq!(metrics.value("timewait_conntrack_entries_limit"), limit);
        drop(listener);
    });
}

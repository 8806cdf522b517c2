//! Other programs that count how many sockets are in TIME-WAIT, on the same sockets.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::exporter::{Cost, Server};

/// node_exporter with only the collector that counts TCP states, if it is installed.
pub fn node_exporter() -> Option<Server> {
    let address = SocketAddr::from(([127, 0, 0, 1], 9_100));
    let listen = format!("--web.listen-address={address}");
    let flags = [
        &listen,
        "--collector.disable-defaults",
        "--collector.tcpstat",
    ];
    ["prometheus-node-exporter", "node_exporter"]
        .iter()
        .find_map(|program| Server::other(program, &flags, address))
}

/// `ss -Htan` with its output discarded, if it is installed.
pub fn ss() -> Option<Cost> {
    let before = children_cpu();
    let begin = Instant::now();
    let status = Command::new("ss")
        .arg("-Htan")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .ok()?;
    let wall = begin.elapsed();
    status.success().then(|| Cost {
        cpu: children_cpu().saturating_sub(before),
        wall,
    })
}

fn children_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    [usage.user_time(), usage.system_time()]
        .into_iter()
        .map(|time| {
            Duration::from_micros(
                u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap(),
            )
        })
        .sum()
}

/// Reads a file to its end, without parsing.
pub fn read(path: &str) -> Cost {
    let read = || {
        let mut file = File::open(path).unwrap();
        let mut buffer = vec![0; 256 * 1024];
        while file.read(&mut buffer).unwrap() > 0 {}
    };
    Cost::of_this_thread(read).1
}

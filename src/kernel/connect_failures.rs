//! Counts connect() calls that find no free port: a perf event in counting mode on each CPU.
//!
//! No SNMP counter moves when `__inet_hash_connect()` finds no port, but the socket goes from SYN-SENT
//! back to CLOSE before it has one, and `sock:inet_sock_set_state` (Linux >= 4.16) is passed with just
//! that. The kernel counts all namespaces; a port that bind() had fixed is not among it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use perf_event_open::config::{Cpu, Opts, Proc};
use perf_event_open::count::Counter;
use perf_event_open::event::tp::Tracepoint;
use rustix::io::Errno;

/// SYN-SENT to CLOSE without a source port, of TCP: the socket of an MPTCP connection does the same once
/// more than its subflow.
///
/// The kernel evaluates it from the left on every change of a socket's state, until something is not so. `oldstate` is
/// SYN-SENT in one change of each connection; `protocol` is TCP nearly always.
const FILTER: &CStr = c"oldstate==2 && newstate==7 && sport==0 && protocol==6";

const TRACEPOINT: &str = "inet_sock_set_state";

/// Where tracefs is mounted, or mounts itself when it is read.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

const ONLINE: &str = "/sys/devices/system/cpu/online";

/// The counters of all CPUs, and what those counted that have gone. An error says why there is no counting.
pub(crate) struct ConnectFailures {
    tracepoint: Tracepoint,
    cpus: BTreeMap<u32, CpuCounter>,
    online: Option<String>,
    total: u64,
}

struct CpuCounter {
    counter: Counter,
    /// What was last read from it.
    count: u64,
    /// Stands still once the CPU has been offline: the kernel detaches the event for good.
    enabled_nanos: u64,
}

impl ConnectFailures {
    /// Begins to count, from 0. Needs `CAP_PERFMON` (before Linux 5.8 `CAP_SYS_ADMIN`), unless
    /// `perf_event_paranoid` is 0 or less, and the tracepoint's id, which only root can read in tracefs.
    pub(crate) fn open() -> Result<Self, String> {
        let mut new = Self {
            tracepoint: tracepoint()?,
            cpus: BTreeMap::new(),
            online: fs::read_to_string(ONLINE).ok(),
            total: 0,
        };
        new.open_missing()?;
        Ok(new)
    }

    /// The connect() calls that failed since the beginning.
    pub(crate) fn read(&mut self) -> Result<u64, String> {
        let online = fs::read_to_string(ONLINE).ok();
        let mut gone = Vec::new();
        for (cpu, one) in &mut self.cpus {
            let stat = one.counter.stat().map_err(|source| failed(*cpu, &source))?;
            self.total += stat.count.saturating_sub(one.count);
            one.count = stat.count;
            let enabled_nanos = stat.time_enabled.unwrap_or(0);
            if std::mem::replace(&mut one.enabled_nanos, enabled_nanos) == enabled_nanos {
                gone.push(*cpu);
            }
        }
        self.cpus.retain(|cpu, _| !gone.contains(cpu));
        if !gone.is_empty() || online != self.online {
            self.open_missing()?;
            self.online = online;
        }
        Ok(self.total)
    }

    /// Asks the kernel for every CPU number, for a container may see another list of them.
    fn open_missing(&mut self) -> Result<(), String> {
        for cpu in 0..u32::MAX {
            if self.cpus.contains_key(&cpu) {
                continue;
            }
            match open(&self.tracepoint, cpu) {
                Ok(one) => _ = self.cpus.insert(cpu, one),
                Err(source) => match Errno::from_io_error(&source) {
                    // Offline.
                    Some(Errno::NODEV) => {}
                    // Beyond the last number.
                    Some(Errno::INVAL) if cpu > 0 => break,
                    _ => return Err(failed(cpu, &source)),
                },
            }
        }
        Ok(())
    }
}

fn open(tracepoint: &Tracepoint, cpu: u32) -> io::Result<CpuCounter> {
    let mut options = Opts::default();
    options.stat_format.time_enabled = true;
    let counter = Counter::new(tracepoint.clone(), (Proc::ALL, Cpu(cpu)), options)?;
    counter.with_ftrace_filter(FILTER)?;
    counter.enable()?;
    Ok(CpuCounter {
        counter,
        count: 0,
        enabled_nanos: 0,
    })
}

fn failed(cpu: u32, source: &io::Error) -> String {
    format!("cannot open a perf event on CPU {cpu}: {source}")
}

/// The tracepoint's number on this kernel: from a credential that the service manager passes, or from
/// tracefs.
fn tracepoint() -> Result<Tracepoint, String> {
    let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let credential = credentials.map(|directory| directory.join(TRACEPOINT));
    let credential = credential.filter(|file| file.exists());
    let in_tracefs = |mount: &str| Path::new(mount).join(format!("events/sock/{TRACEPOINT}/id"));
    let mut failure = None;
    for file in credential.into_iter().chain(TRACEFS.map(in_tracefs)) {
        let path = file.display();
        match fs::read_to_string(&file) {
            Ok(text) => {
                let id = text.trim().parse();
                let id = id.map_err(|_| format!("{path} contains no tracepoint id"))?;
                return Ok(Tracepoint { id });
            }
            // The first one says what is wrong: the others are fallbacks.
            Err(source) => {
                let text = || format!("cannot read the tracepoint's id: {path}: {source}");
                failure.get_or_insert_with(text);
            }
        }
    }
    Err(failure.unwrap_or_default())
}

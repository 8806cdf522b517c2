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

use perf_event_open::config::{Cpu, Opts, Proc, StatFormat};
use perf_event_open::count::Counter;
use perf_event_open::event::tp::Tracepoint;

/// SYN-SENT to CLOSE without a source port, of TCP: the socket of an MPTCP connection does the same once
/// more than its subflow.
const FILTER: &CStr = c"protocol==6 && oldstate==2 && newstate==7 && sport==0";

const TRACEPOINT: &str = "inet_sock_set_state";

/// Where tracefs is mounted, or mounts itself when it is read.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

const ONLINE: &str = "/sys/devices/system/cpu/online";

/// Why connect() failures cannot be counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("cannot read the tracepoint's id: {path}: {source}")]
    Tracepoint { path: String, source: io::Error },
    #[error("{path} contains no tracepoint id")]
    NoId { path: String },
    #[error("cannot open a perf event on CPU {cpu}: {source}")]
    Event { cpu: u32, source: io::Error },
}

/// The counters of all CPUs, and what those counted that have gone.
#[derive(Debug)]
pub(crate) struct ConnectFailures {
    tracepoint: Tracepoint,
    cpus: BTreeMap<u32, CpuCounter>,
    online: Option<String>,
    total: u64,
}

struct CpuCounter {
    counter: Counter,
    seen: Seen,
}

/// What was last read from a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    count: u64,
    /// Stands still once the CPU has been offline: the kernel detaches the event for good.
    enabled_nanos: u64,
}

impl std::fmt::Debug for CpuCounter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.seen.fmt(f)
    }
}

impl ConnectFailures {
    /// Begins to count, from 0. Needs `CAP_PERFMON` (before Linux 5.8 `CAP_SYS_ADMIN`), unless
    /// `perf_event_paranoid` is 0 or less, and the tracepoint's id, which only root can read in tracefs.
    pub(crate) fn open() -> Result<Self, OpenError> {
        let mut new = Self {
            tracepoint: Tracepoint {
                id: tracepoint_id()?,
            },
            cpus: BTreeMap::new(),
            online: fs::read_to_string(ONLINE).ok(),
            total: 0,
        };
        new.open_missing()?;
        Ok(new)
    }

    /// The connect() calls that failed since the beginning.
    pub(crate) fn read(&mut self) -> Result<u64, OpenError> {
        let online = fs::read_to_string(ONLINE).ok();
        let mut has_changed = online != self.online;
        let mut gone = Vec::new();
        for (cpu, one) in &mut self.cpus {
            let stat = one.counter.stat();
            let stat = stat.map_err(|source| OpenError::Event { cpu: *cpu, source })?;
            let now = Seen {
                count: stat.count,
                enabled_nanos: stat.time_enabled.unwrap_or(0),
            };
            self.total += now.count.saturating_sub(one.seen.count);
            if now.enabled_nanos == one.seen.enabled_nanos {
                gone.push(*cpu);
            }
            one.seen = now;
        }
        has_changed |= !gone.is_empty();
        self.cpus.retain(|cpu, _| !gone.contains(cpu));
        if has_changed {
            self.open_missing()?;
            self.online = online;
        }
        Ok(self.total)
    }

    /// Asks the kernel for every CPU number, for a container may see another list of them.
    fn open_missing(&mut self) -> Result<(), OpenError> {
        for cpu in 0..u32::MAX {
            if self.cpus.contains_key(&cpu) {
                continue;
            }
            match open(&self.tracepoint, cpu) {
                Ok(counter) => {
                    let seen = Seen::default();
                    self.cpus.insert(cpu, CpuCounter { counter, seen });
                }
                Err(source) => match source
                    .raw_os_error()
                    .map(rustix::io::Errno::from_raw_os_error)
                {
                    // Offline.
                    Some(rustix::io::Errno::NODEV) => {}
                    // Beyond the last number.
                    Some(rustix::io::Errno::INVAL) if cpu > 0 => break,
                    _ => return Err(OpenError::Event { cpu, source }),
                },
            }
        }
        Ok(())
    }
}

fn open(tracepoint: &Tracepoint, cpu: u32) -> io::Result<Counter> {
    let options = Opts {
        stat_format: StatFormat {
            time_enabled: true,
            ..StatFormat::default()
        },
        ..Opts::default()
    };
    let counter = Counter::new(tracepoint.clone(), (Proc::ALL, Cpu(cpu)), options)?;
    counter.with_ftrace_filter(FILTER)?;
    counter.enable()?;
    Ok(counter)
}

/// The tracepoint's number on this kernel: from a credential that the service manager passes, or from
/// tracefs.
fn tracepoint_id() -> Result<u64, OpenError> {
    let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let credential = credentials.map(|directory| directory.join(TRACEPOINT));
    let credential = credential.filter(|file| file.exists());
    let in_tracefs = |mount: &str| Path::new(mount).join(format!("events/sock/{TRACEPOINT}/id"));
    let files = credential.into_iter().chain(TRACEFS.map(in_tracefs));
    let mut failure = None;
    for file in files {
        let path = file.display().to_string();
        match fs::read_to_string(&file) {
            Ok(text) => return text.trim().parse().map_err(|_| OpenError::NoId { path }),
            // The first one says what is wrong: the others are fallbacks.
            Err(source) => _ = failure.get_or_insert(OpenError::Tracepoint { path, source }),
        }
    }
    Err(failure.unwrap_or(OpenError::NoId {
        path: TRACEPOINT.to_owned(),
    }))
}

//! What a process uses, as far as it matters to operators of exporters.

/// What the process has used and may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessUsage {
    /// User and system time of all its threads, in seconds. `utime` and `stime` of `proc_pid_stat(5)`.
    pub cpu_seconds: f64,
    /// Open file descriptors, without the one that counting them takes.
    pub open_fds: u64,
    /// The soft limit of `RLIMIT_NOFILE`; `None` is unlimited.
    pub max_fds: Option<u64>,
    /// Address space, in bytes. `vsize` of `proc_pid_stat(5)`.
    pub virtual_memory_bytes: u64,
    /// The part of it that is in memory, in bytes; the kernel's count lags a little. `rss` of
    /// `proc_pid_stat(5)`.
    pub resident_memory_bytes: u64,
    /// The soft limit of `RLIMIT_AS`, in bytes; `None` is unlimited.
    pub virtual_memory_max_bytes: Option<u64>,
    /// When it started, in seconds since 1970; as exact as a clock tick plus the second in which the
    /// kernel reports its boot time. `starttime` of `proc_pid_stat(5)`, `btime` of `proc_stat(5)`.
    pub start_time_seconds: f64,
}

//! The resources of the exporter's own process, and the name of the kernel it runs on.
//!
//! Always the real /proc, never `--path.procfs`: that one may be of a host whose process numbers
//! mean nothing here. Names no metric; units are in the names of the fields.

use std::io;
use std::time::Duration;

use ::procfs::process::Process;
use ::procfs::{ProcError, ProcResult, WithCurrentSystemInfo};
use rustix::process::{Resource, getrlimit};

use crate::domain::process::ProcessUsage;

/// Reads what the process has used so far.
///
/// Reads /proc/self/stat and lists /proc/self/fd; once a thread also /proc/stat, which is long on a
/// large machine.
///
/// # Errors
/// /proc is not mounted, or contains something that is not understood.
pub(crate) fn read_process_usage() -> ProcResult<ProcessUsage> {
    let in_fd = |error| ProcError::Io(error, Some("/proc/self/fd".into()));
    let open_fds = count_open_fds().map_err(in_fd)?;
    let stat = Process::myself()?.stat()?;
    let booted = Duration::from_secs(::procfs::boot_time_secs()?);
    Ok(ProcessUsage {
        cpu_seconds: ticks(stat.utime.saturating_add(stat.stime)).as_secs_f64(),
        open_fds,
        max_fds: getrlimit(Resource::Nofile).current,
        virtual_memory_bytes: stat.vsize,
        resident_memory_bytes: stat.rss_bytes().get(),
        virtual_memory_max_bytes: getrlimit(Resource::As).current,
        start_time_seconds: booted.saturating_add(ticks(stat.starttime)).as_secs_f64(),
    })
}

/// The size of a page of memory, in bytes.
pub fn page_size_bytes() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(u64::MAX)
}

/// The release of the running kernel, `uname -r`.
pub(crate) fn kernel_release() -> String {
    let name = rustix::system::uname();
    name.release().to_string_lossy().into_owned()
}

/// The host's name, `uname -n`: that of the UTS namespace.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

pub(crate) fn count_open_fds() -> io::Result<u64> {
    let mut entries = std::fs::read_dir("/proc/self/fd")?;
    let count = entries.try_fold(0_u64, |count, entry| entry.map(|_| count + 1))?;
    // One of them is the directory itself, open while it is read.
    Ok(count.saturating_sub(1))
}

/// Clock ticks (`_SC_CLK_TCK`) as a duration.
fn ticks(count: u64) -> Duration {
    let a_second = ::procfs::ticks_per_second().max(1);
    let nanoseconds = (count % a_second).saturating_mul(1_000_000_000) / a_second;
    Duration::from_secs(count / a_second).saturating_add(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_usage_is_plausible_for_a_running_process() {
        let usage = read_process_usage().unwrap();
        assert!(usage.resident_memory_bytes > 100_000);
        assert!(usage.virtual_memory_bytes >= usage.resident_memory_bytes);
        assert!(usage.open_fds >= 1);
        assert!(usage.max_fds.is_none_or(|max| max >= usage.open_fds));
        assert!((0.0..1_000_000.0).contains(&usage.cpu_seconds));
    }

    #[test]
    fn the_start_is_in_the_recent_past() {
        let since_1970 = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let age = since_1970.as_secs_f64() - read_process_usage().unwrap().start_time_seconds;
        // The boot time is in whole seconds and follows the clock when that is set.
        assert!((-5.0..86_400.0).contains(&age), "{age}");
    }

    #[test]
    fn the_kernel_has_a_release() {
        let release = kernel_release();
        let file = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(release, file.trim_end());
    }

    #[test]
    fn ticks_become_time_without_losing_any() {
        let a_second = ::procfs::ticks_per_second();
        assert_eq!(ticks(3 * a_second), Duration::from_secs(3));
        assert_eq!(ticks(a_second / 2), Duration::from_millis(500));
        assert_eq!(ticks(0), Duration::ZERO);
        assert!(ticks(u64::MAX) > Duration::from_secs(u64::MAX / a_second - 1));
    }
}

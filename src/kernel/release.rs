//! What only the version of the running kernel shows.

use super::process::kernel_release;

/// Whether this kernel is known to leave the ports of FIN-WAIT-2 sockets without a process alone, whatever
/// `tcp_tw_reuse` is. The fix, "tcp: avoid reusing FIN_WAIT2 when trying to find port in connect() process", is in 6.12,
/// 6.11.3, 6.6.55, 6.1.113, 5.15.168 and 5.10.227 (see their ChangeLogs). Unknown where a distribution does not show
/// which stable version its kernel is based on.
pub(crate) fn orphans_keep_ports() -> bool {
    let name = rustix::system::uname();
    shows_fix(&kernel_release(), &name.version().to_string_lossy())
}

/// Debian's release is "5.10.0-32-amd64" with the version "#1 SMP Debian 5.10.223-1 (2024-08-10)", Raspberry Pi OS'
/// "6.12.47+rpt-rpi-v8" with "#1 SMP PREEMPT Debian 1:6.12.47-1+rpt1 (2025-09-16)".
fn shows_fix(release: &str, version: &str) -> bool {
    let debian = version.split_once(" Debian ");
    is_fixed(release) || debian.is_some_and(|(_, version)| is_fixed(version))
}

/// Whether bound, unconnected sockets are listed: since Linux 6.8, which nothing but its version shows
/// without binding a port.
pub(crate) fn lists_bound_sockets() -> bool {
    numbers(&kernel_release()) >= [6, 8, 0]
}

fn is_fixed(version: &str) -> bool {
    match numbers(version) {
        [5, 10, patch] => patch >= 227,
        [5, 15, patch] => patch >= 168,
        [6, 1, patch] => patch >= 113,
        [6, 6, patch] => patch >= 55,
        version => version >= [6, 11, 3],
    }
}

/// The first three of a version, 0 for what is not there.
fn numbers(version: &str) -> [u32; 3] {
    let mut numbers = version.split(|character: char| !character.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    [(); 3].map(|()| next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fix_of_2024_is_known_from_the_version_of_the_stable_series() {
        for fixed in [
            "5.10.227-1 (2024-10-20)",
            "5.10.262",
            "5.15.168",
            "6.1.113-amzn2023",
            "6.6.55-1-lts",
            "6.11.3",
            "6.12.0-55.el10",
            "6.18",
            "7.3-rc7",
        ] {
            assert!(is_fixed(fixed), "{fixed}");
        }
        for unknown in [
            "5.10.223-1 (2024-08-10)",
            "5.10.0-32-amd64",
            "5.15.0-122-generic",
            "5.15.167",
            "6.1.112",
            "6.2.200",
            "6.6.54",
            "6.11.2",
            "5.14.0-570.el9",
            "",
        ] {
            assert!(!is_fixed(unknown), "{unknown}");
        }
    }

    #[test]
    fn a_distribution_shows_it_by_its_release_or_by_its_version() {
        let debian =
            |version: &str| shows_fix("5.10.0-32-amd64", &format!("#1 SMP Debian {version}"));
        assert!(debian("5.10.262-1 (2026-07-25)") && !debian("5.10.223-1 (2024-08-10)"));
        let raspberry_pi = "#1 SMP PREEMPT Debian 1:6.12.47-1+rpt1 (2025-09-16)";
        assert!(shows_fix("6.12.47+rpt-rpi-v8", raspberry_pi));
        assert!(!shows_fix(
            "6.8.0-45-generic",
            "#45-Ubuntu SMP PREEMPT_DYNAMIC"
        ));
    }
}

//! What only the version of the running kernel shows.

use super::process::kernel_release;

/// Whether this kernel is known to leave the ports of FIN-WAIT-2 sockets without a process alone, whatever
/// `tcp_tw_reuse` is: fixed in 6.11.3, 6.1.113 and 5.10.227. Unknown where a distribution does not say which
/// stable version its kernel is based on.
pub(crate) fn orphans_keep_ports() -> bool {
    let name = rustix::system::uname();
    // Debian: release "5.10.0-32-amd64", version "#1 SMP Debian 5.10.223-1 (2024-08-10)".
    match name.version().to_string_lossy().split_once(" Debian ") {
        Some((_, version)) => is_fixed(version),
        None => is_fixed(&kernel_release()),
    }
}

/// Whether bound, unconnected sockets are listed: since Linux 6.8, which nothing but its version shows
/// without binding a port.
pub(crate) fn lists_bound_sockets() -> bool {
    numbers(&kernel_release()) >= [6, 8, 0]
}

fn is_fixed(version: &str) -> bool {
    match numbers(version) {
        [5, 10, patch] => patch >= 227,
        [6, 1, patch] => patch >= 113,
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
            "6.1.113-amzn2023",
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
            "6.1.112",
            "6.2.200",
            "6.11.2",
            "5.14.0-570.el9",
            "",
        ] {
            assert!(!is_fixed(unknown), "{unknown}");
        }
    }
}

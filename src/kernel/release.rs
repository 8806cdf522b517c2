//! What only the version of the running kernel shows.

/// Whether this kernel is known to leave the ports of FIN-WAIT-2 sockets without a process alone, whatever
/// `tcp_tw_reuse` is: fixed in 6.11.3, 6.1.113 and 5.10.227. Unknown where a distribution does not tell which
/// stable version its kernel is based on.
pub(crate) fn orphans_keep_ports() -> bool {
    let name = rustix::system::uname();
    let (release, version) = (
        name.release().to_string_lossy(),
        name.version().to_string_lossy(),
    );
    // Debian: release "5.10.0-32-amd64", version "#1 SMP Debian 5.10.223-1 (2024-08-10)".
    is_fixed(
        version
            .split_once(" Debian ")
            .map_or(&*release, |(_, version)| version),
    )
}

fn is_fixed(version: &str) -> bool {
    let mut numbers = version.split(|character: char| !character.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    let version = (number(), number(), number());
    let is_fixed = |series, patch| (version.0, version.1) == series && version.2 >= Some(patch);
    version >= (Some(6), Some(11), Some(3))
        || is_fixed((Some(6), Some(1)), 113)
        || is_fixed((Some(5), Some(10)), 227)
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

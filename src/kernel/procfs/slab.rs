//! What the slab caches of TIME-WAIT sockets hold, from sysfs or from `/proc/slabinfo`.
//!
//! `kernel/slab` of sysfs, in which each cache has a directory (Documentation/ABI/testing/sysfs-kernel-slab), has
//! what slabinfo has, to the byte, but of one cache and from its counters: to print slabinfo the kernel iterates over the
//! free slabs of every cache of the host, under a lock of the whole host (0.6 to 4 ms, against some 0.05). Only root
//! may read either. The caches of TIME-WAIT sockets are never merged with others (they are freed by RCU), so that
//! their names stand for themselves, but the kernel may have built none.

use std::io;
use std::path::Path;

use super::error::Malformed;
use super::file::Directory;
use super::text::{numbered_lines, unsigned, words};

/// What the names of the caches begin with: `tw_sock_TCP`, `tw_sock_TCPv6`, and on old kernels those
/// of memory control groups, `tw_sock_TCP(4:name)`.
const CACHE_PREFIX: &str = "tw_sock_";

/// All protocols that have such sockets on any kernel. By name, since to list the directory of caches costs more than
/// to read these.
const PROTOCOLS: [&str; 4] = ["TCP", "TCPv6", "DCCP", "DCCPv6"];

/// The bytes that the slabs hold in all, used or not. `None` where the directory does not suffice, and slabinfo is
/// read: without permission to read it, or any cache.
pub(super) fn from_directory(slab: &Path, page_size_bytes: u64) -> Option<u64> {
    let mut sum = None;
    for protocol in PROTOCOLS {
        let path = slab.join(format!("{CACHE_PREFIX}{protocol}"));
        let cache = Directory::new(path.clone());
        // `11 N0=8 N1=3`: in all, and on each node of memory.
        let first = |text: &str| Ok(words(text).first().and_then(|word| unsigned(word, 10)));
        let slabs = match cache.parse("slabs", first) {
            Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => continue,
            slabs => slabs.ok()??,
        };
        // Linux 3.x to 5.8 keep caches of control groups apart; slabinfo adds them up.
        if path.join("cgroup").exists() {
            return None;
        }
        let order = cache.parse("order", first).ok()??;
        let pages = 2_u64.checked_pow(u32::try_from(order).ok()?)?;
        sum = Some(add(sum, slabs, pages, page_size_bytes)?);
    }
    sum
}

/// The same of the text of slabinfo, version 2.1 (slabinfo(5)).
pub(super) fn from_slabinfo(text: &str, page_size_bytes: u64) -> Result<Option<u64>, Malformed> {
    let mut sum = None;
    for (number, line) in numbered_lines(text).filter(|(_, line)| line.starts_with(CACHE_PREFIX)) {
        let malformed = |expected| Malformed::new(number, line, expected);
        let (slabs, pages) =
            slabs_and_pages(line).ok_or_else(|| malformed("a cache of slabinfo 2.1"))?;
        let bytes = add(sum, slabs, pages, page_size_bytes);
        sum = Some(bytes.ok_or_else(|| malformed("a size that fits into 64 bits"))?);
    }
    Ok(sum)
}

/// How many slabs a cache has, and how many pages each of them.
///
/// `<name> <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit>
/// <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>`
fn slabs_and_pages(line: &str) -> Option<(u64, u64)> {
    let (cache, rest) = line.split_once(" : tunables ")?;
    let (_, slabdata) = rest.split_once(" : slabdata ")?;
    // As many words as there must be: one more would shift the others.
    let ([_, _, _, _, _, pages], [_, slabs, ..]) = (&*words(cache), &*words(slabdata)) else {
        return None;
    };
    Some((unsigned(slabs, 10)?, unsigned(pages, 10)?))
}

fn add(sum: Option<u64>, slabs: u64, pages: u64, page_size_bytes: u64) -> Option<u64> {
    let bytes = slabs.checked_mul(pages)?.checked_mul(page_size_bytes)?;
    bytes.checked_add(sum.unwrap_or(0))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const PAGE: u64 = 4_096;

    fn cache(name: &str, pages_per_slab: &str, slabs: &str) -> String {
        format!(
            "{name:<17} 32 32 256 16 {pages_per_slab} : tunables 0 0 0 : slabdata 1 {slabs} 0\n"
        )
    }

    #[test]
    fn the_caches_of_both_families_and_of_control_groups_are_added_up() {
        let text = "slabinfo - version: 2.1\n# name\n".to_owned()
            + &cache("TCP", "8", "1000")
            + &cache("tw_sock_TCPv6", "1", "2")
            + &cache("tw_sock_TCP", "2", "3")
            + &cache("tw_sock_TCP(4:web)", "1", "1");
        let memory = from_slabinfo(&text, PAGE).unwrap();
        assert_eq!(memory, Some((2 + 6 + 1) * PAGE));
    }

    #[test]
    fn a_cache_without_slabs_is_0_bytes_and_a_missing_cache_is_unknown() {
        let empty = cache("tw_sock_TCP", "1", "0");
        assert_eq!(from_slabinfo(&empty, PAGE).unwrap(), Some(0));
        let none = cache("TCP", "1", "1");
        assert_eq!(from_slabinfo(&none, PAGE).unwrap(), None);
    }

    #[test]
    fn a_line_of_another_form_or_an_impossible_size_is_refused() {
        let huge = u64::MAX.to_string();
        for line in [
            "tw_sock_TCP 1 2\n".to_owned(),
            cache("tw_sock_TCP", "-1", "1"),
            cache("tw_sock_TCP", "1", "x"),
            cache("tw_sock_TCP 7", "1", "1"),
            cache("tw_sock_TCP", &huge, "2"),
            cache("tw_sock_TCP", "1", &huge),
        ] {
            let error = from_slabinfo(&format!("\n{line}"), PAGE).unwrap_err();
            assert_eq!(error.line, 2, "{line}");
            assert!(error.text.starts_with("tw_sock_TCP"), "{line}");
        }
    }

    /// A directory of caches with these slabs and orders.
    fn caches(caches: &[(&str, &str, &str)]) -> TempDir {
        let directory = TempDir::new().unwrap();
        for (name, slabs, order) in caches {
            let cache = directory.path().join(name);
            fs::create_dir(&cache).unwrap();
            fs::write(cache.join("slabs"), slabs).unwrap();
            fs::write(cache.join("order"), order).unwrap();
        }
        directory
    }

    fn bytes(directory: &TempDir) -> Option<u64> {
        from_directory(directory.path(), PAGE)
    }

    #[test]
    fn the_slabs_of_all_protocols_and_nodes_are_added_up() {
        let directory = caches(&[
            ("tw_sock_TCP", "11 N0=8 N1=3\n", "0\n"),
            ("tw_sock_TCPv6", "0\n", "0\n"),
            ("tw_sock_DCCP", "2 N0=2\n", "3\n"),
            ("TCP", "7 N0=7\n", "3\n"),
        ]);
        assert_eq!(bytes(&directory), Some((11 + 2 * 8) * PAGE));
    }

    #[test]
    fn slabinfo_is_read_where_the_directory_does_not_suffice() {
        assert_eq!(bytes(&caches(&[("TCP", "7\n", "3\n")])), None);
        for (slabs, order) in [
            ("", "0\n"),
            ("-1\n", "0\n"),
            ("1\n", ""),
            ("1\n", "64\n"),
            ("18446744073709551615\n", "0\n"),
        ] {
            let broken = caches(&[
                ("tw_sock_TCP", "1\n", "0\n"),
                ("tw_sock_TCPv6", slabs, order),
            ]);
            assert_eq!(bytes(&broken), None, "{slabs:?}, {order:?}");
        }
        let grouped = caches(&[("tw_sock_TCP", "1\n", "0\n")]);
        fs::create_dir(grouped.path().join("tw_sock_TCP/cgroup")).unwrap();
        assert_eq!(bytes(&grouped), None);
    }

    #[test]
    fn on_this_host_it_equals_slabinfo_where_that_is_readable() {
        let page = u64::try_from(rustix::param::page_size()).unwrap();
        let slabinfo = || {
            let text = fs::read_to_string("/proc/slabinfo").ok()?;
            from_slabinfo(&text, page).unwrap()
        };
        let found = || from_directory(Path::new("/sys/kernel/slab"), page);
        if slabinfo().is_none() {
            assert_eq!(found(), None);
            return;
        }
        // Sockets of other programs come and go: retry until both agree, or slabinfo itself has changed.
        let same = (0..1_000).any(|_| {
            let (before, between, after) = (slabinfo(), found(), slabinfo());
            between.is_none_or(|_| before == between) || before != after
        });
        assert!(same, "{:?}, by slabinfo {:?}", found(), slabinfo());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in ".{0,80}",
            shaped in "tw_sock_(( |:|tunables|slabdata|[0-9]{1,22}) ){0,17}",
            page_size: u64,
        ) {
            let _ = from_slabinfo(&text, page_size);
            let _ = from_slabinfo(&shaped, page_size);
        }
    }
}

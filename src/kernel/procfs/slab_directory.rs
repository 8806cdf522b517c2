//! The directory `kernel/slab` of sysfs, in which each slab cache has a directory, as
//! Documentation/ABI/testing/sysfs-kernel-slab describes them.
//!
//! Has what `/proc/slabinfo` has, to the byte, but of one cache and from its counters: to print
//! slabinfo the kernel walks over the free slabs of every cache of the host, under a lock of the whole
//! host (0.6 to 4 ms, against some 0.05). Only root may read either. Looks at nothing but the caches of
//! TIME-WAIT sockets, which are never merged with others, so that their names stand for themselves.

use std::io;
use std::path::Path;

use super::error::ReadError;
use super::file::read_text;
use super::text::parse_unsigned;

/// All caches of TIME-WAIT sockets that any kernel has: `tw_sock_` and the name of a protocol that has
/// such sockets. By name, since to list the directory costs more than to read them.
const CACHES: [&str; 4] = [
    "tw_sock_TCP",
    "tw_sock_TCPv6",
    "tw_sock_DCCP",
    "tw_sock_DCCPv6",
];

/// The bytes that the slabs of TIME-WAIT sockets hold in all, used or not. `None` where this directory does not
/// suffice, and slabinfo is read: without permission to read it, or the directory, or any cache.
pub(super) fn read(directory: &Path, page_size_bytes: u64) -> Option<u64> {
    let mut time_wait_bytes: Option<u64> = None;
    for name in CACHES {
        let cache = directory.join(name);
        let slabs = match read_text(&cache.join("slabs")) {
            // `11 N0=8 N1=3`: in all, and on each node of memory.
            Ok(text) => parse_unsigned(text.split_ascii_whitespace().next()?)?,
            Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            Err(_) => return None,
        };
        // Linux 3.x to 5.8 keep caches of control groups apart; slabinfo adds them up.
        if cache.join("cgroup").exists() {
            return None;
        }
        let order = read_text(&cache.join("order")).ok()?;
        let order = u32::try_from(parse_unsigned(order.trim_ascii_end())?).ok()?;
        let bytes = 2_u64
            .checked_pow(order)?
            .checked_mul(page_size_bytes)?
            .checked_mul(slabs)?
            .checked_add(time_wait_bytes.unwrap_or(0))?;
        time_wait_bytes = Some(bytes);
    }
    time_wait_bytes
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::slabinfo;
    use super::*;

    const PAGE: u64 = 4_096;

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
        read(directory.path(), PAGE)
    }

    #[test]
    fn the_slabs_of_all_protocols_are_added_up_and_of_all_nodes() {
        let directory = caches(&[
            ("tw_sock_TCP", "11 N0=8 N1=3\n", "0\n"),
            ("tw_sock_TCPv6", "0\n", "0\n"),
            ("tw_sock_DCCP", "2 N0=2\n", "3\n"),
            ("TCP", "7 N0=7\n", "3\n"),
        ]);
        assert_eq!(bytes(&directory), Some((11 + 2 * 8) * PAGE));
    }

    #[test]
    fn slabinfo_is_to_be_asked_where_the_directory_does_not_suffice() {
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
    fn on_this_host_it_has_what_slabinfo_has_where_that_may_be_read() {
        let page = u64::try_from(rustix::param::page_size()).unwrap();
        let slabinfo = || {
            let text = fs::read_to_string("/proc/slabinfo").ok()?;
            slabinfo::parse(&text, page).unwrap()
        };
        let found = || read(Path::new("/sys/kernel/slab"), page);
        if slabinfo().is_none() {
            assert_eq!(found(), None);
            return;
        }
        // Sockets of others come and go: until they stand still, or slabinfo differs from itself.
        let same = (0..1_000).any(|_| {
            let (before, between, after) = (slabinfo(), found(), slabinfo());
            between.is_none_or(|_| before == between) || before != after
        });
        assert!(same, "{:?}, by slabinfo {:?}", found(), slabinfo());
    }
}

//! The reader, tested against complete /proc trees: those of four kernels, broken ones, and the real one.
//!
//! Small files here, the connection table in `table`. The trees come from little-endian machines.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod table;

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

pub(super) const KERNELS: [&str; 4] = ["linux-3.10", "linux-4.19", "linux-5.15", "linux-6.18"];

pub(super) fn fixture(kernel: &str) -> ProcRoot {
    let trees = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/procfs");
    ProcRoot::new(trees.join(kernel))
}

/// A tree with these files and no others.
pub(super) fn tree(files: &[(&str, &[u8])]) -> (TempDir, ProcRoot) {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let root = ProcRoot::new(directory.path());
    (directory, root)
}

#[test]
fn each_kernel_has_its_own_sysctls() {
    let reuse = [Some(0), Some(2), Some(1), Some(2)];
    let recycle = [Some(0), None, None, None];
    let delay = [None, None, None, Some(1_000)];
    let unprivileged = [None, Some(1_024), Some(0), Some(1_024)];
    for (index, kernel) in KERNELS.into_iter().enumerate() {
        let (settings, errors) = fixture(kernel).read_settings();
        assert!(errors.is_empty(), "{kernel}: {errors:?}");
        assert_eq!(settings.tcp_tw_reuse, reuse[index], "{kernel}");
        assert_eq!(settings.tcp_tw_recycle, recycle[index], "{kernel}");
        assert_eq!(settings.tcp_tw_reuse_delay_ms, delay[index], "{kernel}");
        assert_eq!(settings.ip_unprivileged_port_start, unprivileged[index]);
        assert_eq!(settings.tcp_timestamps, Some(1), "{kernel}");
        assert_eq!(settings.tcp_fin_timeout_seconds, Some(60), "{kernel}");
    }
    let (settings, _) = fixture("linux-5.15").read_settings();
    let range = settings.port_range.unwrap();
    assert_eq!((range.min(), range.max()), (40_000, 40_019));
    let reserved = settings.reserved_ports.unwrap();
    assert!(reserved.iter().eq([40_005, 40_010, 40_011, 40_012, 50_000]));
    assert_eq!(settings.tcp_max_tw_buckets, Some(32_768));
    assert_eq!(settings.tcp_rfc1337, Some(1));
    let (settings, _) = fixture("linux-3.10").read_settings();
    assert_eq!(settings.port_range.unwrap().max(), 61_000);
    assert!(settings.reserved_ports.unwrap().is_empty());
}

#[test]
fn each_kernel_has_its_own_counters() {
    let old = [("PAWSPassive", 4), ("PAWSActive", 3), ("PAWSEstab", 271)];
    let usual = [("PAWSActive", 3), ("PAWSEstab", 271)];
    let new = [
        ("PAWSActive", 3),
        ("PAWSEstab", 271),
        ("TSEcrRejected", 7),
        ("PAWSOldAck", 5),
        ("PAWSTimewait", 6),
    ];
    let paws: [&[(&str, u64)]; 4] = [&old, &usual, &usual, &new];
    for (kernel, paws) in KERNELS.into_iter().zip(paws) {
        let counters = fixture(kernel).read_kernel_counters().unwrap();
        for (name, count) in [
            ("TW", 104_729),
            ("TWRecycled", 1_543),
            ("TWKilled", 12),
            ("TCPTimeWaitOverflow", 17),
        ] {
            assert_eq!(counters.get(name), Some(count), "{kernel}");
        }
        let rejects = counters
            .iter()
            .filter(|(name, _)| paws.iter().any(|(one, _)| one == name));
        assert!(rejects.eq(paws.iter().copied()), "{kernel}");
        assert_eq!(counters.iter().count(), 4 + paws.len(), "{kernel}");
    }
}

#[test]
fn the_slabs_of_time_wait_sockets_are_added_up() {
    let pages = [4 + 9, 2 * (3 + 11), 2 * 10, 1 + 2];
    for (kernel, pages) in KERNELS.into_iter().zip(pages) {
        let memory = fixture(kernel).read_slab_memory(4_096).unwrap();
        assert_eq!(memory.get("bytes"), Some(pages * 4_096), "{kernel}");
    }
}

#[test]
fn slabs_are_read_from_sysfs_or_else_from_slabinfo() {
    let slabinfo = b"tw_sock_TCP 1 1 256 16 1 : tunables 0 0 0 : slabdata 1 5 0\n";
    let (directory, _) = tree(&[
        ("proc/slabinfo", slabinfo),
        ("sys/kernel/slab/tw_sock_TCP/slabs", b"7 N0=7\n"),
        ("sys/kernel/slab/tw_sock_TCP/order", b"1\n"),
    ]);
    let root = ProcRoot::new(directory.path().join("proc"));
    let bytes = || root.read_slab_memory(4_096).unwrap().get("bytes");
    assert_eq!(bytes(), Some(7 * 2 * 4_096));
    fs::remove_dir_all(directory.path().join("sys")).unwrap();
    assert_eq!(bytes(), Some(5 * 4_096));
}

#[test]
fn what_every_linux_has_and_is_not_there_is_an_error_and_the_rest_is_absent() {
    let (directory, root) = tree(&[]);
    let missing = |error: ReadError, file: &str| {
        assert_eq!(error.path, directory.path().join(file));
        assert_eq!(error.io_kind(), Some(io::ErrorKind::NotFound), "{error}");
    };
    let (settings, mut errors) = root.read_settings();
    assert_eq!(settings, Settings::default());
    missing(errors.pop().unwrap(), "sys/net/ipv4/ip_local_port_range");
    assert!(errors.is_empty(), "{errors:?}");
    missing(root.read_kernel_counters().unwrap_err(), "net/netstat");
    assert_eq!(root.read_slab_memory(4_096).unwrap(), Counts::default());
}

#[test]
fn a_named_pipe_in_the_place_of_a_file_is_refused_without_waiting() {
    let (directory, root) = tree(&[("sys/net/ipv4/ip_local_port_range", b"1\t4\n")]);
    fs::create_dir_all(directory.path().join("net")).unwrap();
    for file in [
        "sys/net/ipv4/tcp_tw_reuse",
        "net/netstat",
        "net/tcp",
        "slabinfo",
    ] {
        let path = directory.path().join(file);
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
    }
    let (_, errors) = root.read_settings();
    let is_refused =
        |error: &dyn std::fmt::Display| error.to_string().contains("not a regular file");
    assert!(
        errors.len() == 1 && errors.iter().all(|error| is_refused(error)),
        "{errors:?}"
    );
    assert!(is_refused(&root.read_kernel_counters().unwrap_err()));
    assert!(is_refused(&root.read_slab_memory(4_096).unwrap_err()));
    assert!(is_refused(&table::owners(&root).unwrap_err()));
}

#[test]
fn one_invalid_sysctl_does_not_affect_the_others() {
    let (directory, root) = tree(&[
        ("sys/net/ipv4/ip_local_port_range", b"5\t4\n"),
        ("sys/net/ipv4/ip_local_reserved_ports", b"1,x\n"),
        ("sys/net/ipv4/tcp_tw_reuse", b"\xff\xfe\n"),
        ("sys/net/ipv4/tcp_rfc1337", &vec![b'1'; 2 * 1024 * 1024]),
        ("sys/net/ipv4/tcp_fin_timeout", b"60\n"),
    ]);
    fs::create_dir(directory.path().join("sys/net/ipv4/tcp_timestamps")).unwrap();
    let (settings, errors) = root.read_settings();
    let expected = Settings {
        tcp_fin_timeout_seconds: Some(60),
        ..Settings::default()
    };
    assert_eq!(settings, expected);
    let texts = errors.iter().map(|error| {
        let text = error.to_string();
        text.replace(
            &*directory.path().join("sys/net/ipv4/").to_string_lossy(),
            "",
        )
    });
    assert!(texts.eq([
        "ip_local_port_range, line 1: expected two ports, the lower first, found \"5\\t4\"",
        "ip_local_reserved_ports, line 1: expected a port, or two ports joined by \"-\", found \"x\"",
        "tcp_tw_reuse, line 1: expected UTF-8, found \"\u{fffd}\u{fffd}\"",
        "cannot read tcp_timestamps: is a directory",
        "tcp_rfc1337 is longer than 262144 bytes",
    ]));
}

#[test]
fn the_real_files_of_this_host_are_understood() {
    let root = ProcRoot::new("/proc");
    let (settings, errors) = root.read_settings();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(settings.port_range.is_some() && settings.reserved_ports.is_some());
    assert!(root.read_kernel_counters().unwrap().get("TW").is_some());
    root.read_slab_memory(4_096).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_in_the_files_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (_directory, root) = tree(&[
            ("sys/net/ipv4/ip_local_reserved_ports", &bytes),
            ("net/netstat", &bytes),
            ("slabinfo", &bytes),
            ("net/tcp", &[b"  sl  local_address\n", &*bytes].concat()),
        ]);
        let _ = root.read_settings();
        let _ = root.read_kernel_counters();
        let _ = root.read_slab_memory(4_096);
        let _ = table::sockets(&root);
        let _ = table::owners(&root);
    }
}

//! The slabs and the order of two caches under /sys/kernel/slab, a zero byte between each.
#![no_main]

use libfuzzer_sys::fuzz_target;
use timewait_exporter_fuzz::{procfs, write};

const FILES: [&str; 4] = [
    "tw_sock_TCP/slabs",
    "tw_sock_TCP/order",
    "tw_sock_TCPv6/slabs",
    "tw_sock_TCPv6/order",
];

fuzz_target!(|input: &[u8]| {
    let mut contents = input.splitn(FILES.len(), |byte| *byte == 0);
    for file in FILES {
        let content = contents.next().unwrap_or_default();
        write(&format!("../sys/kernel/slab/{file}"), content);
    }
    for page_size_bytes in [4_096, 65_536] {
        if let Err(error) = procfs().read_slab_memory(page_size_bytes) {
            assert!(!error.to_string().is_empty());
        }
    }
});

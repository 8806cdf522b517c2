//! /proc/slabinfo.
#![no_main]

use libfuzzer_sys::fuzz_target;
use timewait_exporter_fuzz::{procfs, write};

fuzz_target!(|input: &[u8]| {
    write("slabinfo", input);
    for page_size_bytes in [4_096, 65_536] {
        if let Err(error) = procfs().read_slab_memory(page_size_bytes) {
            assert!(!error.to_string().is_empty());
        }
    }
});

//! /proc/net/netstat.
#![no_main]

use libfuzzer_sys::fuzz_target;
use timewait_exporter_fuzz::{procfs, write};

fuzz_target!(|input: &[u8]| {
    write("net/netstat", input);
    if let Err(error) = procfs().read_kernel_counters() {
        assert!(!error.to_string().is_empty());
    }
});

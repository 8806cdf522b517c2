//! /proc/net/sockstat and, after a zero byte, sockstat6.
#![no_main]

use libfuzzer_sys::fuzz_target;
use timewait_exporter_fuzz::{procfs, remove, write};

fuzz_target!(|input: &[u8]| {
    let mut files = input.splitn(2, |byte| *byte == 0);
    write("net/sockstat", files.next().unwrap_or_default());
    match files.next() {
        Some(content) => write("net/sockstat6", content),
        None => remove("net/sockstat6"),
    }
    if let Err(error) = procfs().read_socket_statistics() {
        assert!(!error.to_string().is_empty());
    }
});

//! Files under /proc/sys/net/ipv4. The input: a byte that selects the file, then its content.
#![no_main]

use libfuzzer_sys::fuzz_target;
use timewait_exporter_fuzz::{procfs, remove, write};

const FILES: [&str; 3] = [
    "ip_local_port_range",
    "ip_local_reserved_ports",
    "tcp_tw_reuse",
];

fuzz_target!(|input: &[u8]| {
    let Some((which, content)) = input.split_first() else {
        return;
    };
    let which = usize::from(*which) % FILES.len();
    let file = format!("sys/net/ipv4/{}", FILES[which]);
    // Every Linux has the range: without it there is an error in any case.
    write("sys/net/ipv4/ip_local_port_range", b"32768 60999\n");
    write(&file, content);
    let (settings, errors) = procfs().read_settings();
    remove(&file);
    let is_known = match which {
        0 => settings.port_range.is_some(),
        1 => settings.reserved_ports.is_some(),
        _ => settings.tcp_tw_reuse.is_some(),
    };
    // Either a value or an error.
    assert_eq!(is_known, errors.is_empty(), "{errors:?}");
    if let Some(range) = settings.port_range {
        assert!(range.min() <= range.max());
    }
    if let Some(reserved) = settings.reserved_ports {
        // A set that is written is read back unchanged.
        write(
            "sys/net/ipv4/ip_local_reserved_ports",
            format!("{reserved}\n").as_bytes(),
        );
        let again = procfs().read_settings().0.reserved_ports;
        remove("sys/net/ipv4/ip_local_reserved_ports");
        assert_eq!(again, Some(reserved));
    }
    for error in errors {
        assert!(!error.to_string().is_empty());
    }
});

//! /proc/net/tcp and, after a zero byte, tcp6.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use timewait_exporter_fuzz::{assert_census, procfs, remove, write};

fuzz_target!(|input: &[u8]| {
    let mut files = input.splitn(2, |byte| *byte == 0);
    write("net/tcp", files.next().unwrap_or_default());
    match files.next() {
        Some(content) => write("net/tcp6", content),
        None => remove("net/tcp6"),
    }
    let (mut owners, mut sockets) = (Vec::new(), Vec::new());
    // Never reached: a file ends.
    let deadline = Instant::now() + Duration::from_secs(60);
    let listening = procfs().read_owners(deadline, &mut |owner| owners.push(owner));
    if let Ok(count) = listening {
        assert_eq!(usize::try_from(count), Ok(owners.len()));
    }
    match procfs().read_sockets(deadline, &mut |socket| sockets.push(socket)) {
        Ok(records) => assert!(sockets.len() <= usize::try_from(records).expect("a number")),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    // Most inputs contain nothing to count.
    if !sockets.is_empty() || !owners.is_empty() {
        assert_census(&owners, &sockets);
    }
});

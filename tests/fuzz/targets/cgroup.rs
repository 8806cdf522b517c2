//! /proc/PID/cgroup: the container of a process, by names that the runtime, or any user who can create a control
//! group, has chosen.
#![no_main]

use libfuzzer_sys::fuzz_target;
use timewait_exporter::domain::container::ContainerIdentity;

/// The length of the longest accepted name.
const LONGEST: usize = 128;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let found = ContainerIdentity::parse(&text);
    if let Some(id) = &found.container_id {
        assert!(!id.is_empty() && id.len() <= LONGEST, "{id}");
    }
    if let Some(uid) = &found.pod_uid {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        assert!(matches!(uid.len(), 32 | 36) && uid.bytes().all(is_digit), "{uid}");
    }
    // A hierarchy in which the process is at the root changes nothing.
    let more = format!("12:pids:/\n{text}");
    assert_eq!(ContainerIdentity::parse(&more), found);
});

//! Accept and Accept-Encoding headers: every header gets an answer, which does not depend on how the header is
//! spread over lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use timewait_exporter::exposition::{Format, accepts_gzip};

fuzz_target!(|input: &[u8]| {
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let format = Format::negotiate(lines.iter().copied());
    let gzip = accepts_gzip(lines.iter().copied());
    // Within quotes the end of a line does not end the list.
    if input.contains(&b'"') {
        return;
    }
    let joined = lines.join(&b","[..]);
    assert_eq!(Format::negotiate([&*joined]), format);
    assert_eq!(accepts_gzip([&*joined]), gzip);
    let shouted = joined.to_ascii_uppercase();
    assert_eq!(accepts_gzip([&*shouted]), gzip);
});

//! A test that needs what this machine does not have is skipped, and says so. Under `CI` that is a failure,
//! but for what an older kernel does not have: that is counted.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;

/// Names a file for what tests/kernels/run is to know: a line each, with a word in front.
const NOTES: &str = "TIMEWAIT_TEST_NOTES";

/// Prints a fact about this machine, and adds it to the notes.
pub fn note(word: &str, fact: &str) {
    println!("{word}: {fact}");
    if let Some(path) = env::var_os(NOTES) {
        let file = OpenOptions::new().append(true).create(true).open(path);
        writeln!(file.unwrap(), "{word} {fact}").unwrap();
    }
}

/// Says why a test, or a part of one, is skipped.
pub fn skip(reason: &str) {
    assert!(
        env::var_os("CI").is_none(),
        "cannot be skipped in CI: {reason}"
    );
    println!("SKIPPED: {reason}");
}

/// Says which feature this kernel does not have, for which a test, or a part of one, is skipped.
pub fn lacks(feature: &str) {
    note("LACKS", feature);
}

/// Whether a program of the system is there; if not, the test is skipped.
pub fn has_or_skips(program: &str) -> bool {
    let found = env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

//! A test that needs what this machine lacks prints that it is skipped. Under `CI` that is a failure, except for
//! features that an older kernel lacks: those are counted.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;

/// Names a file of notes for tests/kernels/run: one per line, each with a keyword in front.
const NOTES: &str = "TIMEWAIT_TEST_NOTES";

/// Prints a fact about this machine, and adds it to the notes.
pub fn note(word: &str, fact: &str) {
    println!("{word}: {fact}");
    if let Some(path) = env::var_os(NOTES) {
        let file = OpenOptions::new().append(true).create(true).open(path);
        writeln!(file.unwrap(), "{word} {fact}").unwrap();
    }
}

/// Prints why a test, or a part of one, is skipped.
pub fn skip(reason: &str) {
    assert!(
        env::var_os("CI").is_none(),
        "cannot be skipped in CI: {reason}"
    );
    println!("SKIPPED: {reason}");
}

/// Prints which feature this kernel lacks, for which a test, or a part of one, is skipped.
pub fn lacks(feature: &str) {
    note("LACKS", feature);
}

/// Whether a program is installed; if not, the test is skipped.
pub fn has_or_skips(program: &str) -> bool {
    let found = env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

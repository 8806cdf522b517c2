//! A test that needs what this machine does not have is skipped, and says so. Under `CI` that is a failure,
//! but for what another kernel does not have: see [`lacks`].

use std::env;

/// Says why a test, or a part of one, is skipped.
pub fn skip(reason: &str) {
    assert!(
        env::var_os("CI").is_none(),
        "cannot be skipped in CI: {reason}"
    );
    println!("SKIPPED: {reason}");
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

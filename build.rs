//! Passes the compiler, the target and the revision to the program, for `--version` and
//! `timewait_exporter_build_info`. The revision is `TIMEWAIT_EXPORTER_BUILD_REVISION`, or else that of the
//! git clone that is built; a source archive has neither, and builds the same program anywhere.

#![allow(
    clippy::disallowed_methods,
    reason = "a build script asks the compiler and git, not the kernel"
)]

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

const REVISION: &str = "TIMEWAIT_EXPORTER_BUILD_REVISION";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={REVISION}");
    let given = env::var(REVISION).ok().filter(|given| !given.is_empty());
    for (name, value) in [
        (REVISION, given.or_else(revision_of_clone)),
        ("TIMEWAIT_EXPORTER_BUILD_TARGET", env::var("TARGET").ok()),
        ("TIMEWAIT_EXPORTER_BUILD_RUSTC", compiler_version()),
    ] {
        let value = value.as_deref().unwrap_or("unknown");
        println!("cargo::rustc-env={name}={value}");
    }
}

/// The second word of `rustc 1.95.0 (…)`.
fn compiler_version() -> Option<String> {
    let text = output(&env::var_os("RUSTC")?, &["--version"])?;
    text.split_whitespace().nth(1).map(str::to_owned)
}

/// Of a clone of this project alone: a vendored copy inside of another repository has no revision.
fn revision_of_clone() -> Option<String> {
    if !Path::new(&env::var_os("CARGO_MANIFEST_DIR")?)
        .join(".git")
        .exists()
    {
        return None;
    }
    let git = |arguments: &[&str]| output(OsStr::new("git"), arguments);
    // Grows with each commit and checkout.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(log.trim()).exists() {
        println!("cargo::rerun-if-changed={}", log.trim());
    }
    Some(git(&["rev-parse", "HEAD"])?.trim().to_owned())
}

fn output(program: &OsStr, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

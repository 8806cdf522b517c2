//! Tells the program which compiler and target it was built with, for `--version` and
//! `timewait_exporter_build_info`. Runs no git: a packager says the revision in
//! `TIMEWAIT_EXPORTER_BUILD_REVISION`, so that the same source gives the same program anywhere.

#![allow(
    clippy::disallowed_methods,
    reason = "a build script asks the compiler, not the kernel"
)]

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=TIMEWAIT_EXPORTER_BUILD_REVISION");
    let target = env::var("TARGET").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=TIMEWAIT_EXPORTER_BUILD_TARGET={target}");
    let compiler = compiler_version().unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=TIMEWAIT_EXPORTER_BUILD_RUSTC={compiler}");
}

/// The second word of `rustc 1.95.0 (…)`.
fn compiler_version() -> Option<String> {
    let output = Command::new(env::var_os("RUSTC")?)
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}

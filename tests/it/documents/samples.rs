//! Sample output in README.md: what the command above it prints on the host of `tests/readme/demo`.

use std::fs;
use std::process::Command;

use super::{is_update, read, root};

/// How a block begins whose output follows it.
const DEMONSTRATION: &str = "```sh\ntests/readme/demo ";

/// Replaces what differs between builds, machines and runs: version and kernel in a report's first line, and
/// the rate, which is of the last 10 s.
fn masked(text: &str) -> String {
    let mask = |line: &str| {
        if line.starts_with("timewait_exporter ") {
            "timewait_exporter VERSION\n".to_owned()
        } else if let Some((series, _)) = line.split_once("} ")
            && series.starts_with("timewait_destination_close_rate")
        {
            format!("{series}}} RATE\n")
        } else {
            format!("{line}\n")
        }
    };
    text.lines().map(mask).collect()
}

/// What a block of commands prints, with the program under test in place of the release build. None where
/// the system allows no user namespace.
fn printed(commands: &str) -> Option<String> {
    let program = env!("CARGO_BIN_EXE_timewait_exporter");
    let commands = commands.replace("target/release/timewait_exporter", program);
    let mut bash = Command::new("bash");
    // Cargo's own, from the build script, which the program would not know.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIMEWAIT_EXPORTER_")) {
        bash.env_remove(name);
    }
    let output = bash
        .args(["-c", &commands])
        .env("TIMEWAIT_EXPORTER", program)
        .current_dir(root())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("unshare failed") {
        crate::support::skip::skip(stderr.trim());
        return None;
    }
    assert_eq!(stderr, "", "{commands}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_sample_output_of_the_readme_is_what_the_commands_print() {
    let readme = read("README.md");
    let mut updated = readme.clone();
    let mut samples = 0;
    for block in readme.split(DEMONSTRATION).skip(1) {
        let (arguments, rest) = block
            .split_once("```\n\n```text\n")
            .expect("output follows");
        let (shown, _) = rest.split_once("```\n").unwrap();
        let Some(printed) = printed(&format!("tests/readme/demo {arguments}")) else {
            return;
        };
        samples += 1;
        let before = format!("{DEMONSTRATION}{arguments}```\n\n```text\n");
        updated = updated.replace(
            &format!("{before}{shown}```\n"),
            &format!("{before}{printed}```\n"),
        );
        if !is_update() {
            assert_eq!(masked(shown), masked(&printed), "{arguments}");
        }
    }
    assert!(samples >= 3, "{samples}");
    if is_update() {
        fs::write(root().join("README.md"), updated).unwrap();
    }
}

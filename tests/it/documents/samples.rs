//! Sample output in README.md: the output of the command above it on the host of `tests/readme/demo`.

use std::fs;
use std::process::Command;

use super::{is_update, read, root};

/// The beginning of a command block that is followed by its output.
const DEMONSTRATION: &str = "```sh\ntests/readme/demo ";

/// The words of a text, without what differs between machines and runs: host and time in a report's first line,
/// and rates, which are of the last 10 s.
fn masked(text: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for line in text.lines() {
        if line.starts_with("CRITICAL  ") {
            words.extend(["CRITICAL", "HOST", "TIME"]);
        } else if line.starts_with("timewait_destination_close_rate{") {
            words.extend(["timewait_destination_close_rate", "RATE"]);
        } else {
            words.extend(line.split_whitespace());
        }
    }
    // "Ports run out in about 1 s: 46 connections per second close,"
    let rates = ["connections", "per", "second", "close,"];
    for at in 3..words.len() {
        if words[at..].starts_with(&rates) {
            words[at - 1] = "RATE";
            words[at - 3] = "SECONDS";
        }
    }
    words.join(" ")
}

/// The output of a block of commands, with the program under test in place of the release build. None where
/// the system does not allow user namespaces.
fn printed(commands: &str) -> Option<String> {
    let program = env!("CARGO_BIN_EXE_timewait_exporter");
    let commands = commands.replace("target/release/timewait_exporter", program);
    let mut bash = Command::new("bash");
    // Variables of Cargo's build script, which the program would report as unknown.
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
        if is_update() && masked(shown) != masked(&printed) {
            updated = updated.replace(
                &format!("{before}{shown}```\n"),
                &format!("{before}{printed}```\n"),
            );
        } else {
            assert_eq!(masked(shown), masked(&printed), "{arguments}");
        }
    }
    assert!(samples >= 3, "{samples}");
    if is_update() {
        fs::write(root().join("README.md"), updated).unwrap();
    }
}

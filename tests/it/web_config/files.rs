//! The files of tests/fixtures/web-config.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::certificates::Folder;
use super::{run, start};

struct Fixture {
    name: String,
    path: String,
    head: Vec<String>,
}

impl Fixture {
    /// The values of the comments with this name in its first lines.
    fn notes(&self, name: &str) -> Vec<&str> {
        let prefix = format!("# {name}: ");
        let found = self
            .head
            .iter()
            .filter_map(|line| line.strip_prefix(&prefix));
        found.collect()
    }
}

/// The files of one kind, copied to where the certificates are.
fn fixtures(kind: &str, folder: &Folder) -> Vec<Fixture> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/web-config")
        .join(kind);
    let inline = |pem: &str| pem.trim().replace('\n', "\n    ");
    let mut found = Vec::new();
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let text = fs::read_to_string(entry.path())
            .unwrap()
            .replace("DIR", folder.path().to_str().unwrap())
            .replace("SERVER_PEM", &inline(&folder.server.cert))
            .replace("SERVER_KEY", &inline(&folder.server.key))
            .replace("CA_PEM", &inline(&folder.ca.pem()));
        found.push(Fixture {
            path: folder.write(&name, &text),
            head: text.lines().map(str::to_owned).collect(),
            name,
        });
    }
    assert!(found.len() > 40, "{kind}: {}", found.len());
    found
}

/// A folder with everything that the files name, if openssl is installed.
fn folder() -> Option<Folder> {
    let folder = Folder::new();
    if folder.add_other_kinds() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "there is no openssl");
    println!("skipped: there is no openssl");
    None
}

/// Whether a log contains a part of the server's key, also as a list of bytes.
fn contains_key(log: &str, folder: &Folder) -> bool {
    folder.server.key.lines().any(|line| {
        let bytes: Vec<String> = line.bytes().map(|byte| byte.to_string()).collect();
        log.contains(line) || log.contains(&bytes.join(", "))
    })
}

#[test]
fn a_refused_file_ends_the_program_with_the_error_in_its_first_line() {
    let Some(folder) = folder() else { return };
    for fixture in fixtures("refused", &folder) {
        let output = run(&fixture.path);
        let log = String::from_utf8(output.stderr)
            .unwrap()
            .replace("\\\"", "\"");
        assert_eq!(output.status.code(), Some(2), "{}: {log}", fixture.name);
        let [expected] = fixture.notes("expects")[..] else {
            panic!("{} does not name the expected error", fixture.name);
        };
        assert!(log.contains(expected), "{}: {log}", fixture.name);
        assert!(log.contains(&fixture.path), "{}: {log}", fixture.name);
        assert!(!log.contains("Listening on"), "{}: {log}", fixture.name);
        assert!(!contains_key(&log, &folder), "{}: {log}", fixture.name);
    }
}

#[test]
fn a_missing_file_ends_the_program() {
    let folder = Folder::new();
    let path = folder.path().join("nothing.yml");
    let output = run(path.to_str().unwrap());
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(log.contains("no such file"), "{log}");
    let output = run(folder.path().to_str().unwrap());
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(log.contains("is a directory"), "{log}");
}

#[test]
fn an_accepted_file_starts_the_program_with_the_warnings_it_names() {
    let Some(folder) = folder() else { return };
    for fixture in fixtures("accepted", &folder) {
        let exporter = start(&fixture.path);
        let warnings = exporter.logged("Web configuration: ");
        let expected = fixture.notes("warns");
        assert_eq!(
            warnings.len(),
            expected.len(),
            "{}: {warnings:?}",
            fixture.name
        );
        for expected in expected {
            let is_there = warnings.iter().any(|line| line.contains(expected));
            assert!(is_there, "{}: {expected} not in {warnings:?}", fixture.name);
        }
    }
}

#[test]
fn promtool_accepts_every_accepted_file() {
    let Some(folder) = folder() else { return };
    for fixture in fixtures("accepted", &folder) {
        let output = Command::new("promtool")
            .args(["check", "web-config", &fixture.path])
            .output();
        let Ok(output) = output else {
            assert!(std::env::var_os("CI").is_none(), "there is no promtool");
            println!("skipped: there is no promtool");
            return;
        };
        let said = String::from_utf8(output.stderr).unwrap();
        if output.status.success() {
            continue;
        }
        // An older promtool may report these keys as unknown.
        let newer = fixture.notes("newer than promtool 2.42").join(", ");
        let complaints: Vec<&str> = said
            .lines()
            .filter_map(|line| Some(line.split_once("field ")?.1.split_once(" not found")?.0))
            .collect();
        assert!(!complaints.is_empty(), "{}: {said}", fixture.name);
        for key in complaints {
            let is_newer = newer.split(", ").any(|newer| newer == key);
            assert!(is_newer, "{}: {said}", fixture.name);
        }
    }
}

#[test]
fn the_log_says_which_features_are_on() {
    let folder = Folder::new();
    let tls = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";
    let said = |text: &str| {
        let exporter = start(&folder.write("web.yml", text));
        assert_eq!(
            exporter
                .logged("msg=\"Listening on\" address=127.0.0.1:")
                .len(),
            1
        );
        exporter.logged("").join("\n")
    };
    let log = said("");
    assert!(
        log.contains("msg=\"TLS is disabled.\" address=127.0.0.1:"),
        "{log}"
    );
    assert!(log.contains("http2=false"), "{log}");
    let log = said(tls);
    assert!(
        log.contains("msg=\"TLS is enabled.\" address=127.0.0.1:"),
        "{log}"
    );
    assert!(log.contains("http2=false"), "{log}");
    let log = said("rate_limit:\n  interval: 1s\n  burst: 7\n");
    assert!(
        log.contains("msg=\"Rate Limiter is enabled.\" burst=7 interval=1s"),
        "{log}"
    );
}

//! Rules for every text of the program: string literals in the source.

use std::fs;
use std::path::Path;

fn sources(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let is_of = |extension: &str| path.extension().is_some_and(|is| is == extension);
        if path.is_dir() {
            sources(&path, found);
        } else if (is_of("rs") || is_of("html")) && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// Whether a line has several spaces between words, as a lost line continuation leaves them.
fn has_gap(line: &str) -> bool {
    let code = line.trim();
    code.match_indices("   ").any(|(at, _)| {
        let ends = |c: char| c.is_ascii_lowercase() || ",;.:)`".contains(c);
        let begins = |c: char| c.is_ascii_alphabetic() || "/`(".contains(c);
        code[..at].trim_end().ends_with(ends) && code[at..].trim_start().starts_with(begins)
    })
}

#[test]
fn no_string_of_the_source_has_a_run_of_blanks_between_words() {
    assert!(has_gap(
        r#"let text = "without a word;        systemd takes it";"#
    ));
    assert!(!has_gap(r#"        "a text \"#));
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    assert!(files.len() > 50);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let gaps = text
            .lines()
            .enumerate()
            .filter(|(_, line)| has_gap(line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"));
        for (number, line) in gaps {
            // A table that a test draws.
            let is_drawn = line.contains("NAME    COUNT") || line.contains("NAME    RATE");
            assert!(is_drawn, "{}:{}: {line}", file.display(), number + 1);
        }
    }
}

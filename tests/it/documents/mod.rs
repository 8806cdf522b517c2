//! The documents, compared with the program: tables, names, links and sample output.
//!
//! Generated parts are between `<!-- generated: NAME -->` and `<!-- end generated -->`. After
//! an intended change, run `TIMEWAIT_UPDATE_GOLDEN=1 cargo test --test it documents` and read the diff.

mod generated;
mod links;
mod names;
mod samples;
mod tables;

use std::path::{Path, PathBuf};
use std::{env, fs};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether to rewrite the documents.
fn is_update() -> bool {
    env::var_os("TIMEWAIT_UPDATE_GOLDEN").is_some()
}

/// The text of a file, by its path from the root.
fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Markdown file of the repository, by its path from the root.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let name = entry.file_name().into_string().unwrap();
            let is_ours = !["target", "node_modules", ".git"].contains(&name.as_str());
            if entry.file_type().unwrap().is_dir() {
                folders.extend(is_ours.then_some(path));
            } else if path.extension().is_some_and(|it| it == "md") {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort_unstable();
    assert!(found.len() > 15, "{found:?}");
    found
}

/// Rows of the first table after `heading`, without its header: the cells, without backticks.
fn table_after(text: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, after) = text
        .split_once(heading)
        .unwrap_or_else(|| panic!("no {heading}"));
    let lines = after.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    let cells = |row: &str| -> Vec<String> {
        let cells = row.trim_matches('|').split(" |");
        cells
            .map(|cell| cell.trim().replace('`', "").replace("\\|", "|"))
            .collect()
    };
    rows.map(cells).collect()
}

//! Links between documents, and from other files to documents on the project's page.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{documents, read, root};

/// The URL of the repository's files on the project's page.
const PAGE: &str = "https://github.com/timewait-exporter/timewait_exporter/blob/main/";

/// A document without its code blocks, in which brackets are not links.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

/// Targets of `[text](target)` and `![text](target)`.
fn targets(text: &str) -> Vec<String> {
    let after = prose(text);
    let found = after.split("](").skip(1);
    found
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

/// The anchors of a document's headings, as GitHub derives them.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

/// `a/b/../c` as `a/c`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(normal.pop(), "{} leaves the root", path.display()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// Why a link of a document is broken, if it is.
fn broken(document: &str, target: &str) -> Option<String> {
    let target = match target.strip_prefix(PAGE) {
        Some(path) => format!("/{path}"),
        None if target.contains("://") => return None,
        None => target.to_owned(),
    };
    let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
    let folder = Path::new(document).parent().unwrap();
    let path = match path.strip_prefix('/') {
        Some(path) => PathBuf::from(path),
        None if path.is_empty() => PathBuf::from(document),
        None => normal(&folder.join(path)),
    };
    let file = root().join(&path);
    if !file.exists() {
        return Some(format!("{document}: {} is missing", path.display()));
    }
    if anchor.is_empty() {
        return None;
    }
    let known = anchors(&read(path.to_str().unwrap()));
    (!known.contains(anchor)).then(|| format!("{document}: {} has no #{anchor}", path.display()))
}

#[test]
fn every_link_of_a_document_resolves() {
    let mut complaints = Vec::new();
    let mut links = 0;
    for document in documents() {
        for target in targets(&read(&document)) {
            links += 1;
            complaints.extend(broken(&document, &target));
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(links > 60, "{links}");
}

#[test]
fn every_link_of_a_rule_or_a_manifest_to_the_project_resolves() {
    let mut links = 0;
    for path in [
        "deploy/prometheus/alerts.yml",
        "deploy/scale/fleet.yml",
        "deploy/container/Containerfile",
        "deploy/systemd/timewait_exporter.service",
    ] {
        for rest in read(path).split(PAGE).skip(1) {
            let end = rest
                .find(|c: char| c.is_whitespace() || c == '"')
                .unwrap_or(rest.len());
            assert_eq!(broken(path, &format!("{PAGE}{}", &rest[..end])), None);
            links += 1;
        }
    }
    assert!(links > 10, "{links}");
}

#[test]
fn every_readme_of_the_repository_is_reached_from_the_first_one() {
    let mut reached = BTreeSet::from(["README.md".to_owned()]);
    let mut todo = vec!["README.md".to_owned()];
    while let Some(document) = todo.pop() {
        let folder = Path::new(&document).parent().unwrap().to_owned();
        for target in targets(&read(&document)) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let path = normal(&folder.join(target.split('#').next().unwrap()));
            let is_document = path.extension().is_some_and(|it| it == "md");
            let path = path.to_str().unwrap().to_owned();
            if is_document && reached.insert(path.clone()) {
                todo.push(path);
            }
        }
    }
    let missing: Vec<String> = documents()
        .into_iter()
        .filter(|path| !reached.contains(path) && !path.starts_with("tests/fixtures/"))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_broken_link_is_found() {
    for target in [
        "src/nothing/README.md",
        "#nothing",
        "CONTRIBUTING.md#nothing",
        "https://github.com/timewait-exporter/timewait_exporter/blob/main/nothing.md",
    ] {
        assert!(broken("README.md", target).is_some(), "{target}");
    }
    assert_eq!(
        broken("src/web/README.md", "../../CONTRIBUTING.md#versions"),
        None
    );
    assert_eq!(
        anchors("# A `b` C, d-e\n```\n# no\n```\n"),
        BTreeSet::from(["a-b-c-d-e".to_owned()])
    );
}

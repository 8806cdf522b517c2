//! The page as text: escaping, links, the hash of its style, and the page without metrics.

use base64::Engine as _;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::domain::namespace::NamespaceIdentity;
use crate::domain::snapshot::Snapshot;
use crate::report::{Missing, NamespaceReport};

fn text(report: &Report) -> String {
    let page = answer(report, "/a:b/metrics").unwrap();
    String::from_utf8(page.body().to_vec()).unwrap()
}

fn named(label: &str) -> NamespaceIdentity {
    NamespaceIdentity {
        label: label.to_owned(),
        comm: Some(label.to_owned()),
        pid: Some(1),
        ..NamespaceIdentity::default()
    }
}

fn report(kernel: &str) -> Report {
    Report::new(
        "1.2.3",
        "web-7".to_owned(),
        kernel.to_owned(),
        Snapshot::default().into(),
    )
}

#[test]
fn the_policy_allows_the_pages_style_and_no_other() {
    let page = text(&report("6.18"));
    let (_, rest) = page.split_once("<style>").unwrap();
    let (style, _) = rest.split_once("</style>").unwrap();
    let hash = base64::prelude::BASE64_STANDARD.encode(Sha256::digest(style));
    assert!(
        CONTENT_POLICY.contains(&format!("style-src 'sha256-{hash}'")),
        "it is {hash}"
    );
    assert!(
        !page.contains("style=") && !page.contains("<script"),
        "{page}"
    );
    assert_eq!(page.matches("<style").count(), 1);
}

#[test]
fn links_are_relative() {
    let page = text(&report("6.18"));
    assert!(page.contains("href=\"./a:b/metrics\""), "{page}");
    assert!(page.contains("href=\"./api/v1/report\""), "{page}");
    assert!(!page.contains("href=\"/"), "{page}");
    assert!(page.contains("1.2.3"), "{page}");
}

#[test]
fn without_metrics_the_page_says_so() {
    let page = text(&report("6.18"));
    assert!(page.contains("not read"), "{page}");
    assert!(
        !page.contains("<caption>Ports in use per destination"),
        "{page}"
    );
}

#[test]
fn characters_that_html_forbids_are_omitted_from_names() {
    let mut report = report("6.18");
    let named = named("evil\x1b[2J");
    report
        .namespaces
        .push(NamespaceReport::new(Some(named), Snapshot::default()));
    report.missing = Some(Missing {
        unreadable: Some(0),
        left_out: 0,
        absent: 0,
        has_unlisted_names: false,
    });
    let page = text(&report);
    assert!(page.contains("Network namespace evil?[2J"), "{page}");
    assert!(!page.contains('\x1b'), "{page}");
}

proptest! {
    #[test]
    fn any_text_is_escaped(text_of_another in "[<>\"'&a-z/!-]{0,30}") {
        let mut report = report(&text_of_another);
        if let Some(namespace) = report.namespaces.first_mut() {
            namespace.identity = Some(named(&text_of_another));
            namespace.advice.headline.clone_from(&text_of_another);
            for finding in &mut namespace.advice.findings {
                finding.sentence.clone_from(&text_of_another);
            }
        }
        // The same tags, whatever the text.
        let tags = |page: &str| page.matches('<').count();
        let mut plain = report.clone();
        plain.kernel = String::new();
        if let Some(namespace) = plain.namespaces.first_mut() {
            namespace.identity = Some(named(""));
            namespace.advice.headline = String::new();
            for finding in &mut namespace.advice.findings {
                finding.sentence = String::new();
            }
        }
        prop_assert_eq!(tags(&text(&report)), tags(&text(&plain)));
    }
}

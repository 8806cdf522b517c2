//! Requested formats and the responses.

use proptest::prelude::*;

use super::*;

fn negotiate(lines: &[&str]) -> Format {
    Format::negotiate(lines.iter().map(|line| line.as_bytes()))
}

fn gzip(lines: &[&str]) -> bool {
    accepts_gzip(lines.iter().map(|line| line.as_bytes()))
}

const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

#[test]
fn every_prometheus_gets_the_format_it_lists_first() {
    let v2_42 = "application/openmetrics-text;version=1.0.0,\
                 application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let v3_0 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                application/openmetrics-text;version=0.0.1;q=0.4,\
                text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.3,\
                text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    let v3_14 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for header in [v2_42, v3_0, v3_14] {
        assert_eq!(negotiate(&[header]), Format::OpenMetrics, "{header}");
    }
    let histograms = format!("{PROTOBUF};q=0.7,{v3_14}");
    assert_eq!(negotiate(&[&histograms]), Format::Protobuf);
    let text_only = "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                     text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    assert_eq!(negotiate(&[text_only]), Format::Text);
}

#[test]
fn browsers_and_curl_get_text() {
    let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,\
                    image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7";
    let java = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2";
    for header in [
        "*/*",
        "*",
        chromium,
        java,
        "text/*",
        "text/plain",
        "text/html",
    ] {
        assert_eq!(negotiate(&[header]), Format::Text, "{header}");
    }
}

#[test]
fn a_missing_or_invalid_header_gets_text_and_is_never_refused() {
    assert_eq!(negotiate(&[]), Format::Text);
    for header in [
        "",
        ",,;,",
        "application/json",
        "text/plain;q=0",
        "*/*;q=0",
        "/",
        "a/",
        "/b",
        "application",
        "*/openmetrics-text",
        "text/plain;version=9",
        "application/openmetrics-text;version=\"",
        "application/openmetrics-text;q=high",
        "application/openmetrics-text;q=1.5",
        "application/openmetrics-text;q=-1",
        "application/openmetrics-text;q=",
        "application/openmetrics-text;q=.",
    ] {
        assert_eq!(negotiate(&[header]), Format::Text, "{header}");
    }
}

#[test]
fn only_versions_that_we_write_are_served() {
    for (header, format) in [
        ("application/openmetrics-text", Format::OpenMetrics),
        (
            "application/openmetrics-text;version=1.0.0",
            Format::OpenMetrics,
        ),
        ("application/openmetrics-text;version=0.0.1", Format::Text),
        ("application/openmetrics-text;version=2.0.0", Format::Text),
        (
            "application/openmetrics-text;charset=utf-8",
            Format::OpenMetrics,
        ),
        ("application/openmetrics-text;charset=utf-16", Format::Text),
        (
            "application/openmetrics-text;version=1.0.0;v=3",
            Format::OpenMetrics,
        ),
        (PROTOBUF, Format::Protobuf),
        ("application/vnd.google.protobuf", Format::Text),
        (
            "application/vnd.google.protobuf;encoding=delimited;encoding=delimited",
            Format::Text,
        ),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
             encoding=text",
            Format::Text,
        ),
    ] {
        assert_eq!(negotiate(&[header]), format, "{header}");
    }
}

#[test]
fn weights_decide_then_specificity_then_the_clients_order() {
    let openmetrics = "application/openmetrics-text";
    for (header, format) in [
        (format!("{openmetrics};q=0.5,text/plain"), Format::Text),
        (format!("{openmetrics};q=0.5,*/*"), Format::Text),
        (format!("{openmetrics},text/plain"), Format::OpenMetrics),
        (format!("text/plain,{openmetrics}"), Format::Text),
        (format!("*/*,{openmetrics}"), Format::OpenMetrics),
        (format!("text/*,{openmetrics}"), Format::OpenMetrics),
        (
            format!("{openmetrics};q=0.301,text/plain;q=0.300"),
            Format::OpenMetrics,
        ),
        (
            format!("{openmetrics};q=.4,text/plain;q=0.3999"),
            Format::OpenMetrics,
        ),
        (
            format!("{PROTOBUF};q=0.9,{openmetrics};q=0.8"),
            Format::Protobuf,
        ),
        ("application/*".to_owned(), Format::OpenMetrics),
        (format!("application/*,{openmetrics};q=0"), Format::Protobuf),
    ] {
        assert_eq!(negotiate(&[&header]), format, "{header}");
    }
}

#[test]
fn the_most_specific_entry_decides_on_a_format() {
    for (header, format) in [
        ("*/*,text/plain;q=0", Format::OpenMetrics),
        (
            "text/plain;q=0,text/*;q=0.9,application/openmetrics-text;q=0.1",
            Format::OpenMetrics,
        ),
        (
            "text/plain;version=0.0.4;q=0.1,text/plain,application/openmetrics-text;q=0.5",
            Format::OpenMetrics,
        ),
        ("application/openmetrics-text;q=0,*/*;q=0.1", Format::Text),
    ] {
        assert_eq!(negotiate(&[header]), format, "{header}");
    }
}

#[test]
fn spelling_does_not_matter() {
    for header in [
        "APPLICATION/OpenMetrics-Text;VERSION=1.0.0;Q=0.5",
        " \tapplication/openmetrics-text ; version=1.0.0\t; q=0.5 ",
        "application/openmetrics-text;version=\"1.0.0\"",
        "application/openmetrics-text;version=\"1\\.0.0\"",
        "x/y;a=\"b,text/plain;q=1\\\",\",application/openmetrics-text;q=0.5",
        "application/openmetrics-text;a=\"q=0;q=0\";;q=1.000",
    ] {
        assert_eq!(negotiate(&[header]), Format::OpenMetrics, "{header}");
    }
}

#[test]
fn several_lines_are_one_list_and_an_open_quote_ends_with_its_line() {
    assert_eq!(
        negotiate(&["text/plain;q=0.1", "application/openmetrics-text;q=0.2"]),
        Format::OpenMetrics
    );
    assert_eq!(
        negotiate(&["x/y;a=\"", "application/openmetrics-text"]),
        Format::OpenMetrics
    );
}

#[test]
fn gzip_is_used_only_if_requested_and_not_ranked_lower() {
    for header in [
        "gzip",
        "GZIP",
        "x-gzip",
        "gzip, deflate, br, zstd",
        "gzip;q=0.001",
        "deflate, *",
        "*",
        "identity;q=0.5, gzip",
        "identity, gzip",
        "identity;q=0, gzip;q=0.1",
        "gzip ; q=1.0",
    ] {
        assert!(gzip(&[header]), "{header}");
    }
    for header in [
        "",
        "identity",
        "gzip;q=0",
        "gzip;q=0, *",
        "*;q=0",
        "deflate, br",
        "gzip;q=0.5, identity",
        "gzip;q=0.5, *",
        "gzip;q=x",
        "gzipped",
        "identity;q=0",
    ] {
        assert!(!gzip(&[header]), "{header}");
    }
    assert!(!gzip(&[]));
    assert!(gzip(&["deflate", "gzip"]));
}

proptest! {
    #[test]
    fn any_bytes_are_answered(lines: Vec<Vec<u8>>) {
        let _ = Format::negotiate(lines.iter().map(Vec::as_slice));
        let _ = accepts_gzip(lines.iter().map(Vec::as_slice));
    }

    #[test]
    fn any_header_made_of_the_right_pieces_is_answered(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                ",", ";", "=", "\"", "\\", "/", "*", "q", ".", "0", "1", "text", "plain",
                "version", " ", "application", "openmetrics-text", "\u{e9}",
            ]),
            0..40,
        ),
    ) {
        let header = pieces.concat();
        let _ = negotiate(&[&header]);
        let _ = gzip(&[&header]);
    }

    #[test]
    fn a_format_with_the_highest_weight_wins(text in 0u16..=1000, openmetrics in 0u16..=1000) {
        let weight = |w: u16| format!("{}.{:03}", w / 1000, w % 1000);
        let header = format!(
            "application/openmetrics-text;q={},text/plain;q={}",
            weight(openmetrics),
            weight(text),
        );
        let expected = if openmetrics >= text && openmetrics > 0 {
            Format::OpenMetrics
        } else {
            Format::Text
        };
        prop_assert_eq!(negotiate(&[&header]), expected);
    }
}

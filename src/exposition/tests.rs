//! Invariants of all formats.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Read;

use flate2::read::GzDecoder;
use proptest::prelude::*;
use protobuf::{CodedInputStream, Message};

use super::testing::{Sample, family, parse, rich_exporter, rich_snapshot};
use super::*;

fn rich_families() -> Vec<MetricFamily> {
    families(&rich_snapshot().into(), &rich_exporter()).collect()
}

fn encoded(families: &[MetricFamily], format: Format, gzip: bool) -> Vec<u8> {
    let body = encode(families.to_vec(), format).unwrap();
    if gzip {
        compress(&body).unwrap().unwrap()
    } else {
        body
    }
}

fn text_of(families: &[MetricFamily], format: Format) -> String {
    String::from_utf8(encoded(families, format, false)).unwrap()
}

fn decode_protobuf(body: &[u8]) -> Vec<MetricFamily> {
    let mut input = CodedInputStream::from_bytes(body);
    let mut families = Vec::new();
    while !input.eof().unwrap() {
        let length = input.read_raw_varint32().unwrap();
        let message = input.read_raw_bytes(length).unwrap();
        families.push(MetricFamily::parse_from_bytes(&message).unwrap());
    }
    families
}

/// The samples of families, read from the messages themselves.
fn samples_of(families: &[MetricFamily]) -> Vec<Sample> {
    let sample = |family: &MetricFamily, metric: &prometheus::proto::Metric| Sample {
        name: family.name().to_owned(),
        labels: metric
            .get_label()
            .iter()
            .map(|pair| (pair.name().to_owned(), pair.value().to_owned()))
            .collect(),
        value: match family.get_field_type() {
            MetricType::COUNTER => metric.get_counter().value(),
            _ => metric.get_gauge().value(),
        },
    };
    families
        .iter()
        .flat_map(|family| family.get_metric().iter().map(move |m| sample(family, m)))
        .collect()
}

#[test]
fn all_formats_have_the_same_samples() {
    let families = rich_families();
    let samples = samples_of(&families);
    assert!(samples.len() > 80, "{}", samples.len());
    assert_eq!(parse(&text_of(&families, Format::Text)), samples);
    assert_eq!(parse(&text_of(&families, Format::OpenMetrics)), samples);
    let decoded = decode_protobuf(&encoded(&families, Format::Protobuf, false));
    assert_eq!(decoded, families);
}

#[test]
fn openmetrics_ends_in_eof_and_names_counter_families_without_suffix() {
    let text = text_of(&rich_families(), Format::OpenMetrics);
    assert!(text.ends_with("\n# EOF\n"));
    assert!(text.contains("# TYPE timewait_entered counter\ntimewait_entered_total 1000000\n"));
    assert!(text.contains("# TYPE timewait_exporter_build_info gauge\n"));
    assert!(text.contains("# UNIT timewait_memory_bytes bytes\n"));
}

#[test]
fn content_types_are_those_of_the_encoders_and_of_client_golang() {
    for (format, content_type) in [
        (Format::Text, "text/plain; version=0.0.4; charset=utf-8"),
        (
            Format::OpenMetrics,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        (Format::Protobuf, prometheus::PROTOBUF_FORMAT),
    ] {
        assert_eq!(format.content_type(), content_type);
    }
}

#[test]
fn gzip_changes_the_size_and_nothing_else() {
    let families = rich_families();
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let plain = encoded(&families, format, false);
        let packed = encoded(&families, format, true);
        let mut unpacked = Vec::new();
        GzDecoder::new(packed.as_slice())
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, plain);
        assert!(packed.len() < plain.len() / 2);
        // No time and no file name in the header: the same families give the same bytes.
        assert_eq!(encoded(&families, format, true), packed);
    }
}

#[test]
fn families_that_no_table_makes_are_refused_in_every_format() {
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        for kind in [
            MetricType::HISTOGRAM,
            MetricType::SUMMARY,
            MetricType::UNTYPED,
        ] {
            let families = [family(kind, "a", "help", &[(&[], 1.0)])];
            assert!(matches!(encode(families, format), Err(EncodeError::Msg(_))));
        }
    }
    let empty = [family(MetricType::GAUGE, "a", "help", &[])];
    assert!(matches!(
        encode(empty, Format::Text),
        Err(EncodeError::Msg(_))
    ));
}

proptest! {
    #[test]
    fn any_label_value_reads_back_from_every_format(
        value in "\\PC*|[\\x00-\\x7f]*|[\\\\\"\n ,{}=]*",
        number in any::<f64>().prop_filter("NaN is not equal to itself", |n| !n.is_nan()),
    ) {
        let families = [family(MetricType::GAUGE, "a", "help", &[
            (&[("x", &value), ("y", "z")], number),
            (&[("x", "1"), ("y", &value)], 1.0),
        ])];
        let samples = samples_of(&families);
        prop_assert_eq!(parse(&text_of(&families, Format::Text)), samples.clone());
        prop_assert_eq!(parse(&text_of(&families, Format::OpenMetrics)), samples.clone());
        let body = encoded(&families, Format::Protobuf, false);
        prop_assert_eq!(samples_of(&decode_protobuf(&body)), samples);
    }
}

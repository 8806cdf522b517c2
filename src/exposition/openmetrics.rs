//! The `OpenMetrics` 1.0.0 text format.
//!
//! The prometheus crate has no encoder for it. This one writes counters and gauges, which is all
//! the program has. It writes no timestamps, no `_created` series and no exemplars: there are none.

use std::borrow::Cow;
use std::io::{self, Write};

use prometheus::proto::{MetricFamily, MetricType};

/// The units that a name may end in. `ratio` is left out: the format's unit is called `ratios`.
const UNITS: [&str; 2] = ["_seconds", "_bytes"];

/// What an exposition ends with.
pub(super) const END: &[u8] = b"# EOF\n";

/// One family. What is no counter is written as a gauge.
pub(super) fn write_family(out: &mut Vec<u8>, family: &MetricFamily) -> io::Result<()> {
    let is_counter = family.get_field_type() == MetricType::COUNTER;
    let (kind, suffix) = if is_counter {
        ("counter", "_total")
    } else {
        ("gauge", "")
    };
    let name = family.name();
    let name = name.strip_suffix(suffix).unwrap_or(name);
    writeln!(out, "# HELP {name} {}", escaped(family.help()))?;
    writeln!(out, "# TYPE {name} {kind}")?;
    if let Some(unit) = UNITS.iter().find(|unit| name.ends_with(**unit)) {
        writeln!(out, "# UNIT {name} {}", unit.trim_start_matches('_'))?;
    }
    for metric in family.get_metric() {
        write!(out, "{name}{suffix}")?;
        let mut separator = '{';
        for pair in metric.get_label() {
            let (label, value) = (pair.name(), escaped(pair.value()));
            write!(out, "{separator}{label}=\"{value}\"")?;
            separator = ',';
        }
        let end = if separator == ',' { "}" } else { "" };
        let (counter, gauge) = (metric.get_counter().value(), metric.get_gauge().value());
        let value = if is_counter { counter } else { gauge };
        writeln!(out, "{end} {}", number(value))?;
    }
    Ok(())
}

/// Text with backslash, line feed and double quote escaped, as help and label values need it alike.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '\n', '"']) {
        return text.into();
    }
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    text.replace('"', "\\\"").into()
}

/// The shortest decimal that reads back as the same number; with an exponent where it would be mostly zeros.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{value:?}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exposition::testing::{family, parse};
    use crate::exposition::{Format, encode as encode_as};

    fn encode(families: &[MetricFamily]) -> String {
        let body = encode_as(families.to_vec(), Format::OpenMetrics).unwrap();
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn a_counter_family_loses_its_suffix_and_its_samples_keep_it() {
        let counter = family(MetricType::COUNTER, "a_total", "help", &[(&[], 3.0)]);
        assert_eq!(
            encode(&[counter]),
            "# HELP a help\n# TYPE a counter\na_total 3\n# EOF\n"
        );
    }

    #[test]
    fn labels_are_written_in_order_and_units_where_the_name_has_one() {
        let gauge = family(
            MetricType::GAUGE,
            "a_seconds",
            "help",
            &[(&[("x", "1"), ("y", "2")], 0.5), (&[("x", "2")], 1.0)],
        );
        assert_eq!(
            encode(&[gauge]),
            "# HELP a_seconds help\n# TYPE a_seconds gauge\n# UNIT a_seconds seconds\n\
             a_seconds{x=\"1\",y=\"2\"} 0.5\na_seconds{x=\"2\"} 1\n# EOF\n"
        );
        let cpu = family(
            MetricType::COUNTER,
            "cpu_seconds_total",
            "help",
            &[(&[], 1.0)],
        );
        assert!(encode(&[cpu]).contains("# UNIT cpu_seconds seconds\n"));
        for unitless in ["a_megabytes", "seconds", "a_bytes_free", "a_ratio"] {
            let gauge = family(MetricType::GAUGE, unitless, "help", &[(&[], 1.0)]);
            assert!(!encode(&[gauge]).contains("UNIT"), "{unitless}");
        }
    }

    #[test]
    fn no_families_are_a_valid_exposition() {
        assert_eq!(encode(&[]), "# EOF\n");
    }

    #[test]
    fn a_counter_always_has_the_suffix_that_the_format_demands() {
        let nameless = family(MetricType::COUNTER, "a", "help", &[(&[], 1.0)]);
        assert!(encode(&[nameless]).ends_with("\na_total 1\n# EOF\n"));
    }

    #[test]
    fn help_escapes_quotes_too() {
        let gauge = family(MetricType::GAUGE, "a", "\"q\" \\ \n", &[(&[], 1.0)]);
        assert!(encode(&[gauge]).starts_with("# HELP a \\\"q\\\" \\\\ \\n\n# TYPE"));
    }

    #[test]
    fn numbers_are_plain_where_they_are_exact() {
        for (number, text) in [
            (0.0, "0"),
            (28_232.0, "28232"),
            (-1.0, "-1"),
            (0.1, "0.1"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (18_446_744_073_709_551_615.0, "1.8446744073709552e19"),
            (1e300, "1e300"),
            (1.5e-7, "1.5e-7"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(super::number(number), text);
        }
    }

    proptest! {
        #[test]
        fn any_label_value_and_number_reads_back(value in "\\PC*|[\\x00-\\x7f]*", number: f64) {
            let gauge = family(MetricType::GAUGE, "a", "help", &[(&[("x", &value)], number)]);
            let samples = parse(&encode(&[gauge]));
            prop_assert_eq!(samples.len(), 1);
            let sample = samples.first().unwrap();
            prop_assert_eq!(&sample.labels, &[("x".to_owned(), value)]);
            let same_bits = sample.value.to_bits() == number.to_bits();
            prop_assert!(same_bits || sample.value.is_nan() && number.is_nan());
        }
    }
}

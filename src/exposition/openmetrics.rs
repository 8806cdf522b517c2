//! The `OpenMetrics` 1.0.0 text format.
//!
//! The prometheus crate has no encoder for it. This one writes counters and gauges, which is all
//! the program has, and refuses the rest rather than write something a strict parser would drop.
//! It writes no timestamps, no `_created` series and no exemplars: there are none.

use std::fmt::{self, Write};

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::EncodeError;

/// The units that a name may end in. `ratio` is left out: the format's unit is called `ratios`.
const UNITS: [&str; 2] = ["seconds", "bytes"];

const COUNTER_SUFFIX: &str = "_total";

/// All families, in the order given, with the final `# EOF`.
///
/// Fails for a type other than counter and gauge, and for a counter whose name does not end in
/// `_total`: the format cannot express either of them.
pub(super) fn encode(families: &[MetricFamily]) -> Result<String, EncodeError> {
    let mut out = String::new();
    for family in families {
        write_family(&mut out, family)?;
    }
    out.push_str("# EOF\n");
    Ok(out)
}

fn write_family(out: &mut String, family: &MetricFamily) -> Result<(), EncodeError> {
    let (kind, suffix, value_of): (_, _, fn(&Metric) -> f64) = match family.get_field_type() {
        MetricType::COUNTER => ("counter", COUNTER_SUFFIX, |metric| {
            metric.get_counter().value()
        }),
        MetricType::GAUGE => ("gauge", "", |metric| metric.get_gauge().value()),
        kind => {
            return Err(EncodeError::UnsupportedType {
                family: family.name().to_owned(),
                kind,
            });
        }
    };
    let Some(name) = family.name().strip_suffix(suffix) else {
        return Err(EncodeError::CounterName {
            family: family.name().to_owned(),
        });
    };
    write_metadata(out, name, kind, family.help())?;
    for metric in family.get_metric() {
        write!(out, "{name}{suffix}")?;
        write_labels(out, metric)?;
        writeln!(out, " {}", Number(value_of(metric)))?;
    }
    Ok(())
}

fn write_metadata(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP {name} {}", Escaped(help))?;
    writeln!(out, "# TYPE {name} {kind}")?;
    let unit = UNITS
        .iter()
        .find(|unit| name.strip_suffix(**unit).is_some_and(|n| n.ends_with('_')));
    match unit {
        Some(unit) => writeln!(out, "# UNIT {name} {unit}"),
        None => Ok(()),
    }
}

fn write_labels(out: &mut String, metric: &Metric) -> fmt::Result {
    let mut separator = '{';
    for pair in metric.get_label() {
        write!(
            out,
            "{separator}{}=\"{}\"",
            pair.name(),
            Escaped(pair.value())
        )?;
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
    Ok(())
}

/// Text with backslash, line feed and double quote escaped, as help and label values need it alike.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '"' => f.write_str("\\\"")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A value as the shortest decimal that reads back as the same number.
struct Number(f64);

/// From here on not every whole number is a `f64`, and digits would claim what is not known.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// Below this a plain decimal is mostly zeros.
const PLAIN_FROM: f64 = 1e-4;

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.abs();
        if self.0.is_nan() {
            f.write_str("NaN")
        } else if magnitude.is_infinite() {
            f.write_str(if self.0 > 0.0 { "+Inf" } else { "-Inf" })
        } else if magnitude == 0.0 || (PLAIN_FROM..=EXACT_BELOW).contains(&magnitude) {
            write!(f, "{}", self.0)
        } else {
            write!(f, "{:e}", self.0)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exposition::testing::{family, parse};

    #[test]
    fn a_counter_family_loses_its_suffix_and_its_samples_keep_it() {
        let counter = family(MetricType::COUNTER, "a_total", "help", &[(&[], 3.0)]);
        assert_eq!(
            encode(&[counter]).unwrap(),
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
            encode(&[gauge]).unwrap(),
            "# HELP a_seconds help\n# TYPE a_seconds gauge\n# UNIT a_seconds seconds\n\
             a_seconds{x=\"1\",y=\"2\"} 0.5\na_seconds{x=\"2\"} 1\n# EOF\n"
        );
        let cpu = family(
            MetricType::COUNTER,
            "cpu_seconds_total",
            "help",
            &[(&[], 1.0)],
        );
        assert!(
            encode(&[cpu])
                .unwrap()
                .contains("# UNIT cpu_seconds seconds\n")
        );
        for unitless in ["a_megabytes", "seconds", "a_bytes_free", "a_ratio"] {
            let gauge = family(MetricType::GAUGE, unitless, "help", &[(&[], 1.0)]);
            assert!(!encode(&[gauge]).unwrap().contains("UNIT"), "{unitless}");
        }
    }

    #[test]
    fn no_families_are_a_valid_exposition() {
        assert_eq!(encode(&[]).unwrap(), "# EOF\n");
    }

    #[test]
    fn what_the_format_cannot_express_is_refused() {
        for kind in [
            MetricType::HISTOGRAM,
            MetricType::SUMMARY,
            MetricType::UNTYPED,
        ] {
            assert!(matches!(
                encode(&[family(kind, "a", "help", &[(&[], 1.0)])]),
                Err(EncodeError::UnsupportedType { .. })
            ));
        }
        let nameless = family(MetricType::COUNTER, "a", "help", &[(&[], 1.0)]);
        assert!(matches!(
            encode(&[nameless]),
            Err(EncodeError::CounterName { .. })
        ));
    }

    #[test]
    fn help_escapes_quotes_too() {
        let gauge = family(MetricType::GAUGE, "a", "\"q\" \\ \n", &[(&[], 1.0)]);
        assert!(
            encode(&[gauge])
                .unwrap()
                .starts_with("# HELP a \\\"q\\\" \\\\ \\n\n# TYPE")
        );
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
            assert_eq!(Number(number).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn any_label_value_and_number_reads_back(value in "\\PC*|[\\x00-\\x7f]*", number: f64) {
            let gauge = family(MetricType::GAUGE, "a", "help", &[(&[("x", &value)], number)]);
            let samples = parse(&encode(&[gauge]).unwrap());
            prop_assert_eq!(samples.len(), 1);
            let sample = samples.first().unwrap();
            prop_assert_eq!(&sample.labels, &[("x".to_owned(), value)]);
            let same_bits = sample.value.to_bits() == number.to_bits();
            prop_assert!(same_bits || sample.value.is_nan() && number.is_nan());
        }
    }
}

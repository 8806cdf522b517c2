//! How a log line looks: logfmt as Go's slog writes it, or one JSON object.
//!
//! Both begin with `time`, `level`, `caller` and `msg`, much as the Go exporters' do; theirs say
//! `source` for the place in the program, which here is where sockets are read from. Keys are the
//! program's own and known to be plain; values come from anywhere and are escaped, so that one event
//! is always one line.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};

use crate::config::LogFormat;

/// One event as a line with its newline.
pub(super) fn line(format: LogFormat, time: SystemTime, event: &Event<'_>) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    let head = [
        ("time", Value::Text(timestamp(time))),
        ("level", Value::Text(metadata.level().to_string())),
        ("caller", Value::Text(caller(metadata))),
        ("msg", Value::Text(fields.message)),
    ];
    let all = head.into_iter().chain(fields.rest);
    match format {
        LogFormat::Logfmt => logfmt(all),
        LogFormat::Json => json(all),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    /// A number or a boolean, which JSON leaves without quotes.
    Bare(String),
}

type Pair = (&'static str, Value);

#[derive(Debug, Default)]
struct Fields {
    message: String,
    rest: Vec<Pair>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text) | Value::Bare(text)) => self.message = text,
            (name, value) => self.rest.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Value::Text(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::Bare(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Bare(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Bare(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN and no infinity.
        let text = value.to_string();
        let value = if value.is_finite() {
            Value::Bare(text)
        } else {
            Value::Text(text)
        };
        self.push(field, value);
    }
}

/// File name and line, without directories: they are those of the machine that built the program.
fn caller(metadata: &Metadata<'_>) -> String {
    let file = metadata.file().unwrap_or_else(|| metadata.target());
    let name = file.rsplit('/').next().unwrap_or(file);
    match metadata.line() {
        Some(line) => format!("{name}:{line}"),
        None => name.to_owned(),
    }
}

fn logfmt(pairs: impl Iterator<Item = Pair>) -> String {
    let mut line = String::with_capacity(256);
    for (key, value) in pairs {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(key);
        line.push('=');
        match value {
            Value::Text(text) if needs_quotes(&text) => quote(&mut line, &text),
            Value::Text(text) | Value::Bare(text) => line.push_str(&text),
        }
    }
    line.push('\n');
    line
}

/// Whether slog's text handler would quote it.
fn needs_quotes(text: &str) -> bool {
    text.is_empty()
        || text
            .chars()
            .any(|c| c <= ' ' || matches!(c, '"' | '=' | '\\') || !is_printable(c))
}

/// Not a control character, nor one of those that change how a terminal shows the rest.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

fn json(pairs: impl Iterator<Item = Pair>) -> String {
    let mut line = String::with_capacity(256);
    for (key, value) in pairs {
        line.push(if line.is_empty() { '{' } else { ',' });
        quote(&mut line, key);
        line.push(':');
        match value {
            Value::Text(text) => quote(&mut line, &text),
            Value::Bare(text) => line.push_str(&text),
        }
    }
    line.push_str("}\n");
    line
}

/// In quotes, with the escapes that JSON, logfmt and Go have in common.
fn quote(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // All that are not printable have four hexadecimal digits at most.
            c if !is_printable(c) => {
                let _infallible = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

/// RFC 3339 in UTC with milliseconds. A clock before 1970 is told as 1970.
fn timestamp(time: SystemTime) -> String {
    let since_epoch = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since_epoch.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of the Gregorian calendar, from the days since 1970-01-01.
///
/// Counts from 1 March of year 0, so that the leap day is a year's last: 400 years are 146,097 days,
/// and the months from March on have 153 days in every five.
const fn civil_date(days_since_epoch: u64) -> (u64, u64, u64) {
    let days = days_since_epoch + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> std::vec::IntoIter<Pair> {
        vec![
            ("msg", Value::Text(text.to_owned())),
            ("n", Value::Bare("7".to_owned())),
        ]
        .into_iter()
    }

    #[test]
    fn plain_values_stay_plain_and_others_are_quoted() {
        for (text, written) in [
            ("plain", "plain"),
            ("[::]:10072", "[::]:10072"),
            ("", r#""""#),
            ("two words", r#""two words""#),
            ("a=b", r#""a=b""#),
            ("say \"x\"", r#""say \"x\"""#),
            ("back\\slash", r#""back\\slash""#),
            ("one\ntwo\r\tthree", r#""one\ntwo\r\tthree""#),
            ("\u{1b}[31m", r#""\u001b[31m""#),
            ("a\u{202e}b", r#""a\u202eb""#),
            ("über", "über"),
        ] {
            assert_eq!(logfmt(pairs(text)), format!("msg={written} n=7\n"));
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(timestamp(time), text);
        }
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_999_999);
        assert_eq!(timestamp(time), "1970-01-01T00:00:01.999Z");
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(timestamp(before), "1970-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn every_text_is_one_line_and_comes_back_from_json(text: String) {
            let line = json(pairs(&text));
            prop_assert_eq!(line.matches('\n').count(), 1);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&value, &serde_json::json!({"msg": text, "n": 7}));
            prop_assert_eq!(logfmt(pairs(&text)).matches('\n').count(), 1);
        }

        #[test]
        fn the_next_day_is_the_next_date(day in 0_u64..200_000) {
            let (year, month, date) = civil_date(day);
            let next = civil_date(day + 1);
            let is_next = next == (year, month, date + 1)
                || next == (year, month + 1, 1)
                || next == (year + 1, 1, 1) && (month, date) == (12, 31);
            prop_assert!(is_next);
        }
    }
}

//! How a log line looks: logfmt as Go's slog writes it, or one JSON object.
//!
//! Both begin with `time`, `level`, `source` and `msg`, as the Go exporters' do. Keys are the program's
//! own and known to be plain; values come from anywhere and are escaped, so that one event is always one
//! line.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::SystemTime;

use serde::Serializer as _;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};

use crate::config::LogFormat;
use crate::domain::text::misleads;

/// One event as a line with its newline.
pub(super) fn line(format: LogFormat, time: SystemTime, event: &Event<'_>) -> String {
    let metadata = event.metadata();
    let mut fields = Fields(vec![
        ("time", timestamp(time).into()),
        ("level", metadata.level().as_str().into()),
        ("source", source(metadata).into()),
    ]);
    event.record(&mut fields);
    match format {
        LogFormat::Logfmt => logfmt(&fields.0),
        LogFormat::Json => json(&fields.0),
    }
}

type Pair = (&'static str, Value);

struct Fields(Vec<Pair>);

impl Fields {
    fn push(&mut self, field: &Field, value: impl Into<Value>) {
        let name = match field.name() {
            // An event's first field.
            "message" => "msg",
            name => name,
        };
        self.0.push((name, value.into()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value);
    }
}

/// File name and line, without directories: they are those of the machine that built the program.
fn source(metadata: &Metadata<'_>) -> String {
    let file = Path::new(metadata.file().unwrap_or_default()).file_name();
    let line = metadata.line().unwrap_or_default();
    format!("{}:{line}", file.unwrap_or_default().display())
}

fn logfmt(pairs: &[Pair]) -> String {
    let words = pairs.iter().map(|(key, value)| match value {
        Value::String(text) if !needs_quotes(text) => format!("{key}={text}"),
        value => format!("{key}={}", escaped(&value.to_string())),
    });
    words.collect::<Vec<_>>().join(" ") + "\n"
}

/// Whether slog's text handler would quote it.
fn needs_quotes(text: &str) -> bool {
    let is_special = |c: char| c <= ' ' || matches!(c, '"' | '=' | '\\') || misleads(c);
    text.is_empty() || text.contains(is_special)
}

fn json(pairs: &[Pair]) -> String {
    let mut line = Vec::new();
    let members = pairs.iter().map(|(key, value)| (key, value));
    // Fails neither for these values nor in memory.
    let _infallible = serde_json::Serializer::new(&mut line).collect_map(members);
    escaped(&String::from_utf8_lossy(&line)) + "\n"
}

/// JSON, which Go and logfmt escape alike, in which only strings can contain a character that misleads.
fn escaped(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        if misleads(c) {
            // None of them is beyond U+FFFF.
            let _infallible = write!(line, "\\u{:04x}", u32::from(c));
        } else {
            line.push(c);
        }
    }
    line
}

/// RFC 3339 in UTC with milliseconds. A clock before 1970 is written as 1970.
fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time.max(SystemTime::UNIX_EPOCH)).to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> [Pair; 2] {
        [("msg", text.into()), ("n", 7.into())]
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
            ("\u{9b}2J\u{7f}", r#""\u009b2J\u007f""#),
            ("über", "über"),
        ] {
            assert_eq!(logfmt(&pairs(text)), format!("msg={written} n=7\n"));
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
            let line = json(&pairs(&text));
            prop_assert_eq!(line.matches('\n').count(), 1);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&value, &serde_json::json!({"msg": text, "n": 7}));
            prop_assert_eq!(logfmt(&pairs(&text)).matches('\n').count(), 1);
        }
    }
}
